"""Published layouts: those that the folder reader knows by its patterns, and faults in those of other readers."""

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from heteroseg.datasets import list_items, read_sample
from heteroseg.datasets.formats.a2d2 import PALETTE
from heteroseg.datasets.formats.idd import NAMES
from heteroseg.datasets.formats.nuimages import IDS
from heteroseg.labels.space import load_label_space
from tests.datasets.test_datasets import LAYOUTS, SESSIONS, SIZE, assert_same, faults_of, read_all, sample, samples
from tests.writers import WRITERS

# dataset: options as in docs/datasets.md, names as published, label space, splits
FOLDERS = {
    "kitti": (
        {"images": "training/image_2/{name}.*", "masks": "training/semantic/{name}.png", "names": "{split}.txt"},
        ["000000_10", "000199_10"],
        "cityscapes",
    ),
    "bdd100k": (
        {"images": "images/10k/{split}/{name}.*", "masks": "labels/sem_seg/masks/{split}/{name}.png"},
        ["0004a4c0-d4dff0ad", "00067cfb-e535423e"],
        "bdd100k",
    ),
    "acdc": (
        {
            "images": "rgb_anon/*/{split}/{name}_rgb_anon.*",
            "masks": "gt/*/{split}/{name}_gt_labelIds.png",
        },
        ["GOPR0475/GOPR0475_frame_000247", "GP010376/GP010376_frame_000001"],
        "cityscapes",
    ),
    "wilddash2": (
        {"images": "images/{name}.*", "masks": "labels/{name}.png", "names": "{split}.txt"},
        ["ae0000_100000", "zm0004_100000"],
        "wilddash2",
    ),
    "ade20k": (
        {"images": "images/{split}/{name}.*", "masks": "annotations/{split}/{name}.png"},
        ["ADE_train_00000001", "ADE_train_00000002"],
        None,
    ),
    "coco_stuff": (
        {"images": "{split}/{name}.*", "masks": "stuffthingmaps/{split}/{name}.png"},
        ["000000000009", "000000000025"],
        None,
    ),
    "pascal_context": (
        {
            "images": "JPEGImages/{name}.*",
            "masks": "SegmentationClassContext/{name}.png",
            "names": "ImageSets/SegmentationContext/{split}.txt",
        },
        ["2008_000002", "2010_000001"],
        None,
    ),
}


@pytest.mark.parametrize("dataset", FOLDERS)
def test_layouts_that_the_folder_reader_knows(tmp_path, dataset):
    options, names, space = FOLDERS[dataset]
    ids = load_label_space(space).ids.tolist() if space else [0, 1, 59, 255]
    wrote = {split: samples([name], ids) for split, name in zip(("train", "val"), names, strict=True)}
    patterns = {k: v.replace(".*", ".png").replace("*/", "fog/") for k, v in options.items() if k != "names"}
    for split, items in wrote.items():
        WRITERS["folder"](tmp_path, split, items, **patterns)
        if "names" in options:
            path = tmp_path / options["names"].replace("{split}", split)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{item.name}.jpg\n" for item in items))
    for split, items in wrote.items():
        assert_same(read_all("folder", tmp_path, split, options), items)
    list_items("folder", tmp_path, "val", options)[0].mask.unlink()
    assert names[1] in faults_of(list_items, "folder", tmp_path, "val", options)[0]
    assert "vol" in faults_of(list_items, "folder", tmp_path, "vol", options)[0]


def test_lists_of_names_are_checked(tmp_path):
    options = FOLDERS["wilddash2"][0]
    WRITERS["folder"](tmp_path, "", samples(["a", "b"], [0]), "images/{name}.png", "labels/{name}.png")
    (tmp_path / "train.txt").write_text("a\nz\n")
    assert "'z'" in faults_of(list_items, "folder", tmp_path, "train", options)[0]
    (tmp_path / "train.txt").write_text("a\na.jpg\n")
    assert "train.txt:2" in faults_of(list_items, "folder", tmp_path, "train", options)[0]


# ---- COCO's polygons and segments


def coco_json(path, segmentations, size=SIZE):
    images = [{"id": 9, "file_name": "a.png", "height": size[0], "width": size[1]}]
    notes = [
        {"id": i, "image_id": 9, "category_id": i + 1, "area": area, "bbox": [1, 1, 3, 3], "segmentation": s}
        for i, (area, s) in enumerate(segmentations)
    ]
    path.write_text(json.dumps({"images": images, "annotations": notes}))


def test_coco_polygons_and_runs_are_painted_the_small_ones_on_top(tmp_path):
    options = {"images": "{split}/{name}.png", "polygons": "instances_{split}.json", "background": "0"}
    WRITERS["folder"](tmp_path, "train", samples(["a"], [0]), "{split}/{name}.png", None)
    small, large = [[10, 10, 12, 10, 12, 12, 10, 12]], [[5, 5, 30, 5, 30, 25, 5, 25], [40, 5, 45, 5, 45, 8]]
    crowd = {"size": list(SIZE), "counts": [SIZE[0] * 50, SIZE[0], SIZE[0] * 2]}  # down the columns: x = 50
    coco_json(tmp_path / "instances_train.json", [(9, small), (500, large), (37, crowd)])
    (item,) = list_items("folder", tmp_path, "train", options)
    mask = read_sample(item).mask
    assert mask[11, 11] == 1
    assert (mask[20, 20], mask[6, 43], mask[30, 20]) == (2, 2, 0)
    assert np.unique(np.argwhere(mask == 3)[:, 1]).tolist() == [50]
    assert (mask == 3).sum() == SIZE[0]
    (item,) = list_items("folder", tmp_path, "train", {k: v for k, v in options.items() if k != "background"})
    assert read_sample(item).mask[30, 20] == -1  # unknown
    (item,) = list_items("folder", tmp_path, "train", {**options, "boxes": "instances_train.json"})
    assert item.boxes.shape == (3, 4)
    assert read_sample(item).mask[11, 11] == 1


def test_bad_coco_shapes_are_told(tmp_path):
    options = {"images": "{split}/{name}.png", "polygons": "instances_{split}.json"}
    WRITERS["folder"](tmp_path, "train", samples(["a"], [0]), "{split}/{name}.png", None)
    path = tmp_path / "instances_train.json"
    bad = [
        [],
        [[1, 1, 2, 2]],
        [[1, 1, 2, 2, 3]],
        {"counts": "x"},
        {"size": [9, 9], "counts": [81]},
        None,
        [[1] * 5 + [None]],
    ]
    coco_json(path, [(0, s) for s in bad])
    faults = faults_of(list_items, "folder", tmp_path, "train", options)
    (fault,) = faults  # with nothing or null as its shape an annotation is a box
    assert "polygon of three" in fault
    assert f"{path}: annotations[1]" in fault
    assert "the same at annotations[2], annotations[3] and 2 more places" in fault
    coco_json(path, [(1, {"size": list(SIZE), "counts": [5]})])
    (item,) = list_items("folder", tmp_path, "train", options)
    assert all(part in faults_of(read_sample, item)[0] for part in (str(path), "a.png", "runs of"))
    coco_json(path, [(1, [[1, 1, 5, 1, 5, 5]])], size=(10, 20))
    assert "no such file" not in str(list_items("folder", tmp_path, "train", options))
    assert (
        "masks or polygons" in faults_of(list_items, "folder", tmp_path, "train", {**options, "masks": "{name}.png"})[0]
    )
    assert "background" in faults_of(list_items, "folder", tmp_path, "train", {**options, "background": "x"})[0]


def test_panoptic_faults(tmp_path):
    WRITERS["coco_panoptic"](tmp_path, "val", samples(["a", "b"], [0, 7]), background=0)
    options = {"background": "0"}
    assert_same(read_all("coco_panoptic", tmp_path, "val", options), samples(["a", "b"], [0, 7]))
    (tmp_path / "list.txt").write_text("b\n")
    assert [i.name for i in list_items("coco_panoptic", tmp_path, "val", {"names": "list.txt"})] == ["b"]
    path = tmp_path / "annotations/panoptic_val.json"
    data = json.loads(path.read_text())
    data["annotations"][0]["segments_info"].clear()
    path.write_text(json.dumps(data))
    item = list_items("coco_panoptic", tmp_path, "val")[0]
    assert all(part in faults_of(read_sample, item)[0] for part in (str(item.mask), "number 8007"))
    data["annotations"][0]["segments_info"] = [{"id": 3}]
    data["annotations"][1]["image_id"] = 77
    path.write_text(json.dumps(data))
    faults = faults_of(list_items, "coco_panoptic", tmp_path, "val")
    assert ["category_id" in faults[0], "77" in faults[1]] == [True, True]
    item.mask.unlink()
    assert str(item.mask) in faults_of(list_items, "coco_panoptic", tmp_path, "val")[0]


# ---- IDD's polygons


def test_idd_polygons(tmp_path):
    WRITERS["idd"](tmp_path, "train", samples(["1/a"], [0]), labels="polygons")
    (path,) = tmp_path.rglob("*_polygons.json")
    square = [[2, 2], [20, 2], [20, 20], [2, 20]]
    objects = [
        {"label": "road", "polygon": [[0, 0], [52, 0], [52, 36], [0, 36]]},
        {"label": "cargroup", "polygon": square},
        {"label": "sky", "polygon": square, "deleted": 1},
    ]
    path.write_text(json.dumps({"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects}))
    (item,) = list_items("idd", tmp_path, "train", {"labels": "polygons"})
    mask = read_sample(item).mask
    assert (mask[10, 10], mask[30, 30]) == (NAMES.index("car"), NAMES.index("road")) == (12, 0)
    path.write_text(json.dumps({"imgHeight": 7, "imgWidth": SIZE[1], "objects": objects}))
    assert str(path) in faults_of(read_sample, item)[0]
    objects += [{"label": "moon", "polygon": square}, {"label": "sky", "polygon": [[1, 1]]}]
    path.write_text(json.dumps({"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects}))
    faults = faults_of(read_sample, item)
    assert ["'moon'" in faults[0], "three" in faults[1]] == [True, True]
    path.write_text("{")
    assert f"{path}:1" in faults_of(read_sample, item)[0]
    path.unlink()
    assert str(path) in faults_of(list_items, "idd", tmp_path, "train", {"labels": "polygons"})[0]
    assert [x.name for x in load_label_space("idd").labels] == NAMES


# ---- A2D2 and nuImages


def test_a2d2_sessions_cameras_and_instances(tmp_path):
    wrote = samples(SESSIONS, [0, 37])
    WRITERS["a2d2"](tmp_path, "both", wrote)
    (tmp_path / "session.txt").write_text("20180807_145028\n")
    assert [i.name for i in list_items("a2d2", tmp_path, "session")] == SESSIONS[1:]
    assert [i.name for i in list_items("a2d2", tmp_path, "all", {"camera": "cam_front_center"})] == SESSIONS[:1]
    item = list_items("a2d2", tmp_path, "all")[0]
    assert "/label/cam_side_left/" in str(item.mask)
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:9], pixels[9:] = (200, 0, 0), (53, 46, 82)  # Car 2, Rain dirt
    cv2.imwrite(str(item.mask), pixels[..., ::-1])
    assert np.unique(read_sample(item).mask).tolist() == [0, 37]
    pixels[3, 5] = 1, 2, 3
    cv2.imwrite(str(item.mask), pixels[..., ::-1])
    assert "(1, 2, 3)" in faults_of(read_sample, item)[0]
    (tmp_path / "session.txt").write_text("20180807_145028\n2018\n")
    assert "session.txt:2" in faults_of(list_items, "a2d2", tmp_path, "session")[0]
    item.mask.unlink()
    assert str(item.mask) in faults_of(list_items, "a2d2", tmp_path, "all")[0]


def test_a2d2_colors_are_those_of_its_label_space():
    space = load_label_space("a2d2")
    assert PALETTE.shape == (55, 4)
    assert len({tuple(row) for row in PALETTE[:, :3].tolist()}) == 55
    first = {int(row[3]): tuple(row[:3].tolist()) for row in PALETTE[::-1]}
    assert {label.id: label.color for label in space.labels} == first


def test_nuimages_objects_lie_on_surfaces(tmp_path):
    wrote = sample("CAM_FRONT/a", [24])
    wrote.mask[5:9, 5:9] = 17
    WRITERS["nuimages"](tmp_path, "mini", [wrote])
    for path in tmp_path.rglob("*_ann.json"):  # the whole image is surface, objects without a mask count for nothing
        notes = json.loads(path.read_text())
        for note in notes:
            if path.stem == "surface_ann":
                note["mask"] = {"size": list(SIZE), "counts": "MGowCUoQ="}
        path.write_text(json.dumps([*notes, {**notes[0], "token": "x", "mask": None}]))
    (item,) = list_items("nuimages", tmp_path, "mini")
    (fault,) = faults_of(read_sample, item)
    assert "object_ann.json" in fault
    WRITERS["nuimages"](tmp_path, "mini", [wrote])
    assert np.array_equal(read_all("nuimages", tmp_path, "mini")[0].mask, wrote.mask)
    path = tmp_path / "v1.0-mini/object_ann.json"
    notes = json.loads(path.read_text())
    path.write_text(json.dumps([{**notes[0], "category_token": "?"}, {**notes[0], "token": "y", "mask": {"size": 3}}]))
    faults = faults_of(list_items, "nuimages", tmp_path, "mini")
    assert len(faults) == 2
    (tmp_path / "v1.0-mini/category.json").unlink()
    assert "category.json" in faults_of(list_items, "nuimages", tmp_path, "mini")[0]
    assert "did you mean 'v1.0-mini'" in faults_of(list_items, "nuimages", tmp_path, "mimi")[0]
    assert {x.name: x.id for x in load_label_space("nuimages").labels if x.id} == IDS


def test_ids_of_the_layouts_are_in_their_label_spaces():
    for reader, space in (("a2d2", "a2d2"), ("nuimages", "nuimages"), ("idd_polygons", "idd")):
        assert set(LAYOUTS[reader][2]) <= set(load_label_space(space).ids.tolist())


# ---- Hugging Face


def test_huggingface_faults_and_columns(tmp_path):
    wrote = samples(["000000", "000001"], [0, 9])
    WRITERS["huggingface"](tmp_path, "train", wrote)
    first = list_items("huggingface", tmp_path, "train")
    stamp = first[0].image.stat().st_mtime_ns
    assert list_items("huggingface", tmp_path, "train")[0].image.stat().st_mtime_ns == stamp, "unpacked once"
    assert list_items("huggingface", tmp_path, "train", {"cache": str(tmp_path / "c")})[0].image.is_relative_to(
        tmp_path / "c"
    )
    WRITERS["huggingface"](tmp_path, "train", samples(["0", "1", "2"], [0]))
    assert len(list_items("huggingface", tmp_path, "train")) == 3
    (fault,) = faults_of(list_items, "huggingface", tmp_path, "train", {"mask": "masks"})
    assert all(part in fault for part in ("'masks'", "image, mask", "did you mean"))
    assert "test-*.parquet" in faults_of(list_items, "huggingface", tmp_path, "test")[0]
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:300])
    assert str(path) in faults_of(list_items, "huggingface", tmp_path, "train")[0]


def test_a_shard_that_two_patterns_name_is_read_once(tmp_path):
    WRITERS["huggingface"](tmp_path, "train", samples(["0", "1"], [0]))
    (path,) = tmp_path.rglob("*.parquet")
    (tmp_path / "train").mkdir()
    path.rename(tmp_path / "train" / path.name)
    assert len(list_items("huggingface", tmp_path, "train")) == 2


def test_huggingface_arrow_files(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra huggingface is not installed")
    cell = cv2.imencode(".png", np.zeros(SIZE, np.uint8))[1].tobytes()
    table = pyarrow.Table.from_pylist(
        [{"image": {"bytes": cell, "path": None}}, {"image": {"bytes": None, "path": "x"}}]
    )
    (tmp_path / "train").mkdir()
    for rows, fault in ((1, None), (2, "row 1")):
        with pyarrow.ipc.new_stream(str(tmp_path / "train/data-00000-of-00001.arrow"), table.schema) as stream:
            stream.write_table(table[:rows])
        if fault:
            assert fault in faults_of(list_items, "huggingface", tmp_path, "train", {"mask": "image"})[0]
        else:
            (item,) = list_items("huggingface", tmp_path, "train", {"mask": "image"})
            assert read_sample(item).mask.shape == SIZE


# ---- WebDataset


def add(tar: Path, members: dict[str, bytes]) -> None:
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def test_webdataset_faults_and_endings(tmp_path):
    grey = cv2.imencode(".png", np.full(SIZE, 3, np.uint8))[1].tobytes()
    color = cv2.imencode(".jpg", np.zeros((*SIZE, 3), np.uint8))[1].tobytes()
    options = {"mask": "seg.png"}
    first = {"x/a.jpg": color, "x/a.seg.png": grey, "x/a.json": b"{}"}
    add(tmp_path / "train/00.tar", first)
    add(tmp_path / "train/01.tar", {"b.v.jpg": color, "y.jpg": color, "y.seg.png": grey})
    items = list_items("webdataset", tmp_path, "train", options)
    assert [i.name for i in items] == ["x/a", "y"]
    assert (read_sample(items[0]).mask == 3).all()
    stamp = items[0].image.stat().st_mtime_ns
    assert list_items("webdataset", tmp_path, "train", options)[0].image.stat().st_mtime_ns == stamp, "unpacked once"
    assert (
        "jpg, json, seg.png, v.jpg; set"
        in faults_of(list_items, "webdataset", tmp_path, "train", {"image": "png", "mask": "tif"})[0]
    )
    assert "'train' " not in faults_of(list_items, "webdataset", tmp_path, "val")[0]
    assert "both 'png'" in faults_of(list_items, "webdataset", tmp_path, "train", {"image": "png"})[0]
    add(tmp_path / "train/01.tar", {"y.jpg": color})
    assert "'y' has no member ending in seg.png" in faults_of(list_items, "webdataset", tmp_path, "train", options)[0]
    add(tmp_path / "train/01.tar", first)
    assert "'x/a' stands twice" in faults_of(list_items, "webdataset", tmp_path, "train", options)[0]
    add(tmp_path / "train/01.tar", {"../a.jpg": color})
    assert "points out of the folder" in faults_of(list_items, "webdataset", tmp_path, "train", options)[0]
    (tmp_path / "train/01.tar").write_bytes(b"no tar" * 200)
    assert "01.tar: cannot be read as tar" in faults_of(list_items, "webdataset", tmp_path, "train", options)[0]
    assert not list((tmp_path / ".heteroseg").glob(".part-*"))
