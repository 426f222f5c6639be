"""Boxes and outlines from files: rows as they stand there, their faults, and how they come to the items."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from heteroseg.datasets.paths import Found, by_group
from heteroseg.datasets.records import csv_records, integer, number
from heteroseg.datasets.sample import CROWD, UNKNOWN, Item, Listing, Shape
from heteroseg.errors import counted

SLACK = 1.0  # pixels by which a box may stand over the edge of its image (rounding); it is clipped when read
PART = 1e-3  # the same where coordinates are parts of the image
PIXELS = 4  # parts of an image are never so large, nor is a photograph so small
FAR = 1e6  # no image is that large
COLUMNS = ("image", "x1", "y1", "x2", "y2", "class_id")
NO_BOX = (math.nan,) * 4
IN_HUNDREDTH = "all lie in the first hundredth of their images, so they may be parts where percent are meant"
CORRECT = "correct it, or set the option skip_faulty"

NO_OUTLINE = Shape(UNKNOWN)


def outline_of(corners: np.ndarray | None) -> Shape:
    """The outline of one polygon, (N, 2) float64, still without an id; None is no proper one."""
    return NO_OUTLINE if corners is None else Shape(UNKNOWN, (corners,))


def area_of(row: "Row") -> float:
    """The area that a row marks: of its box, or of its polygons added up and of the ones of its run lengths."""
    if row.outline is None:
        x1, y1, x2, y2 = row.corners
        return (x2 - x1) * (y2 - y1)
    rings, code = (ring.T for ring in row.outline.polygons), row.outline.run_length
    area = sum(abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2 for x, y in rings)
    if code is None:
        return area
    width, height = code.window[2:]
    return area + float(coco_mask.area({"size": [height, width], "counts": code.counts}))


class Row(NamedTuple):
    """One box or outline as a file has it. `corners` are x1, y1, x2, y2 (exclusive), NaN where the file has no number.

    A row with an `outline` is painted and is no box; where the file has no proper outline it is NO_OUTLINE. A row with
    a `fault`, `expected ..., found ...`, could not be read. A `crowd` is unknown ground, whatever its label. `size` is
    width and height of the image that the row was made for, where the file tells; `parts`: the coordinates are parts of
    the image.
    """

    where: str
    image: str = ""
    corners: tuple[float, ...] = NO_BOX
    label: int | None = None
    raw: str = ""
    size: tuple[float, float] | None = None
    outline: Shape | None = None
    fault: str | None = None
    parts: bool = False
    crowd: bool = False

    @property
    def extent(self) -> tuple[float, ...]:
        """x1, y1, x2, y2 of what the row marks."""
        return self.corners if self.outline is None else self.outline.extent


def outside(corners: Iterable[float], width: float, height: float, slack: float = SLACK) -> bool:
    """Whether a box has nothing in the image, or stands out of it by more than `slack`."""
    x1, y1, x2, y2 = corners
    over = min(x1, y1) < -slack or x2 > width + slack or y2 > height + slack
    return over or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0


def _fault(row: Row) -> str | None:
    """What is wrong with a row by itself."""
    if row.fault is not None:
        return row.fault
    if row.outline is NO_OUTLINE:
        return f"expected a polygon of three corners or more, or a run-length code of the image's size, found {row.raw}"
    if row.outline is None:
        x1, y1, x2, y2 = row.corners
        if not all(map(math.isfinite, row.corners)):
            return f"expected a box of four finite numbers, found {row.raw}"
        if x2 <= x1 or y2 <= y1:
            return f"expected a box with an area, found {row.raw}"
    kind = "box" if row.outline is None else "shape"
    width, height = (1, 1) if row.parts else row.size or (FAR, FAR)
    if outside(row.extent, width, height, PART if row.parts else SLACK):
        if row.parts and max(row.extent) > PIXELS:
            return f"expected a {kind} in parts of the image, from 0 to 1, found {row.raw}, which looks like pixels"
        size = f" of {row.size[0]:g}x{row.size[1]:g}" if row.size else ""
        return f"expected a {kind} inside the image{size}, found {row.raw}"
    return None if row.label is not None else f"expected a whole, non-negative class id, found {row.raw}"


def _faults_of_image(rows: list[Row]) -> Iterable[tuple[Row, str]]:
    """What is wrong with all sound rows of an image together, and the row that shows it."""
    sizes = {row.size: row for row in rows if row.size is not None}
    if len(sizes) > 1:
        first, second = list(sizes)[:2]
        yield sizes[second], f"expected one size of the image, found {first} and {second}"
    pixels = [row for row in rows if not row.parts]
    if pixels and max(max(row.extent) for row in pixels) <= 1 and max(pixels[0].size or (FAR,)) > PIXELS:
        found = f"{pixels[0].raw}: all are from 0 to 1, parts of the image"
        yield pixels[0], f"expected coordinates in pixels, found {found}"


def attach(
    items: list[Item],
    rows: Iterable[Row],
    resolve: Callable[[str], str | None] | None = None,
    paints: bool = False,
    by_area: bool = False,
) -> Listing:
    """Items with their boxes and shapes. `resolve` gives the item's name for a row's image, None: another split's.

    With `paints` the outlines of an image become its mask, in their order, or with `by_area` the small ones on top; an
    image without any keeps one only where its `background` says what lies there. `resolve` raises LookupError for an
    image that nobody knows; without it rows name their items, or images that are left out. Faulty rows stand in the
    faults of the listing and in no item.
    """
    rows_of: dict[str | None, list[Row]] = {item.name: [] for item in items}
    faults: list[Found] = []
    for row in rows:
        fault, name = _fault(row), None
        try:
            name = row.image if resolve is None else resolve(row.image)
        except LookupError as error:
            fault = fault or str(error.args[0])
        if fault:
            faults.append((row.where, row.image, fault))
            row = _unknown_ground(row)
        if name in rows_of and row.label is not None:
            rows_of[name].append(row)
    bad: set[str | None] = set()  # images of which no annotation is sure
    for image, sound in rows_of.items():
        for row, fault in _faults_of_image(sound):
            faults.append((row.where, str(image), fault))
            bad.add(image)
    parts = [row for sound in rows_of.values() for row in sound if row.parts]
    if parts and max(max(row.extent) for row in parts) <= 0.01:
        told = f"expected coordinates of the whole image, found {parts[0].raw}: {IN_HUNDREDTH}"
        faults.append((parts[0].where, "", told))
        bad = set(rows_of)
    kept = [_with(item, rows_of[item.name], paints, by_area) for item in items if item.name not in bad]
    return Listing(kept, faults=by_group(faults, CORRECT))


def _unknown_ground(row: Row) -> Row:
    """What stays of a faulty row where faults are left out: its box, of which nothing is known, if it has an area."""
    corners = np.array(NO_BOX if row.outline is NO_OUTLINE else row.extent)
    x1, y1, x2, y2 = np.clip(corners, 0, np.tile((1, 1) if row.parts else row.size or (FAR, FAR), 2)).tolist()
    known = math.isfinite(x1 + y1 + x2 + y2) and x1 < x2 and y1 < y2
    return row._replace(corners=(x1, y1, x2, y2), outline=None, crowd=True, label=UNKNOWN if known else None)


def _with(item: Item, rows: list[Row], paints: bool, by_area: bool) -> Item:
    boxed = [row for row in rows if row.outline is None]
    boxes = np.array([row.corners for row in boxed], np.float32).reshape(-1, 4)
    ids = np.array([UNKNOWN if row.crowd else row.label for row in boxed], np.int64)
    size = next((row.size for row in rows if row.size is not None), item.size)
    boxes, ids = np.concatenate([item.boxes, boxes]), np.append(item.box_ids, ids)  # of another file, and these
    item = replace(item, boxes=boxes, box_ids=ids, size=size, parts=item.parts or any(row.parts for row in rows))
    if not paints:
        return item
    rows = sorted(rows, key=area_of, reverse=True) if by_area else rows
    shapes = tuple(_shape(row) for row in sorted(rows, key=lambda row: not row.crowd))  # crowds below
    painted = item.background >= 0 or len(boxed) < len(rows)
    return replace(item, shapes=shapes) if painted else replace(item, mask=None)


def _shape(row: Row) -> Shape:
    """What is painted for a row: a box is unknown ground, whatever else it holds."""
    if row.outline is not None:
        return replace(row.outline, id=CROWD if row.crowd or row.label is None else row.label)
    x1, y1, x2, y2 = row.corners
    return Shape(UNKNOWN, (np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]),))


def without_boxes(items: list[Item], path: Path) -> list[str]:
    """A note of the images that a table of boxes knows nothing of: nobody can tell whether they were annotated."""
    empty = [item.name for item in items if not len(item.boxes)]
    told = f"{path} has no box in {len(empty)} of {counted(len(items), 'image')}, such as"
    return [f"{told} {empty[0]!r}: they count as images without objects"] if empty else []


def csv_rows(path: Path) -> Iterator[Row]:
    """Rows of a CSV with the columns `COLUMNS` (others are left alone); x2 and y2 are exclusive."""
    for where, values in csv_records(path, COLUMNS):
        raw = f"{','.join(map(str, values))} as {','.join(COLUMNS)}"
        yield Row(where, values[0] or "", tuple(map(number, values[1:5])), integer(values[5]), raw)
