"""How commands end: one sentence for what this machine lacks, a file for what nobody foresaw."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError


@pytest.fixture
def ends(monkeypatch, capsys):
    """The exit code and stderr of a command in which something happens."""

    def call(happens) -> tuple[int, str]:
        monkeypatch.setattr("heteroseg.labels.describe.show_spec_file", lambda _: happens())
        return main(["taxonomy", "show", "x" * 500]), capsys.readouterr().err

    return call


def raising(error: BaseException):
    def happens():
        raise error

    return happens


@pytest.mark.parametrize(
    "happens",
    [raising(MemoryError()), lambda: np.empty(2**60, np.uint8), lambda: torch.empty(2**60, dtype=torch.uint8)],
    ids=["Python", "numpy", "torch"],
)
def test_no_memory_is_told_in_a_sentence(ends, happens):
    code, told = ends(happens)
    assert code == 2
    assert re.fullmatch(r"heteroseg: there is not enough memory; .* \(found in labels\.taxonomy_show\)\n", told)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out.png"), "out.png: cannot be used, the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; make room (found in labels"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "a: cannot be used, Permission denied"),
        (PermissionError(errno.EACCES, "Permission denied", b"\xff"), "cannot be used, Permission denied"),
    ],
)
def test_failures_of_disks_are_told_with_their_file(ends, error, said):
    code, told = ends(raising(error))
    assert code == 2
    assert said in told
    assert told.count("\n") == 1


def test_what_nobody_foresaw_is_a_fault_of_heteroseg_and_stands_in_a_file(ends):
    code, told = ends(raising(KeyError("secret")))
    assert code == 1
    assert told.startswith("heteroseg: this is a fault of heteroseg")
    assert told.count("\n") == 1
    assert len(told) < 400
    file = Path(re.search(r"report it with (\S+\.txt)", told)[1])
    text = file.read_text()
    file.unlink()
    assert f"heteroseg taxonomy show {'x' * 500}" in text
    assert "Traceback" in text
    assert "KeyError: 'secret'" in text


def test_ctrl_c_and_a_closed_pipe_end_quietly(ends):
    assert ends(raising(KeyboardInterrupt())) == (130, "heteroseg: stopped\n")
    command = f"{sys.executable} -m heteroseg taxonomy show streets-108 | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (done.stdout.strip(), "")


def test_of_many_faults_the_first_are_told_and_their_number(ends):
    code, told = ends(raising(HeterosegError(*(f"fault {i}" for i in range(500)))))
    assert code == 2
    lines = told.splitlines()
    assert lines[:3] == [f"heteroseg: fault {i}" for i in range(3)]
    assert "497 more faults, 500 in all" in lines[3]
    assert len(lines) == 4


def test_long_words_and_control_characters_of_a_message_are_tamed(ends):
    told = ends(raising(HeterosegError(f"expected a name, found {'y' * 5000}\n\0 here")))[1]
    assert told == f"heteroseg: expected a name, found {'y' * 80}...\\n\\x00 here\n"


def test_long_words_of_arguments_are_cut(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--repeats", "9" * 5000])
    assert len(capsys.readouterr().err) < 300
