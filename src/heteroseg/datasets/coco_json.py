"""Boxes and outlines from a COCO json of instances."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from heteroseg.datasets.boxes import NO_BOX, NO_OUTLINE, Row, attach
from heteroseg.datasets.paths import unlisted
from heteroseg.datasets.records import by_id, integer, lists_of, number
from heteroseg.datasets.sample import LARGEST, UNKNOWN, Item, Listing, RunLength, Shape
from heteroseg.datasets.shapes import polygon
from heteroseg.errors import HeterosegError
from heteroseg.files import read_json


def with_coco(items: list[Item], path: Path, resolve: Callable[[str], str | None], outlines: bool = False) -> Listing:
    """Items with the boxes of a COCO json: images (id, file_name, width, height) and annotations (image_id, category_id
    and bbox x y width height). Items that its `images` do not list are left out.

    With `outlines` an annotation that has a `segmentation` is painted instead, the largest first, so that small things
    lie on top. What `iscrowd` marks is unknown ground. A file without the lists raises HeterosegError.
    """
    images, notes, names = read_coco(path)
    rows = [_row(f"{path}: annotations[{i}]", note, images, outlines) for i, note in enumerate(notes)]
    sizes = {}
    for image in images.values():
        with suppress(LookupError):  # an image without annotation may be missing
            sizes[resolve(image["file_name"])] = _size(image)
    kept = [item for item in items if item.name in sizes or item.mask is not None]
    kept = [replace(item, size=sizes.get(item.name) or item.size, box_file=path) for item in kept]
    kept = [replace(item, mask=path) for item in kept] if outlines else kept
    listing = attach(kept, rows, resolve, paints=outlines, by_area=True)
    listing.names = names
    listing.notes += unlisted([item.name for item in items], {item.name for item in kept}, path)
    return listing


def read_coco(path: Path) -> tuple[dict[str, dict], list[dict], dict[int, str]]:
    """The images of a COCO json by their ids, its annotations, and what it calls its ids, where it has `categories`.

    A json without the lists, and an image without an id of its own or a file name raise HeterosegError.
    """
    data = read_json(path)
    images, notes = lists_of(path, data, "images", "annotations")
    (categories,) = lists_of(path, {"categories": [], **data}, "categories")
    for i, image in enumerate(images):
        if not isinstance(image.get("file_name"), str):
            told = f"expected a file_name, found the keys {', '.join(map(str, image)) or 'none'}"
            raise HeterosegError(f"{path}: images[{i}]: {told}; write the name there")
    names = {n: str(c.get("name")) for c in categories if (n := integer(c.get("id"))) is not None}
    return by_id(path, "images", images), notes, names


def is_crowd(note: dict) -> bool:
    """Whether a COCO annotation or segment marks many things at once, of which none is outlined."""
    return note.get("iscrowd") in (1, "1")


def _size(image: dict) -> tuple[float, float] | None:
    width, height = number(image.get("width")), number(image.get("height"))
    return (width, height) if math.isfinite(width + height) else None


def _row(where: str, note: dict, images: dict[str, dict], outlines: bool) -> Row:
    box, segmentation, category = (note.get(key) for key in ("bbox", "segmentation", "category_id"))
    image = images.get(str(note.get("image_id")), {})
    name = str(image.get("file_name", ""))
    row = Row(where, name, NO_BOX, integer(category), size=_size(image), crowd=is_crowd(note))
    if not image:
        return row._replace(fault=f"expected an entry of `images`, found image_id {note.get('image_id')!r}")
    if outlines and segmentation not in (None, [], {}, ""):
        row = row._replace(raw=f"segmentation {segmentation!r:.60}, category_id {category!r}")
        extent = segmentation.get("size") if isinstance(segmentation, dict) else None
        if row.size and isinstance(extent, list) and tuple(extent) == row.size != row.size[::-1]:
            fault = f"expected a run-length code of [height, width], found {extent}: they are swapped"
            return row._replace(fault=fault)
        outline = coco_outline(segmentation, row.size)
        code = outline.run_length
        return row._replace(outline=outline, size=row.size or (code.window[2:] if code else None))
    x, y, width, height = map(number, box) if isinstance(box, list) and len(box) == 4 else NO_BOX
    corners = (x, y, x + width, y + height)
    return row._replace(corners=corners, raw=f"bbox {box} as x y width height, category_id {category!r}")


def coco_outline(value: Any, size: tuple[float, float] | None) -> Shape:
    """A COCO `segmentation`: polygons, or an object with size (height, width) and counts; NO_OUTLINE for others."""
    if isinstance(value, list):
        rings = tuple(ring for ring in map(polygon, value) if ring is not None)
        return Shape(UNKNOWN, rings) if rings and len(rings) == len(value) else NO_OUTLINE
    extent, counts = (value.get("size"), value.get("counts")) if isinstance(value, dict) else (None, None)
    if not (isinstance(extent, list) and len(extent) == 2 and all(type(v) is int and v > 0 for v in extent)):
        return NO_OUTLINE
    if extent[0] * extent[1] > LARGEST or (size is not None and (extent[1], extent[0]) != size):
        return NO_OUTLINE
    if isinstance(counts, list) and all(type(c) is int and 0 <= c < 2**31 for c in counts):
        counts = coco_mask.frPyObjects({"size": extent, "counts": counts}, *extent)["counts"]
    elif isinstance(counts, str) and counts.isascii():
        counts = counts.encode()
    else:
        return NO_OUTLINE
    return Shape(UNKNOWN, run_length=RunLength(counts, (0, 0, extent[1], extent[0])))
