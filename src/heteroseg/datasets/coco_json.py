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
    if not outlines:
        return [_coco_row(path, i, note, known) for i, note in enumerate(notes)]
    order = sorted(enumerate(notes), key=lambda pair: -number(pair[1].get("area", 0)))
    return [_with_outline(_coco_row(path, i, note, known), note) for i, note in order]


def _with_outline(row: Row, note: dict) -> Row:
    raw = f"segmentation {note.get('segmentation')!r:.60}, category_id {note.get('category_id')!r}"
    return row._replace(raw=raw, outline=coco_outline(note.get("segmentation"), row.size) or NO_OUTLINE)


def _coco_row(path: Path, index: int, note: dict, images: dict[str, dict]) -> Row:
    box = note.get("bbox")
    x, y, width, height = map(number, box) if isinstance(box, list) and len(box) == 4 else NO_BOX
    image = images.get(str(note.get("image_id")), {})
    name = image.get("file_name", f"(image_id {note.get('image_id')!r})")
    size = (number(image.get("width")), number(image.get("height")))
    known = size if all(math.isfinite(s) for s in size) else None
    raw = f"bbox {box}, category_id {note.get('category_id')!r}"
    corners = (x, y, x + width, y + height)
    return Row(f"{path}: annotations[{index}]", str(name), corners, integer(note.get("category_id")), raw, known)


def coco_outline(value: Any, size: tuple[float, float] | None) -> Outline | None:
    """A COCO `segmentation`: polygons, or an object with size (height, width) and counts; None for anything else."""
    if isinstance(value, list):
        rings = [polygon(ring) for ring in value]
        return (tuple(r for r in rings if r is not None), None) if rings and all(r is not None for r in rings) else None
    if not isinstance(value, dict):
        return None
    extent, counts = value.get("size"), value.get("counts")
    if not (isinstance(extent, list) and len(extent) == 2 and all(type(v) is int and v > 0 for v in extent)):
        return None
    if size is not None and (extent[1], extent[0]) != size:
        return None
    if isinstance(counts, list) and all(type(c) is int and 0 <= c < 2**31 for c in counts):
        counts = coco_mask.frPyObjects({"size": extent, "counts": counts}, *extent)["counts"]
    elif isinstance(counts, str) and counts.isascii():
        counts = counts.encode()
    else:
        return None
    return (), RunLength(counts, (0, 0, extent[1], extent[0]))
