"""Boxes: GTSDB's gt.txt, CSV and COCO files, and the faults they may have."""

import json

import cv2
import numpy as np
import pytest

from heteroseg.datasets import list_items, read_sample
from tests.datasets.test_datasets import SIZE, assert_same, faults_of, read_all, samples
from tests.writers import WRITERS

BOXES = (((1, 2, 30, 20, 2011), (0, 0, 53, 37, 2042)), (), ((5, 6, 7, 8, 2000),))


def test_gtsdb_round_trip(tmp_path):
    train = samples(["00000", "00007", "00012"], [0, 2011, 2042], BOXES)
    val = samples(["00700"], [0, 2011], BOXES)
    WRITERS["gtsdb"](tmp_path, "train", train)
    WRITERS["gtsdb"](tmp_path, "val", val)
    assert_same(read_all("gtsdb", tmp_path, "train", scoring=True), train)
    assert_same(read_all("gtsdb", tmp_path, "val", scoring=True), val)
    assert read_all("gtsdb", tmp_path, "val")[0].mask is None
    assert (tmp_path / "gt.txt").read_text().splitlines()[0] == "00000.ppm;1;2;29;19;11"  # inclusive


def test_gtsdb_official_splits_and_other_suffixes(tmp_path):
    for name in ("00000", "00599", "00600", "00899"):
        assert cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "07").mkdir()
    assert cv2.imwrite(str(tmp_path / "07" / "00001.png"), np.zeros((9, 9, 3), np.uint8))  # a cropped sign
    (tmp_path / "gt.txt").write_text("00599.ppm;1;1;1;1;0\n00600.ppm;2;2;4;5;42\n")
    train, val = list_items("gtsdb", tmp_path, "train"), list_items("gtsdb", tmp_path, "val")
    assert [i.name for i in train] == ["00000", "00599"]
    assert train[0].boxes.shape == (0, 4)
    assert train[1].boxes.tolist() == [[1, 1, 2, 2]]
    assert train[1].box_ids.tolist() == [2000]
    assert val[0].boxes.tolist() == [[2, 2, 5, 6]]
    assert [i.name for i in list_items("gtsdb", tmp_path, "test")] == ["00600", "00899"]
    (tmp_path / "00599.jpg").unlink()
    (fault,) = faults_of(list_items, "gtsdb", tmp_path, "train")
    assert "00599" in fault


def test_gtsdb_tells_all_bad_lines(tmp_path):
    WRITERS["gtsdb"](tmp_path, "train", samples(["00000"], [0], BOXES))
    bad = [
        "00000.ppm;9;9;8;20;1",
        "00000.ppm;1;2;x;4;1",
        "00000.ppm;1;2;3;4",
        "00000.ppm;1;2;3;4;1.5",
        "00000.ppm;-9;2;3;4;1",
    ]
    (tmp_path / "gt.txt").write_text("\n".join(["00000.ppm;1;2;3;4;1", *bad]))
    faults = faults_of(list_items, "gtsdb", tmp_path, "train")
    kinds = {2: "area", 3: "numbers", 5: "class", 6: "inside"}
    for fault, (line, kind) in zip(faults, kinds.items(), strict=True):
        assert fault.startswith(f"{tmp_path / 'gt.txt'}:{line}: ")
        assert kind in fault
    assert f"the same at {tmp_path / 'gt.txt'}:4;" in faults[1]


@pytest.mark.parametrize("boxes", ["boxes_{split}.csv", "boxes_{split}.json", "all/{split}/b.json"])
def test_folder_with_boxes_round_trip(tmp_path, boxes):
    fractions = (((0.1, 0.2, 52.7, 36.9, 3), (4, 4, 5, 5, 70000)), ())
    train, val = samples(["x/a", "x/b", "y/a"], [0, 300], fractions), samples(["x/a"], [1])
    patterns = {"images": "im/{split}/{name}.png", "masks": "ma/{name}/{split}.png", "boxes": boxes}
    WRITERS["folder"](tmp_path, "train", train, **patterns)
    WRITERS["folder"](tmp_path, "val", val, **patterns)
    assert_same(read_all("folder", tmp_path, "train", patterns), train)
    assert_same(read_all("folder", tmp_path, "val", patterns), val)


def test_folder_one_box_file_for_all_splits(tmp_path):
    images = "images/{split}/{name}.png"
    for split, name in (("train", "a"), ("val", "b"), ("train", "c"), ("val", "c")):
        WRITERS["folder"](tmp_path, split, samples([name], [0]), images, masks=None)
    options = {"images": images, "boxes": "boxes.csv"}
    header = "image,x1,y1,x2,y2,class_id\n"
    (tmp_path / "boxes.csv").write_text(header + "a.png,1,1,2,2,5\nb,1,1,3,3,6\nimages/train/c.png,0,0,9,9,7\n")
    train, val = (list_items("folder", tmp_path, split, options) for split in ("train", "val"))
    assert [(i.name, i.box_ids.tolist()) for i in train] == [("a", [5]), ("c", [7])]
    assert [(i.name, i.box_ids.tolist()) for i in val] == [("b", [6]), ("c", [])]
    (tmp_path / "boxes.csv").write_text(header + "c.png,1,1,2,2,5\n")
    (fault,) = faults_of(list_items, "folder", tmp_path, "val", options)
    assert "expected one image" in fault


def test_folder_tells_all_bad_boxes_of_a_csv(tmp_path):
    WRITERS["folder"](tmp_path, "train", samples(["a"], [0]), masks=None)
    rows = ["a,1,1,9,9,1", "a,nan,1,9,9,1", "a,1,1,1,9,1", "a,1,1,9,9,3.5", "b,1,1,9,9,1", "a,1,1,9", "a,-8,1,9,9,1"]
    (tmp_path / "b.csv").write_text("\n".join(["image,x1,y1,x2,y2,class_id", *rows]))
    options = {"images": "images/{split}/{name}.png", "boxes": "b.csv"}
    faults = faults_of(list_items, "folder", tmp_path, "train", options)
    wanted = {3: "numbers", 4: "area", 5: "class id", 6: "'b'", 8: "inside"}
    assert len(faults) == len(wanted)
    for fault, (line, word) in zip(faults, wanted.items(), strict=True):
        assert fault.startswith(f"{tmp_path / 'b.csv'}:{line}: ")
        assert word in fault
    assert f"the same at {tmp_path / 'b.csv'}:7;" in faults[0]
    (tmp_path / "b.csv").write_text("image,x1,y1,x2,y2\na,1,1,2,2\n")
    (fault,) = faults_of(list_items, "folder", tmp_path, "train", options)
    assert "class_id" in fault


def test_folder_tells_all_bad_boxes_of_a_json(tmp_path):
    WRITERS["folder"](tmp_path, "train", samples(["a"], [0]), masks=None)
    images = [{"id": 1, "file_name": "a.png", "width": 53, "height": 37}, {"id": 2, "file_name": "gone.png"}]
    good = {"image_id": 1, "bbox": [40, 30, 13.5, 7], "category_id": 4}
    boxes = [[40, 30, 15, 7], [1, 1, -3, 4], [1, 1, float("nan"), 4], [1, 1]]
    others = [{"image_id": 2}, {"image_id": 9}, {"category_id": 3.5}, {"category_id": True}]
    changes = [{}, *({"bbox": box} for box in boxes), *others]
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"images": images, "annotations": [{**good, **c} for c in changes]}))
    options = {"images": "images/{split}/{name}.png", "boxes": "b.json"}
    faults = faults_of(list_items, "folder", tmp_path, "train", options)
    words = {1: "inside the image of 53x37", 2: "area", 3: "numbers", 5: "gone.png", 6: "image_id 9", 7: "class id"}
    for fault, (i, word) in zip(faults, words.items(), strict=True):
        assert fault.startswith(f"{path}: annotations[{i}]: ")
        assert word in fault
    assert ("the same at annotations[4];" in faults[2], "the same at annotations[8];" in faults[5]) == (True, True)
    path.write_text(json.dumps({"images": images, "annotations": [good]}))
    (item,) = list_items("folder", tmp_path, "train", options)
    assert item.boxes.tolist() == [[40, 30, 53.5, 37]]
    assert read_sample(item).boxes.tolist() == [[40, 30, 53, 37]]  # clipped
    for text in ("{", "[]", '{"images": []}', '{"images": [{"id": 1}, {"id": 1}], "annotations": []}'):
        path.write_text(text)
        (fault,) = faults_of(list_items, "folder", tmp_path, "train", options)
        assert str(path) in fault


def test_boxes_of_a_resized_image_are_told(tmp_path):
    WRITERS["gtsdb"](tmp_path, "train", samples(["00000"], [0], [((1, 1, 99, 20, 2001),)]))
    (item,) = list_items("gtsdb", tmp_path, "train")
    (fault,) = faults_of(read_sample, item)
    assert "53x37" in fault
    assert str(item.image) in fault
