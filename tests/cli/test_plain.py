"""Without the extras everything but what needs them works, and that tells which extra it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from heteroseg import load_experiment, train
from heteroseg.errors import HeterosegError
from heteroseg.networks.backbone import build_backbone
from heteroseg.report.page import Contents, _training_charts


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("hf:resnet", "transformers", "hf"), ("paper", "transformers", "hf"), ("timm:resnet18", "timm", "timm")],
)
def test_a_backbone_names_its_extra(name, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    told = rf"^model\.backbone: '{name}' needs the package {package}; pip install 'heteroseg\[{extra}\]'$"
    with pytest.raises(HeterosegError, match=told):
        build_backbone(name)


def test_without_matplotlib_a_report_says_what_it_lacks(monkeypatch, tiny_model):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ((_, _, told),) = _training_charts(Contents("t", tiny_model.taxonomy, {}, {"datasets": {}}))
    assert "heteroseg[plots]" in told


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_logger_that_is_not_installed_is_told_before_training(monkeypatch, tmp_path, tiny_experiment, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HeterosegError, match=rf"^train\.logger: {name} needs the package {name}; pip install {name}$"):
        train(*load_experiment(tiny_experiment, [f"train.logger={name}"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_compare_names_its_extra(tiny_experiment, tmp_path):
    code = "import sys; sys.modules['matplotlib'] = None; from heteroseg.cli.main import main; sys.exit(main())"
    words = ["compare", str(tiny_experiment), "--out", str(Path(tmp_path, "out"))]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert "compare needs the package matplotlib; pip install 'heteroseg[plots]'" in done.stderr
