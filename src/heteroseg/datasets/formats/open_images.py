"""Open Images, boxes: SPLIT/IMAGEID.jpg, SPLIT-annotations-bbox.csv and class-descriptions-boxable.csv.

The table of boxes has ImageID, LabelName (a code as /m/0k4j) and XMin, XMax, YMin, YMax in parts of the image; the
other one has a code and a name a line. A table of image-level labels (ImageID, LabelName, Confidence) may stand
beside them. Only images that are there are read, so a part of the dataset is a dataset.
"""

from collections.abc import Iterator
from pathlib import Path

from heteroseg.datasets.boxes import Row, attach, without_boxes
from heteroseg.datasets.class_names import ClassNames
from heteroseg.datasets.paths import items_of, require_file, split_file
from heteroseg.datasets.records import csv_lines, csv_records, number
from heteroseg.datasets.sample import Listing
from heteroseg.datasets.tags import with_tags
from heteroseg.errors import HeterosegError

COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")


def open_images(
    root: Path,
    split: str,
    images: str = "{split}/{name}.*",
    boxes: str = "{split}-annotations-bbox.csv",
    names: str = "class-descriptions-boxable.csv",
    classes: str | None = None,
    others: str | None = None,
    tags: str | None = None,
) -> Listing:
    """Items named IMAGEID with boxes, without masks; with `tags`, the table of image-level labels, its labels of
    confidence above 0 whose classes are known.

    Ids are the positions, from 0, in the lines of `names`, or in `classes`, a text file with a class name a line;
    `others` is the id of all other classes.
    """
    described = _described(root / names)
    ids = ClassNames(root, classes, others, described.values())
    path = split_file(root, split, boxes, "boxes", "table of boxes", "download it, or set `boxes` to its name")
    listing = items_of(root, split, images, box_file=path)
    listing = listing.then(attach(listing, _rows(path, {item.name for item in listing}, described, ids)))
    listing.notes += without_boxes(listing, path)
    if tags is None:
        return ids.told(listing)
    path = split_file(root, split, tags, "tags", "table of image-level labels", "download it, or leave it out")

    def id_of(code: str) -> int:
        number = ids.find(described.get(code, code))
        return -1 if number is None else number  # many image-level labels have no boxes and no place in the list

    columns, present = ("ImageID", "LabelName"), ("Confidence",)
    return ids.told(listing.then(with_tags(listing, path, columns, lambda name: name, id_of, present)))


def _described(path: Path) -> dict[str, str]:
    """Class names by code, in the order of the file; it may have a header (LabelName, DisplayName)."""
    require_file(path, "list of class names", "download it, or set `names` to its name")
    rows = [row for _, row in csv_lines(path)]
    if bad := [row for row in rows if len(row) != 2]:
        raise HeterosegError(f"{path}: expected a code and a name in each line, found {','.join(bad[0])!r}; restore it")
    return dict(row for row in rows if row[0] != "LabelName")


def _rows(path: Path, images: set[str], described: dict[str, str], ids: ClassNames) -> Iterator[Row]:
    """The boxes of the images; the table may have millions of lines of others."""
    for where, values in csv_records(path, COLUMNS):
        image, code, *corners = (value or "" for value in values)
        if None in values:
            fault = f"expected the fields {', '.join(COLUMNS)}, found fewer; download the file again"
            yield Row(where, image, fault=fault)
        elif image in images:
            x1, x2, y1, y2 = map(number, corners)
            name = described.get(code, code)
            raw = f"{code} ({name}), {x1:g},{y1:g},{x2:g},{y2:g}"
            yield ids.labelled(Row(where, image, (x1, y1, x2, y2), None, raw, parts=True), name)
