"""YOLO: a text file of boxes or outlines for each image, in parts of its width and height.

Ultralytics' layout is images/SPLIT/NAME.jpg and labels/SPLIT/NAME.txt; exports of others have SPLIT/images and
SPLIT/labels (set the patterns). A line is `class cx cy width height`, a box, or `class x y x y x y ...`, an outline
that is painted to a mask. The class is the id. An image without a text file holds no object.
"""

from itertools import chain
from pathlib import Path

import numpy as np

from heteroseg.datasets.boxes import NO_BOX, Row, attach, outline_of
from heteroseg.datasets.class_names import parse_id
from heteroseg.datasets.paths import check_pattern, expand, find_files, require_folder
from heteroseg.datasets.records import integer, number
from heteroseg.datasets.sample import UNIT, Item
from heteroseg.datasets.shapes import polygon
from heteroseg.errors import HeterosegError
from heteroseg.files import read_text


def yolo(
    root: Path | str,
    split: str,
    images: str = "images/{split}/{name}.*",
    labels: str = "labels/{split}/{name}.txt",
    background: str | None = None,
) -> list[Item]:
    """Items by name with boxes, and masks where there are outlines: the small ones on top, `background` elsewhere.

    `background` is an id (default: unknown). Bad lines, all of them at once, and folders that are missing or without
    any text file for the images raise HeterosegError.
    """
    root = Path(root)
    for pattern, what in ((images, "images"), (labels, "labels")):
        check_pattern(pattern, what)
    files = find_files(root, images, split)
    require_folder(root / expand(labels, split).split("{name}")[0].rpartition("/")[0])
    texts = {name: root / expand(labels, split, name) for name in files}
    if files and not any(path.is_file() for path in texts.values()):
        first = next(iter(texts.values()))
        raise HeterosegError(f"{first}: expected label files for the images, found none; check the pattern `labels`")
    rows = list(chain.from_iterable(_rows(path, name) for name, path in texts.items() if path.is_file()))
    ground = parse_id(background, "background", -1)
    items = [Item(name, path, texts[name], size=UNIT, background=ground) for name, path in files.items()]
    return attach(items, rows, painted=any(row.outline is not None for row in rows))


def _rows(path: Path, name: str) -> list[Row]:
    """The boxes of a file and its outlines, the largest first."""
    boxes, outlines = [], []
    for n, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        row = Row(f"{path}:{n}", name, NO_BOX, integer(words[0]), repr(line[:60]), UNIT)
        values = [number(word) for word in words[1:]]
        if len(values) < 5:
            x, y, width, height = values if len(values) == 4 else NO_BOX
            boxes.append(row._replace(corners=(x - width / 2, y - height / 2, x + width / 2, y + height / 2)))
        else:
            corners = polygon(values)
            outlines.append((_area(corners), row._replace(outline=outline_of(corners))))
    return boxes + [row for _, row in sorted(outlines, key=lambda pair: -pair[0])]


def _area(corners: np.ndarray | None) -> float:
    if corners is None:
        return 0.0
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
