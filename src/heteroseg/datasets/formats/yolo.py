"""YOLO: a text file of boxes or outlines for each image, in parts of its width and height.

Ultralytics' layout is images/SPLIT/NAME.jpg and labels/SPLIT/NAME.txt; exports of others have SPLIT/images and
SPLIT/labels (set the patterns). A line is `class cx cy width height`, a box, or `class x y x y x y ...`, an outline
that is painted to a mask. The class is the id. An image without a text file holds no object.
Keypoints and confidences have no place here.
"""

from dataclasses import replace
from pathlib import Path

from heteroseg.datasets.boxes import NO_BOX, Row, attach, outline_of
from heteroseg.datasets.class_names import parse_id
from heteroseg.datasets.paths import check_pattern, expand, items_of, lines_of, matching, normal, require_folder, walk
from heteroseg.datasets.records import integer, number
from heteroseg.datasets.sample import Listing
from heteroseg.datasets.shapes import polygon
from heteroseg.errors import HeterosegError, counted, nearest
from heteroseg.files import read_text, read_yaml

LISTS = ("classes.txt", "obj.names")  # names of the classes, a line each, as label tools write them


def yolo(
    root: Path,
    split: str,
    images: str = "images/{split}/{name}.*",
    labels: str = "labels/{split}/{name}.txt",
    background: str | None = None,
) -> Listing:
    """Items by name with boxes, and masks where there are outlines: the small ones on top, the id `background`
    elsewhere (default: unknown)."""
    check_pattern(labels, "labels")
    items = items_of(root, split, images, background=parse_id(background, "background"))
    folder = require_folder(root / expand(labels, split).split("{name}")[0].rpartition("/")[0])
    texts = {item.name: root / expand(labels, split, item.name) for item in items}
    unlabelled = [name for name, path in texts.items() if not path.is_file()]
    if len(unlabelled) == len(items):
        first = texts[items[0].name]
        raise HeterosegError(f"{first}: expected label files for the images, found none; check the pattern `labels`")
    rows = [row for name, path in texts.items() if path.is_file() for row in _rows(path, name)]
    marked = [replace(item, mask=texts[item.name], box_file=texts[item.name]) for item in items]
    listing = items.then(attach(marked, rows, paints=True, by_area=True))
    known = {*texts.values(), *(folder / name for name in LISTS)}
    if "{split}" not in labels:  # label files of other splits lie there too
        known |= {root / expand(labels, split, name) for name, _ in matching(root, expand(images, "*"))}
    forms = {normal(texts[name].name) for name in unlabelled}
    for path in walk(folder, {".txt"}):
        if path not in known:
            near = nearest(path.name, [texts[name].name for name in unlabelled])
            near = "; one has it in another Unicode form" if normal(path.name) in forms else near
            listing.faults.append(f"{path}: expected a label file of an image, found no image of this name{near}")
    if unlabelled:
        told = f"no label file for {len(unlabelled)} of {counted(len(items), 'image')}, such as {texts[unlabelled[0]]}"
        listing.notes.append(f"{told}: they count as images without objects")
    listing.names |= _names(root, folder)
    return listing


def _names(root: Path, folder: Path) -> dict[int, str]:
    """What the dataset calls its ids: `names` of its YAML, or a list of classes beside the labels; {} where none is."""
    for path in sorted(root.glob("*.y*ml")):
        data = read_yaml(path).data
        names = data.get("names") if isinstance(data, dict) else None
        if isinstance(data, dict) and "kpt_shape" in data:
            raise HeterosegError(f"{path}: expected boxes or outlines, found the keypoints of kpt_shape; export boxes")
        if isinstance(names, list | dict):
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            return {i: str(name) for key, name in pairs if (i := integer(key)) is not None}
    lists = (place / name for place in (folder, root) for name in LISTS)
    listed = next((path for path in lists if path.is_file()), None)
    return dict(enumerate(read_text(listed).splitlines())) if listed else {}


def _rows(path: Path, name: str) -> list[Row]:
    rows = []
    for where, line in lines_of(path):
        first, *others = line.split()
        row = Row(where, name, NO_BOX, integer(first), repr(line[:60]), parts=True)
        values = [number(word) for word in others]
        if len(values) == 4:
            x, y, width, height = values
            rows.append(row._replace(corners=(x - width / 2, y - height / 2, x + width / 2, y + height / 2)))
        elif len(values) < 6 or len(values) % 2:
            form = "a class and 4 numbers, or x and y of 3 corners or more"
            rows.append(row._replace(fault=f"expected {form}, found {len(values)} numbers: {line:.60}"))
        else:
            rows.append(row._replace(outline=outline_of(polygon(values))))
    return rows
