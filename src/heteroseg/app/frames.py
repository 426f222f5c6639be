"""The frames of a video from anywhere, decoded in a process of its own, which can be stopped and takes bounded memory.

As a program: the video is the standard input; the standard output is a line of JSON and then the pixels.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from heteroseg.app.bounds import Limits, Refused
from heteroseg.errors import HeterosegError
from heteroseg.inference.video import LargeFrames, Video

MEMORY, BY_PIXEL = 512 * 10**6, 60  # bytes for a decoder: a large frame may hide in a small video
SLOWEST = 0.1  # frames a second that are written
HEADS = ((4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "))  # MP4, Matroska and WebM, AVI


@dataclass(frozen=True)
class Film:
    """As `Video`: `size` is (H, W), `frames` are (H, W, 3) uint8 RGB; `total` is claimed (0: nothing is)."""

    size: tuple[int, int]
    rate: float
    total: int
    frames: Iterator[np.ndarray]


@contextmanager
def decoded_apart(body: bytes, limits: Limits) -> Iterator[Film]:
    """The frames of a video; what is none or too large raises Refused. After `limits.seconds` they end."""
    if not any(body[start:].startswith(head) for start, head in HEADS):
        raise Refused(415, "expected a video (MP4, WebM, Matroska, AVI), found something else")
    settings = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", __name__, str(int(limits.megapixels * 1e6))]
    with tempfile.TemporaryFile() as file:  # without a name: whatever happens, it is gone
        file.write(body)
        file.seek(0)
        streams = {"stdin": file, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=os.environ | settings, **streams)  # type: ignore[call-overload]
    timer = threading.Timer(limits.seconds + 5, process.kill)
    timer.start()
    try:
        head = json.loads(process.stdout.readline() or '{"status": 415, "fault": "the video cannot be decoded"}')
        if "fault" in head:
            raise Refused(head["status"], head["fault"])
        height, width = head["size"]
        parts = iter(lambda: bytearray(process.stdout.read(3 * height * width)), b"")
        frames = (np.frombuffer(p, np.uint8).reshape(height, width, 3) for p in parts if len(p) == 3 * height * width)
        yield Film((height, width), max(head["rate"], SLOWEST), head["total"], frames)
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def main(pixels: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # a system without such limits
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY + BY_PIXEL * pixels,) * 2)
    try:
        video = Video(sys.stdin.buffer, pixels)
    except HeterosegError as error:
        print(json.dumps({"status": 413 if isinstance(error, LargeFrames) else 415, "fault": str(error)}))
        return
    print(json.dumps({"size": video.size, "rate": video.rate, "total": video.total}), flush=True)
    for frame in video:
        sys.stdout.buffer.write(frame.tobytes())


if __name__ == "__main__":
    main(int(sys.argv[1]))
