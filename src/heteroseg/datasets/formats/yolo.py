"""YOLO: a text file of boxes or outlines for each image, in parts of its width and height.

Ultralytics' layout is images/SPLIT/NAME.jpg and labels/SPLIT/NAME.txt; exports of others have SPLIT/images and
SPLIT/labels (set the patterns). A line is `class cx cy width height`, a box, or `class x y x y x y ...`, an outline
that is painted to a mask. The class is the id. An image without a text file holds no object.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from heteroseg.datasets.boxes import NO_BOX, Row, attach, outline_of
from heteroseg.datasets.class_names import parse_id
from heteroseg.datasets.paths import check_pattern, expand, items_of, lines_of, require_folder
from heteroseg.datasets.records import integer, number
from heteroseg.datasets.sample import UNIT, Item
from heteroseg.datasets.shapes import polygon
from heteroseg.errors import HeterosegError


def yolo(
    root: Path,
    split: str,
    images: str = "images/{split}/{name}.*",
    labels: str = "labels/{split}/{name}.txt",
    background: str | None = None,
) -> list[Item]:
    """Items by name with boxes, and masks where there are outlines: the small ones on top, `background` elsewhere.

    `background` is an id (default: unknown). Bad lines, all of them at once, and folders that are missing or without
    any text file for the images raise HeterosegError.
    """
    check_pattern(labels, "labels")
    items = items_of(root, split, images, size=UNIT, background=parse_id(background, "background"))
    require_folder(root / expand(labels, split).split("{name}")[0].rpartition("/")[0])
    texts = {item.name: root / expand(labels, split, item.name) for item in items}
    if items and not any(path.is_file() for path in texts.values()):
        first = texts[items[0].name]
        raise HeterosegError(f"{first}: expected label files for the images, found none; check the pattern `labels`")
    rows = [row for name, path in texts.items() if path.is_file() for row in _rows(path, name)]
    items = [replace(item, mask=texts[item.name]) for item in items]
    return attach(items, rows, painted=any(row.outline is not None for row in rows))


def _rows(path: Path, name: str) -> list[Row]:
    """The boxes of a file and its outlines, the largest first."""
    boxes, outlines = [], []
    for where, line in lines_of(path):
        first, *others = line.split()
        row = Row(where, name, NO_BOX, integer(first), repr(line[:60]), UNIT)
        values = [number(word) for word in others]
        if len(values) < 5:
            x, y, width, height = values if len(values) == 4 else NO_BOX
            boxes.append(row._replace(corners=(x - width / 2, y - height / 2, x + width / 2, y + height / 2)))
        else:
            corners = polygon(values)
            x, y = (0.0, 0.0) if corners is None else corners.T
            doubled_area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
            outlines.append((doubled_area, row._replace(outline=outline_of(corners))))
    return boxes + [row for _, row in sorted(outlines, key=lambda pair: -pair[0])]
