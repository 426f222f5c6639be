"""Adapters of low rank are all that an encoder learns, and part of the weights of a MODEL, which needs no peft."""

import sys

import pytest
import torch

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import load_experiment
from heteroseg.model.model import load
from heteroseg.training.loop import Run, train
from tests.model.test_beginning import stop
from tests.networks.catalogue import BACKBONES, MASKERS
from tests.training.test_loop import SWIN, data, killed_and_resumed, run, two_and_one, write_experiment  # noqa: F401

VIT = {"model__backbone": "hf:dinov3_vit", "model__backbone_options": BACKBONES["dinov3_vit"], "model__lora": 2}
MASKS = {"model": {"backbone": "hf-mask:mask2former", "backbone_options": MASKERS["mask2former"], "lora": 2}}


@pytest.fixture
def peft():
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    return pytest.importorskip("peft", reason="the extra lora is not installed")


def test_only_adapters_of_the_encoder_move(peft, tmp_path, data, monkeypatch):  # noqa: F811
    """What is saved needs no peft, has the tensors of any such network, and differs by matrices of this rank."""
    start = run(tmp_path, data, name="start", **VIT | {"optimiser__lr": 1e-12, "train__steps": 1})
    end = run(tmp_path, data, name="end", **VIT | {"optimiser__weight_decay": 0.1, "optimiser__lr": 0.01})
    assert end.keys() == run(tmp_path, data, name="plain", **VIT | {"model__lora": 0, "train__steps": 1}).keys()
    inside = [name for name in end if name.startswith("body.0.body.")]
    moved = [name for name in inside if not torch.allclose(end[name], start[name], atol=1e-6)]
    assert moved
    assert all(
        end[name].ndim == 2 and torch.linalg.matrix_rank(end[name] - start[name], atol=1e-5) <= 2 for name in moved
    )
    assert any(not torch.equal(end[name], start[name]) for name in end.keys() - set(inside))
    monkeypatch.setitem(sys.modules, "peft", None)
    model = load(tmp_path / "end")
    assert model.config.lora == 0
    assert model.predict(torch.zeros(40, 50, 3, dtype=torch.uint8).numpy()).nodes().shape == (40, 50)


def test_a_killed_run_goes_on(peft, tmp_path, data, monkeypatch):  # noqa: F811
    whole = run(tmp_path, data, name="whole", **VIT)
    killed_and_resumed(whole, tmp_path, data, monkeypatch, **VIT)
    state = torch.load(tmp_path / "whole" / "state.pt", weights_only=True)
    assert any("lora_A" in name for name in state["network"])


def test_two_processes_equal_one(peft, tmp_path, data):  # noqa: F811
    two_and_one(tmp_path, data, **SWIN | {"model__lora": 2})


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_queries_have_an_encoder_too(peft, tmp_path, data, ema):  # noqa: F811
    """A network of masks in training, that is, with the graph of its last step, is copied for its MODEL."""
    path = write_experiment(tmp_path, data, train__ema=ema, train__steps=2, **MASKS)
    train(*load_experiment(path), tmp_path / "run")
    assert not any("lora" in name for name in load(tmp_path / "run" / "last").torch_network.state_dict())


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model={backbone: lite0, width: 16, lora: 2}"], "model.lora: expected an encoder with linear layers"),
        (["model.lora=2", "model.freeze=true"], "model.freeze has no effect, model.lora keeps"),
        (["model.lora=2", "train.begin=demo", "train.grow=root"], "model.lora has no effect, train.grow keeps"),
        (["model.lora=-1"], "model.lora"),
    ],
    ids=["no linear layers", "frozen", "grown", "negative"],
)
def test_wrong_use_is_told(tiny_experiment, tmp_path, overrides, told):
    with pytest.raises(HeterosegError, match=told.replace(".", r"\.")) as error:
        train(*load_experiment(tiny_experiment, overrides), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_what_has_to_be_installed_is_told(tiny_experiment, tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    monkeypatch.setitem(sys.modules, "peft", None)
    model = f"model={{backbone: 'hf:dinov3_vit', backbone_options: {BACKBONES['dinov3_vit']}, width: 16, lora: 2}}"
    assert main(["train", str(tiny_experiment), "--out", str(tmp_path / "run"), model]) == 2
    assert "model.lora needs the package peft; pip install 'heteroseg[lora]'" in capsys.readouterr().err


def test_a_trained_model_gets_adapters_and_goes_on_without(peft, tmp_path, data, monkeypatch):  # noqa: F811
    run(tmp_path, data, name="first", **VIT | {"model__lora": 0, "train__steps": 1})
    path = write_experiment(tmp_path, data, model={}, train__steps=1)
    experiment, folder = load_experiment(path, [f"train.begin={tmp_path / 'first'}", "model.lora=2"])
    train(experiment, folder, tmp_path / "second")
    monkeypatch.setattr(Run, "train_step", stop)
    again, folder = load_experiment(path, [f"train.begin={tmp_path / 'second'}"])
    with pytest.raises(KeyboardInterrupt):
        train(again, folder, tmp_path / "third")
    assert load(tmp_path / "third" / "last").digest == load(tmp_path / "second").digest
