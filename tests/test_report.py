"""The report page stands alone and tells everything; pictures show what they say."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from heteroseg import pictures
from heteroseg.config import Experiment, ModelConfig
from heteroseg.data import Source, open_sources
from heteroseg.evaluation import Tally, evaluate, summarise
from heteroseg.labelspace import LabelEntry, LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.model import Model, spaces_by_name
from heteroseg.models import build_network
from heteroseg.report import Example, close_up, collect_examples, curves, data_uri, percent, write_report
from heteroseg.scenes import generate
from heteroseg.taxonomy import TaxonomyFile, build_taxonomy

HOSTILE = "<script>alert('x')</script>&\"$\\frac{"
LOG = [(10, "loss", "2.5"), (20, "loss", "1.5"), (10, "lr", "0.1"), (10, "root/mask", "0.7"), (20, "root/mask", "nan")]
FACTS = {"commit": "abc <b>bold</b>", "machine": "two cores"}
VOID = ("area", "base", "br", "col", "hr", "img", "input", "link", "meta")


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of scripts and styles; checks that tags nest."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.text += data


def assert_alone(page: str, parsed: Page) -> None:
    """Nothing in the page makes a browser ask for anything else."""
    assert not re.search(r"https?:", page)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    for tag, attributes in parsed.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("data:image/", "#"))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Model, list[Source], Experiment]:
    """Three generated datasets and a network that has not learned anything."""
    root = tmp_path_factory.mktemp("scenes")
    generate(root, train=1, val=3, size=(64, 128))
    datasets = {name: {"root": name, "reader": name, "label_space": name} for name in ("cityscapes", "vistas", "gtsdb")}
    experiment = Experiment(
        name="tiny", taxonomy="streets-108", datasets=datasets, data_root=str(root), model=ModelConfig(width=16)
    )
    sources = open_sources(experiment, root)
    tree = sources[0].space.taxonomy
    spaces = spaces_by_name([s.space for s in sources])
    return Model("tiny", build_network(experiment.model, tree), tree, spaces, experiment.model), sources, experiment


def small_space(name: str = "small", label: str = "Car") -> LabelSpace:
    tree = build_taxonomy(TaxonomyFile(name="t", tree={"root": ["sky", "vehicle"], "vehicle": ["car", "bus"]}))
    labels = [
        LabelEntry(id=0, name="void", ignore=True, color=(1, 1, 1)),
        LabelEntry(id=7, name=label, nodes="car", color=(0, 0, 200)),
        LabelEntry(id=9, name="Sky", nodes="sky", color=(10, 200, 250)),
    ]
    return build_label_space(LabelSpaceFile(name=name, taxonomy="t", labels=labels), tree)


def test_a_report_of_a_network(world, tmp_path):
    model, sources, experiment = world
    result = evaluate(model, sources, limit=2)
    examples = collect_examples(model, sources, per_dataset=2)
    assert [e.dataset for e in examples] == ["cityscapes"] * 2 + ["vistas"] * 2 + ["gtsdb"] * 2
    path = tmp_path / "deep" / "report.html"
    write_report(path, "A tiny run", result, examples, LOG, model.taxonomy, experiment.model_dump_json(), FACTS)
    page = path.read_text(encoding="utf-8")
    parsed = Page(page)
    assert_alone(page, parsed)
    for name, entry in result["datasets"].items():
        assert name in parsed.text
        assert entry["label_space"] in parsed.text
        assert all(label in parsed.text for label in entry["per_class"])
        assert all(group in parsed.text for level in entry["levels"].values() for group in level["per_class"])
    assert all(node in parsed.text for node in model.taxonomy.names[1:])
    assert "trained on 3 datasets" in " ".join(parsed.text.split())
    assert "abc <b>bold</b>" in parsed.text
    assert json.dumps(experiment.name) in parsed.text
    assert [a for t, a in parsed.tags if t == "img" and "alt" not in a] == []
    assert sum(t == "img" for t, _ in parsed.tags) == 5 * len(examples) + 1
    assert list(path.parent.iterdir()) == [path]


def test_examples_without_val_images_and_fewer_than_asked(world):
    model, sources, _ = world
    one = Source("one", sources[0].config, sources[0].space, [], sources[0].val[:1])
    none = Source("none", sources[0].config, sources[0].space, [], [])
    examples = collect_examples(model, [one, none], per_dataset=3)
    assert [e.dataset for e in examples] == ["one"]
    e = examples[0]
    assert e.image.shape == (64, 128, 3)
    assert e.truth.shape == e.predicted.shape == e.nodes.shape == (64, 128)


def report_of(space: LabelSpace, counts: np.ndarray, path, dataset: str = "d", shown: bool = True) -> tuple[str, Page]:
    truth = np.array([[1, 1, 2, -1]] * 4)
    predicted = np.array([[1, 2, -1, 1]] * 4)
    image, nodes = np.zeros((4, 4, 3), np.uint8), np.full((4, 4), -1)
    example = Example(dataset, f"{dataset}/a.png", image, truth, predicted, nodes, space)
    log = [*LOG, (10, f"{HOSTILE}/mask", 1.0), (20, f"{dataset}/miou", 0.25)]
    evaluation = {"datasets": {dataset: summarise(Tally(counts, 4, 4, 1), space)}}
    examples = [example] if shown else []
    write_report(path, HOSTILE, evaluation, examples, log, space.taxonomy, HOSTILE, {HOSTILE: HOSTILE})
    page = path.read_text(encoding="utf-8")
    return page, Page(page)


def test_hostile_names_are_text(tmp_path):
    space = small_space(HOSTILE, HOSTILE)
    page, parsed = report_of(space, np.array([[0, 0, 0, 0], [0, 5, 1, 1], [0, 0, 3, 0]]), tmp_path / "r.html", HOSTILE)
    assert "<script>alert" not in page
    assert sum(tag == "script" for tag, _ in parsed.tags) == 1
    assert parsed.text.count(HOSTILE) > 8
    assert_alone(page, parsed)


def test_null_scores_are_not_zero(tmp_path):
    space = small_space()
    page, parsed = report_of(space, np.array([[0, 0, 0, 0], [0, 3, 0, 1], [0, 0, 0, 0]]), tmp_path / "r.html")
    rows = re.findall(r"<tr><td>.*?</tr>", page, re.DOTALL)
    sky = next(row for row in rows if "Sky" in row)
    assert sky.count("n/a") == 2
    assert 'data-v=""' in sky
    assert "0.0 %" not in sky
    assert "75.0 %" in next(row for row in rows if "Car" in row)
    assert "right 75.0 % · wrong 0.0 % · outside 25.0 %" in " ".join(parsed.text.split())


def test_nothing_labelled_and_no_examples(tmp_path):
    space = small_space()
    _, parsed = report_of(space, np.zeros((3, 4), np.int64), tmp_path / "r.html", shown=False)
    assert "No example pictures" in parsed.text
    assert "right n/a" in parsed.text


def test_curves_are_one_svg_in_the_colour_of_the_text():
    svg = str(curves([*LOG, *((s, "loss", 1 / s) for s in range(1, 3000))]))
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "http" not in svg
    assert "root/mask: 0.7" in svg
    assert "lr:" not in svg
    assert curves([]) == ""
    assert curves([(1, "lr", 0.1), (1, "loss", "inf")]) == ""


def test_close_up_keeps_the_label_and_the_shape():
    space = small_space()
    truth = np.full((100, 200), -1)
    truth[2:6, 190:198] = 1
    image = np.arange(60000, dtype=np.uint32).astype(np.uint8).reshape(100, 200, 3)
    whole = Example("d", "n", image, truth, truth, truth * 0, space)
    near = close_up(whole)
    assert (near.truth == 1).sum() == 32
    assert near.truth.shape == near.nodes.shape == near.image.shape[:2] == (20, 40)
    assert close_up(near) is near
    assert close_up(Example("d", "n", image, truth * 0 - 1, truth, truth, space)).truth.shape == (100, 200)


def test_pictures_are_embedded_small():
    assert data_uri(np.zeros((10, 2000, 3), np.uint8)).startswith("data:image/png;base64,")
    assert data_uri(np.zeros((1, 2000, 3), np.uint8), photo=True).startswith("data:image/jpeg;base64,")


def test_percent():
    assert (percent(None), percent(0.0), percent(0.6126)) == ("n/a", "0.0 %", "61.3 %")


def test_colours_of_known_labels():
    space = small_space()
    colors = pictures.colorise(np.array([[1, 2], [-1, 0]], np.int16), space)
    assert colors.dtype == np.uint8
    assert colors.tolist() == [[[0, 0, 200], [10, 200, 250]], [list(pictures.OUTSIDE), [1, 1, 1]]]
    tree = space.taxonomy
    nodes = pictures.colorise_nodes(np.array([[tree.index("bus"), -1]]), tree)
    assert nodes.tolist() == [[list(tree.colors[tree.index("bus")]), list(pictures.OUTSIDE)]]


def test_overlay_mixes_and_changes_nothing_in_place():
    image, colors = np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 3), 200, np.uint8)
    assert (pictures.overlay(image, colors, 0.25) == 125).all()
    assert (pictures.overlay(image, colors, 1) == 200).all()
    assert (image == 100).all()
    assert (colors == 200).all()


def test_error_map():
    truth, predicted = np.array([[1, 1, 1, -1, -1]], np.int16), np.array([[1, 2, -1, 1, -1]])
    expected = [pictures.RIGHT, pictures.WRONG, pictures.MISSED, pictures.UNLABELLED, pictures.UNLABELLED]
    assert pictures.error_map(truth, predicted).tolist() == [[list(c) for c in expected]]
    assert {n: s for n, _, s in pictures.error_entries(truth, predicted)} == {
        "right": 0.2, "wrong": 0.2, "outside": 0.2, "unlabelled": 0.4
    }


def test_entries_are_what_is_there_largest_first():
    space = small_space()
    positions = np.array([[2, 2, 2, 1], [-1, -1, 1, 2]])
    assert pictures.entries(positions, space) == [
        ("Sky", (10, 200, 250), 0.5), ("Car", (0, 0, 200), 0.25), ("outside", pictures.OUTSIDE, 0.25)
    ]
    assert [n for n, _, _ in pictures.node_entries(np.array([[0, -1, -1]]), space.taxonomy)] == ["void", "root"]


def test_share_text():
    shares = [0, 0.0004, 0.012, 0.1, 0.456, 1]
    assert [pictures.share_text(s) for s in shares] == ["0 %", "<0.1 %", "1.2 %", "10 %", "46 %", "100 %"]


@pytest.mark.parametrize("width", [64, 160, 640, 2048])
def test_legend_draws_boxes_and_names(width):
    entries = [("road", (128, 64, 128), 0.5), ("traffic sign (front), a name that is long", (200, 30, 90), 0.3),
               ("Fußgänger", (250, 170, 30), 0.2)]
    strip = pictures.legend(width, entries)
    assert strip.dtype == np.uint8
    assert strip.shape[1:] == (width, 3)
    drawn = (strip != strip[0, 0]).any(2)
    for _, color, _ in entries:
        here = (strip == color).all(2)
        assert here.sum() >= 16
        ys, xs = np.nonzero(here)
        text = drawn[ys.min() : ys.max() + 1, xs.max() + 3 :]
        assert text.any()  # beside its box
    assert not drawn[:, -1].any()  # nothing runs out of the picture
    assert not drawn[[0, -1]].any()


def test_legend_wraps_and_may_be_empty():
    entries = [(f"class {i}", (i * 5, 99, 7), 0.02) for i in range(40)]
    narrow, broad = pictures.legend(300, entries), pictures.legend(1200, entries)
    assert narrow.shape[0] > 2 * broad.shape[0] > 0
    assert pictures.legend(300, []).shape == (0, 300, 3)
