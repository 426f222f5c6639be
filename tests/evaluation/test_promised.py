"""A promised precision is held on fresh draws, by networks that know their probabilities and by too sure ones."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from heteroseg.cli.main import main
from heteroseg.decisions.reference import back_off, leaf_probs
from heteroseg.evaluation.metrics import answered, compatible, held
from heteroseg.evaluation.pixels import Pixels
from heteroseg.evaluation.promised import PRECISIONS, fit_promise
from heteroseg.evaluation.scores import evaluate
from heteroseg.evaluation.temperatures import calibrate, calibrated
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import Source, open_sources
from heteroseg.labels.space import LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model, load
from heteroseg.model.promise import Promise, least_of
from heteroseg.scenes import generate
from tests.labels.test_taxonomy import trees
from tests.small_tree import TREE

DEPTHS = np.array(TREE.depths)
ONES = np.ones(TREE.channels, np.float32)
REAL = Path(__file__).parents[3] / "shared" / "data"
DRAWN = """\
name: drawn
taxonomy: streets-108
datasets:
  cityscapes: {root: cityscapes, reader: cityscapes, label_space: cityscapes}
  vistas: {root: vistas, reader: vistas, label_space: vistas}
  gtsdb: {root: gtsdb, reader: gtsdb, label_space: gtsdb}
"""


def space_of(*labels, tree: Taxonomy = TREE) -> LabelSpace:
    entries = [{"id": i, "name": str(nodes), "nodes": nodes} for i, nodes in enumerate(labels)]
    return build_label_space(LabelSpaceFile(name="s", taxonomy="t", labels=entries), tree)


FINE = space_of("u", "v", "w", "y", "only", "c")
COARSE = space_of("x", "y", "b", "c")
UNION = space_of("x", ["y", "c"], "b")
SPACES = {"fine": FINE, "coarse": COARSE, "union": UNION}


def draw(space, images: int, too_sure: float, seed: int, per_image: int = 60) -> Pixels:
    """Images of different difficulty; labels are drawn by the probabilities of the logits before these are scaled."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), per_image)
    z = rng.normal(size=(len(image), space.taxonomy.channels)) * rng.gamma(2, 2, images)[image, None]
    p = leaf_probs(torch.from_numpy(z).T[None, :, None], space.taxonomy)[0, :, 0].numpy().T
    leaf = np.minimum((p.cumsum(1) < rng.random((len(p), 1))).sum(1), p.shape[1] - 1)
    return Pixels(space, (z * too_sure).astype(np.float32), space.by_leaf[leaf], image, np.ones(len(image)))


def answers(pixels: Pixels, least: list[float]) -> np.ndarray:
    return back_off(torch.from_numpy(pixels.logits).T[None, :, None], pixels.space.taxonomy, least)[0, 0].numpy()


def right(pixels: Pixels, nodes: np.ndarray) -> np.ndarray:
    """By the definition: a leaf of the node is one that the label allows."""
    labels = [label.leaves for label in pixels.space.labels]
    tree = pixels.space.taxonomy
    return np.array([bool(tree.leaves_of(n) & labels[i]) for n, i in zip(nodes, pixels.labels, strict=True)])


def by_image(pixels: Pixels, values: np.ndarray) -> np.ndarray:
    return np.array([values[pixels.image == i].mean() for i in np.unique(pixels.image)])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("too_sure", [1.0, 3.0, 0.5])
def test_held_on_fresh_draws(space, too_sure):
    known, fresh = (draw(SPACES[space], n, too_sure, seed) for n, seed in ((300, 1), (400, 2)))
    promise = fit_promise(TREE, {"d": known}, ONES)
    assert promise.images == {"d": 150}
    depth_before = np.inf
    for precision, least in promise.least.items():
        nodes = answers(fresh, least)
        share = by_image(fresh, right(fresh, nodes))
        assert share.mean() >= precision - 3 * share.std() / len(share) ** 0.5
        depth = DEPTHS[nodes].mean()
        assert depth <= depth_before
        depth_before = depth
        judged = by_image(known, ~right(known, answers(known, least)))[1::2]  # by the definition
        assert (judged.sum() + 1) / (len(judged) + 1) <= 1 - precision + 1e-6
    assert DEPTHS[answers(fresh, promise.least[0.9])].mean() > 0.5  # and not by answering nothing
    assert max(promise.least) == 0.99  # 150 images: 1 / 151 is more than 0.005


@st.composite
def drawn(draw) -> tuple[Taxonomy, dict[str, tuple[LabelSpace, float, int]]]:
    """Any tree, and one to three datasets: labels that are unions of its leaves, how sure the network is, a seed."""
    tree, parts = draw(trees(void=False)), {}
    for name in "abc"[: draw(st.integers(1, 3))]:
        group = [draw(st.integers(0, 3)) for _ in tree.leaves]
        kinds = sorted({*group})
        labels = [[tree.names[n] for n, g in zip(tree.leaves, group, strict=True) if g == i] for i in kinds]
        parts[name] = space_of(*labels, tree=tree), draw(st.floats(0.3, 8)), draw(st.integers(0, 999))
    return tree, parts


@settings(max_examples=150, phases=[Phase.generate])
@given(drawn(), st.sampled_from([0.7, 0.8, 0.9, 0.95]))
def test_any_tree_any_labels_any_network(case, precision):
    """Of the images that judge it holds to the letter, of fresh ones within what so few images can tell."""
    tree, parts = case
    known = {name: draw(space, 80, sure, 2 * seed, 30) for name, (space, sure, seed) in parts.items()}
    least = fit_promise(tree, known, np.ones(tree.channels, np.float32)).least[precision]
    for name, (space, sure, seed) in parts.items():
        judged = by_image(known[name], right(known[name], answers(known[name], least)))[1::2]
        assert judged.mean() >= precision - 1e-6
        fresh = draw(space, 150, sure, 2 * seed + 1, 30)
        share = by_image(fresh, right(fresh, answers(fresh, least)))
        assert share.mean() >= precision - 0.01 - 5 * share.std() * (1 / len(judged) + 1 / len(share)) ** 0.5
    whole = np.concatenate([by_image(p, right(p, answers(p, least)))[1::2] for p in known.values()])
    assert ((1 - whole).sum() + 1) / (len(whole) + 1) <= 1 - precision + 1e-6


def test_without_thresholds_the_promise_would_be_broken():
    """So that the tests of this file can fail: of what they are drawn from, the leaves alone are right too seldom."""
    for space, too_sure in ((FINE, 1.0), (COARSE, 3.0), (UNION, 0.5)):
        fresh = draw(space, 400, too_sure, 2)
        assert by_image(fresh, right(fresh, answers(fresh, [0.0] * 3))).mean() < 0.9


def test_held_at_each_depth_and_for_each_dataset():
    """A rare dataset that is hard does not hide among the others, nor a depth that few pixels reach."""
    parts = {"easy": draw(FINE, 300, 1.0, 1), "hard": draw(FINE, 60, 8.0, 2)}
    promise = fit_promise(TREE, parts, ONES)
    for name, fresh in {"easy": draw(FINE, 300, 1.0, 3), "hard": draw(FINE, 300, 8.0, 4)}.items():
        nodes = answers(fresh, promise.least[0.9])
        share = by_image(fresh, right(fresh, nodes))
        spread = 3 * share.std() * (1 / len(share) + 1 / promise.images[name]) ** 0.5  # of what was fitted, too
        assert share.mean() >= 0.9 - spread
        ends = answers(fresh, [0.0] * 3)
        for depth in (1, 2, 3):
            goes, at = DEPTHS[ends] >= depth, DEPTHS[nodes] >= depth
            assert (at & ~right(fresh, nodes))[goes].mean() <= 0.1 + spread


def test_labels_that_do_not_tell_do_not_make_a_depth_right():
    """x is right for a label x whatever is under it, so only labels under x say what u, v and w are worth."""
    rng = np.random.default_rng(0)
    coarse, fine, fresh = draw(COARSE, 400, 1.0, 5), draw(FINE, 100, 1.0, 6), draw(FINE, 300, 1.0, 7)
    for part in (fine, fresh):
        under = part.labels < 3
        part.labels[under] = rng.integers(0, 3, under.sum())  # of x the network knows no part
    nodes = answers(fresh, fit_promise(TREE, {"coarse": coarse, "fine": fine}, ONES).least[0.8])
    goes = DEPTHS[answers(fresh, [0.0] * 3)] == 3
    assert ((DEPTHS[nodes] == 3) & ~right(fresh, nodes))[goes].mean() <= 0.25


def test_a_node_is_right_where_it_may_be():
    found = {(TREE.names[n], UNION.labels[i].name) for n, i in np.argwhere(compatible(UNION))}
    of_union = {name for name, label in found if label == "['y', 'c']"}
    assert of_union == {"root", "a", "y", "c"}
    assert {name for name, label in found if label == "x"} == {"root", "a", "x", "u", "v", "w"}


def test_what_was_held_by_hand():
    counts = np.zeros((3, len(TREE)), np.int64)
    at = TREE.index
    for label, node, pixels in [(0, "u", 4), (0, "a", 2), (0, "y", 1), (1, "root", 3)]:
        counts[label, at(node)] = pixels
    first = answered(counts, UNION)
    assert first.tolist() == [[3, 2, 1, 4], [3, 2, 0, 4]]
    second = answered(np.zeros_like(counts), UNION)
    found = held([first, second, first], 0.8)
    assert found["held"] == pytest.approx(0.9)
    assert found["images"] == 2
    assert found["coverage"] == pytest.approx([0.7, 0.5, 0.4])
    assert found["right"] == pytest.approx([6 / 7, 4 / 5, 1])
    assert found["depth"] == pytest.approx(1.6)
    assert held([second], 0.8)["held"] is None


def test_too_few_images_promise_little():
    promise = fit_promise(TREE, {"d": draw(FINE, 8, 1.0, 1)}, ONES)
    assert [*promise.least] == [p for p in PRECISIONS if p <= 0.8]
    assert fit_promise(TREE, {"d": draw(FINE, 1, 1.0, 1)}, ONES).least == {}


def test_from_the_command_line(tiny_experiment, tiny_model, tiny_model_folder, tmp_path, capsys):
    new, data = tmp_path / "new", ["--data", str(tiny_experiment)]
    assert main(["calibrate", str(tiny_model_folder), *data, "--out", str(new)]) == 0
    assert "3 val images judged: enough to promise a precision of 0.7 at most" in capsys.readouterr().out
    model = load(new)
    assert model.promise.images == {"cityscapes": 1, "vistas": 1, "gtsdb": 1}
    assert least_of(model, 0.65) == model.promise.least[0.7]  # the next that is known
    out = tmp_path / "s.json"
    assert main(["evaluate", str(new), *data, "--precision", "0.7", "--json", str(out)]) == 0
    assert "not calibrated on it" not in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["precision"]["promised"] == 0.7
    assert result["precision"]["images"] == 6
    assert all(d["precision"]["calibrated_on"] for d in result["datasets"].values())
    image = np.random.default_rng(1).integers(0, 255, (40, 56, 3), np.uint8)
    said = model.predict(image)
    assert (said.nodes(precision=0) == said.nodes()).all()
    assert (said.nodes(precision=1) == 0).all()
    cv2.imwrite(str(tmp_path / "i.png"), image[..., ::-1])
    command = ["predict", str(new), str(tmp_path / "i.png"), "--out", str(tmp_path / "out")]
    assert main([*command, "--precision", "0.6"]) == 0
    ids = cv2.imread(str(tmp_path / "out" / "i.png"), cv2.IMREAD_UNCHANGED)
    assert (ids == said.nodes(precision=0.6) + 1).all()
    capsys.readouterr()
    for wrong, told in [
        (["--precision", "0.7"], "choose another --out"),
        (["--precision", "0.95"], "enough to promise 0.7 at most, found 0.95; ask for less"),
        (["--precision", "0.6", "--back-off", "0.6"], "does not go with --precision"),
        (["--precision", "0.6", "--labels", "vistas"], "does not go with --labels"),
    ]:
        assert main([*command, *wrong]) == 2
        assert told in capsys.readouterr().err
    command[1] = str(tiny_model_folder)
    assert main([*command, "--precision", "0.6"]) == 2
    assert "never calibrated" in capsys.readouterr().err


def test_a_dataset_that_was_not_trained_on(tiny_experiment, tiny_model_folder, tmp_path, capsys):
    new = tmp_path / "new"
    only = tmp_path / "only.yaml"
    text = tiny_experiment.read_text()
    only.write_text("\n".join(line for line in text.splitlines() if not line.strip().startswith("vistas:")))
    assert main(["calibrate", str(tiny_model_folder), "--data", str(only), "--out", str(new)]) == 0
    assert main(["evaluate", str(new), "--data", str(tiny_experiment), "--precision", "0.6"]) == 0
    told = capsys.readouterr().out
    assert "vistas: the MODEL was not calibrated on it, so nothing is promised there: held is what was found" in told
    assert re.search(r"was found, \d+\.\d points (more|fewer) than promised\n", told)
    assert "gtsdb: the MODEL was not" not in told


def sources_of(experiment: Path, **left: slice) -> list[Source]:
    """The val images of an experiment's datasets, or a part of them."""
    sources = open_sources(*load_experiment(experiment), splits=("val",))
    return [replace(s, val=s.val[left.get(s.name, slice(None))]) for s in sources]


def promising(model: Model, sources: list[Source]) -> Model:
    found = calibrate(model, sources)
    by_name = {name: entry["temperature"] for name, entry in found["classifiers"].items()}
    return calibrated(model, by_name, Promise.model_validate(found["promise"]))


def unchecked(model: Model, precision: float) -> Model:
    """The same promise without its thresholds, which must not pass for one."""
    never = {precision: [0.0] * max(model.taxonomy.depths)}
    return replace(model, promise=Promise(images=model.promise.images, least=never))


def test_a_dataset_of_other_scenes_that_no_threshold_comes_from(tmp_path):
    """The network that ships, drawn scenes: calibrated on two datasets, within a point on a third one of new scenes."""
    generate(tmp_path / "known", 0, 24, (96, 192), seed=11)
    generate(tmp_path / "fresh", 0, 24, (96, 192), seed=12)
    for place in ("known", "fresh"):
        (tmp_path / place / "experiment.yaml").write_text(DRAWN)
    none = slice(0)
    model = promising(load("demo"), sources_of(tmp_path / "known" / "experiment.yaml", vistas=none))
    fresh = sources_of(tmp_path / "fresh" / "experiment.yaml")
    for name, entry in evaluate(model, fresh, precision=0.9)["datasets"].items():
        assert entry["precision"]["held"] >= 0.89
        assert entry["precision"]["calibrated_on"] == (name != "vistas")
        assert entry["precision"]["coverage"][0] > 0.3, "and not by answering nothing"
    without = evaluate(unchecked(model, 0.9), fresh, precision=0.9)
    assert without["datasets"]["vistas"]["precision"]["held"] < 0.89, "the thresholds are what holds it"


@pytest.mark.skipif(not (REAL.is_dir() and os.environ.get("FUZZ")), reason="no real images, or not `make fuzz`")
def test_real_val_parts_and_a_real_dataset_that_was_not_trained_on(tmp_path):
    """A network of 40 steps knows little; what it promises it holds, on IDD-Lite too, of which it saw no image."""
    experiment, run = tmp_path / "experiment.yaml", tmp_path / "run"
    text = (Path(__file__).parents[2] / "experiments" / "real.yaml").read_text()
    experiment.write_text(text.replace("../data", str(REAL)))
    short = ["train.steps=40", "train.batch=4", "train.crop=[96, 96]", "train.workers=0", "train.ema=0.9"]
    short += ["model={backbone: lite0, pretrained: true, width: 32, stride: 8}", "optimiser.warmup=5"]
    unseen = ["datasets.idd_lite.train=null", *(f"datasets.{d}.val=null" for d in ("camvid", "camvid11", "gtsdb"))]
    unseen += ["datasets.idd_lite.val=null"]
    assert main(["train", str(experiment), "--out", str(run), "--no-warnings", *short, *unseen]) == 0
    part, none = dict.fromkeys(("camvid", "camvid11", "gtsdb"), slice(0, None, 4)), slice(0)
    model = promising(load(run / "last"), sources_of(experiment, idd_lite=none, **part))
    rest = dict.fromkeys(part, slice(2, None, 4))
    fresh = sources_of(experiment, idd_lite=slice(0, None, 8), **rest)
    found = evaluate(model, fresh, precision=0.9)
    for name, entry in found["datasets"].items():
        assert entry["precision"]["held"] >= (0.89 if name == "idd_lite" else 0.87), name  # 25 images each
    assert found["precision"]["held"] >= 0.89
    assert not found["datasets"]["idd_lite"]["precision"]["calibrated_on"]
    without = evaluate(unchecked(model, 0.9), fresh, precision=0.9)
    assert without["precision"]["held"] < 0.87, "the thresholds are what holds it"


def test_the_page_has_what_was_promised_and_held(tiny_experiment, tiny_model_folder, tmp_path):
    new, page, data = tmp_path / "new", tmp_path / "page.html", ["--data", str(tiny_experiment)]
    assert main(["calibrate", str(tiny_model_folder), *data, "--out", str(new)]) == 0
    assert main(["evaluate", str(new), *data, "--precision", "0.6", "--report", str(page), "--images", "1"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Promised: 60 % of an image right" in text
    assert "answered at depth 1 or deeper (of these right)" in text
