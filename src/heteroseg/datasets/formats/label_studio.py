"""Label Studio's own export (`JSON`): a list of tasks, and the images in a folder.

Rectangles stay boxes (turned ones are painted); polygons, ellipses and brush strokes are painted in their order.
Coordinates are percent of the image. Of several annotations of a task the ground truth counts, else the first that was
not cancelled. Choices have no place here and are left out. Label Studio's exports to COCO and YOLO have readers of
their own.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from heteroseg.datasets.boxes import NO_BOX, NO_OUTLINE, Row, outline_of
from heteroseg.datasets.class_names import ClassNames
from heteroseg.datasets.exports import AnnotatedImage, read_export
from heteroseg.datasets.paths import listed_names, require_file, stem_of
from heteroseg.datasets.records import lists_of, number
from heteroseg.datasets.sample import LARGEST, UNKNOWN, Listing, Shape
from heteroseg.datasets.shapes import ellipse, polygon, rle_encode, turned
from heteroseg.errors import HeterosegError
from heteroseg.files import read_json

UPLOAD = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts this before the names of uploaded files
KINDS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels")
LEFT_OUT = ("choices", "textarea", "rating", "taxonomy", "number", "datetime", "relation")


def label_studio(
    root: Path,
    split: str,
    annotations: str = "annotations.json",
    images: str = "images/{name}.*",
    classes: str | None = None,
    others: str | None = None,
    background: str | None = None,
) -> Listing:
    """Items of the annotated images in SPLIT.txt (of all where there is no such list), with boxes and painted masks.

    Ids are the positions, from 0, in `classes`, a text file with a name a line; `others` is the id of all other names.
    `background` is the id where nothing is painted (default: unknown). Tasks without annotations are left out.
    """
    path = require_file(root / annotations, "export", "export as JSON and put it here")
    data = read_json(path)
    if isinstance(data, dict):
        keys = ", ".join(map(str, data))
        raise HeterosegError(f"{path}: expected a list of tasks, found {keys:.60}; export as JSON (not JSON-MIN, COCO)")
    (tasks,) = lists_of(path, {"tasks": data}, "tasks")
    if tasks and not any("annotations" in task or "completions" in task for task in tasks):
        keys = ", ".join(map(str, tasks[0]))
        raise HeterosegError(f"{path}: [0]: expected annotations, found {keys}, as in JSON-MIN; export as JSON")
    names, split_list = ClassNames(root, classes, others), root / f"{split}.txt"
    stems = listed_names(split_list, stem_of) if split_list.is_file() else None
    return read_export(root, split, images, path, _annotated(path, tasks, names), background, names, True, stems)


def _annotated(path: Path, tasks: list[dict], names: ClassNames) -> Iterator[AnnotatedImage]:
    for i, task in enumerate(tasks):
        where, given = f"{path}: [{i}]", task.get("annotations") or task.get("completions") or []
        given = given if isinstance(given, list) else [given]
        notes = [note if isinstance(note, dict) else {"result": repr(note)} for note in given]
        if done := [note for note in notes if not note.get("was_cancelled")]:
            result = next((note for note in done if note.get("ground_truth")), done[0]).get("result")
            yield where, _files(task), None, list(_rows(where, result, names))


def _rows(where: str, result: Any, names: ClassNames) -> Iterator[Row]:
    if not isinstance(result, list):
        yield Row(where, fault=f"expected a list of results, found {result!r:.60}; export it again")
        return
    for i, mark in enumerate(result):
        mark = mark if isinstance(mark, dict) else {"type": repr(mark)[:60]}
        if mark.get("type") not in LEFT_OUT:
            yield _row(names, f"{where}: result[{i}]", mark)


def _size(mark: dict) -> tuple[float, float] | None:
    """Width and height of the image that was marked, where it tells."""
    width, height = number(mark.get("original_width")), number(mark.get("original_height"))
    return (width, height) if min(width, height) >= 1 else None


def _files(task: dict) -> tuple[str, str]:
    """Names of a task's image: data.image is a URL, a path of the server, or has the file behind ?d=."""
    data = task.get("data")
    values = [data.get("image"), *data.values()] if isinstance(data, dict) else []
    try:
        url = urlsplit(next((v for v in values if isinstance(v, str)), ""))
    except ValueError:  # a bracket that looks like one of an address
        url = urlsplit("")
    file = PurePosixPath(unquote(parse_qs(url.query).get("d", [url.path])[0])).name
    return file, UPLOAD.sub("", file, count=1)


def _row(names: ClassNames, where: str, mark: dict) -> Row:
    kind, value = str(mark.get("type")), mark.get("value")
    row, size = Row(where, raw=f"{value!r:.60}", size=_size(mark)), _size(mark)
    if kind not in KINDS or not isinstance(value, dict):
        return row._replace(fault=f"expected {', '.join(KINDS)}, found {kind!r}; convert or remove it")
    labels = value.get(kind)
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        return row._replace(fault=f"expected one label, found {labels!r:.60}; correct it in Label Studio")
    if mark.get("image_rotation") not in (None, 0):
        found = f"one turned by {mark['image_rotation']!r:.60} degrees"
        return row._replace(fault=f"expected an image as it is, found {found}; turn it back in Label Studio")
    row = names.labelled(row, labels[0])
    if kind == "brushlabels":
        return row._replace(outline=_brush(value.get("rle"), size))
    if kind == "polygonlabels":
        corners = polygon(value.get("points"))
        return row._replace(outline=outline_of(None if corners is None else corners / 100))
    return _rectangle_or_ellipse(row, kind, value, size)


def _rectangle_or_ellipse(row: Row, kind: str, value: dict, size: tuple[float, float] | None) -> Row:
    """The row with a box, or with an outline where it is turned or round; in parts of the image."""
    rectangle = kind == "rectanglelabels"
    keys = ("x", "y", "width", "height") if rectangle else ("x", "y", "radiusX", "radiusY")
    x, y, a, b = (number(value.get(key)) for key in keys)
    turn = number(value.get("rotation") or 0)
    finite = math.isfinite(x + y + a + b + turn)
    if rectangle and (turn == 0 or not finite):
        corners = (x / 100, y / 100, (x + a) / 100, (y + b) / 100)
        return row._replace(corners=corners if turn == 0 else NO_BOX)
    if not finite or min(a, b) <= 0 or size is None:
        return row._replace(outline=NO_OUTLINE)
    points = np.array([[x, y], [x + a, y], [x + a, y + b], [x, y + b]]) if rectangle else ellipse(x, y, a, b)
    scale = np.array(size) / 100  # turns are in pixels, the rest in percent
    return row._replace(outline=outline_of(turned(points * scale, turn, (x * scale[0], y * scale[1]), size) / size))


def _brush(rle: Any, size: tuple[float, float] | None) -> Shape:
    if not isinstance(rle, list) or size is None:
        return NO_OUTLINE
    try:
        values = unpack_brush(bytes(rle))
        pixels = values.reshape(int(size[1]), int(size[0]), 4)[..., 3] > 0
        return Shape(UNKNOWN, run_length=rle_encode(pixels))
    except (TypeError, ValueError, OverflowError):  # bytes that are none, a code that is cut off, or of another size
        return NO_OUTLINE


def unpack_brush(data: bytes) -> np.ndarray:
    """(N,) uint8 values of Label Studio's brush code (thi.ng's rle-pack); a code that is cut off raises ValueError.

    A header holds N (32 bits), the bits of a value - 1 (5) and four widths - 1 (4 each). Then come runs and lists: one
    bit (1 for a run), two bits that choose a width, the length - 1 in that width, and the value or the values.
    """
    bits, places, at = np.unpackbits(np.frombuffer(data, np.uint8)), 1 << np.arange(31, -1, -1), 0

    def take(size: int, count: int = 1) -> np.ndarray:
        """The next numbers of `size` bits; fewer bits are no (count, size) and raise ValueError."""
        nonlocal at
        at += size * count
        return bits[at - size * count : at].reshape(count, size).dot(places[-size:])

    total, word, widths = int(take(32)[0]), int(take(5)[0]) + 1, (take(4, 4) + 1).tolist()
    if total > 4 * LARGEST or word > 8:
        raise ValueError("too long")
    values, done = np.zeros(total, np.uint8), 0
    while done < total:
        is_run = take(1)[0]
        length = int(take(widths[take(2)[0]])[0]) + 1
        values[done : done + length] = take(word, 1 if is_run else length)  # a list that is too long does not fit
        done += length
    return values
