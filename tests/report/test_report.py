"""The report page stands alone and tells everything; pictures show what they say."""

import base64
import json
import re
import shutil
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from heteroseg.errors import HeterosegError
from heteroseg.evaluation.scores import Tally, evaluate, summarise
from heteroseg.experiment.config import Experiment, ModelConfig, load_experiment
from heteroseg.experiment.sources import Source, open_sources
from heteroseg.labels.space import LabelEntry, LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy
from heteroseg.model import pictures
from heteroseg.model.model import Model
from heteroseg.networks.network import build_network
from heteroseg.report.comparison import write_comparison
from heteroseg.report.examples import SURE, Example, choose, close_up, collect_examples, pack, photo_uri, widest
from heteroseg.report.page import Contents, page_colors, percent, write_report
from heteroseg.report.run import report_run
from heteroseg.report.statistics import count
from heteroseg.scenes import generate
from heteroseg.training.loop import train
from tests.browser import chromium, complaints, require_whole

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
        self.scripts: list[str] = []
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
        if self.stack and self.stack[-1] == "script":
            self.scripts.append(data)
        elif self.stack and self.stack[-1] != "style":
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
    spaces = {s.space.name: s.space for s in sources}
    return Model("tiny", build_network(experiment.model, tree), tree, spaces, experiment.model), sources, experiment


def small_space(name: str = "small", label: str = "Car") -> LabelSpace:
    tree = build_taxonomy(TaxonomyFile(name="t", tree={"root": ["sky", "vehicle"], "vehicle": ["car", "bus"]}))
    labels = [
        LabelEntry(id=0, name="void", ignore=True, color=(1, 1, 1)),
        LabelEntry(id=7, name=label, nodes="car", color=(0, 0, 200)),
        LabelEntry(id=9, name="Sky", nodes="sky", color=(10, 200, 250)),
    ]
    file = LabelSpaceFile(name="small", taxonomy="t", labels=labels)
    return build_label_space(
        file.model_copy(update={"name": name}), tree
    )  # files have plain names; pages do not rely on it


def test_a_report_of_a_network(world, tmp_path):
    model, sources, experiment = world
    result = evaluate(model, sources, limit=2)
    examples = collect_examples(model, sources, result, count=2)
    assert [e.dataset for e in examples] == ["cityscapes"] * 2 + ["vistas"] * 2 + ["gtsdb"] * 2
    path = tmp_path / "deep" / "report.html"
    contents = Contents(
        "A tiny run",
        model.taxonomy,
        {s.name: s.space for s in sources},
        result,
        examples,
        LOG,
        [(1, result), (2, result)],
        {s.name: count(s) for s in sources},
        facts=FACTS,
        settings={"experiment": experiment.model_dump_json()},
    )
    write_report(path, contents)
    page = path.read_text(encoding="utf-8")
    parsed = Page(page)
    assert_alone(page, parsed)
    for name, entry in result["datasets"].items():
        assert name in parsed.text
        assert entry["label_space"] in parsed.text
        assert all(label in parsed.text for label in entry["per_class"])
        assert all(group in parsed.text for level in entry["levels"].values() for group in level["per_class"])
        assert f"scores on {name}" in parsed.text
    assert all(node in parsed.text for node in model.taxonomy.names[1:])
    assert "One network for 3 datasets" in " ".join(parsed.text.split())
    assert "abc <b>bold</b>" in parsed.text
    assert 'background:#161616"></i>no label, or outside of these' in page
    assert json.dumps(experiment.name) in parsed.text
    assert [a for t, a in parsed.tags if t == "img" and "alt" not in a] == []
    assert sum(t == "img" for t, _ in parsed.tags) == len(examples)
    assert sum(a.get("class") == "example" for t, a in parsed.tags if t == "button") == len(examples)
    assert {a["data-node"] for t, a in parsed.tags if a.get("role") == "treeitem"} == {
        str(n) for n in range(1, len(model.taxonomy))
    }
    told = json.loads(next(s for s in parsed.scripts if s.startswith("{")))
    assert told["names"] == list(model.taxonomy.names)
    assert set(told["spaces"]) == {"cityscapes", "vistas", "gtsdb"}
    assert list(path.parent.iterdir()) == [path]


def test_the_maps_in_the_page_are_what_was_predicted(world, tmp_path):
    model, sources, _ = world
    e = collect_examples(model, sources[:1], {"datasets": {}}, count=1)[0]
    for width in (128, 50):
        w, h, text = pack(width, (e.truth, e.predicted, e.nodes), e.confidence)
        assert (w, h) == (width, width // 2)
        data = zlib.decompress(base64.b64decode(text))
        assert len(data) == 7 * w * h
        maps = np.frombuffer(data[: 6 * w * h], "<u2").reshape(3, h, w).astype(int) - 1
        sure = np.frombuffer(data[6 * w * h :], np.uint8).reshape(h, w)
        for packed, whole in zip(maps, (e.truth, e.predicted, e.nodes), strict=True):
            assert set(np.unique(packed)) <= set(np.unique(whole))
            if width == 128:
                assert (packed == whole).all()
        if width == 128:
            assert np.abs(sure / SURE - e.confidence).max() <= 0.5 / SURE + 1e-6


def test_worst_best_random_and_rare(world):
    items = [replace(world[1][0].val[0], name=f"i{i}") for i in range(40)]
    per_image = {
        f"i{i}": {"acc": i / 40, "iou": {"road": 1.0} | ({"bus": 0.1 * i} if i in (17, 18, 19) else {})}
        for i in range(40)
    }
    per_image["i0"] = {"acc": None, "iou": {}}  # nothing is labelled: never chosen
    chosen = choose(items, per_image, 6)
    assert [(i.name, why) for i, why in chosen[:4]] == [
        ("i1", "worst 1 of 39"),
        ("i2", "worst 2 of 39"),
        ("i39", "best 1 of 39"),
        ("i38", "best 2 of 39"),
    ]
    assert [why for _, why in chosen[4:]] == ["random", "random", "has bus"]
    assert chosen[-1][0].name == "i18"  # the middle one of those with a bus
    assert chosen == choose(items, per_image, 6)
    assert len({i.name for i, _ in choose(items, per_image, 500)}) == 39
    assert [why for _, why in choose(items, {}, 3)] == ["chosen evenly"] * 3


def test_many_pictures_are_smaller():
    assert widest(1) == widest(20) == 640
    assert 240 < widest(500) < 320
    assert widest(10**6) == 240


def test_examples_without_val_images_and_fewer_than_asked(world):
    model, sources, _ = world
    one = Source("one", sources[0].config, sources[0].space, [], sources[0].val[:1])
    none = Source("none", sources[0].config, sources[0].space, [], [])
    examples = collect_examples(model, [one, none], {"datasets": {}}, count=3)
    assert [e.dataset for e in examples] == ["one"]
    e = examples[0]
    assert e.image.shape == (64, 128, 3)
    assert e.truth.shape == e.predicted.shape == e.nodes.shape == e.confidence.shape == (64, 128)
    assert count(none)["train"] == 0


def test_statistics_are_those_of_the_files(world):
    for source in world[1]:
        found = count(source)
        assert [found[key] for key in ("train", "val", "sampled", "size")] == [1, 3, 1, "128 × 64"]
        assert sum(found["shares"].values()) == pytest.approx(1)
        assert found["annotation"] == ("boxes" if source.name == "gtsdb" else "masks")
        assert sum(found["boxes"].values()) == sum(len(i.boxes) for i in source.train)


def report_of(space: LabelSpace, counts: np.ndarray, path, dataset: str = "d", shown: bool = True) -> tuple[str, Page]:
    truth = np.array([[1, 1, 2, -1]] * 4)
    predicted = np.array([[1, 2, -1, 1]] * 4)
    image, nodes = np.zeros((4, 4, 3), np.uint8), np.full((4, 4), -1)
    sure = np.full((4, 4), 0.5, np.float32)
    example = Example(dataset, f"{dataset}/a.png", image, truth, predicted, nodes, sure, space, "worst 1 of 1", 0.5)
    log = [*LOG, (10, f"{HOSTILE}/mask", 1.0), (20, f"{dataset}/miou", 0.25)]
    evaluation = {"datasets": {dataset: summarise(Tally(counts, 4, np.array([4] + [0] * (len(counts) - 1)), 1), space)}}
    examples = [example] if shown else []
    contents = Contents(
        HOSTILE,
        space.taxonomy,
        {dataset: space},
        evaluation,
        examples,
        log,
        settings={HOSTILE: HOSTILE},
        facts={HOSTILE: HOSTILE},
        notes=[HOSTILE],
        repeat=[HOSTILE],
    )
    write_report(path, contents)
    page = path.read_text(encoding="utf-8")
    return page, Page(page)


def test_hostile_names_are_text(tmp_path):
    space = small_space(HOSTILE, HOSTILE)
    page, parsed = report_of(space, np.array([[0, 0, 0, 0], [0, 5, 1, 1], [0, 0, 3, 0]]), tmp_path / "r.html", HOSTILE)
    assert "<script>alert" not in page
    kinds = [attributes.get("type") for tag, attributes in parsed.tags if tag == "script"]
    assert kinds == ["text/plain", "application/json", None]
    assert json.loads(parsed.scripts[1])["spaces"][HOSTILE]["labels"][1] == HOSTILE
    assert parsed.text.count(HOSTILE) > 8
    assert_alone(page, parsed)


def test_matrix_has_a_square_for_every_share(tmp_path):
    space = small_space(HOSTILE, HOSTILE)
    counts = np.array([[0, 0, 0, 0], [0, 90, 10, 0], [0, 0, 25, 75]])
    _, parsed = report_of(space, counts, tmp_path / "r.html", HOSTILE)
    squares = [a for t, a in parsed.tags if t == "i" and a.get("class") in ("hit", "miss")]
    assert [a["class"] for a in squares] == ["hit", "miss", "miss", "hit"]  # in the order of the tree: sky comes first
    widths = {a["title"]: float(a["style"].removeprefix("width:").removesuffix("px")) for a in squares}
    car, sky = f"of the pixels of {HOSTILE} are called", "of the pixels of Sky are called"
    names = [f"25.0 % {sky} Sky", f"75.0 % {sky} none of its labels", f"10.0 % {car} Sky", f"90.0 % {car} {HOSTILE}"]
    assert list(widths) == names
    assert widths[names[3]] > widths[names[1]] > widths[names[0]] > widths[names[2]]


def test_null_scores_are_not_zero(tmp_path):
    space = small_space()
    page, parsed = report_of(space, np.array([[0, 0, 0, 0], [0, 3, 0, 1], [0, 0, 0, 0]]), tmp_path / "r.html")
    rows = re.findall(r"<tr><td>.*?</tr>", page, re.DOTALL)
    assert not any("Sky" in row for row in rows)  # what does not occur is folded away, by name
    assert "labels that do not occur in val: 1" in parsed.text
    assert "75.0 %" in next(row for row in rows if "Car" in row)
    assert "right 75.0 % · wrong 0.0 % · outside 25.0 %" in " ".join(parsed.text.split())


def test_nothing_labelled_and_no_examples(tmp_path):
    space = small_space()
    _, parsed = report_of(space, np.zeros((3, 4), np.int64), tmp_path / "r.html", shown=False)
    assert "No example pictures" in parsed.text
    assert "right n/a" in parsed.text


# ---- whole runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_experiment) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    train(*load_experiment(tiny_experiment, ["train.evaluate_every=1", "train.log_every=1"]), out)
    return out


def test_report_of_a_run_from_its_folder_alone(trained, tmp_path):
    out = tmp_path / "r.html"
    assert report_run(trained, out, images=2) == []
    page = out.read_text(encoding="utf-8")
    parsed = Page(page)
    assert_alone(page, parsed)
    for text in ("Run tiny", "classifier root", "scores on gtsdb", "worst 1 of 2", "experiment.yaml", "weights"):
        assert text in parsed.text
    assert "heteroseg train experiment.yaml" in parsed.text
    assert "taught by cityscapes, vistas" in parsed.text  # the boxes of gtsdb do not teach the root


def test_report_without_data_or_scores_tells_so(trained, tiny_data, tmp_path):
    moved = tmp_path / "run"
    shutil.copytree(trained, moved)
    text = (moved / "experiment.json").read_text().replace(str(tiny_data), str(tmp_path / "nowhere"))
    (moved / "experiment.json").write_text(text)
    notes = report_run(moved, tmp_path / "r.html")
    assert len(notes) == 1
    assert "nowhere" in notes[0]
    parsed = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "The data could not be read" in parsed.text
    assert "sidewalk" in parsed.text  # scores are there all the same
    old = json.loads((moved / "evaluation.json").read_text())
    for entry in old["datasets"].values():
        del entry["confusion"], entry["per_image"]
    (moved / "evaluation.json").write_text(json.dumps(old))
    assert "older version" in report_run(moved, tmp_path / "r.html")[0]
    (moved / "evaluation.json").unlink()
    assert "not evaluated" in report_run(moved, tmp_path / "r.html")[0]
    with pytest.raises(HeterosegError, match=r"expected a RUN folder with experiment\.json"):
        report_run(moved / "last", tmp_path / "r.html")


def test_a_page_of_a_comparison(tmp_path):
    cell = {
        "levels": {"1": [0.5, 0.7]},
        "ece": {"1": [0.1, 0.2]},
        "macc": [0.4, 0.6],
        "acc": [0.9, 0.8],
        "rare_miou": [None, None],
        "strict_miou": [None, None],
        "claimed": [0.0, 0.1],
        "tree_cost": [0.2, 0.3],
    }
    row = {"seeds": [0, 1], "parameters": 3_200_000, "train_seconds": [60.0, 120.0]}
    table = {
        HOSTILE: row | {"datasets": {HOSTILE: cell | {"miou": [0.25, 0.35]}}},
        "flat": row | {"datasets": {"b": cell | {"miou": [None, 0.5]}}},
    }
    write_comparison(tmp_path / "c.html", HOSTILE, table, HOSTILE, FACTS)
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    parsed = Page(page)
    assert_alone(page, parsed)
    assert "30.0 ± 5.0" in parsed.text
    assert "n/a" in parsed.text
    assert "3.20" in parsed.text
    assert (
        sum(t == "use" and a["style"] == "stroke: currentColor" for t, a in parsed.tags) == 3 + 4
    )  # of mIoU and of mean pixel accuracy, one for each seed
    with chromium() as browser:
        require_whole(browser, (tmp_path / "c.html").as_uri())


def test_close_up_keeps_the_label_and_the_shape():
    space = small_space()
    truth = np.full((100, 200), -1)
    truth[2:6, 190:198] = 1
    image = np.arange(60000, dtype=np.uint32).astype(np.uint8).reshape(100, 200, 3)
    sure = np.ones(truth.shape, np.float32)
    whole = Example("d", "n", image, truth, truth, truth * 0, sure, space)
    near = close_up(whole)
    assert (near.truth == 1).sum() == 32
    assert near.truth.shape == near.nodes.shape == near.image.shape[:2] == (20, 40)
    assert close_up(near) is near
    assert close_up(Example("d", "n", image, truth * 0 - 1, truth, truth, sure, space)).truth.shape == (100, 200)


def test_photos_are_embedded_small():
    assert photo_uri(np.zeros((1, 2000, 3), np.uint8), 640).startswith("data:image/jpeg;base64,")


def test_percent():
    assert (percent(None), percent(0.0), percent(0.6126)) == ("n/a", "0.0 %", "61.3 %")


def test_colours_of_known_labels():
    space = small_space()
    colors = pictures.colorise(np.array([[1, 2], [-1, 0]], np.int16), space)
    assert colors.dtype == np.uint8
    assert colors.tolist() == [[[0, 0, 200], [10, 200, 250]], [list(pictures.OUTSIDE_COLOR), [1, 1, 1]]]


def test_no_two_meanings_have_one_colour_on_a_page(world):
    model, sources, _ = world
    tree, spaces = model.taxonomy, [s.space for s in sources]
    colors = page_colors(tree, spaces)
    assert len(set(colors.values())) == len(colors)
    meanings = {label.leaves for space in spaces for label in space.labels if label.leaves}
    assert colors.keys() == meanings | {tree.leaves_of(n) for n in range(len(tree))}
    kept = sum(colors[tree.leaves_of(n)] == tree.colors[n] for n in range(len(tree)))
    assert kept > len(tree) / 2  # most nodes keep theirs
    near = [sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in combinations(colors.values(), 2)]
    assert min(near) >= 30


def test_a_score_of_a_small_part_says_so(tmp_path):
    space = small_space()
    _, parsed = report_of(space, np.array([[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]), tmp_path / "r.html")
    assert "57.1 % of the pixels have no label and are not scored" in parsed.text  # 4 of 7
    _, parsed = report_of(space, np.array([[0, 0, 0, 0], [0, 9, 0, 1], [0, 0, 1, 0]]), tmp_path / "r.html")
    assert "have no label and are not scored" not in parsed.text


def test_the_page_in_a_browser(trained, tmp_path):
    """Everything is reached by keyboard, an example opens with its legend, and axe-core finds nothing serious."""
    report_run(trained, tmp_path / "r.html", images=2)
    with chromium() as browser:
        for width, scheme in ((1440, "light"), (1024, "dark"), (390, "light")):
            size, faults = {"width": width, "height": 900}, []
            page = browser.new_page(viewport=size, color_scheme=scheme, bypass_csp=True)
            page.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
            page.goto((tmp_path / "r.html").as_uri())
            if width == 1440:
                assert page.evaluate("document.documentElement.scrollHeight") <= 4 * 900
            stops = 0
            while page.evaluate("document.activeElement !== document.body") or not stops:
                page.keyboard.press("Tab")
                stops += 1
            assert stops < 100

            page.locator(".example").first.click()
            page.locator("dialog .legend li").first.wait_for()
            assert complaints(page) == []
            canvas, stage = (page.locator(f"dialog {part}").bounding_box() for part in ("canvas", ".stage"))
            assert max(canvas[side] / stage[side] for side in ("width", "height")) > 0.95  # the picture fills its place
            for picture in ("photo", "truth", "finest decision", "errors", "doubt"):
                button = page.get_by_role("button", name=picture, exact=True)
                button.click()
                assert button.get_attribute("aria-pressed") == "true"
            page.keyboard.press("Escape")

            node = page.locator("[role=treeitem][aria-expanded]").first
            node.focus()
            page.keyboard.press("ArrowRight")
            assert node.get_attribute("aria-expanded") == "true"
            page.keyboard.press("ArrowRight")  # to its first child
            page.keyboard.press("Enter")
            names = page.locator(".chosen h3").inner_text().split(" › ")
            assert len(names) == 2
            assert faults == []
            page.close()
        require_whole(browser, (tmp_path / "r.html").as_uri())


def test_overlay_mixes_and_changes_nothing_in_place():
    image, colors = np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 3), 200, np.uint8)
    assert (pictures.overlay(image, colors, 0.25) == 125).all()
    assert (pictures.overlay(image, colors, 1) == 200).all()
    assert (image == 100).all()
    assert (colors == 200).all()


def test_entries_are_what_is_there_largest_first():
    space = small_space()
    positions = np.array([[2, 2, 2, 1], [-1, -1, 1, 2]])
    assert pictures.entries(positions, space) == [
        ("Sky", (10, 200, 250), 0.5),
        ("Car", (0, 0, 200), 0.25),
        ("outside", pictures.OUTSIDE_COLOR, 0.25),
    ]


def test_share_text():
    shares = [0, 0.0004, 0.012, 0.1, 0.456, 1]
    assert [pictures.share_text(s) for s in shares] == ["0 %", "<0.1 %", "1.2 %", "10 %", "46 %", "100 %"]


@pytest.mark.parametrize("width", [64, 160, 640, 2048])
def test_legend_draws_boxes_and_names(width):
    entries = [
        ("road", (128, 64, 128), 0.5),
        ("traffic sign (front), a name that is long", (200, 30, 90), 0.3),
        ("Fußgänger", (250, 170, 30), 0.2),
    ]
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
