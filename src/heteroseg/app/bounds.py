"""The bounds of requests: how large, how long, how many at once; nothing here knows of the web."""

import ctypes
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass

from heteroseg.errors import HeterosegError


def return_freed_memory() -> None:
    """Let glibc, where there is one, give large blocks back as soon as they are free, also those of other threads.

    Else each thread keeps a heap of its own with holes in it, and memory grows by half (docs/reliability.md).
    """
    with suppress(OSError, AttributeError):
        mmap_threshold = -3  # number of <malloc.h>; once set it no longer grows with the blocks
        ctypes.CDLL("libc.so.6").mallopt(mmap_threshold, 2**20)


class Refused(HeterosegError):
    """A request that is turned away, with its HTTP status."""

    def __init__(self, status: int, fault: str):
        super().__init__(fault)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Bounds of a request: image size, upload size, seconds for each of sending, waiting and work, requests at once.

    Networks take up to 250 MB of memory for a megapixel.
    """

    megapixels: float = 3.0
    megabytes: float = 64.0
    seconds: float = 60.0
    waiting: int = 8


@dataclass(eq=False)
class Effort:
    """How long the work for one request may go on: for some seconds, and only while somebody waits for it."""

    seconds: float
    end: float = math.inf
    wanted: bool = True

    def begin(self) -> None:
        self.end = time.monotonic() + self.seconds

    def check(self) -> None:
        if not self.wanted:
            raise Refused(499, "nobody waits for the answer")
        if time.monotonic() > self.end:
            raise Refused(503, f"the work took more than {self.seconds:g} seconds; send a smaller image")


EFFORT: ContextVar[Effort | None] = ContextVar("effort", default=None)


def check_effort(*_: object) -> None:
    """What long work calls in between: raises Refused when it is to stop."""
    if effort := EFFORT.get():
        effort.check()


class Turns:
    """One request runs at a time, a few wait; more are refused, and so is who has waited too long.

    A request has its place from the moment that its body is there, and its turn while the network works for it.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self._places = threading.BoundedSemaphore(limits.waiting + 1)
        self._turn = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Refused(429, f"{self.limits.waiting} requests are waiting already; try again in a moment")
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self.limits.seconds):
            raise Refused(503, f"no turn within {self.limits.seconds:g} seconds; try again when it is less busy")
        try:
            if effort := EFFORT.get():
                effort.begin()
            check_effort()
            yield
        finally:
            self._turn.release()
