"""A file answers as its network at any size, or says which one it takes; networks that cannot be exported are told."""

import numpy as np
import pytest
import torch

import heteroseg
from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.export.export import ENDINGS, OTHERS, export
from heteroseg.export.random_model import scenes
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.model import Model, save_model
from heteroseg.networks.network import build_network
from tests.networks.catalogue import SEGMENTERS

KINDS = {"onnx": "onnxruntime", "openvino": "openvino"}
FOUR = {"depths": [2, 2, 2, 2], "num_heads": [1, 1, 2, 2], "embed_dim": 8}  # every second layer shifts its windows
CONFIGS = {
    "swin": ModelConfig(backbone="hf:swin", backbone_options=FOUR, width=16),
    "swinv2": ModelConfig(backbone="hf:swinv2", backbone_options=FOUR, width=16),
    "mobilevit": ModelConfig(
        backbone="hf-seg:mobilevit",
        backbone_options={"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64]},
    ),
}
SIZES = [(64, 96), (70, 100), (97, 161), (200, 130), (128, 192), (250, 60)]


@pytest.fixture(scope="module", params=CONFIGS)
def model(request) -> Model:
    torch.manual_seed(0)
    tree, config = load_taxonomy("streets-real"), CONFIGS[request.param]
    return Model(request.param, build_network(config, tree).eval(), tree, {}, config)


def apart(model: Model, file: Model, size: tuple[int, int]) -> float:
    """How far a file's logits are from its network's, in deviations."""
    image = scenes(1, size)[0]
    wanted, found = model.predict(image).logits, file.predict(image).logits
    return float((wanted - found).abs().max() / (wanted.std() + 1e-6))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_goes_for_every_size_or_is_not_written(model, tmp_path, kind):
    pytest.importorskip(KINDS[kind], reason="an extra is not installed")
    path = tmp_path / f"any{ENDINGS[kind]}"
    if model.name == "mobilevit":  # patches of two cells, whose number is kept in the graph
        with pytest.raises(HeterosegError, match=r"export it for the size of your images \(--size HxW\)") as caught:
            export(model, path, kind)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())
    else:
        export(model, path, kind)
        file = heteroseg.load(path)
        assert max(apart(model, file, size) for size in SIZES) < 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_int8_of_attention_is_calibrated_with_images_of_several_sizes(kind, tmp_path):
    """The quantiser took places for channels, so that it failed, or the file went for one size alone."""
    for package in ("nncf", KINDS[kind], "transformers"):
        pytest.importorskip(package, reason="an extra is not installed")
    torch.manual_seed(0)
    tree = load_taxonomy("streets-real")
    config = ModelConfig(backbone="hf-seg:segformer", backbone_options=SEGMENTERS["segformer"])
    model = Model("segformer", build_network(config, tree).eval(), tree, {}, config)
    path = tmp_path / f"any{ENDINGS[kind]}"
    export(model, path, kind, "int8", [scenes(1, size)[0] for size in SIZES[:3]])
    assert max(apart(model, heteroseg.load(path), size) for size in SIZES[2:]) < 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_for_one_size_says_so(model, tmp_path, kind):
    pytest.importorskip(KINDS[kind], reason="an extra is not installed")
    path = tmp_path / f"one{ENDINGS[kind]}"
    export(model, path, kind, size=(97, 161))
    file = heteroseg.load(path)
    assert apart(model, file, (97, 161)) < 1e-2
    assert apart(model, file, (128, 192)) < 1e-2  # both are padded to that
    with pytest.raises(HeterosegError, match=r"was exported for images of 128x192, .* found 224x160; export") as caught:
        file.predict(scenes(1, (200, 130))[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_runtime_gets_wrong_is_not_written(tiny_model, tmp_path, monkeypatch, kind):
    """A graph that holds the size with which it was made: it runs, and answers wrongly."""
    pytest.importorskip(KINDS[kind], reason="an extra is not installed")
    monkeypatch.setattr(torch.nn.ReLU, "forward", lambda self, x: torch.relu(x) * (1 + int(x.shape[2]) % 5))
    with pytest.raises(HeterosegError, match=f"not exported, its file goes wrong for an image of {OTHERS[0][0]}x"):
        export(tiny_model, tmp_path / f"a{ENDINGS[kind]}", kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_runtime_cannot_express_is_one_sentence(tiny_model, tmp_path, monkeypatch, kind, capfd):
    pytest.importorskip(KINDS[kind], reason="an extra is not installed")
    monkeypatch.setattr(torch.nn.ReLU, "forward", lambda self, x: torch.special.bessel_j0(torch.relu(x)))
    with pytest.raises(
        HeterosegError, match=rf"^{kind} cannot express this network, .*aten::special_bessel_j0.*"
    ) as told:
        export(tiny_model, tmp_path / f"a{ENDINGS[kind]}", kind)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")  # was torch's whole graph


def test_a_network_is_converted_once(tiny_model, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="an extra is not installed")
    import openvino

    real, calls = openvino.convert_model, []
    monkeypatch.setattr(openvino, "convert_model", lambda *a, **k: calls.append(a) or real(*a, **k))
    export(tiny_model, tmp_path / "a.xml", "openvino", "bf16")
    assert len(calls) == 1  # was 2
    assert heteroseg.load(tmp_path / "a.xml").network.precision == "bf16"


def test_the_command_takes_a_size(tiny_model, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="an extra is not installed")
    save_model(tiny_model, tmp_path / "model")
    words = ["export", str(tmp_path / "model"), "--format", "onnx", "--out", str(tmp_path / "a.onnx")]
    assert main([*words, "--size", "64x96"]) == 0
    with pytest.raises(HeterosegError, match="was exported for images of 64x96"):
        heteroseg.load(tmp_path / "a.onnx").predict(np.zeros((99, 99, 3), np.uint8))
