"""SIGINT, SIGTERM and SIGHUP at any time: one KeyboardInterrupt, and no clean-up is interrupted again."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PATIENCE = 3.0  # seconds after which a second signal ends the process at once
AGAIN = 0.2  # seconds after which an interrupt that Python lost is raised again


@dataclass
class Stopped:
    """The signal that stopped a command, 0 for none. What comes when it `is_over` changes nothing."""

    number: int = 0
    is_over: bool = False


@contextmanager
def stoppable(to_the_end: bool = False) -> Iterator[Stopped]:
    """Turn SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt in the block, and tell which it was.

    `to_the_end`: the process ends after the block.
    """
    stopped, first, own = Stopped(), 0.0, os.getpid()

    def stop(number: int, frame: Any) -> None:
        nonlocal first
        if os.getpid() != own:  # a fork of ours, which has nothing to tell
            os._exit(128 + number)
        if not stopped.number:
            stopped.number, first = number, time.monotonic()
            if not stopped.is_over:
                raise KeyboardInterrupt
        if time.monotonic() - first > PATIENCE:
            os._exit(128 + stopped.number)

    def lost(unraisable: Any) -> None:
        """Where Python cannot raise, as in `__del__`, it would drop the interrupt and go on."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            if not stopped.number:  # else of processes that were stopped too
                usual(unraisable)
            return
        stopped.number, number = 0, stopped.number
        threading.Timer(AGAIN, os.kill, (own, number or signal.SIGINT)).start()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heeded = [number for number in known if signal.getsignal(number) != signal.SIG_IGN]  # nohup has SIGHUP ignored
    before = {number: signal.signal(number, stop) for number in heeded}
    usual, sys.unraisablehook = sys.unraisablehook, lost
    try:
        yield stopped
    finally:
        stopped.is_over = True
        if not to_the_end:
            sys.unraisablehook = usual
            for number, handler in before.items():
                signal.signal(number, handler)
