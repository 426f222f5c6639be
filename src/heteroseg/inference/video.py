"""Videos in and out, frame by frame."""

import io
import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from heteroseg.errors import HeterosegError, InputError
from heteroseg.writing import written

# FFmpeg knows many more, among them lists that open other files and addresses
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
CODECS = (
    "h264,hevc,vp8,vp9,av1,libdav1d,libaom-av1,mpeg4,msmpeg4,msmpeg4v2,h263,mpeg1video,mpeg2video,mjpeg,theora,prores,"
    "dnxhd,ffv1,huffyuv,ffvhuff,utvideo,rawvideo,png,"
    "aac,mp3,mp3float,mp2,mp2float,ac3,opus,vorbis,flac,alac,pcm_s16le,pcm_u8"  # of sound, which is passed over
)
OPTIONS = f"format_whitelist;{CONTAINERS}|codec_whitelist;{CODECS}|fflags;discardcorrupt"  # half frames at a cut
FASTEST = 1000.0  # frames a second; what claims more, or none, gets 25
HOLE = 1000  # frames in a row that cannot be decoded: then the video has ended
HEAD = 256  # bytes of an MP4's index, in which its length stands
HELD_BACK = 16  # frames at the end of a trimmed MP4 that only others need


class Video:
    """The frames of a video file, (H, W, 3) uint8 RGB, to be read once.

    `size` is (H, W), `rate` the frames a second, `total` the number of frames that the file claims to have (0: none),
    `time` that of the last frame, in a unit of the file's own. Frames that cannot be decoded are passed over.
    A file is known by its content: its name, which is only told, is no pattern, and no other file is opened.
    """

    def __init__(self, source: Path | BinaryIO):
        self.path = source if isinstance(source, Path) else "the video"
        self._file = source.open("rb") if isinstance(source, Path) else source  # OpenCV crashes without it
        self._capture = _opened(self._file)
        known = cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT
        height, width, rate, total = map(self._capture.get, known)
        if not self._capture.isOpened() or not (width >= 1 and height >= 1):
            raise InputError(f"{self.path}: expected a video, found a file that cannot be decoded")
        self.size, self.rate = (int(height), int(width)), rate if 0 < rate <= FASTEST else 25.0
        self.total = int(total) if 0 < total < 1e9 else 0

    def __iter__(self) -> Iterator[np.ndarray]:
        found = failed = 0
        while failed <= HOLE:
            more, frame = self._capture.read()
            failed = 0 if more else failed + 1
            if more:
                found, self.time = found + 1, self._capture.get(cv2.CAP_PROP_PTS)
                frame = frame if frame.shape[:2] == self.size else cv2.resize(frame, self.size[::-1])  # it may change
                yield np.ascontiguousarray(frame[..., ::-1])
        self._capture.release()
        self._file.close()
        if not found:
            raise InputError(f"{self.path}: expected a video, found no frame in it")


def _opened(file: BinaryIO, *options: int) -> cv2.VideoCapture:
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = OPTIONS
    return cv2.VideoCapture(file, cv2.CAP_FFMPEG, options)  # type: ignore[call-overload]


class Places:
    """The place of every frame in a video file, as its container tells before anything is decoded.

    After a frame that cannot be decoded the others keep their numbers. `missing` are the numbers before the last frame
    that came without one.
    """

    def __init__(self, video: Video, path: Path):
        self.video, self.came = video, list[int]()
        with path.open("rb") as file:
            self.is_cut, self.kind, shown = _is_cut(file)
            file.seek(0)
            packets = _opened(file, cv2.CAP_PROP_FORMAT, -1)  # not decoded
            times = set[float]()
            while packets.grab():
                times.add(packets.get(cv2.CAP_PROP_PTS))
            packets.release()
        self.times = sorted(time for time in times if time >= 0)  # what was trimmed away is before 0
        self.is_trimmed = self.kind == "MP4" and video.total - shown * video.rate > 0.5

    def next(self) -> int:
        """The number, from 0, of the frame that has just come."""
        at = bisect_left(self.times, self.video.time)
        known = self.times[at : at + 1] == [self.video.time]
        after = self.came[-1] + 1 if self.came else 0
        self.came.append(max(at, after) if known else after)
        return self.came[-1]

    @property
    def missing(self) -> list[int]:
        return sorted(set(range(self.came[-1])) - set(self.came))

    def fault(self) -> str | None:
        """What lacks, when all frames have come."""
        total, found = len(self.times), len(self.came)
        if self.is_cut or (self.kind != "Matroska" and not self.is_trimmed):  # which claim what is not there
            total = max(total, self.video.total)
        at_the_end = max(total - self.came[-1] - 1, 0)
        spared = at_the_end if self.is_trimmed and at_the_end <= HELD_BACK else 0
        if not self.is_cut and found + spared >= total:
            return None
        came = f"found {found} that can be decoded, the video is {'cut off' if self.is_cut else 'damaged'}"
        return f"expected {max(total, found)} frames, {came}; get it again"


def _is_cut(file: BinaryIO) -> tuple[bool, str, float]:
    """Whether a file ends before its outermost parts say so, its kind (MP4, AVI or Matroska), and the seconds that an
    MP4 shows."""
    size, at, shown = file.seek(0, io.SEEK_END), 0, 0.0
    file.seek(0)
    kind = {b"RIFF": "AVI", b"\x1aE\xdf\xa3": "Matroska"}.get(file.read(4), "MP4")
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = {"AVI": _of_riff, "Matroska": _of_element, "MP4": _of_box}[kind](head)
        if not length:
            break  # it goes to the end, or is none of the video's
        if head[4:8] == b"moov":
            shown = _shown(head + file.read(HEAD))
        at += length
    return at > size, kind, shown


def _shown(index: bytes) -> float:
    """The seconds that an MP4 shows, by the head of its index; 0 where that is not known."""
    at = index.find(b"mvhd") + 4
    wide = index[at : at + 1] == b"\1"
    steps, length = struct.unpack_from(">IQ" if wide else ">II", index.ljust(HEAD), at + (20 if wide else 12))
    return length / max(steps, 1)


def _of_riff(head: bytes) -> int:
    """Bytes of a part of an AVI file that begins so; 0 where that is not known."""
    length = 8 + int.from_bytes(head[4:8], "little")
    return length + length % 2 if head.startswith(b"RIFF") else 0


def _of_box(head: bytes) -> int:
    """As `_of_riff`, of an MP4 file."""
    length = int.from_bytes(head[:4])
    length = int.from_bytes(head[8:16]) if length == 1 else length
    return length if length >= 8 and head[4:8].isalnum() else 0


def _of_element(head: bytes) -> int:
    """As `_of_riff`, of a Matroska file."""
    wide = 9 - head[4].bit_length() if len(head) == 16 else 9
    length = int.from_bytes(head[4 : 4 + wide]) & (2 ** (7 * wide) - 1)
    return 0 if wide > 8 or length == 2 ** (7 * wide) - 1 else 4 + wide + length


@contextmanager
def write_video(path: Path, size: tuple[int, int], rate: float) -> Iterator[Callable[[np.ndarray], object]]:
    """A function that adds (H, W, 3) uint8 RGB frames of `size` (H, W) to a new video of `rate` frames a second.

    The file is at `path`, which ends in .webm, when the block ends well; it is VP8, which browsers play.
    """
    if not str(path.absolute()).isprintable():  # OpenCV crashes on what is not UTF-8
        raise InputError(f"{path}: a video needs a path in UTF-8; rename the input or its folder, or take no overlay")
    with written(path, path.suffix) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"VP80"), rate, size[::-1])
        if not writer.isOpened():
            raise HeterosegError(f"{path}: this OpenCV cannot write videos of this kind; take single images")
        yield lambda frame: writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
        try:
            Video(temporary)
        except HeterosegError:  # OpenCV does not tell of a full disk
            raise OSError(f"{path}: the video cannot be written") from None
