"""A class of the user's own as a backbone: trained, saved, loaded where it is trusted, and its faults told."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig, load_experiment
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.model import Model, load, save_model
from heteroseg.networks.backbone import build_backbone
from heteroseg.networks.network import build_network
from heteroseg.training.loop import train

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "backbones.md"
NETS = re.search(r"```python\n(from torch import nn.*?)```", GUIDE.read_text(), re.S)[1]
FAULTY = """
import torch
from torch import nn

def make(*_):
    pass

class Flat(nn.Module):
    def forward(self, images):
        return images.mean()

class Rising(nn.Module):
    def forward(self, images):
        return [images[..., ::8, ::8], images[..., ::4, ::4]]

class Fails(nn.Module):
    def forward(self, images):
        return torch.zeros(2) @ torch.zeros(3)
"""


@pytest.fixture
def name(tmp_path, monkeypatch) -> str:
    """A class in a module of the working directory, whose name no other test has imported."""
    module = f"nets_{abs(hash(tmp_path.name)) % 10**6}_{tmp_path.name[-30:]}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(NETS + FAULTY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield f"{module}:Net"
    sys.modules.pop(module, None)


@pytest.fixture
def folder(name, tmp_path) -> Path:
    """A MODEL with that class, which is not imported any more."""
    tree = load_taxonomy("streets-real")
    config = ModelConfig(backbone=f"python:{name}", backbone_options={"width": 8}, width=16)
    save_model(Model("own", build_network(config, tree), tree, {}, config), tmp_path / "model")
    del sys.modules[name.partition(":")[0]]
    return tmp_path / "model"


def test_the_guides_class_is_a_backbone(name):
    backbone = build_backbone(f"python:{name}", options={"width": 8})
    assert (backbone.maps.channels, backbone.maps.strides) == ((8, 8, 8, 8), (4, 8, 16, 32))


def test_a_model_of_it_is_loaded_where_it_is_trusted_alone(name, folder, monkeypatch):
    for trust in (None, "", "torch.nn:Identity", name.lower(), "python:"):
        with pytest.raises(HeterosegError, match=rf"nothing is imported .* trust='{name}'\).*HETEROSEG_TRUST={name}$"):
            load(folder, trust=trust)
        assert name.partition(":")[0] not in sys.modules
    image = np.zeros((40, 70, 3), np.uint8)
    logits = load(folder, trust=name).predict(image).logits
    monkeypatch.setenv("HETEROSEG_TRUST", f"other:Net,{name}")
    assert torch.equal(load(folder).predict(image).logits, logits)
    assert f'trust="{name}")' in (load(folder).save_pretrained(folder.parent / "shared") / "README.md").read_text()


@pytest.mark.parametrize("named", ["os:system", "antigravity:Net", "torch.nn:Module", "a.b", "../x:Net", "x:y:z", ""])
def test_a_foreign_model_imports_nothing(folder, named):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["backbone"] = f"python:{named}"
    (folder / "config.json").write_text(json.dumps(config))
    before = {*sys.modules}
    with pytest.raises(HeterosegError):
        load(folder)
    assert not {*sys.modules} - before


def test_options_of_a_model_name_no_file(name, folder):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["backbone_options"] = {"weights": "/tmp/x.pt"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(HeterosegError, match="expected plain words or numbers"):
        load(folder, trust=name)


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("Nett", {}, r"expected a class Nett of torch.nn.Module in .*\.py, found None; did you mean 'Net'\?"),
        ("make", {}, "expected a class make of torch.nn.Module"),
        ("step", {}, "expected a class step"),
        ("Net", {"depth": 3}, "model.backbone_options.depth: there is no such option"),
        ("Net", {"width": -1}, r"\.py, line \d+: "),
        ("Flat", {}, r"must return feature maps \(B, C, h, w\)"),
        ("Rising", {}, "must go from fine to coarse"),
        ("Fails", {}, r"\.py, line \d+: RuntimeError: "),
    ],
)
def test_a_faulty_class_is_told(name, kind, options, told):
    with pytest.raises(HeterosegError, match=told) as error:
        build_backbone(f"python:{name.partition(':')[0]}:{kind}", options=options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "expected a module no_such, found none, neither installed nor in the working directory"),
        ("import not_installed", "ModuleNotFoundError: No module named 'not_installed'"),
        ("def f(:", "SyntaxError: "),
        ("1 / 0", r"no_such\.py, line 1: ZeroDivisionError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told(name, tmp_path, text, told):
    if text:
        (tmp_path / "no_such.py").write_text(text)
    with pytest.raises(HeterosegError, match=told):
        build_backbone("python:no_such:Net")


def test_from_training_to_a_prediction(name, tmp_path, tiny_experiment, monkeypatch, capsys):
    """In processes of their own, as a user starts them: an installed command has no working directory in its path."""
    run, photo = tmp_path / "run", tmp_path / "photo.png"
    Image.new("RGB", (96, 64)).save(photo)
    own = [f"model.backbone=python:{name}", "model.backbone_options={width: 8}", "train.steps=1"]
    command = [sys.executable, "-c", "import sys; sys.path.remove(''); from heteroseg.cli.main import main; main()"]
    done = subprocess.run([*command, "train", tiny_experiment, "--out", run, *own], capture_output=True, text=True)
    assert (run / "report.html").is_file(), done.stderr
    predict = ["predict", str(run), str(photo), "--out", str(tmp_path / "out")]
    assert main(predict) == 2
    assert f"HETEROSEG_TRUST={name}" in capsys.readouterr().err
    monkeypatch.setenv("HETEROSEG_TRUST", name)
    assert main(predict) == 0


def test_the_class_that_an_experiment_names_is_trusted_for_the_models_that_it_names(name, tmp_path, tiny_experiment):
    own = [f"model.backbone=python:{name}", "model.backbone_options={width: 8}", "train.steps=1"]
    train(*load_experiment(tiny_experiment, own), tmp_path / "run")
    models = [f"train.begin={tmp_path / 'run'}", f"train.teacher={tmp_path / 'run'}"]
    train(*load_experiment(tiny_experiment, [*own, *models]), tmp_path / "again")
    with pytest.raises(HeterosegError, match="nothing is imported for a MODEL unasked"):
        train(*load_experiment(tiny_experiment, models[:1]), tmp_path / "unasked")
