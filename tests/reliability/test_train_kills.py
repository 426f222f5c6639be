"""Training that is stopped anywhere, finds the disk full, or its own files damaged, ends as if nothing had been."""

import errno
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from heteroseg.cli import training as cli_training
from heteroseg.cli.main import main
from heteroseg.comparison import runner
from heteroseg.training import loop
from heteroseg.training.loop import Run
from tests.reliability.kills import KILLED, Ended, attempt, chosen, each
from tests.reliability.serving import until
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
    write, cli_training.write_run_report = cli_training.write_run_report, lambda *_, **__: None
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


def go_on(experiment: Path, run: Path, place: str, *more: str) -> Ended:
    """Resume, or begin where nothing was begun, as the tool says."""
    ended = train(experiment, run, "--resume", *more)
    if ended.code:
        assert "start it without --resume" in require_told(ended), place
        ended = train(experiment, run, *more)
    assert ended.code == 0, (place, ended.output)
    assert "Traceback" not in ended.output, (place, ended.output)
    return ended


def stopped(
    experiment: Path, tmp_path: Path, how: str | int, few: int = 4, more: tuple = ()
) -> Iterator[tuple[str, Path, Ended]]:
    """Trainings that are stopped at one operation after another."""
    run = tmp_path / "run"

    def start():
        shutil.rmtree(run, ignore_errors=True)
        return (without_report, experiment, run, *more), run

    for place, ended in each(start, how, few):
        yield place, run, ended


@pytest.mark.parametrize("how", ["before", "after"])
def test_killed_anywhere(experiment, whole, tmp_path, how):
    for place, run, ended in stopped(experiment, tmp_path, how):
        assert ended.code == KILLED, place
        go_on(experiment, run, place)
        require_same(run, whole, place)


def test_killed_anywhere_where_training_ends_early(experiment, tmp_path):
    """Nothing is learnt, so that the second evaluation is no better than the first."""
    early = ("train.steps=9", "train.evaluate_every=1", "train.patience=1", "optimiser.lr=1e-9")
    whole = tmp_path / "whole"
    assert train(experiment, whole, *early).code == 0
    for place, run, _ in stopped(experiment, tmp_path, "after", more=early):
        go_on(experiment, run, place, *early)
        require_same(run, whole, place)
        assert "2,miou," in (run / "log.csv").read_text(), place
        assert "\n3," not in (run / "log.csv").read_text(), place


def test_killed_anywhere_where_training_begins_from_a_model(experiment, whole, tmp_path):
    """What the first weights were, and what is new of them, is known again after every stop."""
    model = f"{whole}/last"
    begun = (f"train.begin={model}", f"train.teacher={model}")
    run = tmp_path / "begun"
    assert train(experiment, run, *begun).code == 0
    for place, broken, _ in stopped(experiment, tmp_path, "after", more=begun):
        go_on(experiment, broken, place, *begun)
        require_same(broken, run, place)
        assert (broken / "begun.csv").read_text().startswith("node,from"), place


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


def lose_a_worker(experiment: Path, run: Path) -> None:
    """A training of which a process that reads images is killed after some steps."""
    step = Run.train_step

    def kill_then_step(self, batch):
        if self.step == 4:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
        return step(self, batch)

    Run.train_step = kill_then_step  # type: ignore[method-assign]
    sys.exit(main(command(experiment, run, "train.workers=1", "train.steps=60")))


def test_a_lost_worker_is_told(experiment, tmp_path):
    told = require_told(attempt((lose_a_worker, experiment, tmp_path / "run"), tmp_path))
    assert "a process that reads images was killed" in told
    assert "the same command with --resume goes on" in told


def lack(experiment: Path, run: Path, error: Exception) -> None:
    def fail(*_):
        raise error

    Run.train_step = fail  # type: ignore[method-assign]
    sys.exit(main(command(experiment, run)))


LACKS = {
    "not enough memory": [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to a"
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    "/dev/shm": [
        RuntimeError("unable to write to file </torch_12_34_0>: No space left on device (28)"),
        RuntimeError(
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit."
        ),
    ],
    "the disk is full": [OSError(errno.EDQUOT, "Disk quota exceeded"), SafetensorError("I/O error: (os error 28)")],
}


@pytest.mark.parametrize(("word", "error"), [(word, e) for word, errors in LACKS.items() for e in errors])
def test_what_the_machine_lacks_is_told(experiment, tmp_path, word, error):
    told = require_told(attempt((lack, experiment, tmp_path / "run", error), tmp_path))
    assert word in told
    assert "the same command with --resume goes on" in told


def test_too_little_shared_memory_is_told_before_training(experiment, tmp_path):
    told = require_told(train(experiment, tmp_path / "run", "train.workers=1000", "train.crop=[4096, 4096]"))
    assert "--shm-size" in told
    assert "train.workers=0" in told


def train_scaled(experiment: Path, run: Path, *more: str) -> None:
    """As with fp16 on a GPU; on CPUs Fabric takes bf16 instead, which has no scale."""
    launch = loop.launch

    def launch_scaled(config):
        fabric = launch(config)
        fabric.strategy.precision.scaler = torch.amp.GradScaler("cpu")
        return fabric

    loop.launch = launch_scaled
    without_report(experiment, run, "train.precision='16'", *more)


def test_the_scale_of_the_loss_is_kept(experiment, tmp_path):
    """It is halved where gradients overflow, so a resumed run that takes it up ends with another one."""
    run = tmp_path / "run"
    done = attempt((train_scaled, experiment, run), run)
    assert done.code == 0, done.output
    before = torch.load(run / "state.before.pt", weights_only=True)
    before["precision"]["scale"] = 2.0**40
    torch.save(before, run / "state.pt")
    done = attempt((train_scaled, experiment, run, "--resume"), run)
    assert done.code == 0, done.output
    scale = torch.load(run / "state.pt", weights_only=True)["precision"]["scale"]
    assert scale in (2.0**39, 2.0**40), "not the 65536 of a new run"


def with_shared_memory(script: str) -> subprocess.CompletedProcess:
    """What a script says in which /dev/shm is a folder of its own, on systems that allow that."""
    known = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], stderr=subprocess.DEVNULL)
    if known.returncode:
        pytest.skip("no namespaces here")
    return subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not shutil.which("unshare"), reason="for Linux")
def test_shared_memory_of_a_megabyte(experiment, tmp_path):
    words = [sys.executable, "-m", "heteroseg", *command(experiment, tmp_path / "run", "train.workers=2")]
    large = shlex.join([*words, "train.crop=[256, 256]", "train.batch=16"])
    done = with_shared_memory(f"mount -t tmpfs -o size=1m tmpfs /dev/shm; {large}")
    assert done.returncode == 2
    assert "MB free in /dev/shm for 2 processes" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not shutil.which("unshare"), reason="for Linux")
def test_shared_memory_that_is_full_later(experiment, tmp_path):
    """The batch that is lost is not waited for."""
    run = tmp_path / "run"
    words = [sys.executable, "-m", "heteroseg", *command(experiment, run, "train.workers=2", "train.steps=100000")]
    begun = shlex.quote(str(run / "state.before.pt"))
    fill = f"while [ ! -f {begun} ]; do sleep 0.1; done; head -c 9m /dev/zero >/dev/shm/x"
    done = with_shared_memory(f"mount -t tmpfs -o size=8m tmpfs /dev/shm; ({fill}) & {shlex.join(words)}")
    assert done.returncode == 2
    assert "(/dev/shm) is full" in done.stderr
    assert "with --resume goes on from there" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_signal_ends_all_processes_of_a_comparison(experiment, tmp_path):
    out = tmp_path / "out"
    words = [sys.executable, "-m", "heteroseg", "compare", str(experiment), "--out", str(out), "--ways", "flat,concat"]
    words += ["--jobs", "2", "train.steps=100000", "train.save_every=1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until(lambda: len(list(out.glob("*/seed-0/state.pt"))) == 2 or process.poll() is not None, 200)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM, told
    assert (
        told.splitlines()[-1]
        == f"heteroseg: stopped; {out} keeps what is done, and the same command goes on from there"
    )
    begun = (p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists())
    assert not [words for words in begun if str(out).encode() in words]


def compare_inside(experiment: Path, out: Path) -> None:
    """A comparison that trains in its own process, as starting others takes longest."""

    def run(command: list[str], **_) -> subprocess.CompletedProcess:
        try:
            without_report(*command[4:5], *command[6:7], *command[7:])
        except SystemExit as ended:
            return subprocess.CompletedProcess(command, ended.code)

    runner.subprocess = SimpleNamespace(run=run)  # type: ignore[assignment]
    sys.exit(main(["compare", str(experiment), "--out", str(out), "--ways", "flat", *EVERY]))


def compare(experiment: Path, out: Path, *how) -> Ended:
    return attempt((compare_inside, experiment, out), out, *how)


@pytest.fixture(scope="module")
def compared(experiment, tmp_path_factory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("compared") / "out"
    done = compare(experiment, out)
    assert done.code == 0, done.output
    return out, done.operations


def scores(out: Path) -> dict:
    table = json.loads((out / "table.json").read_text())["ways"]
    return {way: row["datasets"] for way, row in table.items()}


def test_a_comparison_goes_on_after_any_kill(experiment, compared, tmp_path):
    whole, operations = compared
    points = [n for n, line in enumerate(operations, 1) if "/seed-0/" not in line]
    for at in [points[n - 1] for n in chosen(len(points))]:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        assert compare(experiment, out, at).code == KILLED
        again = compare(experiment, out)
        assert again.code == 0, (operations[at - 1], again.output)
        assert scores(out) == scores(whole)


COMPARED = ["experiment.json", "table.json", "flat/seed-0.json", "flat/seed-0/facts.json", "flat/seed-0/state.pt"]


@pytest.mark.parametrize("damage", ["empty", "cut", "foreign", "a list", "nothing"])
@pytest.mark.parametrize("name", COMPARED)
def test_a_comparison_goes_on_with_damaged_files(experiment, compared, tmp_path, name, damage):
    out = shutil.copytree(compared[0], tmp_path / "out")
    (out / name).write_bytes(DAMAGES[damage]((out / name).read_bytes()))
    again = compare(experiment, out)
    if again.code:  # JSON that a user may have put there
        assert name == "table.json"
        assert "take it away" in require_told(again)
        (out / name).unlink()
        again = compare(experiment, out)
    assert again.code == 0, again.output
    assert scores(out) == scores(compared[0])
