"""Videos in and out, frame by frame."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from heteroseg.errors import HeterosegError
from heteroseg.writing import written

# FFmpeg knows many more, among them lists that open other files and addresses
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
CODECS = (
    "h264,hevc,vp8,vp9,av1,libdav1d,libaom-av1,mpeg4,msmpeg4,msmpeg4v2,h263,mpeg1video,mpeg2video,mjpeg,theora,prores,"
    "dnxhd,ffv1,huffyuv,ffvhuff,utvideo,rawvideo,png,"
    "aac,mp3,mp3float,mp2,mp2float,ac3,opus,vorbis,flac,alac,pcm_s16le,pcm_u8"  # of sound, which is passed over
)
OPTIONS = f"format_whitelist;{CONTAINERS}|codec_whitelist;{CODECS}"
FASTEST = 1000.0  # frames a second; what claims more, or none, gets 25


class Video:
    """The frames of a video file, (H, W, 3) uint8 RGB, to be read once.

    `size` is (H, W), `rate` the frames a second, `total` the number of frames that the file claims to have (0: none).
    A file is known by its content: its name, which is only told, is no pattern, and no other file is opened.
    """

    def __init__(self, source: Path | BinaryIO):
        self.path = source if isinstance(source, Path) else "the video"
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = OPTIONS
        file = source.open("rb") if isinstance(source, Path) else source
        self._capture = cv2.VideoCapture(file, cv2.CAP_FFMPEG, [])  # type: ignore[call-overload]
        self._file = file  # OpenCV does not keep it
        known = cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT
        height, width, rate, total = map(self._capture.get, known)
        if not self._capture.isOpened() or not (width >= 1 and height >= 1):
            raise HeterosegError(f"{self.path}: expected a video, found a file that cannot be decoded")
        self.size, self.rate = (int(height), int(width)), rate if 0 < rate <= FASTEST else 25.0
        self.total = int(total) if 0 < total < 1e9 else 0

    def __iter__(self) -> Iterator[np.ndarray]:
        more, frame = self._capture.read()
        if not more:
            raise HeterosegError(f"{self.path}: expected a video, found no frame in it")
        while more:
            yield np.ascontiguousarray(frame[..., ::-1])
            more, frame = self._capture.read()
        self._capture.release()
        self._file.close()


@contextmanager
def write_video(path: Path, codec: str, size: tuple[int, int], rate: float) -> Iterator[Callable[[np.ndarray], object]]:
    """A function that adds (H, W, 3) uint8 RGB frames of `size` (H, W) to a new video of `rate` frames a second.

    The file is at `path` when the block ends well. `codec` has four letters.
    """
    with written(path, path.suffix) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*codec), rate, size[::-1])
        if not writer.isOpened():
            raise HeterosegError(f"{path}: this OpenCV cannot write videos of this kind; take single images")
        yield lambda frame: writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
