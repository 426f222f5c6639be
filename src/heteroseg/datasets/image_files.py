"""Image files: what they tell before they are decoded, and from their bytes to pixels."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from simplejpeg import decode_jpeg, decode_jpeg_header

from heteroseg.errors import InputError

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
POINTER = b"version https://git-lfs"
ORIENTATION = 0x112  # the EXIF tag
FLIPS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}  # steps down and across
SWAPPED = 5  # from here on rows are columns, before they are flipped
TWELVE_BITS = 4095
Notes = tuple[str, ...]  # of an image, what it is or does, in the plural


class View(NamedTuple):
    """What an image file tells before it is decoded: width and height upright, and its EXIF orientation (1: upright).

    `decoded_upright`: its decoder turns it (TIFF).
    """

    width: int
    height: int
    orientation: int
    decoded_upright: bool

    def size(self, upright: bool) -> tuple[int, int]:
        """Width and height, upright or as stored."""
        swapped = not upright and self.orientation >= SWAPPED
        return (self.height, self.width) if swapped else (self.width, self.height)


def view(file: BinaryIO, path: Path) -> View:
    """How an image lies in its file; `path` is told where it is no image."""
    try:
        image = opened(file)
        has_exif = image.format != "PNG" or "exif" in image.info  # else Pillow decodes a PNG to look for it
        exif = image.getexif().get(ORIENTATION, 1) if has_exif else 1
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # Pillow does not know it
        file.seek(0)
        height, width = decoded(path, file.read()).shape[:2]
        return View(width, height, 1, False)
    orientation = exif if exif in FLIPS else 1
    tiff = image.format == "TIFF"  # Pillow and OpenCV turn it, and tell its size as it is upright
    width, height = image.size[::-1] if orientation >= SWAPPED and not tiff else image.size
    return View(width, height, orientation, tiff)


def opened(file: BinaryIO) -> Image.Image:
    """Pillow's image, not decoded yet; of PNG and JPEG of any size, where `open` refuses 179 megapixels."""
    head = file.read(len(PNG))
    file.seek(0)
    if head == PNG:
        return PngImageFile(file)
    return JpegImageFile(file) if head.startswith(JPEG) else Image.open(file)


def read_image(path: Path | str, upright: bool = True) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF orientation says, or with `upright` False as it is stored.

    Grey becomes three channels, alpha is dropped. Of 16 bits the upper 8 are kept; of 12, where no value has more.
    """
    path = Path(path)
    return decode_image(bytes_of(path), path, upright)


def decode_image(data: bytes, path: Path, upright: bool = True) -> np.ndarray:
    """As `read_image`, of the bytes of a file; `path` is told where they are no image."""
    return decode(data, path, view(io.BytesIO(data), path), upright)[0]


def decode(data: bytes, path: Path, seen: View, upright: bool) -> tuple[np.ndarray, Notes]:
    """(H, W, 3) uint8 RGB, upright or as stored, and what is to be told of the image."""
    notes: Notes = ()
    pixels = _decoded_jpeg(path, data) if data.startswith(JPEG) else None
    if pixels is None:
        pixels = decoded(path, data)
        if pixels.dtype == np.uint16:
            deep = pixels.max(initial=0) > TWELVE_BITS
            notes = () if deep else ("hold 16 bits, of which 12 are used, so 12 are read",)
            pixels = cv2.convertScaleAbs(pixels, alpha=255 / (65535 if deep else TWELVE_BITS))
        pixels = rgb_of(path, pixels)
    if seen.orientation in FLIPS and upright:
        notes = (*notes, "are turned upright, as their EXIF orientation says")
    if upright == seen.decoded_upright or seen.orientation not in FLIPS:
        return pixels, notes
    down, across = FLIPS[seen.orientation]
    swapped = seen.orientation >= SWAPPED
    if upright and swapped:
        pixels = pixels.swapaxes(0, 1)
    pixels = pixels[::down, ::across]
    return np.ascontiguousarray(pixels.swapaxes(0, 1) if swapped and not upright else pixels), notes


def _decoded_jpeg(path: Path, data: bytes) -> np.ndarray | None:
    """(H, W, 3) RGB; None for CMYK. What lost a part but ends well is an error here, and a grey rest with OpenCV."""
    with readable(path):
        if decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
            return None
        try:
            return decode_jpeg(data)
        except ValueError as error:
            if "extraneous bytes" not in str(error):  # which harm nothing
                raise
            return decode_jpeg(data, strict=False)


def decoded(path: Path, data: bytes) -> np.ndarray:
    """All channels and bits as they are, BGR (from memory: a cut file is an error, not a grey rest)."""
    with readable(path):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("not decoded")
        return pixels


def rgb_of(path: Path, pixels: np.ndarray) -> np.ndarray:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None or pixels.dtype != np.uint8:
        raise InputError(
            f"{path}: expected 1, 3 or 4 channels of 8 bits, found {channels} of {pixels.dtype}; convert the file"
        )
    return cv2.cvtColor(pixels, code)


@contextmanager
def open_file(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file. What is none, or cannot be read, raises InputError; to read a pipe would wait for ever."""
    if not path.is_file() and path.exists():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"{path}: expected a file, found {kind}")
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        nowhere = path.is_symlink() and not path.exists()
        reason = f"it is a link to nothing ({path.readlink()})" if nowhere else error.strerror or error
        raise InputError(f"{path}: cannot be read, {reason}") from None


def bytes_of(path: Path) -> bytes:
    with open_file(path) as file:
        data = file.read()
    if data.startswith(POINTER):
        raise InputError(f"{path}: expected an image, found a pointer of git-lfs; fetch the file by git lfs pull")
    return data


@contextmanager
def readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (cv2.error, OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error, zlib.error):
        fault = f"{path}: expected an image, found a file that is cut off or damaged; download it again"
        raise InputError(fault) from None
