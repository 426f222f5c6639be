"""Training that is stopped anywhere, finds the disk full, or its own files damaged, ends as if nothing had been."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heteroseg.cli import training as cli_training
from heteroseg.cli.main import main
from tests.reliability.kills import KILLED, Ended, attempt, each
from tests.supervision.test_coverage import write

EVERY = ["train.steps=3", "train.save_every=1", "train.evaluate_every=2", "train.log_every=1", "train.ema=0.5"]
CHANGING = {"facts.json", "report.html", "state.pt", "state.before.pt"}  # dates and seconds stand in them


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("data"), {"train": ("a", "b", "c"), "val": ("d",)})


def command(experiment: Path, run: Path, *more: str) -> list[str]:
    return ["train", str(experiment), "--out", str(run), "--no-warnings", *EVERY, *more]


def without_report(experiment: Path, run: Path, *more: str) -> None:
    """What the command does, but for the page, which takes longest."""
    write, cli_training.write_run_report = cli_training.write_run_report, lambda *_: None
    try:
        sys.exit(main(command(experiment, run, *more)))
    finally:
        cli_training.write_run_report = write


def train(experiment: Path, run: Path, *more: str) -> Ended:
    return attempt((without_report, experiment, run, *more), run)


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    ended = train(experiment, run)
    assert ended.code == 0, ended.output
    return run


def content(run: Path) -> dict[str, bytes]:
    """All files of a run but for TensorBoard's; of those that tell dates and seconds only the names."""
    files = {str(p.relative_to(run)): p for p in run.rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    return {name: b"" if name in CHANGING else path.read_bytes() for name, path in sorted(files.items())}


def require_same(run: Path, whole: Path, place: str) -> None:
    a, b = content(run), content(whole)
    assert [n for n in {**a, **b} if a.get(n) != b.get(n)] == [], place


def require_told(ended: Ended, code: int = 2) -> str:
    """The one sentence of a command that failed."""
    assert ended.code == code, ended.output
    assert "Traceback" not in ended.output, ended.output
    told = [line for line in ended.sentences if line.startswith("heteroseg: ")]
    assert len(told) == 1, ended.output
    return told[0]


def go_on(experiment: Path, run: Path, place: str) -> Ended:
    """Resume, or begin where nothing was begun, as the tool says."""
    ended = train(experiment, run, "--resume")
    if ended.code:
        assert "start it without --resume" in require_told(ended), place
        ended = train(experiment, run)
    assert ended.code == 0, (place, ended.output)
    assert "Traceback" not in ended.output, (place, ended.output)
    return ended


def stopped(experiment: Path, tmp_path: Path, how: str | int, few: int = 4) -> Iterator[tuple[str, Path, Ended]]:
    """Trainings that are stopped at one operation after another."""
    run = tmp_path / "run"

    def start():
        shutil.rmtree(run, ignore_errors=True)
        return (without_report, experiment, run), run

    for place, ended in each(start, how, few):
        yield place, run, ended


@pytest.mark.parametrize("how", ["before", "after"])
def test_killed_anywhere(experiment, whole, tmp_path, how):
    for place, run, ended in stopped(experiment, tmp_path, how):
        assert ended.code == KILLED, place
        go_on(experiment, run, place)
        require_same(run, whole, place)
