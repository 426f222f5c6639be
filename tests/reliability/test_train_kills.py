"""Training that is stopped anywhere, finds the disk full, or its own files damaged, ends as if nothing had been."""

import re
import shutil
import signal
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


@pytest.mark.parametrize("how", ["full", "short"])
def test_a_full_disk_is_told_and_made_up_for(experiment, whole, tmp_path, how):
    for place, run, ended in stopped(experiment, tmp_path, how):
        if ended.code:  # what changes names alone needs no room
            told = require_told(ended)
            assert "the disk is full" in told, place
            assert "the same command" in told, place
        go_on(experiment, run, place)
        require_same(run, whole, place)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_told_and_made_up_for(experiment, whole, tmp_path, how, code):
    for place, run, ended in stopped(experiment, tmp_path, how):
        if ended.code:  # after the last step nothing need be stopped
            assert "the same command" in require_told(ended, code), place
        go_on(experiment, run, place)
        require_same(run, whole, place)


def test_a_killed_run_is_reported_evaluated_and_used_or_told(experiment, tmp_path):
    image = experiment.parent / "val" / "d.jpg"
    for place, run, _ in stopped(experiment, tmp_path, "before", few=6):
        for command in (
            ["report", str(run), "--out", str(tmp_path / "page.html")],
            ["evaluate", str(run), "--data", str(experiment)],
            ["evaluate", f"{run}/last", "--data", str(experiment)],
            ["predict", str(run), str(image), "--out", str(tmp_path / "out")],
        ):
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            used = attempt(command, tmp_path)
            if used.code:
                assert "heteroseg train" in require_told(used), (place, command)


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "foreign": lambda data: b'{"a": [1, {}]}\n',
    "binary": lambda data: bytes(range(256)) * 4,
    "a list": lambda data: b"[]",
    "nothing": lambda data: b"null",
    "changed": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
}


@pytest.fixture(scope="module")
def killed(experiment, whole, tmp_path_factory) -> Path:
    """A run that was killed after its second step: its log, its evaluation and two states are there."""
    folder = tmp_path_factory.mktemp("killed")
    operations = train(experiment, folder / "trial").operations
    (at,) = [n for n, line in enumerate(operations) if re.match("os.rename.* evaluation/0000002", line)]
    ended = attempt((without_report, experiment, folder / "run"), folder / "run", at + 2)
    assert ended.code == KILLED
    return folder / "run"


@pytest.fixture
def halfway(killed, tmp_path) -> Path:
    return shutil.copytree(killed, tmp_path / "run")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_told_and_the_one_before_used(experiment, whole, halfway, damage):
    file = halfway / "state.pt"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    ended = go_on(experiment, halfway, damage)
    told = [line for line in ended.sentences if line.startswith("warning: ")]
    assert len(told) == 1
    assert "state.pt is damaged" in told[0]
    assert "goes on from the state before it, state.before.pt" in told[0]
    require_same(halfway, whole, damage)


@pytest.mark.parametrize("damage", DAMAGES)
def test_two_damaged_states_are_told(experiment, halfway, damage):
    for name in ("state.pt", "state.before.pt"):
        file = halfway / name
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    told = require_told(train(experiment, halfway, "--resume"))
    assert "cannot be resumed" in told
    assert "start a new run in another folder" in told


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["experiment.json", "log.csv", "evaluation/0000002.json", "facts.json"])
def test_other_damaged_files_are_told_or_made_up_for(experiment, whole, halfway, tmp_path, name, damage):
    if (name, damage) == ("log.csv", "changed"):
        return  # another number is a number too
    file = halfway / name
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    reported = attempt(["report", str(halfway), "--out", str(tmp_path / "page.html")], tmp_path)
    if reported.code:
        assert "take it away" in require_told(reported)
    ended = train(experiment, halfway, "--resume")
    if ended.code:
        told = require_told(ended)
        assert name in told
        assert "take it away" in told
        file.unlink()
        ended = go_on(experiment, halfway, name)
    if name == "log.csv":  # what it held is gone
        assert not [n for n, line in enumerate(log_lines(halfway)) if line not in log_lines(whole)]
        (halfway / name).write_bytes((whole / name).read_bytes())
    require_same(halfway, whole, name)


def log_lines(run: Path) -> list[str]:
    return (run / "log.csv").read_text().splitlines()
