"""What every network that is built by name does: any size, gradients, a MODEL folder that is the same network."""

import pytest
import torch

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.model import Model, load
from heteroseg.networks.network import Network, build_network
from tests.networks.catalogue import catalogue

TREE = load_taxonomy("streets-108")
SIZES = ((64, 96), (65, 97), (1, 1))
CATALOGUE = catalogue()
REFUSED = {"hf-mask:videomt": "'hf-mask:videomt' could not be built, Use `pixel_values_videos`"}  # takes films


@pytest.fixture(scope="module", params=CATALOGUE)
def built(request) -> Model:
    torch.manual_seed(0)
    config = ModelConfig(backbone=request.param, backbone_options=CATALOGUE[request.param])
    if request.param in REFUSED:
        with pytest.raises(HeterosegError, match=REFUSED[request.param]):
            build_network(config, TREE)
        pytest.skip("refused in a sentence")
    return Model("small", build_network(config, TREE), TREE, {}, config)


def image(*size: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_any_size(built):
    network = built.torch_network.eval()
    for size in SIZES:
        logits = network(image(*size))
        assert logits.shape[:2] == (1, TREE.channels)
        assert torch.isfinite(logits).all()
        assert built.predict(image(*size)[0].permute(1, 2, 0).numpy()).nodes().shape == size


def test_it_learns(built):
    """Some number before the head has a gradient, and all of the head have."""
    network: Network = built.torch_network.train()
    network.zero_grad()
    batch = torch.cat([image(64, 96), image(64, 96).flip(3)])
    network(batch).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [name for name in silent if ".logits." in name]
    assert len(silent) < 0.5 * len(list(network.parameters()))
    network.zero_grad()
    network.eval()


def test_a_folder_keeps_it(built, tmp_path):
    again = load(built.save_pretrained(tmp_path / "model"))
    assert again.digest == built.digest
    with torch.no_grad():
        for size in SIZES[1:]:
            assert torch.equal(again.torch_network(image(*size)), built.torch_network.eval()(image(*size)))
