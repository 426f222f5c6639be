"""Whatever takes fused logits looks at their number, and says what it expected."""

import pytest
import torch
from torch import nn

from heteroseg.decisions.exact import decode, decode_torch
from heteroseg.decisions.plan import plan_decode
from heteroseg.decisions.reference import back_off, best_label, decide, label_map, label_probs, leaf_probs, novelty
from heteroseg.errors import HeterosegError
from heteroseg.labels.space import own_space
from heteroseg.networks.network import Network, fault_of
from heteroseg.supervision.label_terms import build_terms
from heteroseg.supervision.loss import STRONG, hierarchical_loss, nll_sums
from tests.small_tree import TREE

SPACE = own_space(TREE)
NOTHING = torch.full((1, 4, 4), -1)
TAKERS = {
    "label_map": lambda z: label_map(z, SPACE),
    "label_map by path": lambda z: label_map(z, SPACE, "path"),
    "best_label": lambda z: best_label(z, SPACE),
    "label_probs": lambda z: label_probs(z, SPACE),
    "leaf_probs": lambda z: leaf_probs(z, TREE),
    "decide": lambda z: decide(z, TREE),
    "back_off": lambda z: back_off(z, TREE, 0.5),
    "novelty": lambda z: novelty(z, TREE, "entropy"),
    "novelty by logit": lambda z: novelty(z, TREE, "logit"),
    "decode": lambda z: decode(z, (4, 4), (4, 4), plan_decode(SPACE, "marginal")),
    "decode by path": lambda z: decode(z, (4, 4), (4, 4), plan_decode(TREE)),
    "decode_torch": lambda z: decode_torch(z, (4, 4), (4, 4), plan_decode(SPACE, "marginal")),
    "decode_torch by path": lambda z: decode_torch(z, (4, 4), (4, 4), plan_decode(TREE)),
    "hierarchical_loss": lambda z: hierarchical_loss(z, NOTHING, NOTHING, build_terms([SPACE]), TREE),
}


@pytest.mark.parametrize("more", [-1, 1], ids=["fewer", "more"])
@pytest.mark.parametrize("taker", TAKERS)
def test_another_number_of_logits_is_told(taker, more):
    with pytest.raises(HeterosegError, match=rf"expected maps of {TREE.channels} fused logits, as taxonomy 't' has, f"):
        TAKERS[taker](torch.zeros(1, TREE.channels + more, 4, 4))


def test_a_map_without_a_batch_is_told():
    with pytest.raises(HeterosegError, match=r"found the shape \(8, 4, 4\); take the taxonomy of their network"):
        leaf_probs(torch.zeros(8, 4, 4), TREE)


def test_pixels_of_another_number_are_told():
    with pytest.raises(HeterosegError, match=rf"expected pixels of {TREE.channels} fused logits"):
        nll_sums(torch.zeros(3, TREE.channels + 1), torch.zeros(3).long(), STRONG, build_terms([SPACE]), TREE)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (nn.Conv2d(3, 8, 1), "None"),
        (nn.Conv2d(3, 2, 1), "expected 8 finite logits, found (1, 2, 4, 4)"),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten()), "expected 8 finite logits, found (1, 128)"),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Threshold(1e9, float("nan"))), "numbers that are not finite"),
    ],
    ids=["right", "channels", "sides", "nan"],
)
def test_a_network_is_tried_before_it_is_used(body, fault):
    network = Network(body, (0, 0, 0), (1, 1, 1), multiple=4)
    assert fault in str(fault_of(network, 8))
    assert network.training
