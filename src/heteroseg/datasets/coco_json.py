"""Boxes and outlines from a COCO json of instances."""

import math
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from heteroseg.datasets.boxes import NO_BOX, NO_OUTLINE, Outline, Row
from heteroseg.datasets.records import by_id, integer, lists_of, number, read_json
from heteroseg.datasets.sample import RunLength
from heteroseg.datasets.shapes import polygon


def coco_rows(path: Path, outlines: bool = False) -> list[Row]:
    """Rows of a COCO json: images (id, file_name, width, height) and annotations (image_id, category_id and bbox xywh).

    With `outlines` the annotations' `segmentation` is taken instead of the bbox, the largest `area` first, so that
    small things lie on top.
    """
    images, notes = lists_of(path, read_json(path), "images", "annotations")
    known = by_id(path, "images", images)
    places = list(enumerate(notes))
    if outlines:
        places.sort(key=lambda place: -number(place[1].get("area", 0)))
    return [_row(f"{path}: annotations[{i}]", note, known, outlines) for i, note in places]


def _row(where: str, note: dict, images: dict[str, dict], outlined: bool) -> Row:
    box, segmentation, category = (note.get(key) for key in ("bbox", "segmentation", "category_id"))
    image = images.get(str(note.get("image_id")), {})
    name = str(image.get("file_name", f"(image_id {note.get('image_id')!r})"))
    width, height = number(image.get("width")), number(image.get("height"))
    size = (width, height) if math.isfinite(width + height) else None
    if outlined:
        raw, outline = f"segmentation {segmentation!r:.60}, category_id {category!r}", coco_outline(segmentation, size)
        return Row(where, name, NO_BOX, integer(category), raw, size, outline)
    x, y, width, height = map(number, box) if isinstance(box, list) and len(box) == 4 else NO_BOX
    corners = (x, y, x + width, y + height)
    return Row(where, name, corners, integer(category), f"bbox {box}, category_id {category!r}", size)


def coco_outline(value: Any, size: tuple[float, float] | None) -> Outline:
    """A COCO `segmentation`: polygons, or an object with size (height, width) and counts; NO_OUTLINE for others."""
    if isinstance(value, list):
        rings = tuple(ring for ring in map(polygon, value) if ring is not None)
        return (rings, None) if len(rings) == len(value) else NO_OUTLINE
    extent, counts = (value.get("size"), value.get("counts")) if isinstance(value, dict) else (None, None)
    if not (isinstance(extent, list) and len(extent) == 2 and all(type(v) is int and v > 0 for v in extent)):
        return NO_OUTLINE
    if size is not None and (extent[1], extent[0]) != size:
        return NO_OUTLINE
    if isinstance(counts, list) and all(type(c) is int and 0 <= c < 2**31 for c in counts):
        counts = coco_mask.frPyObjects({"size": extent, "counts": counts}, *extent)["counts"]
    elif isinstance(counts, str) and counts.isascii():
        counts = counts.encode()
    else:
        return NO_OUTLINE
    return (), RunLength(counts, (0, 0, extent[1], extent[0]))
