"""Image files: what they tell before they are decoded, and from their bytes to pixels."""

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from simplejpeg import decode_jpeg, decode_jpeg_header

from heteroseg.datasets.sample import LARGEST
from heteroseg.errors import HeterosegError, InputError
from heteroseg.files import MOST_BYTES

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
KINDS: dict[bytes, type[ImageFile]] = {PNG: PngImageFile, JPEG: JpegImageFile, b"BM": BmpImageFile}
KINDS |= dict.fromkeys(TIFF, TiffImageFile) | {b"P%d" % n: PpmImageFile for n in range(1, 7)} | {b"RIFF": WebPImageFile}
LONGEST_SIDE = 65_500  # that the decoders take
UNOPENED = (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error, Image.DecompressionBombError)
OTHERS = {  # how files begin that are no images, or none that are read
    rb"version https://git-lfs": "a pointer of git-lfs; fetch the file by git lfs pull",
    rb"....ftyphe[iv]": "HEIC, as iPhones write it; convert it to JPEG",
    rb"\s*<(!doctype )?html": "a web page; download the image itself",
    rb"\Z": "an empty file; get it again",
}
ORIENTATION = 0x112  # the EXIF tag
FLIPS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}  # steps down and across
SWAPPED = 5  # from here on rows are columns, before they are flipped
BITS_PER_SAMPLE, HIGHEST = 258, 281  # tags of TIFF
BITS = (10, 12, 14, 16)  # of cameras; all of them come in files of 16
Notes = tuple[str, ...]  # of an image, what follows on `1 image`


class View(NamedTuple):
    """What an image file tells before it is decoded: width and height upright, and its EXIF orientation (1: upright).

    `decoded_upright`: its decoder turns it (TIFF). `highest`: the value that is white, where the file tells.
    """

    width: int
    height: int
    orientation: int
    decoded_upright: bool
    highest: int | None = None

    def size(self, upright: bool) -> tuple[int, int]:
        """Width and height, upright or as stored."""
        swapped = not upright and self.orientation >= SWAPPED
        return (self.height, self.width) if swapped else (self.width, self.height)


def view(file: BinaryIO, path: Path) -> View:
    """How an image lies in its file; `path` is told where it is no image."""
    image = opened(file)
    if image is None:
        file.seek(0)
        return View(*size_of(path, file.read()), 1, False)
    _require_small(path, *image.size)
    tags = image.getexif() if _has_exif(image) else {}
    orientation = tags[ORIENTATION] if tags.get(ORIENTATION) in FLIPS else 1
    tiff = image.format == "TIFF"  # Pillow and OpenCV turn it, and tell its size as it is upright
    width, height = image.size[::-1] if orientation >= SWAPPED and not tiff else image.size
    codec, _, _, told = image.tile[0] if image.tile else ("", None, 0, ())
    highest = told[1] if codec.startswith("ppm") and isinstance(told, tuple) else tags.get(HIGHEST)
    highest = highest[0] if isinstance(highest, tuple) and highest else highest  # of each channel
    return View(width, height, orientation, tiff, highest if isinstance(highest, int) else None)


def opened(file: BinaryIO) -> ImageFile | None:
    """Pillow's image, not decoded yet, None where it is not one of Pillow's kinds or has damaged tags.

    Most may have any size, where `Image.open` refuses 179 megapixels.
    """
    head = file.read(len(PNG))
    file.seek(0)
    try:
        kind = next((kind for start, kind in KINDS.items() if head.startswith(start)), Image.open)
        image: ImageFile = kind(file)
        if _has_exif(image):
            image.getexif()
    except UNOPENED:
        return None
    return image


def size_of(path: Path, data: bytes) -> tuple[int, int]:
    """Width and height as the head of an image file states them; more than LARGEST pixels raise InputError."""
    with readable(path):
        if data.startswith(PNG):  # Pillow refuses some texts in them
            width, height = struct.unpack(">II", data[16:24])
        elif data.startswith(JPEG):
            height, width = decode_jpeg_header(data)[:2]
        elif data.startswith(TIFF):  # and some numbers of bits
            tags = tiff_tags(data, None)
            width, height = int(tags[256]), int(tags[257])
        elif (image := opened(io.BytesIO(data))) is not None:
            width, height = image.size
        else:
            raise ValueError("not known")
    _require_small(path, width, height)
    return width, height


def _require_small(path: Path, width: int, height: int) -> None:
    if width * height > LARGEST or max(width, height) > LONGEST_SIDE:
        most = f"at most {LARGEST} pixels and {LONGEST_SIDE} a side"
        raise InputError(f"{path}: expected an image of {most}, found {width} x {height}; cut it up")


def tiff_tags(data: bytes, at: int | None) -> ImageFileDirectory_v2:
    """The tags of one of a TIFF's images, by default the first."""
    tags, file = ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8]), io.BytesIO(data)
    file.seek(tags.next if at is None else at)
    tags.load(file)
    return tags


def _has_exif(image: ImageFile) -> bool:
    """Whether an image may have tags that are read without decoding it; Pillow decodes a PNG to look for them."""
    return image.format != "PNG" or "exif" in image.info


def read_image(path: Path | str, upright: bool = True) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF orientation says, or with `upright` False as it is stored.

    Grey becomes three channels, alpha is dropped. 16 bits become 8 by the value that the file calls white; where it
    says nothing, files in which no value has more than 12 bits are read as 12.
    """
    path = Path(path)
    return decode_image(bytes_of(path), path, upright)


def decode_image(data: bytes, path: Path, upright: bool = True) -> np.ndarray:
    """As `read_image`, of the bytes of a file; `path` is told where they are no image."""
    return decode(data, path, view(io.BytesIO(data), path), upright)[0]


def pixels_of(image: Image.Image) -> np.ndarray:
    """As `read_image`, of an image that Pillow opened or made."""
    path = Path(getattr(image, "filename", "") or "the image")
    if image.format in ("JPEG", "PNG", "TIFF") and getattr(image, "tile", None):  # which Pillow has not decoded yet
        image.fp.seek(0)  # type: ignore[attr-defined]
        return decode_image(image.fp.read(), path)  # type: ignore[attr-defined]
    with readable(path):
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I") and image.getextrema()[1] < 2**16:  # type: ignore[operator]
            return rgb_of(path, _in_8_bits(np.asarray(image).astype(np.uint16), None)[0])
        if image.mode not in ("I", "F", "LAB"):
            return np.array(image.convert("RGB"))
    raise HeterosegError(f"{path}: expected an image of 8 or 16 bits, found mode {image.mode}; convert it to RGB")


def rgb_pixels(image: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of what `Model.predict` takes."""
    if isinstance(image, Image.Image):
        image = pixels_of(image)
    elif isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    if not isinstance(image, np.ndarray):
        told = "expected an image as an array (H, W, 3) of uint8, a path or an image of Pillow"
        raise HeterosegError(f"{told}, found {type(image).__name__}")
    image = np.asarray(image)  # of a matrix or a masked array the plain one
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise HeterosegError(f"expected an RGB image (H, W, 3) of uint8, found {image.shape} of {image.dtype}")
    return image.copy() if min(image.strides) < 0 else image  # which torch does not take


def decode(data: bytes, path: Path, seen: View, upright: bool) -> tuple[np.ndarray, Notes]:
    """(H, W, 3) uint8 RGB, upright or as stored, and what is to be told of the image."""
    notes: Notes = ()
    if data.startswith(JPEG):
        with readable(path):
            pixels = _decoded_jpeg(data)
    else:
        pixels, notes = _in_8_bits(decoded(path, data), seen.highest)
        if seen.decoded_upright and pixels.shape[2:] == (4,):  # OpenCV multiplies colours with what TIFF has as alpha
            with readable(path):
                pixels = np.array(TiffImageFile(io.BytesIO(data)).convert("RGBA"))[..., [2, 1, 0, 3]]
        pixels = rgb_of(path, pixels)
    if seen.orientation in FLIPS and upright:
        notes = (*notes, "turned upright, as EXIF orientation says")
    if upright == seen.decoded_upright or seen.orientation not in FLIPS:
        return pixels, notes
    down, across = FLIPS[seen.orientation]
    swapped = seen.orientation >= SWAPPED
    if upright and swapped:
        pixels = pixels.swapaxes(0, 1)
    pixels = pixels[::down, ::across]
    return np.ascontiguousarray(pixels.swapaxes(0, 1) if swapped and not upright else pixels), notes


def _in_8_bits(pixels: np.ndarray, highest: int | None) -> tuple[np.ndarray, Notes]:
    """uint8 of uint8 or uint16 by the `highest` value, which is white; 255 and 65535 are what all writers put there."""
    if pixels.dtype not in (np.uint8, np.uint16):
        return pixels, ()
    top, deep = int(pixels.max(initial=0)), pixels.dtype == np.uint16
    if highest and top <= highest < (65535 if deep else 255):
        return cv2.convertScaleAbs(pixels, alpha=255 / highest), ()
    if not deep:
        return pixels, ()
    used = next(bits for bits in BITS if top < 2**bits)
    whole = 12 if used <= 12 else 16
    dark = ", so perhaps too dark" * (used < whole)
    notes = (f"of 16 bits, of which {used} are used, read as {whole}{dark}",) if used < 16 else ()
    return cv2.convertScaleAbs(pixels, alpha=255 / (2**whole - 1)), notes


def _decoded_jpeg(data: bytes) -> np.ndarray:
    """(H, W, 3) RGB. What lost a part but ends well is an error here, and a grey rest with OpenCV."""
    if decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
        return np.array(JpegImageFile(io.BytesIO(data)).convert("RGB"))
    try:
        return decode_jpeg(data)
    except ValueError as error:
        if "extraneous bytes" not in str(error):  # which harm nothing
            raise
        return decode_jpeg(data, strict=False)


def decoded(path: Path, data: bytes) -> np.ndarray:
    """All channels and bits as they are, BGR (from memory: a cut file is an error, not a grey rest)."""
    size_of(path, data)
    with readable(path):
        if few_bits(data):
            return np.asarray(opened(io.BytesIO(data)))
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("not decoded")
        return pixels


def few_bits(data: bytes) -> int | None:
    """The bits of a grey TIFF that has 2 or 4: OpenCV cannot read it, and Pillow stretches the values to 0..255."""
    image = opened(io.BytesIO(data)) if data.startswith(TIFF) else None
    bits = 8 if image is None else image.getexif().get(BITS_PER_SAMPLE, 8)
    return bits if bits in (2, 4) and image is not None and image.mode == "L" else None


def rgb_of(path: Path, pixels: np.ndarray) -> np.ndarray:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None or pixels.dtype != np.uint8:
        found = f"{channels} of {pixels.dtype}"
        raise InputError(f"{path}: expected 1, 3 or 4 channels of 8 bits, found {found}; convert the file")
    return cv2.cvtColor(pixels, code)


@contextmanager
def open_file(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file. What is none, or cannot be read, raises InputError; to read a pipe would wait for ever."""
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"{path}: expected a file, found {kind}")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: expected at most {MOST_BYTES} bytes, found {path.stat().st_size}")
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if os.path.islink(path) and not os.path.exists(path):
            reason = f"it is a link to nothing ({path.readlink()})"
        raise InputError(f"{path}: cannot be read, {reason}") from None


def bytes_of(path: Path) -> bytes:
    with open_file(path) as file:
        data = file.read()
    for start, told in OTHERS.items():
        if re.match(start, data, re.I | re.S):
            raise InputError(f"{path}: expected an image, found {told}")
    return data


@contextmanager
def readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (cv2.error, zlib.error, *UNOPENED):
        fault = f"{path}: expected an image, found a file that is cut off or damaged; download it again"
        raise InputError(fault) from None
