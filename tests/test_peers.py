"""The networks of other people that stand beside ours in benchmarks are those of their papers."""

import pytest
import torch
import torch.nn.functional as F
from benchmarks.front import NETWORKS
from benchmarks.peers import upsampled
from torch import nn

from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.networks.network import Network, build_network

TREE = load_taxonomy("streets-108")
PEERS = {"DDRNet-23-slim": 64, "Fast-SCNN": 128}  # channels before the classifier


@pytest.fixture(scope="module", params=PEERS)
def built(request) -> tuple[str, Network]:
    torch.manual_seed(0)
    return request.param, build_network(NETWORKS[request.param].model, TREE)


def parameters(module: nn.Module, kinds: type | tuple[type, ...] = nn.Module) -> int:
    return sum(p.numel() for m in module.modules() if isinstance(m, kinds) for p in m.parameters(recurse=False))


def test_as_many_parameters_as_published(built):
    name, network = built
    classifier = PEERS[name] * 19 + 19
    if name == "DDRNet-23-slim":  # all, without the decoder `reduction`, which is more than it has
        assert round((parameters(network.encoder) + classifier) / 1e6, 1) == 5.7
    else:  # those of convolutions, which `reduction` is the last of; with norms 1.14
        both = parameters(network.body[:2], nn.Conv2d)
        assert round((both + classifier) / 1e6, 2) == 1.11


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (1, 1), (520, 706)], ids=str)
def test_any_size(built, size):
    network = built[1].eval()
    logits = network(torch.randint(0, 256, (1, 3, *size)))
    assert logits.shape == (1, TREE.channels, -(-size[0] // 8), -(-size[1] // 8))
    assert torch.isfinite(logits).all()


def test_all_of_it_learns(built):
    network = built[1].train()
    network(torch.randint(0, 256, (2, 3, 64, 96))).square().mean().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]


def test_maps_are_enlarged_as_usual_where_strides_divide_the_size():
    x, like = torch.rand(1, 2, 3, 5), torch.zeros(1, 1, 12, 20)
    torch.testing.assert_close(upsampled(x, 4, like), F.interpolate(x, (12, 20), mode="bilinear"))
    assert torch.equal(upsampled(x, 4, like[:, :, 1:]), upsampled(x, 4, like)[:, :, :11])
