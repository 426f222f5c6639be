"""Boxes and outlines from files: rows as they stand there, their faults, and how they come to the items."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from heteroseg.datasets.paths import raise_faults
from heteroseg.datasets.records import csv_records, integer, number
from heteroseg.datasets.sample import UNIT, Item, RunLength, Shape

SLACK = 1.0  # pixels by which a box may stand over the edge of its image (rounding); it is clipped when read
PART = 1e-3  # the same where coordinates are parts of the image
FAR = 1e6  # no image is that large
MOST = 50  # faults told of one file
COLUMNS = ("image", "x1", "y1", "x2", "y2", "class_id")
NO_BOX = (math.nan,) * 4

Outline = tuple[tuple[np.ndarray, ...], RunLength | None]  # polygons, each (N, 2) float64, and a run-length code
NO_OUTLINE: Outline = ((), None)


def outline_of(corners: np.ndarray | None) -> Outline:
    """The outline of one polygon, (N, 2) float64; None is no proper one."""
    return NO_OUTLINE if corners is None else ((corners,), None)


class Row(NamedTuple):
    """One box or outline as a file has it. `corners` are x1, y1, x2, y2 (exclusive), NaN where the file has no number.

    A row with an `outline` is painted and is no box; where the file has no proper outline it is NO_OUTLINE. A row with
    a `fault` could not be read.
    """

    where: str
    image: str = ""
    corners: tuple[float, ...] = NO_BOX
    label: int | None = None
    raw: str = ""
    size: tuple[float, float] | None = None  # width and height of the image, where the file tells; (1, 1): parts of it
    outline: Outline | None = None
    fault: str | None = None


def outside(corners: Iterable[float], width: float, height: float, slack: float = SLACK) -> bool:
    """Whether a box has nothing in the image, or stands out of it by more than `slack`."""
    x1, y1, x2, y2 = corners
    over = min(x1, y1) < -slack or x2 > width + slack or y2 > height + slack
    return over or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0


def _fault(row: Row) -> str | None:
    if row.outline == NO_OUTLINE:
        return f"expected a polygon of three corners or more, or a run-length code, found {row.raw}"
    if row.outline is None:
        x1, y1, x2, y2 = row.corners
        if not all(map(math.isfinite, row.corners)):
            return f"expected a box of four finite numbers, found {row.raw}"
        if x2 <= x1 or y2 <= y1:
            return f"expected a box with an area, found {row.raw}"
        if outside(row.corners, *(row.size or (FAR, FAR)), PART if row.size == UNIT else SLACK):
            size = f" of {row.size[0]:g}x{row.size[1]:g}" if row.size else ""
            return f"expected a box inside the image{size}, found {row.raw}"
    return f"expected a whole, non-negative class id, found {row.raw}" if row.label is None else None


def attach(
    items: list[Item], rows: list[Row], resolve: Callable[[str], str | None] | None = None, painted: bool | None = None
) -> list[Item]:
    """Items with their boxes. `resolve` gives the item's name for a row's image, None where it is another split's.

    `painted`: outlines become the items' masks (True), there are none and the items lose their masks (False), or masks
    are left alone (None). `resolve` raises LookupError for an image that nobody knows; without it rows name their
    items, or images that are left out. All faults are told in one HeterosegError.
    """
    rows_of: dict[str | None, list[Row]] = {item.name: [] for item in items}
    faults = []
    for row in rows:
        if row.fault is not None:
            faults.append(f"{row.where}: {row.fault}")
            continue
        fault, name = _fault(row), None
        try:
            name = row.image if resolve is None else resolve(row.image)
        except LookupError as error:
            fault = fault or str(error.args[0])
        if fault:
            faults.append(f"{row.where}: {fault}; correct or remove it")
        elif name in rows_of:
            rows_of[name].append(row)
    raise_faults(faults, MOST)
    return [_with(item, rows_of[item.name], painted) for item in items]


def _with(item: Item, rows: list[Row], painted: bool | None) -> Item:
    boxed = [row for row in rows if row.outline is None]
    boxes = np.array([row.corners for row in boxed], np.float32).reshape(-1, 4)
    item = replace(item, boxes=boxes, box_ids=np.array([row.label for row in boxed], np.int64))
    if painted:
        shapes = tuple(Shape(row.label or 0, *row.outline) for row in rows if row.outline is not None)
        return replace(item, shapes=shapes)
    return replace(item, mask=None) if painted is False else item


def csv_rows(path: Path) -> list[Row]:
    """Rows of a CSV with the columns `COLUMNS` (others are left alone); x2 and y2 are exclusive."""
    return [
        Row(where, values[0] or "", tuple(map(number, values[1:5])), integer(values[5]), ",".join(map(str, values)))
        for where, values in csv_records(path, COLUMNS)
    ]
