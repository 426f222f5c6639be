"""Box files: rows as they stand in a file, what may be wrong with them, and how they come to the items."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heteroseg.datasets.listing import tell
from heteroseg.errors import HeterosegError
from heteroseg.files import read_text
from heteroseg.structures import Item

SLACK = 1.0  # pixels by which a box may stand over the edge of its image (rounding); it is clipped when read
FAR = 1e6  # no image is that large
COLUMNS = ("image", "x1", "y1", "x2", "y2", "class_id")


class Row(NamedTuple):
    """One box as a file has it. `corners` are x1, y1, x2, y2 (exclusive), NaN where the file has no number."""

    where: str
    image: str
    corners: tuple[float, ...]
    label: int | None
    raw: str
    size: tuple[float, float] | None = None  # width and height of the image, where the file tells


def number(value: Any) -> float:
    """`value` as a float, NaN where it is none."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def integer(value: Any) -> int | None:
    """An id from 0 to 2**31 - 1 from an int or its digits; None for anything else (3.0 and True are none)."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,10}\s*", value):
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**31 else None


def outside(corners: Iterable[float], width: float, height: float) -> bool:
    """Whether a box has nothing in the image, or stands out of it by more than SLACK."""
    x1, y1, x2, y2 = corners
    over = min(x1, y1) < -SLACK or x2 > width + SLACK or y2 > height + SLACK
    return over or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0


def _fault(row: Row) -> str | None:
    if not all(math.isfinite(v) for v in row.corners):
        return f"expected a box of four finite numbers, found {row.raw}"
    x1, y1, x2, y2 = row.corners
    if x2 <= x1 or y2 <= y1:
        return f"expected a box with an area, found {row.raw}"
    if outside(row.corners, *(row.size or (FAR, FAR))):
        size = f" of {row.size[0]:g}x{row.size[1]:g}" if row.size else ""
        return f"expected a box inside the image{size}, found {row.raw}"
    return f"expected a whole, non-negative class id, found {row.raw}" if row.label is None else None


def attach(items: list[Item], rows: list[Row], resolve: Callable[[str], str | None]) -> list[Item]:
    """Items with their boxes. `resolve` gives the item's name for a row's image, None where it is another split's.

    `resolve` raises LookupError for an image that nobody knows. All faults are told in one HeterosegError.
    """
    mine: dict[str, list[Row]] = {item.name: [] for item in items}
    faults = []
    for row in rows:
        fault = _fault(row)
        try:
            name = resolve(row.image)
        except LookupError as error:
            fault = fault or str(error.args[0])
        if fault:
            faults.append(f"{row.where}: {fault}; correct or remove it")
        elif name is not None:
            mine[name].append(row)
    tell(faults)
    return [_with(item, mine[item.name]) for item in items]


def _with(item: Item, rows: list[Row]) -> Item:
    boxes = np.array([row.corners for row in rows], np.float32).reshape(-1, 4)
    return replace(item, boxes=boxes, box_ids=np.array([row.label for row in rows], np.int64))


def csv_rows(path: Path) -> list[Row]:
    """Rows of a CSV with the columns `COLUMNS` (others are left alone); x2 and y2 are exclusive."""
    reader = csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff")), skipinitialspace=True)
    missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
    if missing:
        found = ",".join(reader.fieldnames or ()) or "an empty file"
        raise HeterosegError(f"{path}:1: expected the header {','.join(COLUMNS)}, found {found}; write the header")
    rows = []
    for record in reader:
        corners = tuple(number(record[c]) for c in COLUMNS[1:5])
        raw = ",".join(str(record[c]) for c in COLUMNS)
        rows.append(Row(f"{path}:{reader.line_num}", record["image"], corners, integer(record["class_id"]), raw))
    return rows


def coco_rows(path: Path) -> list[Row]:
    """Rows of a COCO json: images (id, file_name, width, height) and annotations (image_id, bbox xywh, category_id)."""
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise HeterosegError(f"{path}:{error.lineno}: not valid JSON, {error.msg}") from None
    for key in ("images", "annotations"):
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise HeterosegError(f"{path}: expected a list of objects under {key!r}, as COCO has it, found none")
    images: dict[str, dict] = {}
    for i, image in enumerate(data["images"]):
        if images.setdefault(str(image.get("id")), image) is not image:
            raise HeterosegError(f"{path}: images[{i}]: expected an id of its own, found {image.get('id')!r} again")
    return [_coco_row(path, i, note, images) for i, note in enumerate(data["annotations"])]


def _coco_row(path: Path, index: int, note: dict, images: dict[str, dict]) -> Row:
    box = note.get("bbox")
    x, y, width, height = map(number, box) if isinstance(box, list) and len(box) == 4 else (math.nan,) * 4
    image = images.get(str(note.get("image_id")), {})
    name = image.get("file_name", f"(image_id {note.get('image_id')!r})")
    size = (number(image.get("width")), number(image.get("height")))
    known = size if all(math.isfinite(s) for s in size) else None
    raw = f"bbox {box}, category_id {note.get('category_id')!r}"
    corners = (x, y, x + width, y + height)
    return Row(f"{path}: annotations[{index}]", str(name), corners, integer(note.get("category_id")), raw, known)
