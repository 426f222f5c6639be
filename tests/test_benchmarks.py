"""The scripts for a borrowed GPU and for a branch run on a CPU in small, so that they run at the first try."""

from argparse import Namespace
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the extra hf is not installed")

from benchmarks import branch, gpu


def test_the_decode_is_exact_on_random_trees():
    rows = list(gpu.decode_stage(tiny=True))
    assert rows[0]["random_trees"] == 5
    assert len(rows) == 4
    assert all(row["pixels_that_differ"] == 0 for row in rows)


def test_images_a_second_stand_beside_their_ceiling():
    rows = list(gpu.speed_stage(tiny=True))
    assert [row["network"] for row in rows] == [*gpu.NETWORKS]
    assert all(row[key] > 0 for row in rows for key in ("train", "train_ceiling", "inference"))


def test_a_killed_run_ends_as_a_whole_one():
    rows = list(gpu.resume_stage(tiny=True))
    assert [row["precision"] for row in rows] == ["32", "bf16"]
    assert all(row["same_losses"] and row["same_weights"] for row in rows)


def arguments(out: Path, **more) -> Namespace:
    usual = {"out": out, "data": out, "jobs": 4, "seeds": 1, "ways": "flat", "settings": [], "tiny": False}
    return Namespace(**usual | {"limit": None} | more)


def test_a_stage_ends_at_its_limit_and_keeps_what_it_said(tmp_path, monkeypatch, capsys):
    words = ["-c", "import time; print('begun', flush=True); time.sleep(300)"]
    monkeypatch.setattr(gpu, "command", lambda stage, args: words)
    gpu.run_stage("decode", arguments(tmp_path, limit=3))
    assert "decode: stopped at its limit" in capsys.readouterr().out
    assert "begun" in (tmp_path / "decode.log").read_text()


def test_the_stages_fit_into_eight_minutes_and_compare_takes_the_recipe(tmp_path):
    assert sum(gpu.LIMITS[stage] for stage in [*gpu.STAGES, "compare"]) <= 480
    words = gpu.command("compare", arguments(tmp_path))
    keys = {word.partition("=")[0] for word in words if "=" in word}
    assert keys == {"data_root", "train.steps", "train.workers"}, "all else is what experiments/real.yaml says"
    assert "train.steps=10000" in words


def test_a_branch_is_timed_beside_none_and_is_exact(tmp_path):
    size = (240, 320)
    row = branch.by_turns(branch.pair_of("traffic sign (front)", "torch", "fp32", size, 1, tmp_path), size, 2)
    assert row["differ"] == 0
    assert row["ratio"].keys() == {"median", "min"}
    assert 0 < row["asked"] < 0.2
