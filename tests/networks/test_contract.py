"""What every network that is built by name does: any size, gradients, a MODEL folder that is the same network, files
for other runtimes, several processes. The last two are tried with a few networks here, and with all by `make fuzz`."""

import copy
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.export.export import export
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.model import Model, load
from heteroseg.networks.lora import add_lora
from heteroseg.networks.network import Network, build_network
from heteroseg.training.optimiser import rest_idle
from tests.networks.catalogue import REFUSED, catalogue
from tests.networks.test_lora import require_adapters

TREE = load_taxonomy("streets-108")
SIZES = ((64, 96), (65, 97), (1, 1))
CATALOGUE = catalogue()
WHOLE = bool(os.environ.get("FUZZ"))  # make fuzz
TAKEN = [name for name in CATALOGUE if name not in REFUSED]
FEW = ["hf-seg:upernet", "hf:dinov3_vit", "hf:swin"]  # of what takes longer
STRIDES = {"hf:focalnet": 8}
PLAIN = ("beit", "dinov2", "dinov2_with_registers", "dinov3_vit", "lw_detr_vit", "pixio", "rf_detr_dinov2", "sapiens2")
PLAIN = tuple(f"hf:{name}" for name in (*PLAIN, "tipsv2_vision_model", "vitdet") if f"hf:{name}" in CATALOGUE)


def configured(name: str, **more) -> ModelConfig:
    own = {} if name.startswith("hf-") else {"width": 16, "stride": STRIDES.get(name, 4)}
    return ModelConfig(backbone=name, backbone_options=CATALOGUE[name], **own | more)


@pytest.fixture(scope="module", params=TAKEN)
def built(request) -> Model:
    torch.manual_seed(0)
    config = configured(request.param)
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
    network.eval()(image(1, 1))  # queries keep what they saw last in training


def test_a_folder_keeps_it(built, tmp_path):
    again = load(built.save_pretrained(tmp_path / "model"))
    assert again.digest == built.digest
    with torch.no_grad():
        for size in SIZES[1:]:
            assert torch.equal(again.torch_network(image(*size)), built.torch_network.eval()(image(*size)))


def test_parameters_without_a_gradient_are_not_asked_for_one(built):
    """Several processes would wait for them."""
    network = copy.deepcopy(built.torch_network)
    rest_idle(network)
    network(torch.cat([image(64, 96), image(64, 96).flip(3)])).sum().backward()
    assert [n for n, p in network.named_parameters() if p.requires_grad] == [
        n for n, p in network.named_parameters() if p.grad is not None
    ]


def test_a_frozen_encoder_leaves_something_to_learn(built):
    frozen = built.config.model_copy(update={"freeze": True})
    if "eomt" in built.config.backbone:  # a ViT that sees queries, too
        with pytest.raises(HeterosegError, match="expected a network with an encoder, found one without"):
            build_network(frozen, TREE)
        return
    network = build_network(frozen, TREE)
    assert network.training
    assert not network.encoder.training
    learnt = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name, _ in network.named_parameters() if ".logits." in name} <= learnt
    assert 0 < len(learnt) < len(list(network.parameters()))
    assert not any(p.requires_grad for p in network.encoder.parameters())


def test_an_encoder_learns_by_adapters_or_says_why_not(built):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    network = copy.deepcopy(built.torch_network)
    if "eomt" in built.config.backbone or not any(isinstance(m, torch.nn.Linear) for m in network.encoder.modules()):
        with pytest.raises(HeterosegError, match=r"model\..*lora: expected an? .+, found one without"):
            add_lora(network, 4)
        return
    require_adapters(network)


@pytest.mark.parametrize("name", [name for name in REFUSED if name in CATALOGUE])
def test_what_cannot_be_taken_is_refused_in_a_sentence(name):
    with pytest.raises(HeterosegError, match=REFUSED[name]) as error:
        build_network(configured(name), TREE)
    assert "\n" not in str(error.value)


@torch.no_grad()
@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_transformers_have_all_strides(name, stride):
    network = build_network(configured(name, stride=stride), TREE).eval()
    for size in SIZES:
        covered = network.covers(*size)
        assert network(image(*size)).shape == (1, TREE.channels, *(side // stride for side in covered))
        assert all(side % 16 == 0 for side in covered)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("name", TAKEN if WHOLE else FEW)
def test_an_exported_file_answers_as_the_network(name, kind, tmp_path):
    """`export` compares the logits itself, and refuses in a sentence what a runtime cannot do."""
    if kind == "openvino" and not WHOLE:
        pytest.skip("compiling takes long")
    pytest.importorskip(kind)
    torch.manual_seed(0)
    model = Model("small", build_network(configured(name), TREE), TREE, {}, configured(name))
    file = tmp_path / f"network{'.onnx' if kind == 'onnx' else '.xml'}"
    told = None
    try:
        export(model, file, kind)
    except HeterosegError as error:
        told = str(error)
    if told:
        assert re.fullmatch(rf"({kind} cannot express this network|this network was not exported), .+", told)
        return
    picture = image(65, 97)[0].permute(1, 2, 0).numpy()
    ours, theirs = (m.predict(picture).probs("rider") for m in (model, load(file)))
    np.testing.assert_allclose(theirs, ours, atol=0.02)


def gradients(network: Network, images: torch.Tensor, ask) -> dict[str, torch.Tensor]:
    """Of the mean squared logit less 1; norms and dropout are as in use, where every image stands for itself."""
    (ask(images) - 1).square().mean().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def ready(name: str) -> Network:
    torch.manual_seed(0)
    network = build_network(configured(name), TREE)
    rest_idle(network)
    return network.eval()


def one_of_two(rank: int, folder: Path, names: list[str]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", world_size=2, rank=rank)
    for number, name in enumerate(names):
        network = ready(name)
        found = gradients(network, BATCH[rank : rank + 1], DistributedDataParallel(network))
        if rank == 0:
            torch.save(found, folder / f"{number}.pt")
    distributed.destroy_process_group()


BATCH = torch.cat([image(64, 96), image(64, 96).flip(3)])


def test_two_processes_equal_one(tmp_path):
    names = TAKEN if WHOLE else FEW
    multiprocessing.spawn(one_of_two, (tmp_path, names), nprocs=2)
    for number, name in enumerate(names):
        network, found = ready(name), torch.load(tmp_path / f"{number}.pt")
        due = gradients(network, BATCH, network)
        assert found.keys() == due.keys(), name
        largest = max(gradient.abs().max().item() for gradient in due.values())
        for key, gradient in due.items():
            scale = gradient.abs().max().item() + 1e-5 * largest  # that of a bias of keys is 0 but for rounding
            torch.testing.assert_close(found[key] / scale, gradient / scale, atol=1e-3, rtol=0, msg=f"{name} {key}")
