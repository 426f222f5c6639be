"""Open Images, boxes: SPLIT/IMAGEID.jpg, SPLIT-annotations-bbox.csv and class-descriptions-boxable.csv.

The table of boxes has ImageID, LabelName (a code as /m/0k4j) and XMin, XMax, YMin, YMax in parts of the image; the
other one has a code and a name a line. A table of image-level labels (ImageID, LabelName, Confidence) may stand
beside them. Only images that are there are read, so a part of the dataset is a dataset.
"""

import csv
from dataclasses import replace
from pathlib import Path

from heteroseg.datasets.boxes import Row, attach, number
from heteroseg.datasets.class_names import Classes
from heteroseg.datasets.paths import absent, check_pattern, fill, find_files, tell
from heteroseg.datasets.sample import Item
from heteroseg.datasets.tags import tagged
from heteroseg.errors import HeterosegError
from heteroseg.files import read_text

COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
BOXES, NAMES = "{split}-annotations-bbox.csv", "class-descriptions-boxable.csv"


def open_images(
    root: Path | str,
    split: str,
    images: str = "{split}/{name}.*",
    boxes: str = BOXES,
    names: str = NAMES,
    classes: str | None = None,
    others: str | None = None,
    tags: str | None = None,
) -> list[Item]:
    """Items named IMAGEID with boxes, without masks; with `tags`, the table of image-level labels, its labels of
    confidence above 0 whose classes are known.

    Ids are the positions, from 0, in the lines of `names`, or in `classes`, a text file with a class name a line;
    `others` is the id of all other classes. Missing files, bad boxes and unknown classes raise HeterosegError.
    """
    root = Path(root)
    check_pattern(images, "images")
    check_pattern(boxes, "boxes", ("split",))
    described = _described(root / names)
    known = Classes.of(root, classes, others, described.values())
    files = find_files(root, images, split)
    path = root / fill(boxes, split)
    if not path.is_file():
        absent(path, "table of boxes", "download it, or set `boxes` to its name")
    items = [Item(name, file, size=(1, 1)) for name, file in files.items()]
    items = attach(items, _rows(path, files, described, known), lambda name: name)
    if tags is None:
        return items
    check_pattern(tags, "tags", ("split",))
    if not (root / fill(tags, split)).is_file():
        absent(root / fill(tags, split), "table of image-level labels", "download it, or leave `tags` out")
    return [
        replace(item, tags=item.tags[item.tags >= 0])
        for item in tagged(
            items, root / fill(tags, split), ("ImageID", "LabelName"), lambda name: name,
            lambda code: _known(known, described.get(code, code)), "Confidence",
        )
    ]  # fmt: skip


def _known(known: Classes, name: str) -> int:
    """The id of a class, -1 for the many image-level labels that have no boxes and no place in the list."""
    number = known.find(name)
    return -1 if number is None else number


def _described(path: Path) -> dict[str, str]:
    """Class names by code, in the order of the file; it may have a header (LabelName, DisplayName)."""
    if not path.is_file():
        absent(path, "list of class names", "download it, or set `names` to its name")
    rows = [row for row in csv.reader(read_text(path).splitlines()) if row]
    if bad := [row for row in rows if len(row) != 2]:
        raise HeterosegError(f"{path}: expected a code and a name in each line, found {','.join(bad[0])!r}; restore it")
    return dict(row for row in rows if row[0] != "LabelName")


def _rows(path: Path, files: dict[str, Path], described: dict[str, str], known: Classes) -> list[Row]:
    """The boxes of the images in `files`; the table may have millions of lines of others."""
    rows, faults = [], []
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        if missing := [c for c in COLUMNS if c not in header]:
            raise HeterosegError(f"{path}:1: expected the columns {', '.join(COLUMNS)}, found no {missing[0]}")
        image, label, *corners = (header.index(c) for c in COLUMNS)
        for record in reader:
            where = f"{path}:{reader.line_num}"
            if len(record) != len(header):
                faults.append(f"{where}: expected {len(header)} fields, found {len(record)}; download the file again")
            elif record[image] in files:
                x1, x2, y1, y2 = (number(record[c]) for c in corners)
                name = described.get(record[label], record[label])
                raw = f"{record[label]} ({name}), {x1:g},{y1:g},{x2:g},{y2:g}"
                if known.find(name) is None:
                    faults.append(f"{where}: {known.unknown(name)}")
                else:
                    rows.append(Row(where, record[image], (x1, y1, x2, y2), known.find(name), raw, (1, 1)))
    tell(faults, 20)
    return rows
