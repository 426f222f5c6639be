"""Annotation files that are damaged anywhere: what is read is what the standard library reads, or a fault is told.

`make fuzz` draws other damage in every run.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heteroseg.datasets import list_items, read_annotation
from heteroseg.errors import HeterosegError
from tests.datasets.damage import damaged, damaged_json
from tests.datasets.test_datasets import samples
from tests.writers import WRITERS

Mark = tuple[str, int, tuple]  # image, id, coordinates
STEMS = ("im0", "im1")
POINTS = [1, 1, 9, 1, 9, 7.5, 2, 6]


@dataclass
class Form:
    """A kind of annotation: its reader and options, the file that is damaged, and what it says by other hands."""

    reader: str
    options: dict[str, str]
    path: str
    text: str
    truth: Callable[[str], list[Mark]]


def stem(name: str) -> str:
    path = PurePosixPath(name)
    return (
        path.stem if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".webp", ".jfif") else path.name
    )


def whole(value: Any) -> int:
    """An id, which is no truth value and no fraction."""
    assert type(value) is int or (isinstance(value, str) and value.strip().isascii())
    return int(value)


def real(value: Any) -> float:
    assert not isinstance(value, bool)
    return float(value)


def box(*corners: float) -> tuple:
    return tuple(np.array(corners, np.float32).tolist())


# ---- what a file says, by the standard library
def coco_truth(text: str) -> list[Mark]:
    data = json.loads(text)
    names = {str(image.get("id")): stem(image["file_name"]) for image in data["images"]}
    marks = []
    for note in data["annotations"]:
        crowd, name = note.get("iscrowd") in (1, "1"), names[str(note["image_id"])]
        if note.get("segmentation") not in (None, [], {}, ""):
            rings = [tuple(map(real, ring)) for ring in note["segmentation"]]
            marks.append((name, whole(note["category_id"]), tuple(sorted(rings)))) if not crowd else None
        else:
            x, y, width, height = map(real, note["bbox"])
            marks.append((name, -1 if crowd else whole(note["category_id"]), box(x, y, x + width, y + height)))
    return marks


def csv_truth(text: str) -> list[Mark]:
    rows = csv.DictReader(io.StringIO(text, ""), skipinitialspace=True, strict=True)
    keys = ("x1", "y1", "x2", "y2")
    return [(stem(r["image"]), whole(r["class_id"]), box(*(real(r[k]) for k in keys))) for r in rows]


def tags_truth(text: str) -> list[Mark]:
    rows = csv.DictReader(io.StringIO(text, ""), skipinitialspace=True, strict=True)
    return [*{(stem(r["image"]), whole(r["class_id"]), ()) for r in rows}]


def yolo_truth(text: str) -> list[Mark]:
    marks: list[Mark] = []
    for line in text.splitlines():
        first, *rest = line.split() or [None]
        if first is not None and len(rest) == 4:
            x, y, width, height = map(real, rest)
            corners = box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            marks.append(("im0", whole(first), corners))
        elif first is not None:
            marks.append(("im0", whole(first), (tuple(map(real, rest)),)))
    return marks


def cvat_truth(text: str) -> list[Mark]:
    top = ElementTree.fromstring(text)
    names = dict.fromkeys(e.text or "" for e in top.iterfind("meta//labels/label/name"))
    ids = {name: i for i, name in enumerate(names)}
    marks: list[Mark] = []
    for image in top.iterfind("image"):
        if image.get("subset", "train").lower() != "train":
            continue
        for shape in image:
            mark = stem(image.get("name")), ids[shape.get("label")] if shape.tag != "tag" else -1
            if shape.tag == "box":
                assert float(shape.get("rotation", 0)) == 0
                marks.append((*mark, box(*(real(shape.get(k)) for k in ("xtl", "ytl", "xbr", "ybr")))))
            elif shape.tag == "polygon":
                pairs = [pair.split(",") for pair in shape.get("points").split(";")]
                marks.append((*mark, (tuple(real(v) for pair in pairs for v in pair),)))
            else:
                assert shape.tag == "tag"
    return marks


def label_studio_truth(text: str) -> list[Mark]:
    marks: list[Mark] = []
    for task in json.loads(text):
        given = task.get("annotations") or task.get("completions") or []
        done = [a for a in (a if isinstance(a, dict) else {} for a in given) if not a.get("was_cancelled")]
        chosen = next((a for a in done if a.get("ground_truth")), done[0] if done else {"result": []})
        for result in chosen["result"]:
            if result["type"] in ("choices", "textarea", "rating", "taxonomy", "number", "datetime", "relation"):
                continue
            value = result["value"]
            (name,) = value[result["type"]]
            values = [task["data"].get("image"), *task["data"].values()]
            mark = stem(next(v for v in values if isinstance(v, str))), {"car": 0, "sign": 1}[name]
            if result["type"] == "rectanglelabels":
                assert real(value.get("rotation") or 0) == 0
                x, y, width, height = (real(value[k]) for k in ("x", "y", "width", "height"))
                marks.append((*mark, box(x / 100, y / 100, (x + width) / 100, (y + height) / 100)))
            else:
                assert result["type"] == "polygonlabels"
                marks.append((*mark, (tuple((np.ravel(value["points"]).astype(float) / 100).tolist()),)))
    return marks


# ---- sound files
IMAGES = [{"id": i, "file_name": f"{name}.png", "width": 16, "height": 12} for i, name in enumerate(STEMS)]
NOTE = {"id": 1, "image_id": 0, "category_id": 3, "bbox": [1, 2, 3.5, 4], "iscrowd": 0}
NOTES = [NOTE, NOTE | {"id": 2, "image_id": 1, "iscrowd": 1}, NOTE | {"id": 3, "category_id": 0}]
CATEGORIES = [{"id": 0, "name": "sky"}, {"id": 3, "name": "car"}]
COCO = {"images": IMAGES, "annotations": NOTES, "categories": CATEGORIES}
SHAPES = COCO | {"annotations": [NOTES[0], *({**n, "segmentation": [POINTS, [2, 2, 4, 2, 4, 4]]} for n in NOTES[1:])]}
CVAT = """<annotations>
<meta><task><labels><label><name>car</name></label><label><name>sign</name></label></labels></task></meta>
<image id="0" name="im0.png" width="16" height="12"><box label="car" xtl="1.0" ytl="2.5" xbr="5" ybr="6" z_order="1"/>
<polygon label="sign" points="1.00,1.00;9,1;9,7.5" z_order="0"/><tag label="car"/></image>
<image id="1" name="im1.png" width="16" height="12"><box label="sign" xtl="1" ytl="2" xbr="5" ybr="6"/></image>
</annotations>
"""
SIZE = {"original_width": 16, "original_height": 12}
RECTANGLE = {"x": 10, "y": 20.5, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["car"]}
OUTLINE = {"points": [[10, 10], [90, 10.5], [50, 90]], "polygonlabels": ["sign"]}
RESULT = [{"type": "rectanglelabels", "value": RECTANGLE, **SIZE}, {"type": "polygonlabels", "value": OUTLINE, **SIZE}]
TASKS = [
    {"id": i, "data": {"image": f"/data/{name}.png"}, "annotations": [{"result": RESULT, "was_cancelled": False}]}
    for i, name in enumerate(STEMS)
]
IMAGE_PATTERN = "images/{name}.png"
FOLDER = {"images": IMAGE_PATTERN}
LABEL_STUDIO = FOLDER | {"classes": "classes.txt"}
YOLO = FOLDER | {"labels": "labels/{name}.txt"}
LINES = "3 0.5 0.5 0.25 0.125\n0 0.1 0.1 0.9 0.1 0.5 0.9\n\n7 0.2 0.3 0.1 0.1\n"
BOXES = 'image,x1,y1,x2,y2,class_id,note\r\nim0.png,1,2,3.5,4,3,\r\nim1.png,0,0,16,12,0,"a, b"\r\n'
FORMS = {
    "COCO boxes": Form("folder", FOLDER | {"boxes": "f.json"}, "f.json", json.dumps(COCO), coco_truth),
    "COCO polygons": Form("folder", FOLDER | {"polygons": "f.json"}, "f.json", json.dumps(SHAPES), coco_truth),
    "CSV boxes": Form("folder", FOLDER | {"boxes": "f.csv"}, "f.csv", BOXES, csv_truth),
    "CSV tags": Form("folder", FOLDER | {"tags": "f.csv"}, "f.csv", "image,class_id\nim0,3\nim1,4\n", tags_truth),
    "YOLO": Form("yolo", YOLO, "labels/im0.txt", LINES, yolo_truth),
    "CVAT": Form("cvat", FOLDER, "annotations.xml", CVAT, cvat_truth),
    "Label Studio": Form("label_studio", LABEL_STUDIO, "annotations.json", json.dumps(TASKS), label_studio_truth),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    for form in FORMS.values():
        (root / form.path).parent.mkdir(exist_ok=True)
    (root / "images").mkdir()
    (root / "classes.txt").write_text("car\nsign\n")
    for name in STEMS:
        Image.new("RGB", (16, 12)).save(root / "images" / f"{name}.png")
    return root


def marks_of(items) -> list[Mark]:
    """The boxes, tags and known polygons of all items."""
    marks: list[Mark] = []
    for item in items:
        boxed = zip(item.box_ids.tolist(), item.boxes.tolist(), strict=True)
        marks += [(item.name, number, tuple(corners)) for number, corners in boxed]
        marks += [(item.name, number, ()) for number in item.tags.tolist()]
        for shape in item.shapes or ():
            rings = (tuple(ring.ravel().tolist()) for ring in shape.polygons)
            marks += [(item.name, shape.id, tuple(sorted(rings)))] if shape.id >= 0 else []
    return marks


def check(root: Path, form: Form, content: bytes) -> bool:
    """Whether the content is read, as by other hands; else it is refused. What is read can be painted too."""
    (root / form.path).write_bytes(content)
    try:
        items = list_items(form.reader, root, "train", form.options)
    except HeterosegError:
        with suppress(HeterosegError):
            for item in list_items(form.reader, root, "train", {**form.options, "skip_faulty": "true"}):
                read_annotation(item)
        return False
    text = content.decode("utf-8-sig")
    listed = {item.name for item in items}
    assert Counter(marks_of(items)) == Counter(mark for mark in form.truth(text) if mark[0] in listed)
    for item in items:
        try:
            read_annotation(item)
        except HeterosegError:
            continue
    return True


@pytest.mark.parametrize("kind", FORMS)
def test_sound_files_are_read(root, kind):
    assert check(root, FORMS[kind], FORMS[kind].text.encode())


@pytest.mark.parametrize("kind", FORMS)
@given(data=st.data())
def test_damaged_files(root, kind, data):
    check(root, FORMS[kind], data.draw(damaged(FORMS[kind].text.encode()) | st.binary(max_size=100)))


@pytest.mark.parametrize("kind", [kind for kind, form in FORMS.items() if form.path.endswith(".json")])
@given(data=st.data())
def test_json_with_other_values(root, kind, data):
    check(root, FORMS[kind], json.dumps(data.draw(damaged_json(json.loads(FORMS[kind].text)))).encode())


# ---- other layouts: no more than that nothing ends in a traceback
OTHERS: dict[str, tuple[str, list[str], list[int], dict[str, str]]] = {
    "camvid": ("camvid", ["a"], [0, 1, 17], {}),
    "idd": ("idd", ["10/frame1"], [0, 25, 39], {"labels": "polygons"}),
    "a2d2": ("a2d2", ["20181008_095521/cam_front_center/20181008095521_camera_frontcenter_000000091"], [0, 1], {}),
    "nuimages": ("nuimages", ["CAM_FRONT/a"], [0, 1, 24], {}),
    "panoptic": ("coco_panoptic", ["a"], [0, 1, 24], {}),
    "open_images": ("open_images", ["a"], [0], {}),
    "mtsd": ("mtsd", ["a"], [0], {"classes": "classes.txt"}),
    "gtsrb": ("gtsrb", ["00007"], [0], {}),
    "gtsdb": ("gtsdb", ["00007"], [0], {}),
}


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    for kind, (reader, names, ids, options) in OTHERS.items():
        box = ((5, 6, 24, 25, 2011 if kind.startswith("gts") else 3),)
        more = options if reader == "idd" else {}
        WRITERS[reader](folder / kind, "train", samples(names, ids, (box,)), **more)
    (folder / "mtsd/classes.txt").write_text("label 3\n")
    return folder


@pytest.mark.parametrize("kind", OTHERS)
@settings(max_examples=100)
@given(data=st.data())
def test_damaged_files_of_other_layouts(others, kind, data):
    reader, _, _, options = OTHERS[kind]
    root = others / kind
    path = data.draw(st.sampled_from(sorted(p for p in root.rglob("*.*") if p.suffix in (".json", ".csv", ".txt"))))
    sound = path.read_bytes()
    values = damaged_json(json.loads(sound)).map(json.dumps).map(str.encode) if path.suffix == ".json" else st.nothing()
    try:
        path.write_bytes(data.draw(damaged(sound) | values))
        with suppress(HeterosegError):
            for item in list_items(reader, root, "train", {**options, "skip_faulty": "true"}):
                read_annotation(item)
    finally:
        path.write_bytes(sound)
