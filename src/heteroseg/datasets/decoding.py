"""Decoding: from the files of an item to its pixels, ids and boxes."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from heteroseg.datasets.boxes import outside
from heteroseg.datasets.sample import UNIT, Item, Sample
from heteroseg.datasets.shapes import draw_polygons, paint, read_polygons
from heteroseg.errors import HeterosegError

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
PALETTE = 3  # the PNG colour type


def read_sample(item: Item, scoring: bool = False) -> Sample:
    """Decode an item: image (H, W, 3) uint8 RGB, mask (H, W) int32 ids or None, boxes clipped to the image.

    Shapes are drawn into the mask, smaller ones on top; without a mask, what they leave free is -1, unknown.
    `scoring` takes the item's scoring mask where it has one. An unreadable file, sizes that differ, a colour without
    an id and a box that stands out of the image by more than a pixel raise HeterosegError.
    """
    return _annotated(item, read_image(item.image), scoring)


def read_annotation(item: Item, scoring: bool = False) -> Sample:
    """As `read_sample`, but the photograph is not decoded: only its size is read, and `image` is (H, W, 0)."""
    width, height = _pillow(item.image, _bytes(item.image), lambda image: image.size)
    return _annotated(item, np.zeros((height, width, 0), np.uint8), scoring)


def _annotated(item: Item, image: np.ndarray, scoring: bool) -> Sample:
    height, width = image.shape[:2]
    mask, file = _mask_of(item, scoring, (height, width))
    return Sample(item.name, image, mask, _clipped(item, height, width), item.box_ids, item.tags, file)


def _mask_of(item: Item, scoring: bool, size: tuple[int, int]) -> tuple[np.ndarray | None, Path]:
    """(H, W) int32 ids, and the file that they come from; None and the image where there is no mask."""
    path = item.scoring_mask if scoring and item.scoring_mask is not None else item.mask
    if path is None:
        return None, item.image
    if path == item.scoring_mask:
        mask = read_mask(path)
    elif item.shapes is not None:
        _require_size(item, path, size, size if item.size in (None, UNIT) else item.size[::-1])
        try:
            mask = paint(item.shapes, size, item.background, size[::-1] if item.size == UNIT else (1, 1))
        except ValueError as error:
            raise HeterosegError(f"{path}: {item.image.name}: {error}; export the file again") from None
    elif item.polygon_ids is not None:
        drawn_for, shapes = read_polygons(path, item.polygon_ids)
        _require_size(item, path, size, drawn_for[::-1])
        mask = draw_polygons(shapes, size, item.background)
    elif item.segments is not None:
        mask = _from_segments(path, item.segments, item.background)
    else:
        mask = read_mask(path, item.palette)
    _require_size(item, path, size, mask.shape)
    return mask, path


def _require_size(item: Item, path: Path, size: tuple[int, int], other: tuple[float, ...]) -> None:
    if other != size:
        sizes = " and ".join(f"{width:g}x{height:g}" for height, width in (size, other))
        raise HeterosegError(
            f"{item.image}: expected an image and a mask of one size, found {sizes} in {path}; "
            f"resize the one that was changed"
        )


def _from_segments(path: Path, segments: dict[int, int], background: int) -> np.ndarray:
    """COCO's panoptic colours to ids: a colour is the number of a segment, 0 is unlabelled."""
    packed = _packed(_rgb(path, _decoded(path, _bytes(path))))
    numbers, inverse = np.unique(packed, return_inverse=True)
    unknown = [n for n in numbers.tolist() if n and n not in segments]
    if unknown:
        raise HeterosegError(
            f"{path}: expected the segments that its json lists, found number {unknown[0]} too; "
            f"take the json and the images of one release"
        )
    ids = np.array([segments[n] if n else background for n in numbers.tolist()], np.int32)
    return ids[inverse].reshape(packed.shape)


def read_image(path: Path | str) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Grey becomes three channels, alpha is dropped, 16 bits become 8, EXIF is not heeded."""
    path = Path(path)
    return decode_image(_bytes(path), path)


def decode_image(data: bytes, path: Path) -> np.ndarray:
    """As `read_image`, of the bytes of a file; `path` is told where they are no image."""
    pixels = _decoded(path, data)
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
    return _rgb(path, pixels)


def read_mask(path: Path | str, palette: np.ndarray | None = None) -> np.ndarray:
    """(H, W) int32 ids from a grey file of 1 to 32 bits or a palette PNG's indices; with `palette` from colours.

    A file with several channels (without `palette`), a JPEG and a colour that is not in `palette` raise HeterosegError.
    """
    path = Path(path)
    data = _bytes(path)
    if data.startswith(JPEG):
        raise HeterosegError(f"{path}: expected a mask in a lossless format, found a JPEG; export it as PNG")
    if palette is not None:
        return _from_colors(path, _decoded(path, data), palette)
    depth, kind = (data[24], data[25]) if data.startswith(PNG) and len(data) > 25 else (8, 0)
    ids = _decoded(path, data) if kind != PALETTE else _pillow(path, data, np.asarray)
    if ids.ndim != 2 or ids.dtype.kind not in "ui":
        channels = 1 if ids.ndim == 2 else ids.shape[2]
        raise HeterosegError(
            f"{path}: expected one channel of whole ids, found {channels} of {ids.dtype}; store ids instead of colours"
        )
    if kind == 0 and depth < 8:
        ids = ids // (255 // (2**depth - 1))  # the decoder stretches few bits to 0..255
    if ids.dtype.itemsize > 2 and ids.min(initial=0) < -1:  # 32 bits without a sign come with one
        raise HeterosegError(f"{path}: expected ids from 0 to {2**31 - 1}, found others; renumber them")
    return ids.astype(np.int32)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HeterosegError(f"{path}: cannot be read, {error.strerror or error}") from None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (cv2.error, OSError, SyntaxError, ValueError):
        fault = f"{path}: expected an image, found a file that is cut off or damaged; download it again"
        raise HeterosegError(fault) from None


def _pillow(path: Path, data: bytes, read: Callable[[Any], Any]) -> Any:
    """What `read` takes from Pillow's image: a size that needs no decoding, indices of a palette that OpenCV hides."""
    from PIL import Image

    with _readable(path):
        return read(Image.open(io.BytesIO(data)))


def _decoded(path: Path, data: bytes) -> np.ndarray:
    """All channels and bits as they are, BGR (from memory: a cut file is an error, not a grey rest)."""
    with _readable(path):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("not decoded")
        return pixels


def _rgb(path: Path, pixels: np.ndarray) -> np.ndarray:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None or pixels.dtype != np.uint8:
        raise HeterosegError(
            f"{path}: expected 1, 3 or 4 channels of 8 bits, found {channels} of {pixels.dtype}; convert the file"
        )
    return cv2.cvtColor(pixels, code)


def _packed(rgb: np.ndarray) -> np.ndarray:
    """(H, W) uint32 R + 256 G + 65536 B."""
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA).view("<u4")[..., 0] & 0xFFFFFF


@lru_cache(maxsize=8)
def _id_table(palette: bytes) -> np.ndarray:
    """(2**24,) int32: id + 1 by packed colour, 0 where no id has the colour. Untouched pages take no memory."""
    red, green, blue, ids = np.frombuffer(palette, np.int32).reshape(-1, 4).T
    table = np.zeros(1 << 24, np.int32)
    table[red | green << 8 | blue << 16] = ids + 1
    return table


def _from_colors(path: Path, pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    rgb = _rgb(path, pixels)
    if palette.shape[1] == 3:
        palette = np.column_stack([palette, np.arange(len(palette))])
    ids = _id_table(palette.astype(np.int32).tobytes())[_packed(rgb)] - 1
    if ids.size and ids.min() < 0:
        y, x = (int(v) for v in np.argwhere(ids < 0)[0])
        color = tuple(rgb[y, x].tolist())
        raise HeterosegError(
            f"{path}: expected only the palette's colours, found {color} at x={x}, y={y}; "
            f"add the colour to the palette or repair the mask"
        )
    return ids


def _clipped(item: Item, height: int, width: int) -> np.ndarray:
    boxes = item.boxes * np.array([width, height] * 2, np.float32) if item.size == UNIT else item.boxes
    for box in boxes:
        if outside(map(float, box), width, height):
            raise HeterosegError(
                f"{item.image}: expected boxes inside the image of {width}x{height}, found {box.tolist()}; "
                f"if the image was resized, scale the boxes too"
            )
    return np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
