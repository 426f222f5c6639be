"""Things that the network was not taught: held out of training, scored by how little they fit."""

import json

import numpy as np
import pytest
import torch

from heteroseg.cli.main import main
from heteroseg.decisions.reference import LARGE, SCORES, novelty
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.novelty import _judge
from heteroseg.evaluation.pixels import Pixels
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.labels.space import LabelSpaceFile, build_label_space, hold_out
from heteroseg.labels.taxonomy import build_taxonomy
from heteroseg.model.model import load
from tests.small_tree import FILE, TREE

SPACE = build_label_space(
    LabelSpaceFile.model_validate(
        {
            "name": "s",
            "taxonomy": "t",
            "labels": [
                {"id": 1, "name": "U", "nodes": "u"},
                {"id": 2, "name": "Y", "nodes": "y"},
                {"id": 3, "name": "X", "nodes": "x"},
                {"id": 4, "name": "B or C", "nodes": ["b", "c"]},
                {"id": 0, "name": "none", "ignore": True},
            ],
        }
    ),
    TREE,
)


def by_hand(z: np.ndarray, tree, score: str) -> float:
    """One pixel, by recursion over the tree."""
    leaves: list[float] = []

    def walk(node: int, p: float) -> None:
        kids = tree.children[node]
        if not kids:
            leaves.append(p)
        elif len(kids) == 1:
            walk(kids[0], p)
        else:
            c = tree.classifiers[tree.classifier_of[node]]
            e = np.exp(z[c.start : c.stop].astype(float))
            e /= e.sum()
            for k, q in zip(kids, e, strict=False):
                walk(k, p * q)

    walk(0, 1.0)
    if score == "probability":
        return 1 - max(leaves)
    if score == "entropy":
        rest = [1 - sum(leaves)] if tree.void else []
        return -sum(p * np.log(p) for p in [*leaves, *rest] if p > 0) / np.log(len(leaves) + tree.void)
    node, least = 0, np.inf
    while tree.children[node]:
        if len(tree.children[node]) == 1:
            node = tree.children[node][0]
            continue
        c = tree.classifiers[tree.classifier_of[node]]
        best = int(z[c.start : c.stop].argmax())
        if best == len(c.children):
            return LARGE
        least = min(least, z[c.start + best])
        node = c.children[best]
    return -least


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("void", [False, True])
def test_scores_equal_those_by_hand(score, void):
    tree = build_taxonomy(FILE, void=void)
    z = 2 * torch.randn(2, tree.channels, 3, 4, generator=torch.Generator().manual_seed(1))
    found = novelty(z, tree, score)
    assert found.shape == (2, 3, 4)
    for b, i, j in np.ndindex(2, 3, 4):
        assert float(found[b, i, j]) == pytest.approx(by_hand(z[b, :, i, j].numpy(), tree, score), rel=1e-4, abs=1e-5)


def test_of_an_image(tiny_model):
    said = tiny_model.predict(np.random.default_rng(0).integers(0, 255, (30, 44, 3), np.uint8))
    for score in SCORES:
        assert said.novelty(score).shape == (30, 44)
    leaves = [tiny_model.taxonomy.names[leaf] for leaf in tiny_model.taxonomy.leaves]
    assert np.allclose(said.novelty("probability"), 1 - np.max([said.probs(n) for n in leaves], 0), atol=1e-5)


def test_labels_for_parts_of_what_is_held_out_are_ignored_and_wider_ones_stay():
    left = hold_out(SPACE, ["x"])
    assert [b.leaves for b in left.labels] == [
        frozenset(),
        SPACE.labels[1].leaves,
        frozenset(),
        *(b.leaves for b in SPACE.labels[3:]),
    ]
    assert left.file.labels[0].ignore
    assert not hold_out(SPACE, ["u"]).labels[0].leaves
    assert hold_out(SPACE, ["u"]).labels[2].leaves == SPACE.labels[2].leaves
    assert hold_out(SPACE, []) is SPACE
    assert hold_out(SPACE, ["v"]) is SPACE  # nothing is labelled v alone


def _pixels(label: list[int], node: list[str], strength: list[float]) -> Pixels:
    z = np.zeros((len(label), TREE.channels), np.float32)
    for row, name, s in zip(z, node, strength, strict=True):
        for n in TREE.path(TREE.index(name)):
            if TREE.channel_of[n] >= 0:
                row[TREE.channel_of[n]] = s
    n = len(label)
    return Pixels(SPACE, z, np.array(label), np.ones(n, bool), np.full(n, 1 / n))


def test_judged_by_auroc_and_by_the_parent():
    held = TREE.leaves_of(TREE.index("u"))
    # labels: U (novel), Y and B or C (known), X (may hold u: neither)
    pixels = _pixels([0, 0, 0, 1, 1, 3, 2], ["v", "v", "c", "y", "y", "c", "w"], [1, 3, 2, 6, 2.5, 7, 0])
    found = _judge(pixels, held, TREE)
    assert (found["novel"], found["known"]) == (3, 3)
    # least largest logits: novel 1, 3, 2; known 6, 2.5, 7: of nine pairs one (3 against 2.5) is the wrong way round
    assert found["scores"]["logit"]["auroc"] == pytest.approx(8 / 9)
    assert found["scores"]["logit"]["fpr95"] == pytest.approx(1 / 3)
    assert found["scores"]["logit"]["labels"] == {"U": pytest.approx(8 / 9)}
    # x's probability in the novel pixels: 0.42, 0.90 * 0.95 and little
    assert found["parent"]["U"] == {"parent": "x", "share": pytest.approx(1 / 3)}
    assert _judge(pixels, TREE.leaves_of(TREE.index("v")), TREE) is None


def test_held_out_in_training_and_found_again(tiny_experiment, tiny_model_folder, tmp_path, capsys):
    out, run = tmp_path / "n.json", tmp_path / "run"
    hold = "hold_out=[car, vegetation]"
    experiment, folder = load_experiment(tiny_experiment, [hold])
    ignored = {b.name for b in open_sources(experiment, folder)[0].space.labels if not b.leaves}
    assert {"car", "vegetation"} <= ignored
    assert main(["train", str(tiny_experiment), "--out", str(run), hold, "train.steps=1"]) == 0
    capsys.readouterr()
    assert "car" not in json.loads((run / "evaluation.json").read_text())["datasets"]["cityscapes"]["per_class"]
    assert not next(b for b in load(run).spaces["cityscapes"].labels if b.name == "car").leaves
    assert main(["novelty", str(run), "--data", str(tiny_experiment), "--json", str(out), hold]) == 0
    assert "AUROC" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["hold_out"] == ["car", "vegetation"]
    assert set(found["datasets"]["cityscapes"]["scores"]["entropy"]["labels"]) <= {"car", "vegetation"}
    assert found["datasets"]["cityscapes"]["novel"] > 100


def test_what_cannot_be_judged_is_told(tiny_experiment, tiny_model_folder, capsys):
    command = ["novelty", str(tiny_model_folder), "--data", str(tiny_experiment)]
    assert main(command) == 2
    assert "hold_out names nothing" in capsys.readouterr().err
    assert main([*command, "hold_out=[carr]"]) == 2
    assert "did you mean 'car'?" in capsys.readouterr().err
    with pytest.raises(HeterosegError, match="'carr' is no node"):
        open_sources(*load_experiment(tiny_experiment, ["hold_out=[carr]"]))
