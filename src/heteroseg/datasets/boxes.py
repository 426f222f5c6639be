"""Boxes and shapes from files: rows as they stand there, their faults, and how they come to the items."""

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

from heteroseg.datasets.paths import tell
from heteroseg.datasets.sample import Item, RunLength, Shape
from heteroseg.errors import HeterosegError
from heteroseg.files import read_text

SLACK = 1.0  # pixels by which a box may stand over the edge of its image (rounding); it is clipped when read
PART = 1e-3  # the same where coordinates are parts of the image
FAR = 1e6  # no image is that large
MOST = 50  # faults told of one file
COLUMNS = ("image", "x1", "y1", "x2", "y2", "class_id")

Outline = tuple[tuple[np.ndarray, ...], RunLength | None]  # polygons, each (N, 2) float64, and a run-length code
NO_OUTLINE: Outline = ((), None)


class Row(NamedTuple):
    """One box or shape as a file has it. `corners` are x1, y1, x2, y2 (exclusive), NaN where the file has no number.

    A row with an `outline` is painted and is no box; where the file has no proper outline it is NO_OUTLINE.
    """

    where: str
    image: str
    corners: tuple[float, ...]
    label: int | None
    raw: str
    size: tuple[float, float] | None = None  # width and height of the image, where the file tells; (1, 1): parts of it
    outline: Outline | None = None


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


def outside(corners: Iterable[float], width: float, height: float, slack: float = SLACK) -> bool:
    """Whether a box has nothing in the image, or stands out of it by more than `slack`."""
    x1, y1, x2, y2 = corners
    over = min(x1, y1) < -slack or x2 > width + slack or y2 > height + slack
    return over or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0


def _fault(row: Row) -> str | None:
    if row.outline == NO_OUTLINE:
        return f"expected a polygon of three corners or more, or a run-length code, found {row.raw}"
    if row.outline is None and (fault := _box_fault(row)):
        return fault
    return f"expected a whole, non-negative class id, found {row.raw}" if row.label is None else None


def _box_fault(row: Row) -> str | None:
    if not all(math.isfinite(v) for v in row.corners):
        return f"expected a box of four finite numbers, found {row.raw}"
    x1, y1, x2, y2 = row.corners
    if x2 <= x1 or y2 <= y1:
        return f"expected a box with an area, found {row.raw}"
    if outside(row.corners, *(row.size or (FAR, FAR)), PART if row.size == (1, 1) else SLACK):
        size = f" of {row.size[0]:g}x{row.size[1]:g}" if row.size else ""
        return f"expected a box inside the image{size}, found {row.raw}"
    return None


def attach(
    items: list[Item], rows: list[Row], resolve: Callable[[str], str | None], painted: bool | None = None
) -> list[Item]:
    """Items with their boxes. `resolve` gives the item's name for a row's image, None where it is another split's.

    `painted`: shapes become the items' masks (True), there are none and the items lose their masks (False), or masks
    are left alone (None). `resolve` raises LookupError for an image that nobody knows. All faults are told in one
    HeterosegError.
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
    tell(faults, MOST)
    return [_with(item, mine[item.name], painted) for item in items]


def _with(item: Item, rows: list[Row], painted: bool | None) -> Item:
    boxed = [row for row in rows if row.outline is None]
    boxes = np.array([row.corners for row in boxed], np.float32).reshape(-1, 4)
    item = replace(item, boxes=boxes, box_ids=np.array([row.label for row in boxed], np.int64))
    if painted:
        return replace(
            item, shapes=tuple(Shape(row.label or 0, *row.outline) for row in rows if row.outline is not None)
        )
    return replace(item, mask=None) if painted is False else item


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


def read_json(path: Path) -> Any:
    """What a json file holds; broken syntax raises HeterosegError with the line."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise HeterosegError(f"{path}:{error.lineno}: not valid JSON, {error.msg}; export it again") from None


def lists_of(path: Path, data: Any, *keys: str) -> list[list[dict]]:
    """The lists of objects under `keys` of a json object; anything else raises HeterosegError."""
    for key in keys:
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise HeterosegError(f"{path}: expected a list of objects under {key!r}, found none; take another file")
    return [data[key] for key in keys]


def by_id(path: Path, key: str, entries: list[dict]) -> dict[str, dict]:
    """Objects by their `id` as text; one that stands twice raises HeterosegError."""
    found: dict[str, dict] = {}
    for i, entry in enumerate(entries):
        if found.setdefault(str(entry.get("id")), entry) is not entry:
            raise HeterosegError(f"{path}: {key}[{i}]: expected an id of its own, found {entry.get('id')!r} again")
    return found
