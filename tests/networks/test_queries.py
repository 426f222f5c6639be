"""Queries under a tree: the fused logits are the linear S of each node, whatever is asked of them."""

import pytest
import torch

from heteroseg.decisions.reference import leaf_probs
from heteroseg.experiment.config import ModelConfig
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy, load_taxonomy
from heteroseg.networks.network import build_network
from heteroseg.networks.queries import Queries
from tests.networks.catalogue import MASKERS

SMALL = {
    "root": ["sky", "vehicle", "thing"],
    "vehicle": ["car", "bus", "two"],
    "two": ["bike", "moped"],
    "thing": ["sign"],
}
TREES = {
    "small": build_taxonomy(TaxonomyFile(name="small", tree=SMALL)),
    "void": build_taxonomy(TaxonomyFile(name="small", tree=SMALL), void=True),
    "streets-108": load_taxonomy("streets-108"),
}


def drawn(tree, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(2, 7, tree.channels + 1, generator=generator, dtype=dtype) * 3
    return classes, torch.randn(2, 7, 5, 6, generator=generator, dtype=dtype) * 4


@pytest.mark.parametrize("name", TREES)
def test_decisions_are_shares_of_the_sum_over_queries(name):
    """Worked out leaf by leaf and query by query, without fused logits."""
    tree = TREES[name]
    classes, masks = drawn(tree)
    fused = Queries(tree).double().eval()(classes, masks)
    expected = torch.zeros(2, len(tree.leaves), 5, 6, dtype=torch.float64)
    whole = torch.zeros(2, 5, 6, dtype=torch.float64)
    for q in range(7):
        p = leaf_probs(classes[:, q, :-1, None, None], tree)
        o = 1 - classes[:, q, -1].sigmoid()
        there = o[:, None, None] * masks[:, q].sigmoid()
        expected += p * there[:, None]
        whole += there
    assert torch.allclose(leaf_probs(fused, tree), expected / whole[:, None], atol=1e-8, rtol=0)


def test_a_parent_is_the_sum_of_its_children():
    tree = TREES["streets-108"]
    shares = Queries(tree).double().eval()(*drawn(tree)).exp()
    for c in tree.classifiers[1:]:
        assert torch.allclose(shares[:, tree.channel_of[c.node]], shares[:, c.start : c.stop].sum(1), rtol=1e-9)


def test_temperatures_divide_the_fused_logits():
    tree = TREES["small"]
    queries = Queries(tree).eval()
    classes, masks = drawn(tree, torch.float32)
    before = queries(classes, masks)
    queries.divide([2.0, 0.5, 1.0])
    sizes = [c.stop - c.start for c in tree.classifiers]
    by = torch.tensor([2.0, 0.5, 1.0]).repeat_interleave(torch.tensor(sizes))
    assert torch.allclose(queries(classes, masks), before / by[:, None, None])
    assert "factors" in queries.state_dict()


def test_nothing_there_is_finite():
    tree = TREES["small"]
    fused = Queries(tree)(torch.full((1, 3, tree.channels + 1), 1e4), torch.full((1, 3, 2, 2), -1e4))
    assert torch.isfinite(fused).all()


def test_no_layer_is_left_out_by_chance():
    """Mask2Former takes its dropout for that, and the other processes of a run would wait for the layer's gradient."""
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    options = MASKERS["mask2former"] | {"dropout": 0.5, "decoder_layers": 3}
    network = build_network(ModelConfig(backbone="hf-mask:mask2former", backbone_options=options), TREES["small"])
    learnt = []
    for _ in range(8):
        network.zero_grad()
        network(torch.zeros(2, 3, 64, 64)).sum().backward()
        learnt.append({name for name, p in network.named_parameters() if p.grad is not None})
    assert all(names == learnt[0] for names in learnt)
