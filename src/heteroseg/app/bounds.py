"""The bounds of requests: how large, how long, how many at once; nothing here knows of the web."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from heteroseg.errors import HeterosegError


class Refused(HeterosegError):
    """A request that is turned away, with its HTTP status."""

    def __init__(self, status: int, fault: str):
        super().__init__(fault)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Bounds of a request: image size, upload size, seconds it may wait and a video may take, and requests at once."""

    megapixels: float = 16.0
    megabytes: float = 64.0
    seconds: float = 60.0
    waiting: int = 8


class Turns:
    """One request runs at a time, a few wait; more are refused, and so is who has waited too long.

    A request has its place from the moment that its body is read, and its turn while the network works for it.
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
            yield
        finally:
            self._turn.release()
