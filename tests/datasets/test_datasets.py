"""Readers: what their writers wrote comes back, and each fault is told with its place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heteroseg.datasets import READERS, list_items, read_sample
from heteroseg.datasets.sample import Sample
from heteroseg.errors import HeterosegError
from tests.writers import WRITERS

REAL = Path(__file__).parents[3] / "shared" / "data"
SIZE = (37, 53)  # odd, and not square


def sample(name: str, ids, seed: int = 0, boxes=()) -> Sample:
    """Random pixels, all of `ids` in the mask, and boxes as (x1, y1, x2, y2, id)."""
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.asarray(ids, np.int32), SIZE)
    mask.flat[: len(ids)] = ids
    rows = np.array(boxes, np.float32).reshape(-1, 5)
    return Sample(name, rng.integers(0, 256, (*SIZE, 3), np.uint8), mask, rows[:, :4], rows[:, 4].astype(np.int64))


def samples(names, ids, boxes=((),)) -> list[Sample]:
    return [sample(name, ids, i, boxes[i % len(boxes)]) for i, name in enumerate(names)]


def read_all(reader, root, split, options=None, scoring=False) -> list[Sample]:
    return [read_sample(item, scoring) for item in list_items(reader, root, split, options)]


def assert_same(read: list[Sample], wrote: list[Sample], lossy: bool = False) -> None:
    wrote = sorted(wrote, key=lambda s: s.name)
    assert [s.name for s in read] == [s.name for s in wrote]
    for got, want in zip(read, wrote, strict=True):
        assert got.image.dtype == np.uint8
        assert got.image.shape == want.image.shape
        assert lossy or np.array_equal(got.image, want.image)
        assert got.mask.dtype == np.int32
        assert np.array_equal(got.mask, want.mask)
        assert (got.boxes.dtype, got.box_ids.dtype) == (np.float32, np.int64)
        assert np.array_equal(got.boxes, want.boxes)
        assert np.array_equal(got.box_ids, want.box_ids)


def faults_of(call, *args, **options) -> tuple[str, ...]:
    with pytest.raises(HeterosegError) as error:
        call(*args, **options)
    assert all("\n" not in fault for fault in error.value.faults)
    return error.value.faults


CITIES = ["zurich/zurich_000_1", "aachen/aachen_000_2", "aachen/aachen_000_1"]
PLAIN = ["b", "a.v2", "c"]
DRIVES = ["10/frame1", "2/frame1", "2/frame0"]
SESSIONS = [
    "20181008_095521/cam_front_center/20181008095521_camera_frontcenter_000000091",
    "20180807_145028/cam_side_left/20180807145028_camera_sideleft_000000002",
]
LAYOUTS = {
    "cityscapes": ("cityscapes", CITIES, [0, 7, 33], {}, False),
    "cityscapes_16_bit": ("cityscapes", CITIES, [0, 255, 256, 65535], {}, False),
    "vistas_1": ("vistas", PLAIN, [0, 13, 65], {}, True),
    "vistas_2": ("vistas", PLAIN, [0, 123, 255], {"version": "v2.0"}, True),
    "camvid": ("camvid", PLAIN, [0, 1, 17, 30, 31], {}, False),
    "camvid_segnet": ("camvid_segnet", PLAIN, [0, 10, 11], {}, False),
    "idd": ("idd", DRIVES, [0, 25, 255], {}, False),
    "idd_levels": ("idd", DRIVES, [0, 6, 255], {"labels": "labellevel1Ids"}, False),
    "idd_polygons": ("idd", DRIVES, [0, 25, 39], {"labels": "polygons"}, False),
    "idd_lite": ("idd_lite", DRIVES, [0, 6, 255], {}, True),
    "folder": (
        "folder",
        DRIVES,
        [3, 2042],
        {"images": "im/{split}/{name}.png", "masks": "m/{split}/{name}_m.png"},
        False,
    ),
    "a2d2": ("a2d2", SESSIONS, [0, 1, 36, 37], {}, False),
    "nuimages": ("nuimages", ["CAM_FRONT/b", "CAM_BACK/a"], [0, 1, 23, 24, 31], {}, True),
    "coco_panoptic": ("coco_panoptic", PLAIN, [0, 1, 200], {}, False),
    "huggingface": ("huggingface", ["000000", "000001"], [0, 255, 700], {}, False),
    "webdataset": ("webdataset", ["b", "s/1/a", "c"], [0, 255, 700], {}, True),
}
# readers whose layouts hold boxes, or masks of shapes, have tests of their own
ELSEWHERE = {"gtsdb", "open_images", "mtsd", "gtsrb", "yolo", "cvat", "label_studio"}


@pytest.mark.parametrize(("reader", "names", "ids", "options", "lossy"), LAYOUTS.values(), ids=LAYOUTS)
def test_what_was_written_is_read(tmp_path, reader, names, ids, options, lossy):
    train, val = samples(names, ids), samples([n if n.isdecimal() else n + "x" for n in names[:1]], ids)
    WRITERS[reader](tmp_path, "train", train, **options)
    WRITERS[reader](tmp_path, "val", val, **options)
    assert_same(read_all(reader, tmp_path, "train", options), train, lossy)
    assert_same(read_all(reader, str(tmp_path), "val", options), val, lossy)


def test_every_reader_has_a_writer():
    assert list(READERS) == list(WRITERS)
    assert {layout[0] for layout in LAYOUTS.values()} | ELSEWHERE == set(READERS)


def test_list_items_tells_what_is_wrong(tmp_path):
    WRITERS["vistas"](tmp_path, "training", samples(["a"], [0]))
    assert "'vistas'" in faults_of(list_items, "vista", tmp_path, "training")[0]
    assert "'version'" in faults_of(list_items, "vistas", tmp_path, "training", {"versoin": "v1.2"})[0]
    assert "'v2.0'" in faults_of(list_items, "vistas", tmp_path, "training", {"version": "v2.1"})[0]
    assert "text" in faults_of(list_items, "vistas", tmp_path, "training", {"version": 2.0})[0]
    assert "'images'" in faults_of(list_items, "folder", tmp_path, "training")[0]
    assert "did you mean 'training'" in faults_of(list_items, "vistas", tmp_path, "trainin")[0]
    assert str(tmp_path / "no") in faults_of(list_items, "vistas", tmp_path / "no", "training")[0]
    assert "a file" in faults_of(list_items, "vistas", tmp_path / "training/images/a.jpg", "training")[0]
    (tmp_path / "validation/images").mkdir(parents=True)
    (tmp_path / "validation/v1.2/labels").mkdir(parents=True)
    assert "found none" in faults_of(list_items, "vistas", tmp_path, "validation")[0]


@pytest.mark.parametrize("reader", ["cityscapes", "vistas", "camvid", "camvid_segnet", "idd", "idd_lite", "folder"])
def test_a_missing_mask_is_told_with_its_path(tmp_path, reader):
    options = {"images": "images/{split}/{name}.png", "masks": "masks/{split}/{name}.png"} if reader == "folder" else {}
    WRITERS[reader](tmp_path, "train", samples(["a", "b"], [0, 1]), **options)
    mask = list_items(reader, tmp_path, "train", options)[1].mask
    mask.unlink()
    (fault,) = faults_of(list_items, reader, tmp_path, "train", options)
    assert str(mask) in fault


def test_many_missing_masks_are_counted(tmp_path):
    WRITERS["cityscapes"](tmp_path, "val", samples([f"c/{i:02d}" for i in range(30)], [0]))
    for mask in (tmp_path / "gtFine/val/c").iterdir():
        mask.unlink()
    (fault,) = faults_of(list_items, "cityscapes", tmp_path, "val")
    assert all(f"c/{i:02d}_gtFine_labelIds.png" in fault for i in range(3))
    assert "27 more places" in fault


def test_vistas_older_layout(tmp_path):
    wrote = samples(["a"], [0, 65])
    WRITERS["vistas"](tmp_path, "training", wrote)
    (tmp_path / "training/v1.2/labels").rename(tmp_path / "training/labels")
    (tmp_path / "training/v1.2").rmdir()
    assert_same(read_all("vistas", tmp_path, "training"), wrote, lossy=True)


def test_segnet_lists_as_published(tmp_path):
    wrote = samples(["0001TP_1", "0001TP_2"], [0, 11])
    WRITERS["camvid_segnet"](tmp_path, "train", wrote)
    lines = [f"/SegNet/CamVid/train/{s.name}.png /SegNet/CamVid/trainannot/{s.name}.png" for s in wrote]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    assert_same(read_all("camvid_segnet", tmp_path, "train"), wrote)
    (tmp_path / "train.txt").write_text("\n".join([*lines, lines[0]]))
    assert "train.txt:3" in faults_of(list_items, "camvid_segnet", tmp_path, "train")[0]
    (tmp_path / "train.txt").write_text("\n".join(["train/gone.png trainannot/gone.png", "one"]))
    faults = faults_of(list_items, "camvid_segnet", tmp_path, "train")
    assert [str(tmp_path / f"train.txt:{i}") in fault for i, fault in enumerate(faults, 1)] == [True, True]


def test_camvid_lists(tmp_path):
    WRITERS["camvid"](tmp_path, "train", samples(["a", "b"], [0, 31]))
    assert "train.txt" in faults_of(list_items, "camvid", tmp_path, "val")[0]
    (tmp_path / "train.txt").write_text("a\n\nb\nzz\n")
    (fault,) = faults_of(list_items, "camvid", tmp_path, "train")
    assert str(tmp_path / "701_StillsRaw_full/zz") in fault
    (tmp_path / "label_colors.txt").write_text("1 2 3 x\n1 2 300 y\n1 2 3 z\n")
    faults = faults_of(list_items, "camvid", tmp_path, "train")
    assert [f.split(": ")[0][-1] for f in faults] == ["2", "3"]


def test_idd_names_the_labels_that_are_there(tmp_path):
    WRITERS["idd"](tmp_path, "train", samples(["1/a"], [0]), labels="labellevel3Ids")
    (fault,) = faults_of(list_items, "idd", tmp_path, "train", {"labels": "labellevel2Ids"})
    assert "did you mean 'labellevel3Ids'" in fault


def test_folder_patterns(tmp_path):
    wrote = samples(["k/a", "k/b"], [0, 9])
    WRITERS["folder"](tmp_path, "train", wrote, "data/v1/{name}/{split}/rgb.png", "labels/{split}/deep/er/{name}.png")
    (tmp_path / "data/v1/k/a/train/.hidden.png").write_bytes(b"")
    (tmp_path / "data/v1/k/a/train/rgb.json").write_bytes(b"")
    options = {"images": "./data/*/{name}/{split}/*.*", "masks": "labels/{split}/**/er/{name}.*"}
    assert_same(read_all("folder", tmp_path, "train", options), wrote)
    (tmp_path / "data/v1/k/a/train/other.jpg").write_bytes(b"")
    assert "other.jpg" in faults_of(list_items, "folder", tmp_path, "train", options)[0]
    for bad in ("data/*.png", "data/{nmae}.png", "/data/{name}.png", "../{name}.png"):
        (fault,) = faults_of(list_items, "folder", tmp_path, "train", {"images": bad})
        assert bad in fault
    for boxes in ("b.txt", "{name}.csv", "gone.csv"):
        (fault,) = faults_of(
            list_items,
            "folder",
            tmp_path,
            "train",
            {**options, "images": "data/v1/{name}/{split}/rgb.png", "boxes": boxes},
        )
        assert boxes in fault


def test_writers_refuse_what_a_layout_cannot_hold(tmp_path):
    assert "31" in faults_of(WRITERS["camvid"], tmp_path, "train", samples(["a"], [32]))[0]
    assert "255" in faults_of(WRITERS["vistas"], tmp_path, "train", samples(["a"], [256]))[0]
    assert "65535" in faults_of(WRITERS["idd"], tmp_path, "train", samples(["a"], [70000]))[0]
    assert "2000" in faults_of(WRITERS["gtsdb"], tmp_path, "train", samples(["0"], [0], [((1, 1, 2, 2, 5),)]))[0]
    assert "wildcards" in faults_of(WRITERS["folder"], tmp_path, "train", samples(["a"], [0]), "x/{name}.*")[0]
    assert "no" in faults_of(WRITERS["cityscapes"], tmp_path, "val", [replace(sample("a", [0]), mask=None)])[0]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real street scenes are not at {REAL}")
@pytest.mark.parametrize(
    ("reader", "folder", "train", "val", "ids"),
    [
        ("camvid", "camvid", 231, 101, range(32)),
        ("camvid_segnet", "camvid11", 136, 101, range(12)),
        ("idd_lite", "idd_lite", 1202, 201, [*range(7), 255]),
        ("gtsdb", "gtsdb", 372, 94, [0, *range(2000, 2043)]),
    ],
)
def test_real_datasets(reader, folder, train, val, ids):
    for split, count in (("train", train), ("val", val)):
        items = list_items(reader, REAL / folder, split)
        assert len(items) == count
        seen: set[int] = set()
        for item in items[::7]:
            read = read_sample(item, scoring=True)
            seen |= set(np.unique(read.mask).tolist())
            assert np.array_equal(read.boxes, item.boxes)  # inside the image: nothing was clipped
        assert seen <= set(ids)
        assert len(seen) > 5
        boxes = np.concatenate([item.box_ids for item in items])
        assert (len(boxes) > 0) == (reader == "gtsdb")
        assert set(boxes.tolist()) <= set(ids)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real street scenes are not at {REAL}")
def test_the_folder_reader_reads_real_files_as_their_own_reader_does():
    patterns = {"images": "{split}/{name}.*", "masks": "{split}annot/{name}.png"}
    own = list_items("camvid_segnet", REAL / "camvid11", "val")
    found = list_items("folder", REAL / "camvid11", "val", patterns)
    assert [(i.name, i.image, i.mask) for i in found] == [(i.name, i.image, i.mask) for i in own]
    assert_same([read_sample(i) for i in found[::20]], [read_sample(i) for i in own[::20]])
