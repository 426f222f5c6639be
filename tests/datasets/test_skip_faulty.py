"""`skip_faulty` leaves out what is faulty and no more: counted, listed, and unknown ground in what is trained."""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from heteroseg.datasets import list_items, read_sample
from heteroseg.datasets.sample import Listing
from heteroseg.errors import HeterosegError
from heteroseg.labels.space import LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy
from heteroseg.supervision.targets import encode

HEIGHT, WIDTH = 30, 40
TREE = build_taxonomy(TaxonomyFile(name="t", tree={"root": ["sky", "thing"], "thing": ["car", "sign"]}))
LABELS = [{"id": 0, "name": "car", "nodes": "car"}, {"id": 1, "name": "sign", "nodes": "sign"}]
AROUND = {"excludes": "thing", "margin": None}
SPACE = build_label_space(LabelSpaceFile(name="s", taxonomy="t", labels=LABELS, around_boxes=AROUND), TREE)
SOUND = (2, 3, 8, 9)  # x1, y1, x2, y2 of a sign in each image
FAULTY = {  # what is wrong: a box, its class, and the pixels of which nothing may be taught, if any
    "no width": ((20, 5, 20, 15), 1, None),
    "not finite": (("nan", 5, 30, 15), 1, None),
    "over the edge": ((30, 20, 60, 28), 1, (30, 20, 40, 28)),
    "outside": ((70, 20, 80, 28), 1, None),
    "far": ((0, 20, 1e12, 28), 1, (0, 20, 40, 28)),
    "no class": ((20, 5, 30, 15), "x", (20, 5, 30, 15)),
}


def write_images(root: Path, folder: str = "") -> None:
    for name in "ab":
        path = root / folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def write_csv(root: Path, box, label) -> dict:
    write_images(root)
    with (root / "boxes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows(
            [["image", "x1", "y1", "x2", "y2", "class_id"], ["a", *box, label], ["a", *SOUND, 1], ["b", *SOUND, 1]]
        )
    return {"images": "{name}.png", "boxes": "boxes.csv"}


def coco(root: Path, box, label, size: bool, polygons: bool) -> dict:
    write_images(root)

    def note(image, corners, category):
        x1, y1, x2, y2 = map(float, corners)
        ring = [[x1, y1, x2, y1, x2, y2, x1, y2]] if polygons and np.isfinite(x1) else None
        return {"image_id": image, "bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": category, "segmentation": ring}

    more = {"width": WIDTH, "height": HEIGHT} if size else {}
    images = [{"id": i, "file_name": f"{name}.png", **more} for i, name in enumerate("ab")]
    notes = [note(0, box, label), note(0, SOUND, 1), note(1, SOUND, 1)]
    (root / "notes.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return {"images": "{name}.png", "polygons" if polygons else "boxes": "notes.json"}


def write_cvat(root: Path, box, label) -> dict:
    write_images(root, "images")
    top = ElementTree.Element("annotations")
    for name, marks in (("a", [(box, label), (SOUND, 1)]), ("b", [(SOUND, 1)])):
        image = ElementTree.SubElement(top, "image", name=f"{name}.png", width=str(WIDTH), height=str(HEIGHT))
        for corners, number in marks:
            places = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(str, corners), strict=True))
            ElementTree.SubElement(image, "box", label={0: "car", 1: "sign"}.get(number, "?"), **places)
    ElementTree.ElementTree(top).write(root / "annotations.xml")
    (root / "classes.txt").write_text("car\nsign\n")
    return {"classes": "classes.txt"}


def write_label_studio(root: Path, box, label) -> dict:
    write_images(root, "images")

    def mark(corners, number):
        x1, y1, x2, y2 = (100 * float(v) / full for v, full in zip(corners, (WIDTH, HEIGHT) * 2, strict=True))
        names = [{0: "car", 1: "sign"}.get(number, "?")]
        value = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0, "rectanglelabels": names}
        return {"type": "rectanglelabels", "value": value, "original_width": WIDTH, "original_height": HEIGHT}

    marks = (("a", [mark(box, label), mark(SOUND, 1)]), ("b", [mark(SOUND, 1)]))
    tasks = [{"data": {"image": f"/data/{name}.png"}, "annotations": [{"result": result}]} for name, result in marks]
    (root / "annotations.json").write_text(json.dumps(tasks))
    (root / "classes.txt").write_text("car\nsign\n")
    return {"classes": "classes.txt"}


def write_yolo(root: Path, box, label) -> dict:
    write_images(root, "images/train")
    (root / "labels/train").mkdir(parents=True)

    def line(corners, number):
        x1, y1, x2, y2 = (float(v) / full for v, full in zip(corners, (WIDTH, HEIGHT) * 2, strict=True))
        return f"{number} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n"

    (root / "labels/train/a.txt").write_text(line(box, label) + line(SOUND, 1))
    (root / "labels/train/b.txt").write_text(line(SOUND, 1))
    return {}


WRITERS = {
    "csv": ("folder", write_csv),
    "coco": ("folder", lambda root, box, label: coco(root, box, label, size=True, polygons=False)),
    "coco without sizes": ("folder", lambda root, box, label: coco(root, box, label, size=False, polygons=False)),
    "polygons": ("folder", lambda root, box, label: coco(root, box, label, size=False, polygons=True)),
    "cvat": ("cvat", write_cvat),
    "label_studio": ("label_studio", write_label_studio),
    "yolo": ("yolo", write_yolo),
}


def skipping(reader: str, root: Path, options: dict, split: str = "train") -> Listing:
    return list_items(reader, root, split, {**options, "skip_faulty": "true"})


def fault_of(reader: str, root: Path, options: dict, split: str = "train") -> str:
    """What is told without the option, be it of the list or of an image."""
    with pytest.raises(HeterosegError) as error:
        [read_sample(item) for item in list_items(reader, root, split, options)]
    return error.value.faults[0]


CASES = [(form, kind) for form in WRITERS for kind in FAULTY if (form, kind) != ("polygons", "no width")]  # a line


@pytest.mark.parametrize(("form", "kind"), CASES)
def test_only_what_is_faulty_is_left_out(form, kind, tmp_path):
    (box, label, unknown), (reader, write) = FAULTY[kind], WRITERS[form]
    options = write(tmp_path, box, label)
    assert "expected" in fault_of(reader, tmp_path, options)
    listing = skipping(reader, tmp_path, options)
    assert [item.name for item in listing] == ["a", "b"]
    assert len(listing.faults) == 1
    a, b = (encode(read_sample(item), SPACE, 0) for item in listing)
    np.testing.assert_array_equal(b.boxes, np.where(area(SOUND), 1, 2) if form != "polygons" else b.boxes)
    taught = np.where(a.mask >= 0, a.mask, a.boxes)
    nothing = np.zeros((HEIGHT, WIDTH), bool) if unknown is None else area(unknown)
    np.testing.assert_array_equal(taught, np.where(area(SOUND), 1, np.where(nothing, -1, 2)))


def area(box) -> np.ndarray:
    x1, y1, x2, y2 = box
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[y1:y2, x1:x2] = True
    return inside


def test_what_only_the_image_shows(tmp_path):
    """A box in parts that stands out of a large image by more than a pixel, which the list cannot see."""
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "labels/train").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images/train/a.png"), np.zeros((8, 4000), np.uint8))
    (tmp_path / "labels/train/a.txt").write_text("1 0.75 0.5 0.5016 0.5\n0 0.25 0.5 0.1 0.5\n")
    assert "inside the image of 4000x8" in fault_of("yolo", tmp_path, {})
    (item,) = listing = skipping("yolo", tmp_path, {})
    assert len(listing.faults) == 1
    assert read_sample(item).box_ids.tolist() == [-1, 0]


def test_tags(tmp_path):
    write_images(tmp_path)
    (tmp_path / "tags.csv").write_text("image,class_id\na,0\na,x\nc,1\nb,1\n")
    options = {"images": "{name}.png", "tags": "tags.csv"}
    assert "expected" in fault_of("folder", tmp_path, options)
    listing = skipping("folder", tmp_path, options)
    assert [item.tags.tolist() for item in listing] == [[0], [1]]
    assert ["tags.csv:3" in listing.faults[0], "tags.csv:4" in listing.faults[1], len(listing.faults)] == [
        True,
        True,
        2,
    ]


def test_boxes_of_gtsdb(tmp_path):
    write_images(tmp_path, "images")
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "gt.txt").write_text("a.png;30;20;60;27;1\na.png;2;3;7;8;1\nb.png;2;3;7;8;1\n")
    assert "inside the image of 40x30" in fault_of("gtsdb", tmp_path, {})
    listing = skipping("gtsdb", tmp_path, {})
    assert [item.box_ids.tolist() for item in listing] == [[-1, 2001], [2001]]
    assert len(listing.faults) == 1


def test_polygon_files(tmp_path):
    """Cityscapes' and IDD's polygons are read with their image: unknown labels are unknown ground, in their order."""
    for folder in ("leftImg8bit", "gtFine"):
        (tmp_path / folder / "train" / "1").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "leftImg8bit/train/1/a_leftImg8bit.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    whole, part = [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], [[4, 4], [20, 4], [20, 20], [4, 20]]
    objects = [
        {"label": "road", "polygon": whole},
        {"label": "raod", "polygon": part},
        {"label": "sky", "polygon": part[:2]},
        {"label": "car", "polygon": [[6, 6], [9, 6], [9, 9], [6, 9]]},
    ]
    data = {"imgWidth": WIDTH, "imgHeight": HEIGHT, "objects": objects}
    (tmp_path / "gtFine/train/1/a_gtFine_polygons.json").write_text(json.dumps(data))
    options = {"labels": "polygons"}
    assert "'raod'" in fault_of("idd", tmp_path, options)
    (item,) = listing = skipping("idd", tmp_path, options)
    assert [("objects[1]" in fault, "objects[2]" in fault) for fault in listing.faults] == [
        (True, False),
        (False, True),
    ]
    mask = read_sample(item).mask
    assert [mask[0, 0], mask[7, 7], mask[15, 15], mask[25, 30]] == [0, 12, -1, 0]


def test_an_image_whose_mask_has_another_size_is_left_out(tmp_path):
    write_images(tmp_path)
    for name, width in (("a", WIDTH), ("b", WIDTH + 1)):
        cv2.imwrite(str(tmp_path / f"mask_{name}.bmp"), np.zeros((HEIGHT, width), np.uint8))
    options = {"images": "{name}.png", "masks": "mask_{name}.bmp"}
    assert "of one size" in fault_of("folder", tmp_path, options)
    listing = skipping("folder", tmp_path, options)
    assert [item.name for item in listing] == ["a"]
    assert "of one size" in listing.faults[0]
    cv2.imwrite(str(tmp_path / "mask_a.bmp"), np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    with pytest.raises(HeterosegError) as error:  # nothing is left
        skipping("folder", tmp_path, options)
    assert ["of one size" in fault for fault in error.value.faults] == [False, True, True]


def test_boxes_of_two_files_add_up(tmp_path):
    """Boxes beside the polygons of one file and boxes of another."""
    options = coco(tmp_path, (20, 5, 30, 15), 0, size=True, polygons=False)
    notes = (tmp_path / "notes.json").rename(tmp_path / "first.json")
    more = write_csv(tmp_path, (12, 5, 18, 15), 1)
    listing = list_items("folder", tmp_path, "train", {**options, "boxes": more["boxes"], "polygons": notes.name})
    assert sorted(listing[0].box_ids.tolist()) == [0, 1, 1, 1]
