"""A run with a teacher: repeats, resumes, several processes, and what it does to what labels do not say."""

import shutil
from pathlib import Path

import pytest

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.model.model import SHIPPED
from tests.training.test_loop import data, killed_and_resumed, run, same, two_and_one  # noqa: F401


def rows(out: Path, name: str) -> list[float]:
    lines = [line.split(",") for line in (out / "log.csv").read_text().splitlines()]
    return [float(value) for _, key, value in lines if key == name]


def test_killed_and_resumed_with_a_teacher(tmp_path, data, monkeypatch):  # noqa: F811
    how = {"train__teacher": "demo", "train__teacher_weight": 0.5}
    whole = run(tmp_path, data, name="whole", **how)
    assert len(rows(tmp_path / "whole", "teacher")) == 6
    killed_and_resumed(whole, tmp_path, data, monkeypatch, **how)
    assert not same(whole, run(tmp_path, data, name="without"))


def test_another_teacher_is_refused(tmp_path, data):  # noqa: F811
    shutil.copytree(SHIPPED, tmp_path / "teacher")
    run(tmp_path, data, train__teacher="teacher")
    shutil.rmtree(tmp_path / "teacher")
    shutil.copytree(tmp_path / "run" / "last", tmp_path / "teacher")
    with pytest.raises(HeterosegError, match=r"train\.teacher: expected the weights .* found others"):
        run(tmp_path, data, resume=True, train__teacher="teacher")


def test_two_processes_equal_one_with_a_teacher(tmp_path, data):  # noqa: F811
    two_and_one(tmp_path, data, train__teacher="demo", train__crop=[64, 96])


def test_what_is_not_labelled_is_learnt_from_the_teacher(tmp_path, data):  # noqa: F811
    """From boxes of signs alone, another network comes nearer to the teacher on all the rest."""
    signs = {"gtsdb": {"root": "gtsdb", "reader": "gtsdb", "label_space": "gtsdb", "flip": 0, "focus": 0.9}}
    how = {"train__steps": 60, "optimiser__lr": 0.01, "train__color": 0.0, "train__teacher": "demo"}
    run(tmp_path, data, name="signs", datasets=signs, **how)
    far = rows(tmp_path / "signs", "teacher")
    assert sum(far[-5:]) < 0.5 * sum(far[:5])


def test_a_weight_without_a_teacher_is_told(tmp_path, tiny_experiment, capsys):
    assert main(["train", str(tiny_experiment), "--out", str(tmp_path / "run"), "train.teacher_weight=2"]) == 2
    assert "train.teacher_weight has no effect, there is no train.teacher" in capsys.readouterr().err
