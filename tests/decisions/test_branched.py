"""Branched logits: what a decision does not ask for may be anything, and its answer is that of all of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.decisions.branched import BranchedLogits
from heteroseg.decisions.exact import decode, dense
from heteroseg.decisions.plan import plan_decode
from heteroseg.labels.space import load_label_space, own_space
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy, load_taxonomy
from tests.decisions.test_exact import frames, logits_of, reference


def branched_logits(z: torch.Tensor, tree: Taxonomy, chosen: list[int], seed: int = 0) -> BranchedLogits:
    """Logits (1, C, h, w) of which those of some classifiers are other numbers until they are asked for."""
    cuts = [0, *(c.stop for c in tree.classifiers)]
    true, g = z[0].permute(1, 2, 0).numpy(), np.random.default_rng(seed)
    values = true.copy()
    for q in chosen:
        values[..., cuts[q] : cuts[q + 1]] = 9 * g.standard_normal((*true.shape[:2], cuts[q + 1] - cuts[q]))
    at = {q: lambda cells, q=q: true[cells][:, cuts[q] : cuts[q + 1]] for q in chosen}
    return BranchedLogits(values, cuts, at, {q: np.zeros(true.shape[:2], np.bool_) for q in chosen})


@given(st.data())
def test_any_tree_any_size_any_logits(data):
    plan, z, covers, size = data.draw(frames())
    tree, seed = plan.tree, data.draw(st.integers(0, 999))
    chosen = data.draw(st.lists(st.integers(0, len(tree.classifiers) - 1), min_size=1, unique=True))
    logits = branched_logits(z, tree, chosen, seed)
    assert logits.shape == z.shape
    assert np.array_equal(
        decode(logits, covers, size, plan)[0], reference(z, covers, size, tree, plan.space, plan.rule)
    )
    assert torch.equal(dense(logits).nan_to_num(), z.nan_to_num())


@pytest.mark.parametrize("rule", ["path", "marginal"])
@pytest.mark.parametrize("name", ["camvid32", "gtsdb-real", "idd-lite", "leaves"])
def test_real_trees_ask_for_little(name, rule):
    """Signs in a corner of the image: little more than the corner is asked for, by spaces of coarser labels nothing."""
    tree = load_taxonomy("streets-real")
    space = own_space(tree) if name == "leaves" else load_label_space(name, tree)
    plan, sign = plan_decode(space, rule), tree.index("traffic sign")
    q = tree.classifier_of[sign]
    for kind in ("smooth", "random", "certain", "unsure"):
        z = logits_of(kind, tree.channels, 24, 30, 1)
        for node in tree.path(sign)[1:]:
            z[:, tree.channel_of[node]] = -9
            z[:, tree.channel_of[node], :5, :6] = 9
        logits = branched_logits(z, tree, [q])
        found = decode(logits, (96, 120), (93, 120), plan)[0]
        assert np.array_equal(found, reference(z, (96, 120), (93, 120), tree, space, rule))
        asked = logits.known[q]
        if name in ("camvid32", "idd-lite"):
            assert asked.mean() < 0.02, "only what lies around pixels that are drawn but for rounding"
        else:
            assert asked[:5, :6].all()
            assert asked.mean() < 0.15


def test_a_parent_that_wins_only_between_corners():
    tree = build_taxonomy(TaxonomyFile(name="t", tree={"root": ["a", "b", "c"], "b": ["b1", "b2"]}))
    rows = {"a": [8, 0], "b": [6, 6], "c": [0, 8], "b1": [1, 3], "b2": [3, 1]}
    z = (
        torch.tensor([rows[tree.names[child]] for c in tree.classifiers for child in c.children])
        .float()
        .view(1, -1, 1, 2)
    )
    found = decode(branched_logits(z, tree, [1]), (8, 16), (8, 16), plan_decode(tree))[0]
    assert np.array_equal(found, reference(z, (8, 16), (8, 16), tree, None, "path"))
    assert tree.index("b1") in found


def test_probabilities_ask_for_everything():
    space = load_label_space("gtsdb-real")
    tree, plan = space.taxonomy, plan_decode(space, "marginal")
    z = logits_of("smooth", tree.channels, 12, 13, 0)
    for ours, theirs in zip(
        *(decode(x, (48, 52), (48, 52), plan, True) for x in (branched_logits(z, tree, [7]), z)), strict=True
    ):
        assert np.array_equal(ours, theirs)
