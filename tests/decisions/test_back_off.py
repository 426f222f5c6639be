"""Decisions that stop where the network is not sure: on arrays, on images, in scores and in files."""

import json

import cv2
import numpy as np
import pytest
import torch

from heteroseg.cli.main import main
from heteroseg.decisions.reference import back_off, leaf_probs
from heteroseg.evaluation.scores import hierarchical, tree_cost
from heteroseg.labels.space import LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from tests.small_tree import TREE

SPACE = build_label_space(
    LabelSpaceFile.model_validate(
        {
            "name": "s",
            "taxonomy": "t",
            "labels": [
                {"id": 1, "name": "X", "nodes": "x"},
                {"id": 2, "name": "YC", "nodes": ["y", "c"]},
                {"id": 3, "name": "B", "nodes": "b"},
            ],
        }
    ),
    TREE,
)


TREES = [TREE, load_taxonomy("streets-real"), load_taxonomy("streets-108", void=True)]


def node_probs(tree, leaf: np.ndarray) -> np.ndarray:
    """(leaves, N) probabilities to (nodes, N)."""
    return np.stack([leaf[sorted(tree.leaves_of(n))].astype(np.float64).sum(0) for n in range(len(tree))])


def walk(tree, probs: np.ndarray, least: float) -> int:
    """One pixel, (nodes,) probabilities: down along the likelier child while it is likely enough."""
    node = 0
    while tree.children[node]:
        best = max(tree.children[node], key=lambda k: probs[k])
        if probs[best] < least:
            break
        node = best
    return node


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("least", [0.0, 0.3, 0.7, 0.95])
def test_equals_the_reference(tree, least):
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, tree.channels, 9, 11)
    found = back_off(logits, tree, least)
    for image, nodes in zip(leaf_probs(logits, tree), found, strict=True):
        probs = node_probs(tree, image.flatten(1).numpy())
        wanted = np.array([walk(tree, p, least) for p in probs.T])
        sure = np.abs(probs - least).min(0) > 1e-5  # rounding may turn the others round
        assert sure.mean() > 0.9 or least == 0
        assert (nodes.flatten().numpy() == wanted)[sure | (least == 0)].all()


def test_back_off_stops_where_it_is_not_sure():
    leaves = [TREE.names[n] for n in TREE.leaves]
    assert leaves == ["u", "v", "w", "y", "only", "c"]
    rows = np.array([[0.5, 0.2, 0.1, 0.1, 0.05, 0.05], [0.05, 0.05, 0.001, 0.1, 0.7, 0.099],
                     [0.24, 0.2, 0.2, 0.001, 0.18, 0.179]])  # fmt: skip
    logits = torch.zeros(1, TREE.channels, 1, 3)
    for c in TREE.classifiers:  # the logits that give these probabilities
        for i, child in enumerate(c.children):
            logits[0, c.start + i, 0] = torch.from_numpy(np.log(rows[:, sorted(TREE.leaves_of(child))].sum(1)))
    names = {t: [TREE.names[n] for n in back_off(logits, TREE, t)[0, 0]] for t in (0.0, 0.6, 0.75, 0.85, 1.0)}
    assert names[0.0] == ["u", "only", "u"]
    assert names[0.6] == ["x", "only", "x"]
    assert names[0.75] == ["x", "root", "root"]
    assert names[0.85] == ["a", "root", "root"]
    assert names[1.0] == ["root"] * 3


def test_of_an_image(tiny_model):
    image = np.random.default_rng(1).integers(0, 255, (40, 56, 3), np.uint8)
    said, tree = tiny_model.predict(image), tiny_model.taxonomy
    nodes = said.nodes(back_off=0.8)
    assert nodes.shape == (40, 56)
    assert len(np.unique(nodes)) > 1
    for n in np.unique(nodes).tolist():
        assert (said.probs(tree.names[n])[nodes == n] >= 0.8 - 1e-4).all() or n == 0
        for child in tree.children[n]:
            assert (said.probs(tree.names[child])[nodes == n] < 0.8 + 1e-4).all()


def test_scores_by_hand():
    counts = np.zeros((3, len(TREE)), np.int64)
    at = TREE.index
    decided = [(0, "u", 5), (0, "x", 2), (0, "a", 3), (0, "y", 1), (1, "c", 4), (1, "a", 2), (2, "root", 3)]
    for label, node, pixels in decided:
        counts[label, at(node)] = pixels
    scores = hierarchical(counts, SPACE)
    # steps up to the common ancestor: x to a 1 (3 pixels), and 1 for y; y, the nearer part of YC, to a 1; b to root 1
    assert scores["ancestor_error"] == pytest.approx((3 + 1 + 2 + 3) / 20)
    assert scores["coverage"] == pytest.approx(12 / 20)  # u, x, y and c are labels; a and root are not
    assert scores["accuracy"] == pytest.approx(11 / 12)
    assert scores["consistent"] == pytest.approx((5 + 2 + 3 + 4 + 3) / 20)  # a holds only a part of YC
    empty = hierarchical(np.zeros_like(counts), SPACE)
    assert set(empty.values()) == {None}


def test_the_cost_of_errors_by_hand():
    counts = np.array([[5, 3, 0, 2], [1, 4, 2, 0], [0, 0, 0, 0]])
    # X for YC: up to a, 1; X outside: up to root, 2; YC for X: from y to a, 1; YC for B: from c, 1
    assert tree_cost(counts, SPACE) == pytest.approx((3 * 1 + 2 * 2 + 1 * 1 + 2 * 1) / 17)
    assert tree_cost(np.zeros_like(counts), SPACE) is None


def test_evaluate_from_the_command_line(tiny_experiment, tiny_model_folder, tmp_path, capsys):
    command = ["evaluate", str(tiny_model_folder), "--data", str(tiny_experiment), "--limit", "1"]
    assert main([*command, "--back-off", "0.9", "--json", str(tmp_path / "s.json")]) == 0
    told = capsys.readouterr().out
    assert "stopped at 0.9" in told
    result = json.loads((tmp_path / "s.json").read_text())["datasets"]
    for d in result.values():
        b = d["back_off"]
        assert b["least"] == 0.9
        assert b["coverage"][1] < b["coverage"][0] == 1
        assert b["consistent"][1] >= b["consistent"][0]
    assert main([*command, "--json", str(tmp_path / "plain.json")]) == 0
    plain = json.loads((tmp_path / "plain.json").read_text())["datasets"]
    assert all("back_off" not in d for d in plain.values())
    assert {n: d["miou"] for n, d in plain.items()} == {n: d["miou"] for n, d in result.items()}


def test_predict_from_the_command_line(tiny_model, tiny_model_folder, tmp_path, capsys):
    image = np.random.default_rng(1).integers(0, 255, (40, 56, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "i.png"), image[..., ::-1])
    command = ["predict", str(tiny_model_folder), str(tmp_path / "i.png"), "--out", str(tmp_path / "out"), "--overlay"]
    assert main([*command, "--back-off", "0.8"]) == 0
    ids = cv2.imread(str(tmp_path / "out" / "i.png"), cv2.IMREAD_UNCHANGED)
    assert (ids == tiny_model.predict(image).nodes(0.8) + 1).all()
    told = json.loads((tmp_path / "out" / "i.json").read_text())
    assert {e["id"] for e in told["labels"].values()} == set(np.unique(ids).tolist())
    assert all(tiny_model.taxonomy.names[e["id"] - 1] == name for name, e in told["labels"].items())
    for wrong, said in [
        (["--back-off", "0.7"], "choose another --out"),
        ([], "choose another --out"),
        (["--back-off", "0.8", "--labels", "vistas"], "does not go with --labels"),
        (["--back-off", "2"], "a number from 0 to 1"),
    ]:
        try:
            code = main([*command, *wrong])
        except SystemExit as stop:
            code = stop.code
        assert code == 2
        assert said in capsys.readouterr().err
