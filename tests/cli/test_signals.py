"""A terminal that is closed, a service that is stopped: a command ends with nothing half written."""

import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from heteroseg.cli.main import main
from heteroseg.cli.signals import stoppable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_is_an_interrupt(number):
    with stoppable() as stopped, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert stopped.number == number


def test_nohup_is_heeded():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
        assert stopped.number == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_prediction_leaves_nothing_half_and_goes_on(tiny_model_folder, tmp_path, number):
    """A video with its overlay: the file that grows longest."""
    pytest.importorskip("av")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(400):
        writer.write(np.full((48, 64, 3), i % 256, np.uint8))
    writer.release()
    out = tmp_path / "out"
    words = ["predict", str(tiny_model_folder), str(tmp_path / "v.avi"), "--out", str(out), "--overlay"]
    process = subprocess.Popen([sys.executable, "-m", "heteroseg", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while len(list(out.glob("v/*.png"))) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    assert told.strip().splitlines()[-1] == "heteroseg: stopped"
    assert not [path for path in out.rglob("*") if path.name.startswith(".part-")]
    assert not (out / "v_overlay.webm").exists()
    assert main(words) == 0
    assert len(list(out.glob("v/*.png"))) == 400


WORDS = "['taxonomy', 'check', 'streets-108']"
STOP = """
class Stop:
    def find_spec(self, name, *_):
        if name == "heteroseg.cli.main":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Stop())
"""


def program(before: str = "", after: str = "pass") -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with code before it and after it."""
    lines = f"import os, signal, sys\nfrom heteroseg.__main__ import run\nsys.argv[1:] = {WORDS}\n{before}"
    lines += f"\ntry:\n    run()\nfinally:\n    {after}"
    return subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)


def test_an_interrupt_while_modules_are_read_is_no_traceback():
    ended = program(STOP)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_the_end_changes_nothing(number):
    ended = program(after=f"signal.raise_signal({int(number)})")
    assert (ended.returncode, ended.stderr) == (0, "")  # was -15
    assert "107 leaves" in ended.stdout


def test_a_signal_while_a_fault_is_told_is_no_traceback(monkeypatch):
    def told(*_):
        signal.raise_signal(signal.SIGTERM)
        return 2

    monkeypatch.setattr("heteroseg.cli.main.end", told)
    assert main(["taxonomy", "check", "nothing.yaml"]) == 2
