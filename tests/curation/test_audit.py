"""An audit finds planted errors of annotation and nothing where the network agrees."""

import json
import shutil
from collections import Counter
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from heteroseg.cli.main import main
from heteroseg.curation.audit import MAX_ALIKE, Audit, DatasetFindings, _disputed, _Image, audit, relations
from heteroseg.datasets import read_mask
from heteroseg.datasets.encoding import write_ids
from heteroseg.datasets.sample import Sample
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.labels.space import LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy
from heteroseg.report.audit import write_audit
from heteroseg.supervision.coverage import count_split
from tests.browser import chromium, require_whole


def quiet(_):
    pass


def mask_image(mask):
    return (
        mask.parents[3]
        / "leftImg8bit"
        / mask.parent.relative_to(mask.parents[2])
        / mask.name.replace("gtFine_labelIds", "leftImg8bit")
    )


@pytest.fixture
def agreed(tiny_data, tiny_experiment, tiny_model, tmp_path):
    """The tiny Cityscapes, annotated by the tiny network itself; the experiment's path and the masks."""
    root = tmp_path / "data"
    shutil.copytree(tiny_data, root)
    masks = sorted((root / "cityscapes").glob("gtFine/*/*/*_labelIds.png"))
    images = sorted((root / "cityscapes").glob("leftImg8bit/*/*/*.png"))
    assert len(masks) == len(images) == 6
    for image, mask in zip(images, masks, strict=True):
        ids = tiny_model.predict(image).labels("cityscapes")
        write_ids(mask, np.where(ids < 0, 0, ids), bits=8)
    path = tmp_path / "experiment.yaml"
    path.write_text(tiny_experiment.read_text().replace(str(tiny_data), str(root)))
    return path, masks


def test_a_planted_error_is_found(agreed, tiny_model, tmp_path, capsys, tiny_model_folder):
    path, masks = agreed
    sources = [s for s in open_sources(*load_experiment(path)) if s.name == "cityscapes"]
    before = audit(sources, tiny_model, 10, 0.3, 100, quiet)
    assert before.findings["cityscapes"].images == 6
    assert not before.findings["cityscapes"].findings
    assert not before.conflicts

    # where one label fills a window of 12 x 8 pixels and the network is surest: say another there
    space, size = sources[0].space, (8, 12)
    surest = []
    for mask in masks:
        ids = read_mask(mask)
        said = tiny_model.predict(mask_image(mask))
        windows = np.lib.stride_tricks.sliding_window_view(ids, size)
        one = (windows == windows[..., :1, :1]).all((2, 3)) & (windows[..., 0, 0] > 0)
        sure = np.lib.stride_tricks.sliding_window_view(said.confidence(space), size).min((2, 3)) * one
        y, x = np.unravel_index(sure.argmax(), sure.shape)
        surest.append((float(sure[y, x]), mask, int(y), int(x), int(ids[y, x])))
    least, victim, y, x, label = max(surest)
    assert least > 0
    name = next(b.name for b in space.labels if b.id == label)
    other = next(b for b in space.labels if b.leaves and b.id != label and b.evaluate)
    ids = read_mask(victim)
    ids[y : y + 8, x : x + 12] = other.id
    write_ids(victim, ids, bits=8)

    out = tmp_path / "audit"
    options = ["--images", "10", "--sure", f"{0.99 * least:.4f}", "--least", "60"]
    command = ["data", "audit", str(path), "--out", str(out), "--model", str(tiny_model_folder), *options]
    assert main(command) == 0
    assert "1 region and 0 boxes in dispute" in capsys.readouterr().out
    told = json.loads((out / "audit.json").read_text())
    found = [f for f in told["findings"] if f["dataset"] == "cityscapes"]
    assert len(found) == 1
    assert (found[0]["label"], found[0]["called"]) == (other.name, name)
    left, top, width, height = found[0]["window"]
    assert x <= left < left + width <= x + 12
    assert y <= top < top + height <= y + 8
    assert found[0]["pixels"] >= 60
    assert found[0]["fit"] < found[0]["sure"]
    page = (out / "audit.html").read_text()
    assert f"annotated <b>{other.name}</b>" in page
    alike = Counter((f["dataset"], f["kind"], f["label"], f["called"]) for f in told["findings"])
    assert page.count("data:image/jpeg;base64,") == sum(min(count, MAX_ALIKE) for count in alike.values())
    assert "://" not in page
    assert main(command) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    with chromium() as browser:
        require_whole(browser, (out / "audit.html").as_uri())


def test_boxes_are_judged_one_by_one(tiny_experiment, tiny_model):
    sources = [s for s in open_sources(*load_experiment(tiny_experiment)) if s.name == "gtsdb"]
    view = audit(sources, tiny_model, 10, 0.9, 20, quiet).findings["gtsdb"]
    items = [*sources[0].train, *sources[0].val]
    assert sum(t["boxes"] for t in view.boxes) == sum(len(i.boxes) for i in items) > 0
    assert view.totals["box"] == sum(t["boxes"] - t["agreed"] for t in view.boxes)
    for finding in view.findings:
        if finding["kind"] == "box":
            item = next(i for i in items if finding["image"].endswith(i.name))
            x, y, w, h = finding["window"]
            within = [b[0] - 1 <= x and b[1] - 1 <= y and x + w <= b[2] + 1 and y + h <= b[3] + 1 for b in item.boxes]
            assert any(within)
        if finding["kind"] == "no box":
            assert finding["label"] == ""
            assert finding["fit"] == 0


def test_mean_probs_equal_a_slow_reference(tiny_model):
    rng = np.random.default_rng(4)
    said = tiny_model.predict(rng.integers(0, 255, (24, 40, 3), np.uint8))
    regions = rng.integers(0, 4, (24, 40))
    regions[regions == 2] = 1
    probs = np.concatenate([p for _, p in said.leaf_bands()], 1)
    means = said.mean_probs(regions)
    for i in (0, 1, 3):
        np.testing.assert_allclose(means[i], probs[:, regions == i].mean(1), rtol=1e-5)
    assert not means[2].any()


def test_counts_without_a_network(tiny_experiment, tmp_path, capsys):
    sources = open_sources(*load_experiment(tiny_experiment))
    counts = count_split(sources[0], "train")
    masks = [read_mask(item.mask) for item in sources[0].train]
    for i, label in enumerate(sources[0].space.labels):
        if label.leaves:
            assert counts.pixels[i] == sum((m == label.id).sum() for m in masks)
            assert counts.images[i] == sum((m == label.id).any() for m in masks)
    out = tmp_path / "audit"
    assert main(["data", "audit", str(tiny_experiment), "--out", str(out)]) == 0
    page = (out / "audit.html").read_text()
    assert "never in training" in page
    assert "Labels at odds" not in page
    assert "0 faults" in capsys.readouterr().out


def test_names_at_odds(tiny_experiment):
    sources = open_sources(*load_experiment(tiny_experiment))
    found = {(r["first"], r["second"]): r for r in relations(sources)}
    spaces = {s.name: {b.name: b.leaves for b in s.space.labels} for s in sources}
    for (first, second), r in found.items():
        (d, p), (e, q) = first.split("/", 1), second.split("/", 1)
        a, b = spaces[d][p], spaces[e][q]
        assert a != b
        assert (p.casefold() == q.casefold()) == (r["kind"] == "one name, two meanings")
        assert bool(r["only_first"]) == bool(a - b)
        assert bool(r["only_second"]) == bool(b - a)


def test_a_broken_file_is_told_on_the_page(agreed, tmp_path, capsys):
    path, masks = agreed
    masks[0].write_bytes(b"no picture")
    out = tmp_path / "audit"
    assert main(["data", "audit", str(path), "--out", str(out)]) == 0
    assert "1 fault" in capsys.readouterr().out
    assert masks[0].name in (out / "audit.html").read_text()


def test_cut_out_shows_the_region(tiny_model):
    from heteroseg.model.pictures import OUTLINE, cut_out

    image = np.zeros((100, 200, 3), np.uint8)
    region = np.zeros((100, 200), bool)
    region[40:60, 150:190] = True
    picture = cut_out(image, region, cv2.boundingRect(region.astype(np.uint8)), 120, 90)
    assert picture.shape[0] <= 90
    assert picture.shape[1] <= 120
    ink = np.argwhere((picture == OUTLINE).all(-1))
    height, width = np.ptp(ink, axis=0) + 1
    assert width / height == pytest.approx(2, rel=0.1)


TREE = build_taxonomy(
    TaxonomyFile(
        name="t", tree={"root": ["ground", "sky", "object"], "ground": ["marking", "asphalt"], "object": ["car", "man"]}
    )
)
NAMES = {"void": None, "ground": "ground", "marking": "marking", "sky": "sky", "thing": "object"}


def space_of(names):
    entries = [{"id": i, "name": n, "nodes": k, "ignore": k is None} for i, (n, k) in enumerate(names.items())]
    entries = [e | {"evaluate": e["name"] != "thing"} for e in entries]
    return build_label_space(LabelSpaceFile(name="nested", taxonomy="t", labels=entries), TREE)


class Says:
    """What a network says that has the same probability of each leaf at every pixel."""

    def __init__(self, shares, space):
        self.probs = np.array([shares.get(TREE.names[leaf], 0.0) for leaf in TREE.leaves])
        self.answer = space.by_leaf[self.probs.argmax()]

    def mean_probs(self, numbers):
        return np.tile(self.probs, (numbers.max() + 1, 1))

    def confident_label_indices(self, _):
        return np.full((40, 60), self.answer), np.full((40, 60), 0.99, np.float32)


def judged(space, shares, annotated):
    """What a network makes of a box annotated so, and what it disputes of a region."""
    true = np.full((40, 60), -1, np.int16)
    true[5:30, 5:50] = [label.name for label in space.labels].index(annotated)
    sample = Sample("a", np.zeros((40, 60, 3), np.uint8), true)
    image = _Image("d", space, "a", sample, true, Says(shares, space))
    (box,) = image.findings("box", (true >= 0).astype(int), true)
    return (box["called"], pytest.approx(box["fit"])), [f["called"] for f in _disputed(image, 0.9, 20)]


def test_a_wide_label_does_not_beat_the_narrow_one_inside_it():
    """99 % marking is marking where a dataset knows markings and the ground around them."""
    space = space_of(NAMES)
    marking = {"marking": 0.99, "asphalt": 0.01}
    assert judged(space, marking, "marking") == (("marking", 0.99), [])
    assert judged(space, marking, "ground") == (("marking", 0.01), ["marking"])
    assert judged(space, {"marking": 0.4, "asphalt": 0.6}, "marking") == (("ground", 0.4), ["ground"])
    no_sky = space_of({name: nodes for name, nodes in NAMES.items() if name != "sky"})
    several = {"sky": 0.4, "marking": 0.3, "asphalt": 0.3}  # the likeliest leaf is none of its labels, most of it is
    assert judged(no_sky, several, "ground")[0] == ("ground", 0.3)
    assert judged(no_sky, {"sky": 0.6, "car": 0.4}, "thing")[0] == ("sky (no label of it)", 0.4)


def test_a_label_that_only_narrower_ones_show_accepts_these():
    space = space_of(NAMES | {"car": "car", "man": "man"})
    assert judged(space, {"car": 0.97, "sky": 0.03}, "thing") == (("thing", 0.97), [])
    assert judged(space, {"car": 0.03, "sky": 0.97}, "thing") == (("sky", 0.03), ["sky"])
    assert judged(space, {"car": 0.97, "man": 0.03}, "man") == (("car", 0.03), ["car"])


def test_every_finding_stands_in_the_json(tmp_path):
    """Of seven alike three have a picture on the page, which says how many more there are."""
    row = {"kind": "region", "dataset": "d", "image": "a", "window": (0, 0, 9, 9), "label": "road", "called": "sky"}
    found, picture = DatasetFindings(1), np.zeros((9, 9, 3), np.uint8)
    for sure in (0.91, 0.97, 0.92, 0.96, 0.93, 0.95, 0.94):
        found.add([row | {"pixels": 300, "fit": 0.01, "sure": sure, "picture": picture}])
    source = SimpleNamespace(name="d", space=space_of(NAMES))
    limits = {"min_confidence": 0.9, "min_pixels": 200}
    write_audit(tmp_path, Audit({"d": {}}, [], [], {"d": found}), {}, title="t", sources=[source], **limits)
    told = json.loads((tmp_path / "audit.json").read_text())["findings"]
    assert [f["sure"] for f in told] == [0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.91]
    page = (tmp_path / "audit.html").read_text()
    assert page.count("<figure>") == 3
    assert "7 found, the 3 weightiest are shown, at most 3 alike; 4 more stand in audit.json" in page
