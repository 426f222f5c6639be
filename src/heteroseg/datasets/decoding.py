"""Decoding: from the files of an item to its pixels, ids and boxes."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from heteroseg.datasets.boxes import outside
from heteroseg.datasets.image_files import Notes, View, bytes_of, decode, view
from heteroseg.datasets.mask_files import read_mask
from heteroseg.datasets.sample import UNKNOWN, Item, Sample, Shape
from heteroseg.datasets.shapes import draw_polygons, paint, read_polygons
from heteroseg.errors import HeterosegError, listed, raise_faults

Size = tuple[float, float]  # width and height


def read_sample(item: Item, scoring: bool = False) -> Sample:
    """Decode an item: image (H, W, 3) uint8 RGB, mask (H, W) int32 ids or None, boxes clipped to the image.

    Shapes are drawn into the mask; what they leave free is the item's background, and unknown (-1) inside its boxes.
    `scoring` takes the item's scoring mask where it has one. An unreadable file, sizes that differ, a colour without
    an id, and a box or shape that stands out of the image by more than a pixel raise HeterosegError.
    """
    return _sample(item, scoring, decode)


def read_annotation(item: Item, scoring: bool = False) -> Sample:
    """As `read_sample`, but the photograph is not decoded: only its size is read, and `image` is (H, W, 0)."""
    return _sample(item, scoring, _no_pixels)


def _no_pixels(data: bytes, path: Path, seen: View, upright: bool) -> tuple[np.ndarray, Notes]:
    width, height = seen.size(upright)
    return np.zeros((height, width, 0), np.uint8), ()


def _sample(item: Item, scoring: bool, read: Callable[[bytes, Path, View, bool], tuple[np.ndarray, Notes]]) -> Sample:
    data = bytes_of(item.image)
    seen = view(io.BytesIO(data), item.image)
    path = item.scoring_mask if scoring and item.scoring_mask is not None else item.mask
    mask, shapes, size = _stored_mask(item, path)
    stated = [(size, path), (item.size, path if item.shapes is not None else item.box_file)]
    upright = lies_upright(item, seen, stated)
    image, notes = read(data, item.image, seen, upright)
    height, width = image.shape[:2]
    if fault := strays(item, width, height)[1]:
        raise HeterosegError(fault)
    corners = np.array([width, height] * 2, np.float32)
    boxes = np.clip(item.boxes * corners if item.parts else item.boxes, 0, corners)
    if shapes is not None:
        mask = _painted(item, path, shapes, boxes, (height, width))
    file = path or item.image
    return Sample(item.name, image, mask, boxes, item.box_ids, item.tags, file, item.box_file, notes=notes)


def _fits(stated: Size, size: tuple[int, int], parts: bool) -> bool:
    """Whether annotation for an image of the `stated` size is right on one of `size`; of parts by its proportions."""
    if parts:  # as far as whole pixels can have the same proportions
        return abs(stated[0] * size[1] - stated[1] * size[0]) <= max(*stated, *size)
    return tuple(stated) == size


def lies_upright(item: Item, seen: View, stated: Sequence[tuple[Size | None, Path | None]]) -> bool:
    """Whether an image is turned as its EXIF orientation says: the stated size of the annotation decides, if it can.

    `stated` are the sizes that files tell. One that does not fit the image raises HeterosegError.
    """
    parts = item.parts and all(shape.run_length is None for shape in item.shapes or ())
    known = [(size, file) for size, file in stated if size is not None]
    fits = {upright: all(_fits(s, seen.size(upright), parts) for s, _ in known) for upright in (True, False)}
    upright = item.upright if fits[True] == fits[False] else fits[True]
    width, height = seen.size(upright)
    for other, file in known:
        if not _fits(other, (width, height), parts and other is item.size):
            found = f"{width}x{height} and {other[0]:g}x{other[1]:g} in {file or 'its annotation'}"
            told = f"expected an image and an annotation of one size, found {found}"
            raise HeterosegError(f"{item.image}: {told}; resize the one that was changed")
    return upright


def _stored_mask(item: Item, path: Path | None) -> tuple[np.ndarray | None, Sequence[Shape] | None, Size | None]:
    """(H, W) int32 ids as a file holds them, or the shapes to paint, and the width and height that they tell."""
    if path is None:
        return None, None, None
    if path != item.scoring_mask and item.shapes is not None:
        return None, item.shapes, None
    if path != item.scoring_mask and item.polygon_ids is not None:
        size, shapes, faults = read_polygons(path, item.polygon_ids)
        raise_faults(faults)
        return None, shapes, size
    mask = read_mask(path, None if path == item.scoring_mask else item.palette)
    return mask, None, mask.shape[::-1]


def _painted(
    item: Item, path: Path | None, shapes: Sequence[Shape], boxes: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """(H, W) int32 ids; the ground is the item's background, but nothing is known of what lies in a box."""
    ground = np.full(size, item.background, np.int32)
    for x1, y1, x2, y2 in np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).astype(int):
        ground[y1:y2, x1:x2] = UNKNOWN
    if item.polygon_ids is not None:
        return draw_polygons(shapes, ground)
    try:
        rim = item.parts and item.size != size[::-1]  # tools put corners on pixels, but here not on these
        return paint(shapes, ground, size[::-1] if item.parts else (1, 1), rim)
    except ValueError as error:
        raise HeterosegError(f"{path}: {item.image.name}: {error}; export the file again") from None


def strays(item: Item, width: int, height: int) -> tuple[list[int], str]:
    """The places of the boxes that stand out of the image, and what is to be told of them; unknown ground may."""
    boxes = item.boxes * np.array([width, height] * 2, np.float32) if item.parts else item.boxes
    sure = item.box_ids != UNKNOWN
    places = [i for i in np.flatnonzero(sure).tolist() if outside(map(float, boxes[i]), width, height)]
    told = f"{item.box_file or 'boxes'}: {item.image}: expected boxes inside the image of {width}x{height}, found"
    found = listed(boxes[places].tolist(), 1)
    return places, f"{told} {found}; if the image was resized, scale the boxes too" if places else ""
