"""Exports of label tools, and datasets of boxes: what was written comes back, what is wrong is told."""

import json

import numpy as np
import pytest

from heteroseg.datasets import list_items
from tests.datasets.test_datasets import PLAIN, faults_of, read_all, samples
from tests.writers import WRITERS

BOXES = (((1, 2, 30, 20, 3), (0, 0, 53, 37, 7)), (), ((5, 6, 7, 8, 0),))
CLASSES = "".join(f"label {i}\n" for i in range(9))
EXPORTS = {"yolo": {}, "cvat": {}, "label_studio": {"classes": "classes.txt"}}
SIGNS = {"open_images": {}, "mtsd": {"classes": "classes.txt"}}


def assert_alike(read, wrote, masks=True):
    """As assert_same, with boxes that went through parts of the image, and JPEG; masks are unknown in boxes."""
    wrote = sorted(wrote, key=lambda s: s.name)
    assert [s.name for s in read] == [s.name for s in wrote]
    for got, want in zip(read, wrote, strict=True):
        assert got.image.shape == want.image.shape
        if masks:
            known = got.mask >= 0
            assert np.array_equal(got.mask[known], want.mask[known])
            assert known[want.mask > 0].all() or len(got.boxes)
        else:
            assert got.mask is None
        assert np.allclose(got.boxes, want.boxes, atol=1e-3)
        assert np.array_equal(got.box_ids, want.box_ids)


@pytest.mark.parametrize("reader", [*EXPORTS, *SIGNS])
def test_what_was_written_is_read(tmp_path, reader):
    (tmp_path / "classes.txt").write_text(CLASSES)
    train, val = samples(PLAIN, [0, 1, 8], BOXES), samples(["v"], [2], BOXES)
    for split, wrote in (("train", train), ("val", val)):
        WRITERS[reader](tmp_path, split, wrote)
    options = EXPORTS.get(reader, SIGNS.get(reader))
    assert_alike(read_all(reader, tmp_path, "train", options), train, reader in EXPORTS)
    assert_alike(read_all(reader, tmp_path, "val", options), val, reader in EXPORTS)


@pytest.mark.parametrize("reader", ["cvat", "label_studio", "mtsd", "open_images"])
def test_names_that_are_nearly_a_class_are_told(tmp_path, reader):
    WRITERS[reader](tmp_path, "train", samples(PLAIN, [0], BOXES))
    (tmp_path / "classes.txt").write_text(CLASSES.replace("label 3", "Label_3"))
    listing = list_items(reader, tmp_path, "train", {"classes": "classes.txt", "others": "99"})
    assert sorted(np.concatenate([item.box_ids for item in listing]).tolist()) == [0, 7, 99]
    assert "'label 3' is no class but counts as `others`; the class is 'Label_3'" in listing.notes


@pytest.mark.parametrize("reader", ["cvat", "label_studio", "mtsd"])
def test_a_mark_without_a_name_is_none_of_the_others(tmp_path, reader):
    WRITERS[reader](tmp_path, "train", samples(["a"], [0], BOXES))
    (tmp_path / "classes.txt").write_text(CLASSES)
    (path,) = (path for path in tmp_path.rglob("a*") if path.suffix in (".json", ".xml"))
    path.write_text(path.read_text().replace('"label 3"', '""'))
    (fault,) = faults_of(list_items, reader, tmp_path, "train", {"classes": "classes.txt", "others": "99"})
    assert "expected the name of a class, found ''" in fault


@pytest.mark.parametrize("reader", EXPORTS)
def test_boxes_alone_give_no_mask_and_shapes_on_a_background_do(tmp_path, reader):
    (tmp_path / "classes.txt").write_text(CLASSES)
    wrote = samples(["a", "b"], [0, 4], BOXES)
    WRITERS[reader](tmp_path, "train", wrote, background=0)
    assert_alike(read_all(reader, tmp_path, "train", {**EXPORTS[reader], "background": "0"}), wrote)
    unknown = read_all(reader, tmp_path, "train", EXPORTS[reader])[0].mask
    assert np.unique(unknown).tolist() == [-1, 4]
    for item in wrote:
        item.mask[:] = 0
    WRITERS[reader](tmp_path, "train", wrote, background=0)
    assert_alike(read_all(reader, tmp_path, "train", EXPORTS[reader]), wrote, masks=False)
    assert "id" in faults_of(list_items, reader, tmp_path, "train", {**EXPORTS[reader], "background": "-1"})[0]


@pytest.mark.parametrize("reader", ["label_studio", "mtsd"])
def test_class_lists(tmp_path, reader):
    WRITERS[reader](tmp_path, "train", samples(["a"], [3, 4], BOXES))
    assert "text file" in faults_of(list_items, reader, tmp_path, "train")[0]
    assert "gone.txt" in faults_of(list_items, reader, tmp_path, "train", {"classes": "gone.txt"})[0]
    (tmp_path / "c.txt").write_text("label 7\nlabel 4\n")
    faults = faults_of(list_items, reader, tmp_path, "train", {"classes": "c.txt"})
    assert all("'label 3'" in fault for fault in faults)
    (item,) = list_items(reader, tmp_path, "train", {"classes": "c.txt", "others": "77"})
    assert item.box_ids.tolist() == [77, 0]
    (item,) = list_items(reader, tmp_path, "train", {"others": "5"})
    assert item.box_ids.tolist() == [5, 5]
    (tmp_path / "c.txt").write_text("a\na\n")
    assert "c.txt:2" in faults_of(list_items, reader, tmp_path, "train", {"classes": "c.txt"})[0]


# ---- YOLO


def test_yolo_lines(tmp_path):
    WRITERS["yolo"](tmp_path, "train", samples(["a", "b"], [0], ((),)))
    text = tmp_path / "labels/train/a.txt"
    (tmp_path / "labels/train/b.txt").unlink()  # an image without objects
    text.write_text("3 0.5 0.5 0.2 0.2\n\n5 0.1 0.1 0.9 0.1 0.9 0.9\n6 0.85 0.15 0.88 0.15 0.88 0.2\n")
    a, b = read_all("yolo", tmp_path, "train")
    assert a.box_ids.tolist() == [3]
    assert np.allclose(a.boxes, [[0.4 * 53, 0.4 * 37, 0.6 * 53, 0.6 * 37]], atol=1e-3)
    assert (a.mask[9, 40], a.mask[6, 46], a.mask[30, 5]) == (5, 6, -1)
    assert (b.boxes.shape, b.mask) == ((0, 4), None)
    bad = [
        "x 0.5 0.5 0.2 0.2",
        "1 0.5 0.5 0.2",
        "1 0.9 0.5 0.4 0.2",
        "1 0.5 0.5 0 0.2",
        "1 0.1 0.1 0.2 0.2 0.3",
        "1.0 1 1 1 1",
    ]
    text.write_text("\n".join(bad))
    faults = faults_of(list_items, "yolo", tmp_path, "train")
    assert sorted(fault.split(": ")[0] for fault in faults) == [f"{text}:{i}" for i in (1, 2, 3, 4)]
    assert all(any(f"the same at {text}:{i}" in fault for fault in faults) for i in (5, 6))
    text.unlink()
    assert "`labels`" in faults_of(list_items, "yolo", tmp_path, "train")[0]
    assert "did you mean 'train'" in faults_of(list_items, "yolo", tmp_path, "trian")[0]
    WRITERS["folder"](tmp_path, "other", samples(["a"], [0]), "{split}/images/{name}.png", None)
    options = {"images": "{split}/images/{name}.*", "labels": "{split}/labels/{name}.txt"}
    assert "other/labels" in faults_of(list_items, "yolo", tmp_path, "other", options)[0]


# ---- CVAT

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>car</name></label><label><name>dog</name></label></labels></task></meta>
<image id="0" name="sub/a.png" width="53" height="37">{shapes}</image></annotations>"""


def cvat_mask(tmp_path, shapes, options=None):
    (tmp_path / "annotations.xml").write_text(XML.format(shapes=shapes))
    (item,) = read_all("cvat", tmp_path, "train", options)
    return item


def test_cvat_shapes(tmp_path):
    WRITERS["folder"](tmp_path, "", samples(["sub/a", "unlisted"], [0]), "images/{name}.png", None)
    item = cvat_mask(
        tmp_path,
        '<polygon label="car" points="5,5;20,5;20,20;5,20" z_order="1"/>'
        '<polygon label="dog" points="0,0;52,0;52,36;0,36" z_order="0"/>'
        '<ellipse label="dog" cx="12" cy="12" rx="3" ry="2" z_order="2"/>'
        '<mask label="car" rle="1, 2, 1" left="40" top="30" width="2" height="2" z_order="2"/>'
        '<box label="dog" xtl="1.5" ytl="2" xbr="9" ybr="8" z_order="0"/><tag label="dog"/>',
    )
    assert item.name == "sub/a"
    assert (item.mask[6, 6], item.mask[30, 30], item.mask[12, 12], item.mask[14, 15]) == (0, 1, 1, 0)
    assert item.mask[30:32, 40:42].tolist() == [[1, 0], [0, 1]]
    assert (item.boxes.tolist(), item.box_ids.tolist()) == ([[1.5, 2, 9, 8]], [1])
    turned = cvat_mask(tmp_path, '<box label="dog" xtl="10" ytl="18" xbr="40" ybr="20" rotation="90"/>')
    rows, columns = np.nonzero(turned.mask == 1)
    assert (rows.min(), rows.max(), columns.min(), columns.max(), len(rows)) == (4, 33, 24, 25, 60)
    assert len(turned.boxes) == 0
    (tmp_path / "c.txt").write_text("car\n")
    box = '<box label="dog" xtl="1" ytl="2" xbr="9" ybr="8"/>'
    assert cvat_mask(tmp_path, box, {"classes": "c.txt", "others": "9"}).box_ids.tolist() == [9]


def test_cvat_faults(tmp_path):
    WRITERS["folder"](tmp_path, "", samples(["a"], [0]), "images/{name}.png", None)
    for shape, word in (
        ('<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8"/>', "'cat'"),
        ('<box label="car" xtl="9" ytl="2" xbr="1" ybr="8"/>', "area"),
        ('<box label="car" xtl="9" ytl="2" xbr="99" ybr="8"/>', "inside"),
        ('<polygon label="car" points="1,2;3"/>', "three"),
        ('<polyline label="car" points="1,2;3,4"/>', "polyline"),
        ('<mask label="car" rle="1,x" left="4" top="3" width="2" height="2"/>', "run-length"),
        ('<mask label="car" rle="1,2" left="4" top="3" width="2" height="2"/>', "run-length"),
    ):
        (tmp_path / "annotations.xml").write_text(XML.format(shapes=shape).replace("sub/", ""))
        (fault,) = faults_of(list_items, "cvat", tmp_path, "train")
        assert word in fault
        assert f"{tmp_path / 'annotations.xml'}: image 'a.png'" in fault
    shapes = '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8"/><box label="car" xtl="9" ytl="2" xbr="1" ybr="8"/>'
    text = XML.format(shapes=shapes).replace("sub/", "")
    (tmp_path / "annotations.xml").write_text(text.replace("</annotations>", '<image name="b.png"/></annotations>'))
    faults = faults_of(list_items, "cvat", tmp_path, "train")
    assert ["'cat'" in faults[0], "area" in faults[1], "b.png" in faults[2]] == [True, True, True], "all at once"
    (tmp_path / "annotations.xml").write_text(XML.format(shapes=""))
    assert "sub/a.png" in faults_of(list_items, "cvat", tmp_path, "train")[0]
    for text, word in (("<annotations>", "XML"), ("<!DOCTYPE x><annotations/>", "document type"), ("<x/>", "CVAT")):
        (tmp_path / "annotations.xml").write_text(text)
        assert word in faults_of(list_items, "cvat", tmp_path, "train")[0]
    assert "gone.xml" in faults_of(list_items, "cvat", tmp_path, "train", {"annotations": "gone.xml"})[0]


# ---- Label Studio


def tasks_of(kind, value, image="/data/upload/1/0a1b2c3d-a.png", **more):
    mark = {"type": kind, "original_width": 53, "original_height": 37, "value": value}
    return [{"data": {"image": image}, "annotations": [{"result": [mark], **more}]}]


def test_label_studio_shapes(tmp_path):
    WRITERS["folder"](tmp_path, "", samples(["a", "s/b"], [0]), "images/{name}.png", None)
    path, options = tmp_path / "annotations.json", {"classes": "c.txt"}
    (tmp_path / "c.txt").write_text("cat\ndog\n")
    tasks = tasks_of("polygonlabels", {"points": [[10, 10], [90, 10], [90, 90]], "polygonlabels": ["dog"]})
    tasks += tasks_of(
        "ellipselabels",
        {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "ellipselabels": ["cat"]},
        "/data/local-files/?d=photos/s/b.png",
    )
    tasks += [{"data": {"image": "c.png"}, "annotations": []}]
    path.write_text(json.dumps(tasks))
    a, b = read_all("label_studio", tmp_path, "train", options)
    assert (a.name, a.mask[10, 40], a.mask[30, 5]) == ("a", 1, -1)
    assert (b.name, b.mask[18, 26], b.mask[2, 2]) == ("s/b", 0, -1)
    turned = {"x": 50, "y": 50, "width": 20, "height": 5, "rotation": 90, "rectanglelabels": ["dog"]}
    path.write_text(json.dumps(tasks_of("rectanglelabels", turned)))
    (a,) = read_all("label_studio", tmp_path, "train", options)
    rows, columns = np.nonzero(a.mask == 1)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows)) == (10, 2, 20)  # 10.6 by 1.85
    path.write_text(json.dumps(tasks_of("rectanglelabels", turned, was_cancelled=True)))
    assert "found none" in faults_of(list_items, "label_studio", tmp_path, "train", options)[0]


def test_label_studio_faults(tmp_path):
    WRITERS["folder"](tmp_path, "", samples(["a"], [0]), "images/{name}.png", None)
    path, options = tmp_path / "annotations.json", {"classes": "c.txt"}
    (tmp_path / "c.txt").write_text("cat\n")
    box = {"x": 1, "y": 1, "width": 9, "height": 9}
    for kind, value, word in (
        ("rectanglelabels", {**box, "rectanglelabels": ["cow"]}, "'cow'"),
        ("rectanglelabels", {**box, "rectanglelabels": []}, "one label"),
        ("rectanglelabels", {**box, "x": 99, "rectanglelabels": ["cat"]}, "inside"),
        ("keypointlabels", {"x": 1, "keypointlabels": ["cat"]}, "keypointlabels"),
        ("brushlabels", {"rle": [1, 2, 3], "brushlabels": ["cat"]}, "run-length"),
        ("polygonlabels", {"points": [[1, 1]], "polygonlabels": ["cat"]}, "three"),
        ("rectanglelabels", {**box, "rectanglelabels": [["cat"]]}, "expected one label"),
        ("polygonlabels", {"points": [[1, 1], 2, [3, 4]], "polygonlabels": ["cat"]}, "three"),
        ("polygonlabels", {"points": [[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4]], "polygonlabels": ["cat"]}, "three"),
    ):
        path.write_text(json.dumps(tasks_of(kind, value)))
        (fault,) = faults_of(list_items, "label_studio", tmp_path, "train", options)
        assert word in fault
        assert f"{path}: [0]" in fault
    sound = tasks_of("rectanglelabels", {**box, "rectanglelabels": ["cat"]})[0]
    (mark,) = sound["annotations"][0]["result"]
    for given, word in (
        ([7], "expected a list of results, found '7'"),
        (True, "expected a list of results, found 'True'"),
        ([[]], "expected a list of results, found '[]'"),
        ([{"result": {"0": mark}}], "expected a list of results, found {'0'"),
        ([{"result": [mark, [mark]]}], "result[1]: expected rectanglelabels"),
        ([{"result": [mark, mark | {"original_width": 999}]}], "expected one size of the image"),
    ):
        path.write_text(json.dumps([sound | {"annotations": given}]))
        assert word in faults_of(list_items, "label_studio", tmp_path, "train", options)[0]
    path.write_text(json.dumps([sound | {"data": {"image": "http://[a.png"}}]))
    assert "expected an image" in faults_of(list_items, "label_studio", tmp_path, "train", options)[0]
    path.write_text(json.dumps(tasks_of("choices", {"choices": ["x"]}, "https://host/b.png")))
    assert "'b.png'" in faults_of(list_items, "label_studio", tmp_path, "train", options)[0]
    path.write_text("[1]")
    assert "tasks" in faults_of(list_items, "label_studio", tmp_path, "train", options)[0]


# ---- Open Images, MTSD, GTSRB


def test_open_images_tables(tmp_path):
    WRITERS["open_images"](tmp_path, "train", samples(["a"], [0], BOXES))
    table = tmp_path / "train-annotations-bbox.csv"
    header, first, *_ = table.read_text().splitlines()
    table.write_text("\n".join([header, first, "elsewhere,/m/99,0,0,0,0"]))
    (item,) = list_items("open_images", tmp_path, "train")  # boxes of images that are not there are left out
    assert (item.box_ids.tolist(), item.mask) == ([3], None)
    names = tmp_path / "class-descriptions-boxable.csv"
    names.write_text("LabelName,DisplayName\n/m/3,Car\n/m/7,Traffic sign\n")
    assert list_items("open_images", tmp_path, "train")[0].box_ids.tolist() == [0]
    (tmp_path / "c.txt").write_text("Tree\nCar\n")
    assert list_items("open_images", tmp_path, "train", {"classes": "c.txt"})[0].box_ids.tolist() == [1]
    table.write_text("\n".join([header, "a,/m/55,0,1,0,1", "a,/m/3,0,1.2,0,1", "a,/m/3,0"]))
    faults = faults_of(list_items, "open_images", tmp_path, "train")
    assert ["'/m/55'" in faults[0], "inside" in faults[1], "fields" in faults[2]] == [True, True, True]
    table.write_bytes(header.encode() + b"\na,/m/\xff,0,1,0,1")
    assert "UTF-8" in faults_of(list_items, "open_images", tmp_path, "train")[0]
    table.write_text("\n".join([header, "a,/m/3,0,1.2,0,1"]))
    assert "inside" in faults_of(list_items, "open_images", tmp_path, "train")[0]
    table.write_text("ImageID\n")
    assert "LabelName" in faults_of(list_items, "open_images", tmp_path, "train")[0]
    names.write_text("/m/3\n")
    assert str(names) in faults_of(list_items, "open_images", tmp_path, "train")[0]
    table.unlink()
    names.write_text("/m/3,Car\n")
    assert str(table) in faults_of(list_items, "open_images", tmp_path, "train")[0]


def test_mtsd_panoramas_and_faults(tmp_path):
    WRITERS["mtsd"](tmp_path, "train", samples(["k"], [0], BOXES[2:]))
    path = tmp_path / "annotations/k.json"
    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), (50, 1, 3, 9), strict=True))
    parts = {"left": {**box, "xmax": 53}, "right": {**box, "xmin": 0}}
    note = {"width": 53, "height": 37, "objects": [{"label": "label 0", "bbox": {**box, "cross_boundary": parts}}]}
    path.write_text(json.dumps(note))
    (item,) = list_items("mtsd", tmp_path, "train", {"others": "1"})
    assert item.boxes.tolist() == [[50, 1, 53, 9], [0, 1, 3, 9]]
    note["objects"] = [{"label": "label 0", "bbox": box}, {"label": "label 0"}]
    path.write_text(json.dumps(note))
    faults = faults_of(list_items, "mtsd", tmp_path, "train", {"others": "1"})
    assert ["area" in faults[0], "numbers" in faults[1]] == [True, True]
    path.unlink()
    assert str(path) in faults_of(list_items, "mtsd", tmp_path, "train", {"others": "1"})[0]
    assert "splits/val.txt" in faults_of(list_items, "mtsd", tmp_path, "val", {"others": "1"})[0]
    (tmp_path / "images/k.jpg").unlink()
    assert "images/k" in faults_of(list_items, "mtsd", tmp_path, "train", {"others": "1"})[0]


def test_gtsrb(tmp_path):
    boxes = (((5, 6, 24, 25, 2011),),)
    train, test = samples(["00011/00000_00029", "00000/00001_00000"], [0], boxes), samples(["00007"], [0], boxes)
    WRITERS["gtsrb"](tmp_path, "one", train)
    WRITERS["gtsrb"](tmp_path, "two", test)
    assert_alike(read_all("gtsrb", tmp_path, "train"), train, masks=False)
    assert_alike(read_all("gtsrb", tmp_path, "val"), test, masks=False)
    assert_alike(read_all("gtsrb", tmp_path, "two"), test, masks=False)
    (tmp_path / "Final_Test/Images/GT-final_test.csv").rename(tmp_path / "GT-final_test.csv")
    assert_alike(read_all("gtsrb", tmp_path, "test"), test, masks=False)
    table = tmp_path / "Final_Training/Images/00011/GT-00011.csv"
    assert table.read_text().splitlines()[1] == "00000_00029.ppm;53;37;5;6;24;25;11"
    table.write_text(table.read_text().replace(";24;", ";4;"))
    (fault,) = faults_of(list_items, "gtsrb", tmp_path, "train")
    assert all(part in fault for part in (f"{table}:2", "area"))
    table.write_text("Filename;ClassId\n")
    assert f"{table}:1" in faults_of(list_items, "gtsrb", tmp_path, "train")[0]
    table.unlink()
    assert str(table) in faults_of(list_items, "gtsrb", tmp_path, "train")[0]
    assert "vol.txt" in faults_of(list_items, "gtsrb", tmp_path, "vol")[0]
    assert "one box" in faults_of(WRITERS["gtsrb"], tmp_path, "train", samples(["1"], [0]))[0]
