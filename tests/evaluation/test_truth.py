"""What a pixel is scored as: masks, boxes where these say nothing, and nothing in crowds; against pycocotools."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from heteroseg.curation.show import show_data
from heteroseg.datasets import list_items, read_mask, read_sample
from heteroseg.evaluation.scores import truth
from heteroseg.experiment.config import Experiment
from heteroseg.experiment.sources import Source, open_sources

SIZE = (30, 40)
TREE = "name: t\ntree: {root: [sky, ground, thing], thing: [car, sign]}\n"
SPACE = """name: s
taxonomy: tree.yaml
labels: [{id: 1, name: sky, nodes: sky}, {id: 2, name: car, nodes: car}, {id: 3, name: sign, nodes: sign}]
"""
CAR = {"category_id": 2, "bbox": [2, 3, 10, 8], "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]], "iscrowd": 0}
SIGN = {"category_id": 3, "bbox": [20, 10, 5, 5], "iscrowd": 0}
AROUND = "around_boxes: {excludes: sign, margin: 1}\n"


def crowd_of(x: int, y: int, width: int, height: int) -> dict:
    """A crowd of signs as COCO has it: a run-length code."""
    pixels = np.zeros(SIZE, np.uint8, order="F")
    pixels[y : y + height, x : x + width] = 1
    pixels[y, x] = 0  # it is no rectangle
    code = coco_mask.encode(pixels)
    counts = code["counts"].decode()
    return {
        "category_id": 3,
        "bbox": [x, y, width, height],
        "segmentation": {"size": list(SIZE), "counts": counts},
        "iscrowd": 1,
    }


def source(root: Path, notes: dict[str, list[dict]], more: str = "", **options: str) -> Source:
    """A dataset of a COCO json whose annotation is `notes`, by image."""
    annotations = [
        {"id": i, "image_id": list(notes).index(n)} | a
        for i, (n, a) in enumerate((n, a) for n in notes for a in notes[n])
    ]
    images = [{"id": i, "file_name": f"{n}.png", "width": 40, "height": 30} for i, n in enumerate(notes)]
    categories = [{"id": i, "name": name} for i, name in ((1, "sky"), (2, "car"), (3, "sign"))]
    root.mkdir(exist_ok=True)
    (root / "notes.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    for name in notes:
        cv2.imwrite(str(root / f"{name}.png"), np.zeros((*SIZE, 3), np.uint8))
    (root / "tree.yaml").write_text(TREE)
    (root / "space.yaml").write_text(SPACE + more)
    options = {"images": "{name}.png", "polygons": "notes.json", **options}
    dataset = {"root": ".", "reader": "folder", "label_space": "space.yaml", "options": options, "val": None}
    (opened,) = open_sources(Experiment(name="e", taxonomy="tree.yaml", datasets={"d": dataset}), root)
    return opened


def truths(of: Source) -> dict[str, np.ndarray]:
    """Ids by image, 0 where nothing is known."""
    ids = np.array([1, 2, 3, 0])
    return {item.name: ids[truth(read_sample(item), of.space)] for item in of.train}


def of_pycocotools(root: Path, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the shapes and boxes of an image that are no crowd, the small ones on top, and what crowds cover."""
    coco = COCO(root / "notes.json")
    notes = sorted(coco.loadAnns(coco.getAnnIds([index])), key=lambda a: -a["bbox"][2] * a["bbox"][3])
    ids, crowd = np.zeros(SIZE, int), np.zeros(SIZE, bool)
    for note in notes:
        x, y, width, height = note["bbox"]
        corners = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        inside = coco.annToMask({"segmentation": corners, **note}) == 1
        crowd |= inside & bool(note["iscrowd"])
        ids[inside & (not note["iscrowd"])] = note["category_id"]
    return ids, crowd


@pytest.mark.parametrize("background", [{}, {"background": "1"}], ids=["sparse", "dense"])
def test_boxes_beside_shapes_and_crowds(tmp_path, background):
    of = source(tmp_path, {"a": [CAR, SIGN, crowd_of(5, 5, 20, 20)], "b": [SIGN]}, **background)
    for index, (name, ids) in enumerate(truths(of).items()):
        want, crowd = of_pycocotools(tmp_path, index)
        ground = int(background.get("background", 0))
        np.testing.assert_array_equal(ids, np.where(want > 0, want, np.where(crowd, 0, ground)), name)


def test_one_polygon_changes_nothing_for_other_images(tmp_path):
    boxed = CAR | {"segmentation": []}
    before = source(tmp_path / "boxes", {"a": [SIGN, boxed], "b": [SIGN, boxed], "c": []}, AROUND)
    after = source(tmp_path / "both", {"a": [SIGN, CAR], "b": [SIGN, boxed], "c": []}, AROUND)
    same, other = truths(before), truths(after)
    for name in "bc":
        np.testing.assert_array_equal(same[name], other[name])
    np.testing.assert_array_equal(same["a"] == 3, other["a"] == 3)  # its box is scored as before
    for place, of in (("x", before), ("y", after)):
        show_data([of], tmp_path / place, None, print)
    shown = [read_mask(tmp_path / place / "maps/d/train/000001.png") for place in "xy"]
    np.testing.assert_array_equal(*shown)  # and what is taught too
    assert set(np.unique(shown[0])) == {0, 2, 3, 4}  # the car, the sign, what surrounds them


def test_nothing_is_shown_or_taught_in_a_crowd(tmp_path):
    of = source(tmp_path, {"a": [SIGN, crowd_of(14, 4, 20, 20)]}, AROUND)
    show_data([of], tmp_path / "shown", None, print)
    shown = read_mask(tmp_path / "shown" / "maps/d/train/000000.png")
    want, crowd = of_pycocotools(tmp_path, 0)
    assert set(shown[crowd & (want == 0)]) == {0}
    np.testing.assert_array_equal(shown == 3, want == 3)


def test_crowds_of_panoptic_segments_are_unknown(tmp_path):
    (tmp_path / "annotations" / "panoptic_val").mkdir(parents=True)
    (tmp_path / "val").mkdir()
    numbers = np.repeat([0, 7, 300, 70000], 10)[None].repeat(30, 0)
    rgb = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype(np.uint8)  # as panopticapi does
    cv2.imwrite(str(tmp_path / "annotations/panoptic_val/a.png"), rgb[..., ::-1])
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"val/{name}.jpg"), np.zeros((*SIZE, 3), np.uint8))
    segments = [
        {"id": 7, "category_id": 2, "iscrowd": 0},
        {"id": 300, "category_id": 3, "iscrowd": 1},
        {"id": 70000, "category_id": 3},
    ]
    notes = [{"image_id": 1, "file_name": "a.png", "segments_info": segments}]
    data = {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}], "annotations": notes}
    (tmp_path / "annotations/panoptic_val.json").write_text(
        json.dumps(data | {"categories": [{"id": 2, "name": "car"}]})
    )
    listing = list_items("coco_panoptic", tmp_path, "val", {"background": "1"})
    assert read_sample(listing[0]).mask[0, ::10].tolist() == [1, 2, -2, 3]
    assert listing.names == {2: "car"}
    (note,) = listing.notes
    assert "lists nothing for 1 of 2 images, such as 'b'" in note
