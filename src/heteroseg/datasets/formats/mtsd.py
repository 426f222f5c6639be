"""Mapillary Traffic Sign Dataset: splits/SPLIT.txt, images/KEY.jpg (or images/SPLIT/KEY.jpg), annotations/KEY.json.

An annotation holds `width`, `height` and `objects` with `label` (as regulatory--stop--g1) and `bbox` in pixels (xmin,
ymin, xmax, ymax). In a panorama a sign may lie on both sides of the border; it then has a box on each, in
`cross_boundary`.
"""

from pathlib import Path

from heteroseg.datasets.boxes import Row, attach, lists_of, number, read_json
from heteroseg.datasets.class_names import Classes
from heteroseg.datasets.paths import beside, chosen, find_files, listed_names, tell
from heteroseg.datasets.sample import Item

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def mtsd(root: Path | str, split: str, classes: str | None = None, others: str | None = None) -> list[Item]:
    """Items named KEY with boxes, without masks.

    Ids are the positions, from 0, in `classes`, a text file with a label a line; `others` is the id of all other labels
    (one of the two is needed). Missing files, bad boxes and unknown labels raise HeterosegError.
    """
    root = Path(root)
    known = Classes.of(root, classes, others)
    keys = listed_names(root / "splits" / f"{split}.txt")
    pattern = "images/{split}/{name}.*" if (root / "images" / split).is_dir() else "images/{name}.*"
    files = chosen(keys, find_files(root, pattern, split), "image", str(root / pattern.replace("{split}", split)))
    items = [Item(key, path) for key, path in files.items()]
    rows: list[Row] = []
    faults: list[str] = []
    for item in beside(items, lambda item: root / "annotations" / f"{item.name}.json", "annotation"):
        assert item.mask is not None
        rows += _rows(item.mask, item.name, known, faults)
    tell(faults)
    return attach(items, rows, lambda name: name)


def _rows(path: Path, key: str, known: Classes, faults: list[str]) -> list[Row]:
    data = read_json(path)
    (objects,) = lists_of(path, data, "objects")
    size = (number(data.get("width")), number(data.get("height")))
    rows = []
    for i, entry in enumerate(objects):
        where, label, box = f"{path}: objects[{i}]", str(entry.get("label")), entry.get("bbox")
        if known.find(label) is None:
            faults.append(f"{where}: {known.unknown(label)}")
            continue
        box = box if isinstance(box, dict) else {}
        halves = box.get("cross_boundary")
        for part in halves.values() if isinstance(halves, dict) else (box,):
            corners = tuple(number(part.get(c)) for c in CORNERS) if isinstance(part, dict) else ()
            rows.append(Row(where, key, corners or (number(None),) * 4, known.find(label), f"bbox {part}", size))
    return rows
