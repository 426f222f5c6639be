"""Files that an earlier heteroseg wrote go on loading and give the same answers; see made_before/README.md."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import heteroseg
from heteroseg.cli.main import main
from heteroseg.experiment.config import FORMER
from heteroseg.scenes import generate

BEFORE = Path(__file__).parent / "made_before"
NAMES = ("model", "dense.onnx", "lazy.onnx", "dense.xml")
SPACES = ("cityscapes", "vistas", "gtsdb")


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Path:
    """A copy of the folder, with the data that its experiment names."""
    shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "compare").glob("**/experiment.*"):  # a comparison stores absolute roots
        path.write_text(path.read_text().replace("HERE", str(tmp_path)))
    generate(tmp_path / "data", 4, 2, (64, 128), seed=5)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_model_and_its_exports_answer_as_before(name):
    if name != "model":
        pytest.importorskip("onnxruntime" if name.endswith("onnx") else "openvino")
    answers = np.load(BEFORE / "answers.npz")
    prediction = heteroseg.load(BEFORE / name).predict(answers["image"])
    for space in SPACES:
        same = prediction.labels(space) == answers[space]
        assert same.mean() > 0.995, space  # another processor rounds otherwise in a few pixels
    assert (prediction.nodes() == answers["nodes"]).mean() > 0.995


def test_a_stopped_run_is_resumed(begun):
    assert main(["train", "experiment.yaml", "--out", "run", "--resume"]) == 0
    steps = [int(line.split(",")[0]) for line in Path("run/log.csv").read_text().splitlines()[1:]]
    assert json.loads(Path("run/evaluation.json").read_text())["datasets"].keys() == set(SPACES)
    assert max(steps, default=0) <= 4
    former = [f"{section}.{key}={value}" for section, keys in FORMER.items() for key, value in keys.items()]
    assert main(["train", "experiment.yaml", "--out", "whole", *former]) == 0
    resumed, whole = (torch.load(f"{run}/state.pt", weights_only=True) for run in ("run", "whole"))
    assert resumed["step"] == whole["step"] == 4
    for name, weight in whole["network"].items():
        torch.testing.assert_close(resumed["network"][name], weight, rtol=1e-2, atol=1e-3)


def test_a_run_that_is_resumed_keeps_the_defaults_that_it_began_with_but_no_other_settings(begun, capsys):
    command = ["train", "experiment.yaml", "--out", "run", "--resume"]
    assert main([*command, "loss.gate=soft"]) == 2
    assert main([*command, "loss.gate=open"]) == 2  # what is the default by now, but was said
    assert "began with another experiment (loss differ: loss.gate)" in capsys.readouterr().err
    assert main(command) == 0
    assert json.loads(Path("run/experiment.json").read_text())["loss"]["gate"] == "hard"


def test_a_run_is_reported(begun):
    shutil.copytree("model", "run/last")
    assert main(["report", "run", "--out", "page.html"]) == 0
    assert "cityscapes" in Path("page.html").read_text()


def test_a_page_in_a_run_that_is_not_ours_any_more_is_kept(begun, capsys):
    shutil.copytree("model", "run/last")
    assert main(["report", "run"]) == 0
    for kept in ("report.before-1.html", "report.before-2.html"):
        Path("run/report.html").write_text(kept)  # by a person; or the folder was copied to a disk without attributes
        assert main(["report", "run"]) == 0
        assert f"it is kept as {kept}" in capsys.readouterr().err
        assert Path("run", kept).read_text() == kept


def test_a_scored_comparison_goes_on_without_its_runs(begun):
    table = json.loads(Path("compare/table.json").read_text())["ways"]
    command = ["compare", "experiment.yaml", "--out", "compare", "--ways", "hierarchical,flat", "--seeds", "1"]
    assert main(command) == 0  # nothing is trained: both ways are scored
    again = json.loads(Path("compare/table.json").read_text())["ways"]
    assert not list(Path("compare").glob("*/seed-0"))
    for way, row in table.items():
        for dataset, cell in row["datasets"].items():
            assert again[way]["datasets"][dataset]["miou"] == cell["miou"]


def test_an_experiment_is_read():
    experiment, _ = heteroseg.load_experiment(BEFORE / "experiment.yaml")
    assert experiment.train.steps == 4
    assert list(experiment.datasets) == list(SPACES)
