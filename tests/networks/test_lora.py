"""Adapters of low rank in networks as they are built: what learns, and what remains when they are merged."""

import copy

import pytest
import torch

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.networks.lora import add_lora, merged
from heteroseg.networks.network import Network, build_network
from heteroseg.training.optimiser import rest_idle
from tests.networks.catalogue import BACKBONES, SEGMENTERS
from tests.networks.test_classifier import register_torchvision

TREE = load_taxonomy("streets-108")
IMAGE = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(0))
KINDS = {
    "hf": {"backbone": "hf:beit", "backbone_options": BACKBONES["beit"]},
    "hf-seg": {"backbone": "hf-seg:segformer", "backbone_options": SEGMENTERS["segformer"]},
    "timm, ViT": {"backbone": "timm:vit_tiny_patch16_224"},
    "timm, EVA": {"backbone": "timm:eva02_tiny_patch14_224"},
}


@torch.no_grad()
def require_adapters(network: Network) -> float:
    """Adapters change nothing at first, learn alone in the encoder, and merged give the same answers.

    Returns by how much these are others than without.
    """
    plain, state = network.eval()(IMAGE), network.state_dict().keys()
    add_lora(network, 4)
    assert torch.allclose(network.eval()(IMAGE), plain, atol=1e-5)
    with torch.enable_grad():
        rest_idle(network)
    learnt = [name for name, p in network.encoder.named_parameters() if p.requires_grad]
    assert learnt
    assert all("lora_" in name for name in learnt)
    for name, parameter in network.named_parameters():
        if "lora_B" in name and parameter.requires_grad:  # others, whose layers only lend their weights, stay 0
            parameter.normal_(std=0.1)
    before = copy.deepcopy(network.state_dict())
    adapted, whole = network.eval()(IMAGE), merged(network).eval()
    assert torch.allclose(whole(IMAGE), adapted, atol=1e-3 * adapted.abs().max().item())
    assert whole.state_dict().keys() == state
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    return (adapted - plain).abs().max().item()


@pytest.mark.parametrize("kind", KINDS)
def test_adapters(kind):
    register_torchvision()
    pytest.importorskip("peft", reason="the extra lora is not installed")
    if kind.startswith("timm"):
        pytest.importorskip("timm", reason="the extra timm is not installed")
    torch.manual_seed(0)
    assert require_adapters(build_network(ModelConfig(**KINDS[kind]), TREE)) > 1e-5


def test_an_encoder_of_convolutions_has_no_place_for_them():
    with pytest.raises(
        HeterosegError, match=r"model\.lora: expected an encoder with linear layers, such as a ViT, found"
    ):
        add_lora(build_network(ModelConfig(pretrained=False), TREE), 4)
