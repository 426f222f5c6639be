"""Work that is killed, or finds the disk full, at its k-th file operation below a folder.

A server (`python -m tests.reliability.kills`) imports heteroseg and torch once, with one thread, and forks a child for
each attempt, so that one costs no imports. In the child an audit hook counts what changes files below the folder: open
for writing, rename, remove, mkdir, rmdir, chmod, links. What libraries write in their own code (torch.save,
safetensors, OpenCV, OpenVINO) raises no audit event, but what heteroseg does around it does.

    done = attempt(["train", "e.yaml", "--out", "run"], below=tmp_path / "run")     # counts: done.operations
    killed = attempt(["train", "e.yaml", "--out", "run"], below, at=7, how="before")
    killed = attempt((function, "an argument"), below, at=7, how=signal.SIGINT)     # a function that pickle finds

`how`: "before" or "after" kills there as SIGKILL would; "full" lets this and each later operation that needs room fail
with ENOSPC; "short" lets files be made but takes no byte from then on (so libraries fail in their own code; the system
says "File too large" there); "slow" waits, so that the test can do something meanwhile; a signal is sent to the process
itself. A test goes through all of them where FUZZ is set (`make fuzz`), else through a few that the printed seed picks.
"""

import errno
import importlib
import os
import pickle
import random
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.reliability import SEED, WHOLE

KILLED = 137
PRELOADED = [
    "heteroseg.cli.main",
    "heteroseg.training.loop",
    "heteroseg.decisions.exact",
    "heteroseg.decisions.kernels_marginal",
    "heteroseg.decisions.kernels_path",
    "heteroseg.export.export",
    "heteroseg.inference.files",
    "heteroseg.curation.relabel",
    "heteroseg.report.run",
    "heteroseg.comparison.runner",
    "heteroseg.scenes",
    "transformers.models.resnet.modeling_resnet",
    "lightning_fabric",
    "torch.utils.tensorboard",
    "matplotlib.pyplot",
    "torch._dynamo",
]
ROOMY = ("os.mkdir", "open", "os.symlink", "os.link")  # what a full disk refuses
CHANGES = (*ROOMY, "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
Work = list[str] | tuple
How = str | int


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: exit code (137 killed, -1 hung), the file operations that it began, and what it said."""

    code: int
    operations: list[str]
    output: str

    @property
    def sentences(self) -> list[str]:
        """Lines without progress bars and blanks."""
        lines = [line.rpartition("\r")[2].strip() for line in self.output.splitlines()]
        return [line for line in lines if line]


def _place(event: str, args: tuple) -> tuple[str, ...]:
    """The paths that an operation changes, in full; none if it only reads."""
    if event == "open" and not (isinstance(args[2], int) and args[2] & WRITING):
        return ()
    folders = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.chmod": 2}
    at = args[folders[event]] if event in folders else -1
    paths = args[:2] if event in ("os.rename", "os.symlink", "os.link") else args[:1]
    start = os.readlink(f"/proc/self/fd/{at}") if isinstance(at, int) and at >= 0 else os.getcwd()
    return tuple(os.path.join(start, os.fsdecode(p)) for p in paths if not isinstance(p, int))


def _stop_at(below: str, at: int, how: How, tell: int) -> None:
    """Install the hook of this process; workers that it forks go free."""
    count, own, inside = 0, os.getpid(), threading.local()

    def hook(event: str, args: tuple) -> None:
        nonlocal count
        if event not in CHANGES or os.getpid() != own or getattr(inside, "busy", False):
            return
        inside.busy = True
        try:
            paths = [p for p in _place(event, args) if p == below or p.startswith(below + "/")]
            if not paths:
                return
            count += 1
            os.write(tell, f"{event} {' '.join(os.path.relpath(p, below) for p in paths)}\n".encode())
            if count == at or (at and count > at and how == "full"):
                _happen(event, how, paths[0])
        finally:
            inside.busy = False

    sys.addaudithook(hook)


def _happen(event: str, how: How, path: str) -> None:
    if how == "before":
        os._exit(KILLED)
    if how == "after":  # the first thing that Python does when the operation has returned
        sys.setprofile(lambda frame, kind, arg: os._exit(KILLED) if frame.f_code.co_filename != __file__ else None)
    if how == "full" and event in ROOMY:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    if how == "short":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if how == "slow":
        time.sleep(3)
    if isinstance(how, int):
        os.kill(os.getpid(), how)


def _child(work: Work, below: str, at: int, how: How, folder: str, pipes: tuple[int, int]) -> None:
    """What the fork does; never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(pipes[0], 1)
        os.dup2(pipes[0], 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)  # the old ones take them for files
        _stop_at(below, at, how, pipes[1])
        if isinstance(work, list):
            from heteroseg.cli.main import main

            code = main(work)
        else:
            work[0](*work[1:])
            code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _attempt(work: Work, below: str, at: int, how: How, folder: str, timeout: float) -> Ended:
    says, write_says = os.pipe()
    tells, write_tells = os.pipe()
    if not (pid := os.fork()):
        _child(work, below, at, how, folder, (write_says, write_tells))
    os.close(write_says)
    os.close(write_tells)
    texts, end, code = {says: b"", tells: b""}, time.monotonic() + timeout, None
    while code is None:
        for pipe in select.select(list(texts), [], [], 0.02)[0]:
            texts[pipe] += os.read(pipe, 1 << 16)
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            code = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > end:
            code = -1
    while ready := select.select(list(texts), [], [], 0)[0]:  # what the pipes still hold
        chunks = {pipe: os.read(pipe, 1 << 16) for pipe in ready}
        texts |= {pipe: texts[pipe] + chunk for pipe, chunk in chunks.items()}
        if not any(chunks.values()):
            break
    with suppress(ProcessLookupError):  # its workers, and itself where it hangs
        os.killpg(pid, signal.SIGKILL)
    if code == -1:
        os.waitpid(pid, 0)
    os.close(says)
    os.close(tells)
    return Ended(code, texts[tells].decode().splitlines(), texts[says].decode(errors="replace"))


def _serve() -> None:
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            job = pickle.load(asked)
        except EOFError:
            return
        answer = _attempt(*job)
        pickle.dump((answer.code, answer.operations, answer.output), answers)
        answers.flush()


_server: list[subprocess.Popen] = []


def attempt(
    work: Work, below: Path, at: int = 0, how: How = "before", folder: Path | str = ".", timeout: float = 120
) -> Ended:
    """Do the work in a child that starts in `folder` and is stopped at its operation `at` below `below` (0: never)."""
    if not _server:
        command = [sys.executable, "-m", "tests.reliability.kills"]
        environment = os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(["src", *sys.path])}
        root = Path(__file__).parents[2]
        _server.append(
            subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
    place, start = os.path.realpath(below), os.path.abspath(folder)
    pickle.dump((work, place, at, how, start, timeout), _server[0].stdin)  # type: ignore[arg-type]
    _server[0].stdin.flush()  # type: ignore[union-attr]
    return Ended(*pickle.load(_server[0].stdout))  # type: ignore[arg-type]


def chosen(count: int, few: int = 4) -> list[int]:
    """The points 1 to `count` to try: all where FUZZ is set, else the first, the last and `few` that the seed picks."""
    every = range(1, count + 1)
    if WHOLE or count <= few + 2:
        return [*every]
    return sorted({1, count, *random.Random(SEED).sample(every, few)})


def each(start: Callable[[], tuple[Work, Path]], how: How = "before", few: int = 4) -> Iterator[tuple[str, Ended]]:
    """Stop the same work at one point after another; `start` lays out anew what it needs, and names the work and the
    folder. Yields the operation at which it stopped, and how it ended."""
    whole = attempt(*start())
    assert whole.code == 0, whole.output
    for at in chosen(len(whole.operations), few):
        ended = attempt(*start(), at, how)
        yield f"{how} {at}: {(ended.operations or ['-'])[min(at, len(ended.operations)) - 1]}", ended


if __name__ == "__main__":
    _serve()
