"""The paper's loss, written out literally from its tables (facts/iv2018.json), against ours."""

import numpy as np
import pytest
import torch

from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.supervision.label_terms import build_terms, classifier_weights
from heteroseg.supervision.loss import hierarchical_loss, reduce_sums
from heteroseg.supervision.targets import offsets, to_label_indices
from tests.facts import facts

L1, DRIVE, RIDER, SIGN, FRONT = "L1", "L2_driveable", "L2_rider", "L2_traffic_sign", "L3_traffic_sign_front"
SLICES = {L1: (0, 54), DRIVE: (54, 65), RIDER: (65, 69), SIGN: (69, 72), FRONT: (72, 116)}
NODES = {L1: "root", DRIVE: "driveable", RIDER: "rider", SIGN: "traffic sign", FRONT: "traffic sign (front)"}


@pytest.fixture(scope="module")
def paper():
    return facts("iv2018")


@pytest.fixture(scope="module")
def spaces():
    tree = load_taxonomy("streets-108", void=True)
    return tree, [load_label_space(n, tree) for n in ("cityscapes", "vistas", "gtsdb")]


def cross_entropy(logits, target):
    logits = logits.astype(np.float64)
    return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[target]


def literal(paper, logits, images):
    """{classifier: lambda * mean cross-entropy} of (C, H, W) logits and (dataset, (H, W) class ids) per image."""
    tables = paper["dataset_to_classifier"]
    city, vistas = tables["cityscapes"], tables["vistas"]
    lists = {
        ("cityscapes", L1): city["L1"],
        ("cityscapes", SIGN): city["L2_traffic_sign_corrected_inferred"],
        ("vistas", L1): vistas["L1"],
        ("vistas", DRIVE): vistas["L2_driveable"],
        ("vistas", RIDER): vistas["L2_rider"],
        ("vistas", SIGN): vistas["L2_traffic_sign"],
        ("gtsdb", FRONT): tables["gtsdb"]["L3_traffic_sign_front"],
    }
    losses = {}
    for key, (start, stop) in SLICES.items():
        void, values = paper["classifiers"][key]["void_index"], []
        assert stop - start == void + 1
        for x, (dataset, cids) in zip(logits, images, strict=True):
            table = lists.get((dataset, key))
            for i, j in np.ndindex(*cids.shape) if table else ():
                target = table[cids[i, j]]
                if key == FRONT and x[69:72, i, j].argmax() != 1:  # the L2 sign classifier alone
                    continue
                if target < void:
                    values.append(cross_entropy(x[start:stop, i, j], target))
        losses[key] = (float(np.mean(values)) if values else 0.0, len(values))
    return losses


def batch(paper, spaces, seed, signs=True, size=(17, 23)):
    """Random logits and labels of one Cityscapes, two Vistas and one GTSDB image, as class ids and as our targets."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4, 116, *size)) * 3
    datasets = paper["datasets"]
    natives = {
        "cityscapes": [c["cityscapes_label_id"] for c in datasets["cityscapes"]["classes"]] + [0],
        "vistas": [c["cid"] for c in datasets["vistas"]["classes"]] + [65],
        "gtsdb": [c["label_id"] for c in datasets["gtsdb"]["classes"]] + [0],
    }
    starts = dict(zip(natives, offsets(spaces), strict=False))
    images, mask, boxes = [], np.full((4, *size), -1), np.full((4, *size), -1)
    for i, name in enumerate(("cityscapes", "vistas", "vistas", "gtsdb")):
        cids = rng.integers(0, len(natives[name]), size)
        if name == "gtsdb" and not signs:
            cids[:] = 43
        images.append((name, cids))
        space = next(s for s in spaces if s.name == name)
        found = to_label_indices(np.array(natives[name])[cids].astype(np.int32), space, name).astype(np.int64)
        (boxes if name == "gtsdb" else mask)[i] = np.where(found < 0, -1, found + starts[name])
    return logits, images, torch.from_numpy(mask), torch.from_numpy(boxes)


def ours(tree, spaces, logits, mask, boxes, weights):
    sums, pixels = hierarchical_loss(
        torch.from_numpy(logits), mask, boxes, build_terms(spaces), tree, cell=1, gate="hard"
    )
    return sums, reduce_sums(sums, classifier_weights(tree, weights, {}), "classifier", pixels)


@pytest.mark.parametrize(("seed", "signs"), [(0, True), (1, True), (2, False)])
def test_the_loss_of_the_paper(paper, spaces, seed, signs):
    tree, spaces = spaces
    logits, images, mask, boxes = batch(paper, spaces, seed, signs)
    wanted = literal(paper, logits, images)
    assert (wanted[FRONT][1] > 50) == signs
    order = {tree.names[c.node]: (i, (c.start, c.stop)) for i, c in enumerate(tree.classifiers)}
    assert {k: order[NODES[k]][1] for k in NODES} == SLICES
    sums, loss = ours(tree, spaces, logits, mask, boxes, {"default": 0.1, "root": 1.0})
    for key, (mean, count) in wanted.items():
        i = order[NODES[key]][0]
        assert sums.weight[i].tolist() == ([0, count] if key == FRONT else [count, 0]), key
        assert sums.nll[i].sum().item() == pytest.approx(mean * count, rel=1e-9)
    total = sum(paper["loss"]["weights"][key] * mean for key, (mean, _) in wanted.items())
    assert loss.item() == pytest.approx(total, rel=1e-6)  # the weights are float32


def test_the_gate_asks_the_parent_and_not_the_root(paper, spaces):
    tree, spaces = spaces
    logits, _, mask, boxes = batch(paper, spaces, 3)
    first, _ = ours(tree, spaces, logits, mask, boxes, {})
    logits[3, :54] = -9.0
    logits[3, 19] = 9.0  # the root is sure of sky
    second, _ = ours(tree, spaces, logits, mask, boxes, {})
    assert torch.equal(first.weight[4], second.weight[4])
    assert first.weight[4, 1] > 0
    logits[3, 71] = 50.0  # the sign's void logit wins
    closed, _ = ours(tree, spaces, logits, mask, boxes, {})
    assert closed.weight[4].sum() == 0


def test_parking_of_cityscapes_says_driveable_only(paper, spaces):
    tree, spaces = spaces
    logits = torch.randn(1, 116, 3, 3, dtype=torch.float64)
    space = spaces[0]
    label = next(i for i, x in enumerate(space.labels) if x.name == "parking")
    mask = torch.full((1, 3, 3), label)
    sums, _ = ours(tree, spaces, logits.numpy(), mask, torch.full_like(mask, -1), {})
    assert sums.weight[:, 0].tolist() == [9, 0, 0, 0, 0]
    wanted = -logits[:, :54].log_softmax(1)[:, 7].sum()
    torch.testing.assert_close(sums.nll[0, 0], wanted)
