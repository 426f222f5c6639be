"""The harness itself: each way of stopping does what it says."""

import shutil
import signal
import threading
from pathlib import Path

import pytest

from tests.reliability.kills import KILLED, attempt, each


def work(folder: str) -> None:
    (Path(folder) / "sub").mkdir()
    (Path(folder) / "sub" / "b.txt").write_text("b" * 1000)
    (Path(folder) / "sub" / "b.txt").rename(Path(folder) / "a.txt")
    shutil.rmtree(Path(folder) / "sub")
    (Path(folder) / "a.txt").unlink()


@pytest.fixture
def start(tmp_path):
    places = iter(tmp_path / str(i) for i in range(100))

    def lay_out():
        place = next(places)
        place.mkdir()
        return (work, str(place)), place

    return lay_out


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


def test_the_operations_are_counted(start):
    done = attempt(*start())
    assert done.code == 0, done.output
    names = [line.split()[0] for line in done.operations]
    assert names == ["os.mkdir", "open", "os.rename", "os.rmdir", "os.remove"]
    assert done.operations[2:4] == ["os.rename sub/b.txt a.txt", "os.rmdir sub"]


@pytest.mark.parametrize("how", ["before", "after"])
def test_it_is_killed_at_each_point(start, tmp_path, how):
    states = []
    for place, ended in each(start, how, few=10):
        assert ended.code == KILLED, (place, ended)
        states.append(left(tmp_path / str(len(states) + 1)))
    whole = [[], ["sub"], ["b.txt", "sub"], ["a.txt", "sub"], ["a.txt"], []]
    assert states == (whole[:-1] if how == "before" else whole[1:])


def test_a_full_disk_and_a_signal(start, tmp_path):
    full = attempt(*start(), at=2, how="full")
    assert full.code == 1
    assert "No space left" in full.output
    short = attempt(*start(), at=2, how="short")
    assert short.code == 1
    assert "File too large" in short.output
    assert attempt(*start(), at=2, how=signal.SIGTERM).code == -signal.SIGTERM
    assert "KeyboardInterrupt" in attempt(*start(), at=2, how=signal.SIGINT).output


def test_a_command_line(tmp_path):
    ended = attempt(["taxonomy", "show", "nothing"], tmp_path)
    assert ended.code == 2
    assert ended.sentences[0].startswith("heteroseg: ")


def threads() -> None:
    print(len(list(Path("/proc/self/task").iterdir())), threading.enumerate())


def test_children_begin_with_one_thread(tmp_path):
    assert attempt((threads,), tmp_path).output.startswith("1 "), "forks of many threads may wait for ever"
