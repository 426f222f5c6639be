"""Videos in and out, frame by frame."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from heteroseg.errors import HeterosegError
from heteroseg.writing import written


class Video:
    """The frames of a video file, (H, W, 3) uint8 RGB, to be read once.

    `size` is (H, W), `rate` the frames a second, `total` the number of frames that the file claims to have.
    """

    def __init__(self, path: Path):
        self.path, self._capture = path, cv2.VideoCapture(str(path))
        known = cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT
        height, width, rate, total = map(self._capture.get, known)
        self.size, self.rate, self.total = (int(height), int(width)), rate or 25.0, int(total)
        if not self._capture.isOpened() or not all(self.size):
            raise HeterosegError(f"{path}: expected a video, found a file that cannot be decoded")

    def __iter__(self) -> Iterator[np.ndarray]:
        more, frame = self._capture.read()
        if not more:
            raise HeterosegError(f"{self.path}: expected a video, found no frame in it")
        while more:
            yield np.ascontiguousarray(frame[..., ::-1])
            more, frame = self._capture.read()
        self._capture.release()


@contextmanager
def write_video(path: Path, codec: str, video: Video) -> Iterator[Callable[[np.ndarray], object]]:
    """A function that adds (H, W, 3) uint8 RGB frames to a new video of the size and rate of `video`.

    The file is at `path` when the block ends well. `codec` has four letters.
    """
    with written(path, path.suffix) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*codec), video.rate, video.size[::-1])
        if not writer.isOpened():
            raise HeterosegError(f"{path}: this OpenCV cannot write videos of this kind; take single images")
        yield lambda frame: writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
