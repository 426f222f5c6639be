"""Queries are matched with the labels of an image: an independent matcher, and what silence does not punish."""

from itertools import permutations

import pytest
import torch

from heteroseg.labels.space import LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy
from heteroseg.supervision.label_terms import build_terms

pytest.importorskip("scipy", reason="the extra hf is not installed")
from heteroseg.supervision.matching import CLASS, DICE, MASK, NO_OBJECT, matching_loss

TREE = build_taxonomy(
    TaxonomyFile(name="t", tree={"root": ["sky", "vehicle", "sign", "pole"], "vehicle": ["car", "bus"]})
)
LABELS = [
    {"id": 0, "name": "sky", "nodes": "sky"},
    {"id": 1, "name": "bus", "nodes": "bus"},
    {"id": 2, "name": "sign or pole", "nodes": ["sign", "pole"]},
]
SPACE = build_label_space(LabelSpaceFile(name="s", taxonomy="t", labels=LABELS), TREE)
TERMS = build_terms([SPACE])


def probability(logits: torch.Tensor, label: int) -> torch.Tensor:
    top, below = logits[:4].softmax(0), logits[4:6].softmax(0)
    return [top[0], top[1] * below[1], top[2] + top[3]][label]


def pair_cost(classes, masks, label, truth):
    """Of one query and one label, pixel by pixel."""
    object_there = 1 - classes[-1].sigmoid()
    cost = -CLASS * torch.log(probability(classes[:-1], label) * object_there)
    m = masks.flatten().sigmoid()
    t = truth.flatten().to(m)
    known = t >= 0
    m, t = m[known], t[known]
    entropy = -(t * m.log() + (1 - t) * (1 - m).log()).mean()
    dice = 1 - (2 * (m * t).sum() + 1) / (m.sum() + t.sum() + 1)
    return cost + MASK * entropy + DICE * dice


def test_equals_the_best_of_all_pairings():
    generator = torch.Generator().manual_seed(1)
    classes = torch.randn(2, 3, TREE.channels + 1, generator=generator)
    masks = torch.randn(2, 3, 6, 8, generator=generator)
    labels = torch.randint(0, 3, (2, 6, 8), generator=generator)
    labels[1][labels[1] == 0] = -1  # two labels, and a part that nobody knows
    total, count, none = 0.0, 0, 0.0
    for i in range(2):
        present = sorted(set(labels[i].flatten().tolist()) - {-1})
        truth = [torch.where(labels[i] == -1, -1, (labels[i] == label).int()) for label in present]
        best = min(
            permutations(range(3), len(present)),
            key=lambda qs: float(
                sum(pair_cost(classes[i, q], masks[i, q], p, t) for q, p, t in zip(qs, present, truth, strict=True))
            ),
        )
        for q, label, t in zip(best, present, truth, strict=True):
            total, count = total + pair_cost(classes[i, q], masks[i, q], label, t), count + 1
        for q in set(range(3)) - set(best):
            m = masks[i, q].sigmoid()
            if 2 * m[labels[i] >= 0].sum() > m.sum():
                none = none - torch.log(classes[i, q, -1].sigmoid())
    paired, number, empty = matching_loss(classes, masks, labels, TERMS, TREE, cell=1)
    assert number == count
    assert torch.isclose(paired, total, rtol=1e-5)
    assert torch.isclose(empty, CLASS * NO_OBJECT * none / 6, rtol=1e-5)


def test_where_nothing_is_labelled_nothing_is_asked():
    classes = torch.randn(2, 4, TREE.channels + 1, requires_grad=True)
    masks = torch.randn(2, 4, 4, 4, requires_grad=True)
    paired, count, empty = matching_loss(classes, masks, torch.full((2, 16, 16), -1), TERMS, TREE)
    empty.backward()
    assert paired == count == empty == 0
    assert not classes.grad.any()


def test_a_mask_outside_of_what_is_labelled_may_be_an_object():
    labels = torch.full((1, 8, 8), -1)
    labels[:, :, :4] = 0
    masks = torch.full((1, 2, 8, 8), -9.0)
    masks[:, 0, :, :4] = masks[:, 1, :, 4:] = 9
    classes = torch.zeros(1, 2, TREE.channels + 1, requires_grad=True)
    paired, _, empty = matching_loss(classes, masks, labels, TERMS, TREE, cell=1)
    (paired + empty).backward()
    assert classes.grad[0, 0].any()
    assert not classes.grad[0, 1].any()
