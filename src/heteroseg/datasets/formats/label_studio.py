"""Label Studio's own export (`JSON`): a list of tasks, and the images in a folder.

Rectangles stay boxes (turned ones are painted); polygons, ellipses and brush strokes are painted in their order.
Coordinates are percent of the image. Of several annotations of a task the ground truth counts, else the first that was
not cancelled. Choices have no place here and are left out. Label Studio's exports to COCO and YOLO have readers of
their own.
"""

import math
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from heteroseg.datasets.boxes import NO_OUTLINE, Outline, Row, attach, lists_of, number, read_json
from heteroseg.datasets.class_names import Classes, whole
from heteroseg.datasets.paths import Images, absent, find_files, split_stems, stem_of, tell
from heteroseg.datasets.sample import Item
from heteroseg.datasets.shapes import ellipse, polygon, rle_encode, turned

UPLOAD = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts this before the names of uploaded files
KINDS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels")
LEFT_OUT = ("choices", "textarea", "rating", "taxonomy", "number", "datetime")


def label_studio(
    root: Path | str,
    split: str,
    annotations: str = "annotations.json",
    images: str = "images/{name}.*",
    classes: str | None = None,
    others: str | None = None,
    background: str | None = None,
) -> list[Item]:
    """Items of the annotated images in SPLIT.txt (of all where there is no such list), with boxes and painted masks.

    Ids are the positions, from 0, in `classes`, a text file with a name a line; `others` is the id of all other names.
    `background` is the id where nothing is painted (default: unknown). Tasks without annotations are left out. Other
    kinds of marks, bad coordinates, unknown names and missing images raise HeterosegError, all of them at once.
    """
    root = Path(root)
    path = root / annotations
    if not path.is_file():
        absent(path, "export", "export as JSON and put it here")
    (tasks,) = lists_of(path, {"tasks": read_json(path)}, "tasks")
    known = Classes.of(root, classes, others)
    wanted = set(split_stems(root, split)) if (root / f"{split}.txt").is_file() else None
    found = {item.name: item for item in (Item(n, p) for n, p in find_files(root, images, split).items())}
    finder = Images(root, list(found.values()), [])
    rows: list[Row] = []
    faults: list[str] = []
    mine: dict[str, Item] = {}
    for i, task in enumerate(tasks):
        where = f"{path}: [{i}]"
        marks = _marks(task)
        if marks is None:
            continue
        try:
            name = _resolved(finder, task)
        except LookupError as error:
            faults.append(f"{where}: {error.args[0]}; complete the export with its images")
            continue
        if wanted is not None and stem_of(PurePosixPath(name).name) not in wanted:
            continue
        ground = whole(background, "background", -1)
        mine[name] = Item(name, found[name].image, path, size=(1, 1), background=ground)
        for j, mark in enumerate(marks):
            rows += _row(f"{where}: result[{j}]", name, mark, known, faults)
    tell(faults)
    painted = any(row.outline is not None for row in rows)
    return attach([mine[name] for name in sorted(mine)], rows, lambda name: name, painted)


def _marks(task: dict) -> list[dict] | None:
    """What was drawn, None where the task is not annotated."""
    given = task.get("annotations") or task.get("completions") or []
    done = [a for a in given if isinstance(a, dict) and not a.get("was_cancelled")]
    chosen = next((a for a in done if a.get("ground_truth")), done[0] if done else None)
    result = chosen.get("result") if chosen else None
    return [m for m in result if isinstance(m, dict)] if isinstance(result, list) else None


def _resolved(finder: Images, task: dict) -> str:
    """The name of a task's image: data.image is a URL, a path of the server, or has the file behind ?d=."""
    data = task.get("data")
    values = [data.get("image"), *data.values()] if isinstance(data, dict) else []
    url = urlsplit(next((v for v in values if isinstance(v, str)), ""))
    file = PurePosixPath(unquote(parse_qs(url.query).get("d", [url.path])[0])).name
    for name in (file, UPLOAD.sub("", file, count=1)):
        try:
            found = finder.resolve(name)
        except LookupError:
            continue
        if found is not None:
            return found
    return finder.resolve(file) or ""  # raises


def _row(where: str, name: str, mark: dict, known: Classes, faults: list[str]) -> list[Row]:
    kind, value = str(mark.get("type")), mark.get("value")
    if kind in LEFT_OUT or kind == "relation":
        return []
    labels = value.get(kind) if isinstance(value, dict) else None
    if kind not in KINDS or not isinstance(value, dict):
        faults.append(f"{where}: expected {', '.join(KINDS)}, found {kind!r}; convert or remove it")
        return []
    if not isinstance(labels, list) or len(labels) != 1:
        faults.append(f"{where}: expected one label, found {labels!r}; correct it in Label Studio")
        return []
    if known.find(labels[0]) is None:
        faults.append(f"{where}: {known.unknown(labels[0])}")
        return []
    size = (number(mark.get("original_width")), number(mark.get("original_height")))
    row = Row(where, name, (), known.find(labels[0]), f"{value!r:.60}", (1, 1))
    shape = _outline(kind, value, size)
    return [row._replace(corners=shape) if len(shape) == 4 else row._replace(outline=shape)]


def _outline(kind: str, value: dict, size: tuple[float, float]) -> Any:
    """Four corners of a box, or a shape; both in parts of the image."""
    if kind == "brushlabels":
        return _brush(value.get("rle"), size)
    if kind == "polygonlabels":
        corners = polygon(value.get("points"))
        return NO_OUTLINE if corners is None else ((corners / 100,), None)
    keys = ("x", "y", "width", "height") if kind == "rectanglelabels" else ("x", "y", "radiusX", "radiusY")
    x, y, a, b = (number(value.get(key)) for key in keys)
    turn = number(value.get("rotation", 0))
    if kind == "rectanglelabels" and (turn == 0 or not math.isfinite(x + y + a + b + turn)):
        return x / 100, y / 100, (x + a) / 100, (y + b) / 100
    if not math.isfinite(x + y + a + b + turn) or min(a, b, *size) <= 0:
        return NO_OUTLINE
    scale = np.array(size) / 100  # turns are in pixels, the rest in percent
    if kind == "rectanglelabels":
        corners = np.array([[x, y], [x + a, y], [x + a, y + b], [x, y + b]])
    else:
        corners = ellipse(x, y, a, b)
    return (turned(corners * scale, turn, (x * scale[0], y * scale[1])) / np.array(size),), None


def _brush(rle: Any, size: tuple[float, float]) -> Outline:
    width, height = (int(v) if v > 0 else 0 for v in size)
    if not isinstance(rle, list) or not all(type(b) is int and 0 <= b < 256 for b in rle) or not width * height:
        return NO_OUTLINE
    try:
        values = unpacked(bytes(rle))
    except ValueError:
        return NO_OUTLINE
    if len(values) != 4 * width * height:
        return NO_OUTLINE
    return (), rle_encode(values[3::4].reshape(height, width) > 0)


def unpacked(data: bytes) -> np.ndarray:
    """(N,) int64 values of Label Studio's brush code (thi.ng's rle-pack); a code that is cut off raises ValueError.

    A header holds N (32 bits), the bits of a value - 1 (5) and four widths - 1 (4 each). Then come runs and lists: one
    bit (1 for a run), two bits that choose a width, the length - 1 in that width, and the value or the values.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    at = 0

    def take(count: int) -> int:
        nonlocal at
        if at + count > len(bits):
            raise ValueError("cut off")
        at += count
        return int(bits[at - count : at] @ (1 << np.arange(count - 1, -1, -1, dtype=np.int64)))

    total, word = take(32), take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]
    if total > 1 << 30:
        raise ValueError("too long")
    values, done = np.zeros(total, np.int64), 0
    place = 1 << np.arange(word - 1, -1, -1, dtype=np.int64)
    while done < total:
        is_run = take(1)
        length = take(widths[take(2)]) + 1
        if is_run:
            values[done : done + length] = take(word)
        else:
            end = at + word * length
            if end > len(bits) or done + length > total:
                raise ValueError("cut off")
            values[done : done + length] = bits[at:end].reshape(length, word) @ place
            at = end
        done += length
    return values
