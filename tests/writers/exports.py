"""Writers of exports of label tools."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from heteroseg.datasets.encoding import write_image
from heteroseg.datasets.sample import Sample
from heteroseg.files import read_json, write_json, write_text
from tests.writers.pixels import bars, write_split


def write_yolo(root: Path | str, split: str, samples: list[Sample], background: int = -1) -> None:
    """Write PNG images and text files of the boxes; a mask's ids become outlines, but for `background`."""
    for sample in samples:
        height, width = sample.image.shape[:2]
        lines = []
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.box_ids.tolist(), strict=True):
            parts = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(f"{label} " + " ".join(f"{v:.9f}" for v in parts))
        if sample.mask is not None:
            for label, x1, x2, y in bars(sample.mask):
                if label != background:
                    corners = np.array([[x1, y], [x2, y], [x2, y + 1], [x1, y + 1]]) / [width, height]
                    lines.append(f"{label} " + " ".join(f"{v:.9f}" for v in corners.ravel()))
        write_image(Path(root, "images", split, f"{sample.name}.png"), sample.image)
        write_text(Path(root, "labels", split, f"{sample.name}.txt"), "".join(f"{line}\n" for line in lines))


def write_cvat(root: Path | str, split: str, samples: list[Sample], background: int = -1) -> None:
    """Write images/NAME.png and annotations.xml with boxes and a mask for each id; labels are `label 0`, `label 1` ...

    Images of other subsets that stand in annotations.xml stay.
    """
    path = Path(root, "annotations.xml")
    top = ElementTree.parse(path).getroot() if path.is_file() else ElementTree.Element("annotations")
    if not path.is_file():
        ElementTree.SubElement(top, "version").text = "1.1"
        ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(top, "meta"), "project"), "labels")
    for old in [e for e in top.iterfind("image") if e.get("subset") == split]:
        top.remove(old)
    labels = top.find("meta/project/labels")
    assert labels is not None
    for sample in samples:
        write_image(Path(root, "images", f"{sample.name}.png"), sample.image)
        height, width = sample.image.shape[:2]
        sizes = {"width": str(width), "height": str(height)}
        entry = ElementTree.SubElement(top, "image", {"name": f"{sample.name}.png", "subset": split, **sizes})
        for box, label in zip(sample.boxes.tolist(), sample.box_ids.tolist(), strict=True):
            corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(str, box), strict=True))
            ElementTree.SubElement(entry, "box", {"label": f"label {label}", **corners, "z_order": "0"})
        ids = [] if sample.mask is None else np.unique(sample.mask).tolist()
        for label in ids:
            if label != background:
                rle = ", ".join(map(str, runs(sample.mask == label)))
                window = {"left": "0", "top": "0", **sizes}
                ElementTree.SubElement(entry, "mask", {"label": f"label {label}", "rle": rle, **window, "z_order": "0"})
        top_id = max([*ids, *sample.box_ids.tolist()], default=-1)
        for i in range(len(labels), top_id + 1):
            ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = f"label {i}"
    ElementTree.indent(top)
    write_text(path, ElementTree.tostring(top, encoding="unicode") + "\n")


def write_label_studio(root: Path | str, split: str, samples: list[Sample], background: int = -1) -> None:
    """Write images/NAME.png, SPLIT.txt and annotations.json (tasks of other images stay) with classes.txt.

    Boxes become rectangles and each id of a mask a brush stroke; the class of id i is named `label i`.
    """
    path, tasks = Path(root, "annotations.json"), []
    names = {f"/data/upload/1/0123abcd-{sample.name}.png" for sample in samples}
    if path.is_file():
        tasks = [task for task in read_json(path) if task["data"]["image"] not in names]
    for sample in samples:
        height, width = sample.image.shape[:2]
        sizes = {"original_width": width, "original_height": height}
        marks = []
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.box_ids.tolist(), strict=True):
            place = {"x": x1 / width * 100, "y": y1 / height * 100}
            value = {**place, "width": (x2 - x1) / width * 100, "height": (y2 - y1) / height * 100, "rotation": 0}
            marks.append((value, "rectanglelabels", label))
        for label in [] if sample.mask is None else np.unique(sample.mask).tolist():
            if label != background:
                flat = np.repeat((sample.mask == label).ravel() * np.int64(255), 4)
                marks.append(({"format": "rle", "rle": list(pack_brush(flat))}, "brushlabels", label))
        result = [{**sizes, "type": k, "value": {**v, k: [f"label {i}"]}} for v, k, i in marks]
        image = f"/data/upload/1/0123abcd-{sample.name}.png"
        note = {"was_cancelled": False, "result": result}
        tasks.append({"id": len(tasks) + 1, "data": {"image": image}, "annotations": [note]})
        write_image(Path(root, "images", f"{sample.name}.png"), sample.image)
    write_json(path, tasks)
    write_split(root, split, sorted(sample.name for sample in samples))


def pack_brush(values: np.ndarray) -> bytes:
    """The inverse of `unpack_brush` for values below 256, as runs of up to 2**16 of equal values."""
    text = f"{len(values):032b}{7:05b}{2:04b}{7:04b}{11:04b}{15:04b}"
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, stop in pairwise(edges):
        for first in range(start, stop, 1 << 16):
            text += f"111{min(stop - first, 1 << 16) - 1:016b}{int(values[start]):08b}"
    return np.packbits(np.array([int(c) for c in text], np.uint8)).tobytes()


def runs(mask: np.ndarray) -> list[int]:
    """The run lengths along the rows of a boolean (H, W) mask, 0 first."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=~flat[-1]))
    return np.diff(edges, prepend=0).tolist()
