"""Mapillary Traffic Sign Dataset: splits/SPLIT.txt, images/KEY.jpg (or images/SPLIT/KEY.jpg), annotations/KEY.json.

An annotation holds `width`, `height` and `objects` with `label` (as regulatory--stop--g1) and `bbox` in pixels (xmin,
ymin, xmax, ymax). In a panorama a sign may lie on both sides of the border; it then has a box on each, in
`cross_boundary`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from heteroseg.datasets.boxes import NO_BOX, Row, attach
from heteroseg.datasets.class_names import ClassNames
from heteroseg.datasets.paths import items_of, listed_names, with_masks
from heteroseg.datasets.records import lists_of, number
from heteroseg.datasets.sample import Item, Listing
from heteroseg.files import read_json

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def mtsd(root: Path, split: str, classes: str | None = None, others: str | None = None) -> Listing:
    """Items named KEY with boxes, without masks.

    Ids are the positions, from 0, in `classes`, a text file with a label a line; `others` is the id of all other labels
    (one of the two is needed).
    """
    names = ClassNames(root, classes, others)
    keys = listed_names(root / "splits" / f"{split}.txt")
    pattern = "images/{split}/{name}.*" if (root / "images" / split).is_dir() else "images/{name}.*"
    items: list[Item] = items_of(root, split, pattern, names=keys)
    files = {item.name: root / "annotations" / f"{item.name}.json" for item in items}
    with_masks(items, lambda item: files[item.name], "annotation")  # tells which are missing
    items = [replace(item, box_file=files[item.name]) for item in items]
    return names.told(attach(items, [row for name, path in files.items() for row in _rows(name, path, names)]))


def _rows(image: str, path: Path, names: ClassNames) -> Iterator[Row]:
    data = read_json(path)
    (objects,) = lists_of(path, data, "objects")
    size = (number(data.get("width")), number(data.get("height")))
    for i, entry in enumerate(objects):
        box = entry.get("bbox")
        halves = box.get("cross_boundary") if isinstance(box, dict) else None
        for part in halves.values() if isinstance(halves, dict) else (box,):
            corners = tuple(number(part.get(c)) for c in CORNERS) if isinstance(part, dict) else NO_BOX
            row = Row(f"{path}: objects[{i}]", image, corners, None, f"bbox {part}", size)
            yield names.labelled(row, entry.get("label"))
