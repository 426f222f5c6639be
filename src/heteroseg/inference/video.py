"""Videos in and out, frame by frame. They need the extra `video`."""

import io
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer

from heteroseg.errors import InputError
from heteroseg.writing import written

# FFmpeg knows many more, among them lists that open other files and addresses
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
CODECS = (
    "h264,hevc,vp8,vp9,av1,libdav1d,libaom-av1,mpeg4,msmpeg4,msmpeg4v2,h263,mpeg1video,mpeg2video,mjpeg,theora,prores,"
    "dnxhd,ffv1,huffyuv,ffvhuff,utvideo,rawvideo,png,"
    "aac,mp3,mp3float,mp2,mp2float,ac3,opus,vorbis,flac,alac,pcm_s16le,pcm_u8"  # of sound, which is passed over
)
CAREFUL = {"format_whitelist": CONTAINERS, "codec_whitelist": CODECS, "protocol_whitelist": "none"}
CAREFUL["fflags"] = "discardcorrupt"  # half frames at a cut
FASTEST = 1000.0  # frames a second; what claims more, or none, gets 25
SEGMENT = b"\x18\x53\x80\x67"  # all that a Matroska file holds
HEAD = 4096  # bytes of a Matroska file before it
LOOSE = 100  # bytes at most between two frames of a Matroska file
MANY = 10**9  # frames that no file has
GAP = 1000  # frames at most that lack in a row; more is a wrong time
VP8 = {"deadline": "realtime", "cpu-used": "-5", "crf": "10"}  # a speed below 0 does not go by the clock
QUALITY, LEAST = 0.5, 1000  # bits a pixel, and a second, at most


class LargeFrames(InputError):
    """A video of frames that are larger than asked for."""


class Video:
    """The frames of a video file, (H, W, 3) uint8 RGB, to be read once.

    `size` is (H, W), `rate` the frames a second, `total` the number of frames that the file claims to have (0: none),
    `time` that of the last frame, in a unit of the file's own. Frames that cannot be decoded are passed over. A file is
    known by its content: its name, which is only told, is no pattern, and no other file is opened. Frames that claim
    more than `largest` pixels raise LargeFrames before any is decoded.
    """

    def __init__(self, source: Path | BinaryIO, largest: float = math.inf):
        self.path = source if isinstance(source, Path) else "the video"
        file = source.open("rb") if isinstance(source, Path) else source
        container, stream = _opened(file, self.path)
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > largest:
            told = f"a frame has {width} x {height} pixels, at most {largest / 1e6:g} megapixels are taken"
            raise LargeFrames(f"{self.path}: {told}")
        rate = float(stream.average_rate or 0)
        self.rate, self.total = rate if 0 < rate <= FASTEST else 25.0, stream.frames if stream.frames < MANY else 0
        frames = self._decoded(_packets(container, stream))
        first = next(frames, None)
        if first is None:
            raise InputError(f"{self.path}: expected a video, found no frame in it")
        self.size, self._frames = first.shape[:2], chain([first], frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._frames

    def _decoded(self, packets: Iterator[av.Packet]) -> Iterator[np.ndarray]:
        size = None
        for packet in packets:
            frames = []
            with suppress(av.FFmpegError):
                frames = packet.decode()
            for frame in frames:
                size = size or (frame.width, frame.height)  # it may change
                self.time = -1 if frame.pts is None else frame.pts
                pixels = frame.reformat(*size, "rgb24").to_ndarray()
                yield np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _opened(file: BinaryIO, where: Path | str) -> tuple[InputContainer, Any]:
    """A video file, and the pictures in it."""
    with suppress(av.FFmpegError):
        nameless = SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
        container = av.open(nameless, "r", options=CAREFUL, metadata_errors="replace")
        stream = container.streams.best("video")
        codec = stream and stream.codec_context
        if codec and codec.name in CODECS.split(","):
            return container, stream
    raise InputError(f"{where}: expected a video, found a file that cannot be decoded")


def _packets(container: InputContainer, *streams: av.VideoStream) -> Iterator[av.Packet]:
    """What a video file holds, of all streams or some, up to what cannot be read; an empty one of each ends it."""
    with suppress(av.FFmpegError):
        yield from container.demux(*streams)


class Places:
    """The place of every frame in a video file, as its container tells before anything is decoded.

    After a frame that cannot be decoded the others keep their numbers. `missing` are the numbers before the last frame
    that came without one.
    """

    def __init__(self, video: Video, path: Path):
        self.video, self.came = video, list[int]()
        with path.open("rb") as file:
            container, stream = _opened(file, path)
            times, step, end, has_hole, reached = set[int](), 0, 0.0, False, math.inf
            for packet in _packets(container):
                if packet.size and packet.pts is not None:
                    has_hole |= (packet.pos or 0) - reached > LOOSE
                    reached = (packet.pos or 0) + packet.size
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                    if packet.stream is stream and not packet.is_discard:
                        times.add(packet.pts)
                        step = packet.duration or step
            entries, size = list(stream.index_entries), file.seek(0, io.SEEK_END)
            self.is_cut = size < max([_claimed_end(file), *(entry.pos + entry.size for entry in entries)])
        self.times, self.total = sorted(times), video.total
        shown = (stream.duration or 0) * float(stream.time_base) * video.rate
        if "matroska" in container.format.name:
            silent = (container.duration or 0) / av.time_base - end
            self.times = _with_lost(self.times, step, has_hole, silent / float(stream.time_base))
        elif "mov" in container.format.name and self.total - shown > 0.5:  # it is trimmed
            self.total = sum(not entry.is_discard for entry in entries)

    def next(self) -> int:
        """The number, from 0, of the frame that has just come."""
        at = bisect_left(self.times, self.video.time)
        known = self.video.time in self.times[at : at + 1]
        after = self.came[-1] + 1 if self.came else 0
        self.came.append(max(at, after) if known else after)
        return self.came[-1]

    @property
    def missing(self) -> list[int]:
        return sorted(set(range(self.came[-1])) - set(self.came))

    def fault(self) -> str | None:
        """What lacks, when all frames have come."""
        found, total = len(self.came), max(self.total, len(self.times), self.came[-1] + 1)
        if not self.is_cut and found == total:
            return None
        came = f"found {found} that can be decoded, the video is {'cut off' if self.is_cut else 'damaged'}"
        return f"expected {total} frames, {came}; get it again"


def _with_lost(times: list[int], step: int, has_hole: bool, silent: float) -> list[int]:
    """Times of frames, and those of frames that a Matroska file lost.

    A frame is shown for `step`, where nothing else is known. `has_hole` is whether bytes between two frames are none's,
    `silent` the time before the claimed end that holds none.
    """
    steps = [b - a for a, b in pairwise(times)] or [step]
    usual = max(median(steps), 1)
    is_even = max(steps) < 1.5 * usual  # else the last frame may be shown for longer than the others
    ends = [round(time + usual + silent) for time in times[-1:] if is_even]
    gaps = pairwise([*times, *ends]) if has_hole or is_even else []
    lost = {round(a + i * usual) for a, b in gaps for i in range(1, min(round((b - a) / usual), GAP))}
    return sorted({*times, *lost})


def _claimed_end(file: BinaryIO) -> int:
    """Bytes that an AVI or Matroska file says that it has; 0: it does not say."""
    file.seek(0)
    head = file.read(HEAD)
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:8], "little")
    at = head.find(SEGMENT) + 4
    length = int.from_bytes(head[at : at + 8]) - 2**56
    return at + 8 + length if at > 3 and 0 < length < 2**56 - 1 else 0


@contextmanager
def write_video(path: Path, size: tuple[int, int], rate: float) -> Iterator[Callable[[np.ndarray], object]]:
    """A function that adds (H, W, 3) uint8 RGB frames of `size` (H, W) to a new video of `rate` frames a second.

    The file is at `path`, which ends in .webm, when the block ends well; it is VP8, which browsers play.
    """
    height, width = size
    with written(path, path.suffix) as temporary, temporary.open("wb") as file:
        nameless = SimpleNamespace(write=file.write, seek=file.seek, tell=file.tell)
        with av.open(nameless, "w", format="webm", options={"fflags": "bitexact"}) as container:
            stream = container.add_stream("libvpx", rate=Fraction(rate).limit_denominator(1001), options=VP8)
            stream.width, stream.height, stream.bit_rate = width, height, LEAST + int(QUALITY * width * height * rate)
            stream.codec_context.thread_count = 1  # more are slower
            yield lambda frame: container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
