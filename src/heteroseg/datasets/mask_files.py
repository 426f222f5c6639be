"""Mask files: from grey values, palettes, colours and numbers of segments to ids."""

import io
import zlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from heteroseg.datasets.image_files import (
    BITS_PER_SAMPLE,
    FLIPS,
    JPEG,
    PNG,
    TIFF,
    bytes_of,
    decoded,
    few_bits,
    opened,
    readable,
    rgb_of,
    size_of,
    tiff_tags,
    view,
)
from heteroseg.datasets.sample import CROWD, UNKNOWN
from heteroseg.errors import HeterosegError

COMPRESSION, DEFLATED, LOSSY = 259, (8, 32946), (6, 7, 34712, 50001)  # of TIFF; JPEG, JPEG 2000 and WebP are lossy
NO_COLOR = min(UNKNOWN, CROWD) - 1  # below all ids that a palette may give
PALETTE = b"\x03"  # the 26th byte of a PNG
TURNED = (b"eXIf", b"exif", b"adobe.xmp")  # one of them is in a PNG that tells its orientation


def read_mask(path: Path | str, palette: np.ndarray | None = None) -> np.ndarray:
    """(H, W) int32 ids from a grey file of 1 to 32 bits or a palette PNG's indices; with `palette`, rows of R, G, B and
    id, from colours.

    A file with several channels (without `palette`), a JPEG, a TIFF that is lossy, inverted or of several images, other
    files that EXIF turns (TIFFs are upright) and a colour that is not in `palette` raise HeterosegError. Of BMP, PGM
    and TIFF that is not deflated nobody knows whether bits have changed.
    """
    path = Path(path)
    data = _bytes_of_mask(path)
    if palette is not None:
        return _from_colors(path, decoded(path, data), palette)
    ids = _indices(path, data)
    ids = decoded(path, data) if ids is None else ids
    if ids.ndim != 2 or ids.dtype.kind not in "ui":
        channels = 1 if ids.ndim == 2 else ids.shape[2]
        equal = channels >= 3 and bool((ids[..., :3] == ids[..., :1]).all())
        hint = "they are equal, so keep one" if equal else "store ids instead of colours"
        raise HeterosegError(f"{path}: expected one channel of whole ids, found {channels} of {ids.dtype}; {hint}")
    if depth := data[24] if data.startswith(PNG) and data[24] < 8 and data[25] == 0 else few_bits(data):
        ids = ids // (255 // (2**depth - 1))  # the decoder stretches few bits to 0..255
    if ids.dtype.itemsize > 2 and ids.min(initial=0) < -1:  # 32 bits without a sign come with one
        raise HeterosegError(f"{path}: expected ids from 0 to {2**31 - 1}, found others; renumber them")
    return ids.astype(np.int32)


def _bytes_of_mask(path: Path) -> bytes:
    data = bytes_of(path)
    if data.startswith(JPEG):
        raise HeterosegError(f"{path}: expected a mask in a lossless format, found a JPEG; export it as PNG")
    if data.startswith(PNG) and not any(mark in data for mark in TURNED):
        return data  # without the time to open it
    seen = view(io.BytesIO(data), path)
    if seen.orientation in FLIPS and not seen.decoded_upright:
        told = f"found EXIF orientation {seen.orientation}; save it upright and without"
        raise HeterosegError(f"{path}: expected a mask that lies as it is to be read, {told}")
    if data.startswith(TIFF) and (wrong := _wrong_in_tiff(path, data)):
        raise HeterosegError(f"{path}: expected a mask of sure ids, found a TIFF with {wrong}; export it as PNG")
    return data


def _wrong_in_tiff(path: Path, data: bytes) -> str | None:
    """Why the ids of a TIFF are not sure. A damaged one raises HeterosegError, as far as it has checksums."""
    with readable(path):
        tags = tiff_tags(data, None)
        if tags.get(COMPRESSION) in DEFLATED:
            for at, size in zip(tags.get(273) or tags[324], tags.get(279) or tags[325], strict=True):  # strips or tiles
                zlib.decompress(data[at : at + size])
        if tags.get(COMPRESSION) in LOSSY:
            return "lossy compression"
        if tags.get(262) == 0:
            return "0 as white"
        if (bits := tags.get(BITS_PER_SAMPLE, (8,))[0]) in (10, 12, 14):  # the decoder stretches them to 16
            return f"{bits} bits a pixel"
        smaller = tags.next and tiff_tags(data, tags.next).get(254, 0) & 1  # a copy of the first image
        return "several images" if tags.next and not smaller else None


def _indices(path: Path, data: bytes) -> np.ndarray | None:
    """(H, W) the indices of a file with a palette, or of 1 bit, which OpenCV hides; None for other files."""
    if data.startswith(PNG) and data[25:26] != PALETTE:
        return None
    image, checked = opened(io.BytesIO(data)), opened(io.BytesIO(data))
    if image is None or checked is None or image.mode not in ("P", "1"):
        return None
    size_of(path, data)
    with readable(path):
        checked.verify()  # checksums, which decoding does not heed
        return np.asarray(image, np.uint8)


@lru_cache(maxsize=8)
def _id_table(palette: bytes) -> np.ndarray:
    """(2**24,) int32: id - NO_COLOR by packed colour, 0 where no id has it. Untouched pages take no memory."""
    red, green, blue, ids = np.frombuffer(palette, np.int32).reshape(-1, 4).T
    table = np.zeros(1 << 24, np.int32)
    table[red | green << 8 | blue << 16] = ids - NO_COLOR
    return table


def _from_colors(path: Path, pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    rgb = rgb_of(path, pixels)
    packed = cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA).view("<u4")[..., 0] & 0xFFFFFF  # R + 256 G + 65536 B
    ids = _id_table(palette.astype(np.int32).tobytes())[packed] + NO_COLOR
    if ids.min(initial=0) == NO_COLOR:
        y, x = (int(v) for v in np.argwhere(ids == NO_COLOR)[0])
        found = f"found {tuple(rgb[y, x].tolist())}, number {packed[y, x]}, at x={x}, y={y}"
        hint = "take list and mask of one release, add the colour to the list, or repair the mask"
        raise HeterosegError(f"{path}: expected the colours of its list of labels or segments alone, {found}; {hint}")
    return ids
