"""CVAT's own export (`CVAT for images 1.1`): annotations.xml beside images/.

Boxes stay boxes; polygons, masks, ellipses and turned boxes are painted in the order of their z_order. Exports of a
project name the subset of each image, which is the split; those of a task have none, and every split holds all images.
Tags have no place here and are left out. CVAT's other exports have readers of their own: COCO and YOLO, and `folder`
for masks.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from heteroseg.datasets.boxes import NO_OUTLINE, Row, outline_of
from heteroseg.datasets.class_names import ClassNames
from heteroseg.datasets.exports import AnnotatedImage, read_export
from heteroseg.datasets.paths import require_file
from heteroseg.datasets.records import number
from heteroseg.datasets.sample import LARGEST, UNKNOWN, Listing, Shape
from heteroseg.datasets.shapes import ellipse, polygon, rle_encode, turned
from heteroseg.errors import HeterosegError
from heteroseg.files import read_text

SHAPES = ("box", "polygon", "mask", "ellipse")


def cvat(
    root: Path,
    split: str,
    annotations: str = "annotations.xml",
    images: str = "images/{name}.*",
    classes: str | None = None,
    others: str | None = None,
    background: str | None = None,
) -> Listing:
    """Items named as the images, with boxes, and with masks where there are shapes to paint.

    Ids: positions in `classes`, a text file with a name a line, else in the labels of the export, both from 0; `others`
    is the id of all other names. `background` is the id where nothing is painted (default: unknown). Images that the
    export does not list are left out.
    """
    path = root / annotations
    top = _parsed(path)
    subsets = {name for image in top.iterfind("image") if (name := image.get("subset"))}
    if subsets and split.lower() not in map(str.lower, subsets):
        there = ", ".join(sorted(subsets))
        raise HeterosegError(f"{path}: expected the subset {split!r}, found {there}; set `train` and `val` to these")
    listed = [e.text or "" for e in top.iterfind("meta//labels/label/name")]
    names = ClassNames(root, classes, others, dict.fromkeys(listed))
    return read_export(root, split, images, path, _annotated(path, top, split, names), background, names)


def _parsed(path: Path) -> ElementTree.Element:
    text = read_text(require_file(path, "export", "choose `CVAT for images 1.1` and unpack it here"))
    if "<!DOCTYPE" in text:
        raise HeterosegError(f"{path}: expected an export of CVAT, found a document type; export it again")
    try:
        top = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise HeterosegError(f"{path}:{error.position[0]}: not valid XML, {error}; export it again") from None
    if top.tag != "annotations" or top.find("track") is not None:
        raise HeterosegError(f"{path}: expected `CVAT for images 1.1`, found another export; export it as that")
    return top


def _annotated(path: Path, top: ElementTree.Element, split: str, names: ClassNames) -> Iterator[AnnotatedImage]:
    for image in top.iterfind("image"):
        subset, file = image.get("subset"), image.get("name", "")
        files = (file, f"{subset}/{file}") if subset else (file,)  # names may stand in several subsets
        where, size = f"{path}: image {file!r}", (number(image.get("width")), number(image.get("height")))
        if subset and subset.lower() != split.lower():
            yield where, files, None, None
            continue
        heights = [np.nan_to_num(number(shape.get("z_order", 0)), posinf=0, neginf=0) for shape in image]
        shapes = [image[i] for i in np.argsort(heights, kind="stable") if image[i].tag != "tag"]
        yield where, files, size, [_row(names, where, shape, size) for shape in shapes]


def _row(names: ClassNames, where: str, shape: ElementTree.Element, size: tuple[float, float]) -> Row:
    label = shape.get("label", "")
    if shape.tag not in SHAPES:
        return Row(where, fault=f"expected {', '.join(SHAPES)}, found a {shape.tag} ({label!r}); convert or remove it")
    text = ", ".join(f"{key}={value[:30]}" for key, value in shape.attrib.items() if key != "label")
    row = names.labelled(Row(where, raw=f"{shape.tag} {text}"), label)
    if shape.tag != "box":
        return row._replace(outline=_outline(shape, size))
    x1, y1, x2, y2, turn = _numbers(shape, "xtl", "ytl", "xbr", "ybr", "rotation")
    if turn == 0 or not math.isfinite(x1 + y1 + x2 + y2 + turn):
        return row._replace(corners=(x1, y1, x2, y2))
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    return row._replace(outline=outline_of(turned(corners, turn, ((x1 + x2) / 2, (y1 + y2) / 2), size)))


def _numbers(shape: ElementTree.Element, *keys: str) -> list[float]:
    """The numbers under the keys; a rotation that is not told is 0."""
    return [number(shape.get(key, 0 if key == "rotation" else None)) for key in keys]


def _outline(shape: ElementTree.Element, size: tuple[float, float]) -> Shape:
    if shape.tag == "polygon":
        return outline_of(polygon([pair.split(",") for pair in shape.get("points", "").split(";")]))
    if shape.tag == "mask":
        return _mask(shape)
    x, y, rx, ry, turn = _numbers(shape, "cx", "cy", "rx", "ry", "rotation")
    if not math.isfinite(x + y + rx + ry + turn) or min(rx, ry) <= 0:
        return NO_OUTLINE
    return outline_of(turned(ellipse(x, y, rx, ry), turn, (x, y), size))


def _mask(shape: ElementTree.Element) -> Shape:
    window = [shape.get(key, "") for key in ("left", "top", "width", "height")]
    counts = re.split(r"\s*,\s*", shape.get("rle", "").strip())
    if not all(word.isdecimal() for word in [*window, *counts]):
        return NO_OUTLINE
    x, y, width, height = map(int, window)
    runs = [int(count) for count in counts]  # along the rows, which pycocotools does not read
    if not LARGEST >= width * height == sum(runs) > 0:
        return NO_OUTLINE
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return Shape(UNKNOWN, run_length=rle_encode(pixels, x, y))
