"""Shapes: polygons and run lengths as COCO's tools read and fill them, labelled polygons as those of Cityscapes do."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from heteroseg.datasets import list_items, read_sample
from heteroseg.datasets.boxes import NO_OUTLINE
from heteroseg.datasets.coco_json import coco_outline
from heteroseg.datasets.formats.label_studio import unpack_brush
from heteroseg.datasets.sample import Item, RunLength, Shape
from heteroseg.datasets.shapes import draw_polygons, paint, rle_decode, rle_encode
from tests.datasets.test_datasets import SIZE, sample, samples
from tests.writers import WRITERS
from tests.writers.exports import pack_brush
from tests.writers.pixels import bars

SQUARE = [[2, 3], [7, 3], [7, 8], [2, 8]]


def polygons() -> list[list[list[float]]]:
    """A square of 25 pixels, one at the corner, a thin one, and polygons of any corners."""
    rng = np.random.default_rng(0)
    anyhow = [rng.uniform((0, 0), SIZE[::-1], (int(n), 2)).round(2).tolist() for n in rng.integers(3, 9, 12)]
    return [SQUARE, [[48, 32], [53, 32], [53, 37], [48, 37]], [[0, 9], [53, 9], [53, 10], [0, 10]], *anyhow]


def of_coco(corners: list[list[float]]) -> np.ndarray:
    """(H, W) bool, as pycocotools fills a polygon."""
    rings = [[v for corner in corners for v in corner]]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *SIZE))) == 1


def coco(root, corners):
    notes = [{"image_id": 1, "category_id": 5, "segmentation": [[v for xy in corners for v in xy]]}]
    images = [{"id": 1, "file_name": "a.png", "width": SIZE[1], "height": SIZE[0]}]
    (root / "p.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return list_items("folder", root, "", {"images": "images/{name}.*", "polygons": "p.json"})


def yolo(root, corners):
    parts = " ".join(f"{x / SIZE[1]!r} {y / SIZE[0]!r}" for x, y in corners)
    (root / "labels").mkdir(exist_ok=True)
    (root / "labels/a.txt").write_text(f"5 {parts}\n")
    return list_items("yolo", root, "", {"images": "images/{name}.*", "labels": "labels/{name}.txt"})


def cvat(root, corners):
    points = ";".join(f"{x},{y}" for x, y in corners)
    shape = f'<polygon label="any" points="{points}"/>'
    image = f'<image name="a.png" width="{SIZE[1]}" height="{SIZE[0]}">{shape}</image>'
    (root / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
    return list_items("cvat", root, "", {"others": "5"})


def label_studio(root, corners):
    points = [[x / SIZE[1] * 100, y / SIZE[0] * 100] for x, y in corners]
    sizes = {"original_width": SIZE[1], "original_height": SIZE[0]}
    mark = {"type": "polygonlabels", "value": {"points": points, "polygonlabels": ["any"]}, **sizes}
    (root / "annotations.json").write_text(
        json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [mark]}]}])
    )
    return list_items("label_studio", root, "", {"others": "5"})


@pytest.mark.parametrize("export", [coco, yolo, cvat, label_studio])
def test_polygons_are_filled_as_pycocotools_fills_them(tmp_path, export):
    WRITERS["folder"](tmp_path, "", samples(["a"], [0]), "images/{name}.png", None)
    for corners in polygons():
        (item,) = export(tmp_path, corners)
        painted, expected = read_sample(item).mask == 5, of_coco(corners)
        # the others go through parts of the image: a corner may round to the next fifth of a pixel
        assert np.count_nonzero(painted != expected) <= (0 if export in (coco, cvat) or corners == SQUARE else 3)
        if corners == SQUARE:
            assert painted.sum() == 25


def test_labelled_polygons_are_drawn_as_cityscapes_scripts_draw_them(tmp_path):
    tools = pytest.importorskip("cityscapesscripts.preparation.json2labelImg", reason="the extra dev is not installed")
    name2label = tools.name2label
    rng = np.random.default_rng(1)
    names = [name for name, label in name2label.items() if label.id > 0]
    for number in range(8):
        objects = [{"label": "cargroup", "polygon": SQUARE}]
        for _ in range(6):
            corners = rng.uniform(-9, 60, (int(rng.integers(3, 12)), 2))
            corners = corners.round(1) if number % 2 else corners.astype(int)
            objects.append({"label": str(rng.choice(names)), "polygon": corners.tolist()})
        path = tmp_path / "x_polygons.json"
        path.write_text(json.dumps({"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects}))
        tools.json2labelImg(str(path), str(tmp_path / "ids.png"), "ids")
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "x.png")
        ids = {name: label.id for name, label in name2label.items()}
        item = Item("x", tmp_path / "x.png", path, polygon_ids=ids, background=ids["unlabeled"])
        assert np.array_equal(read_sample(item).mask, np.asarray(Image.open(tmp_path / "ids.png")))


def test_run_lengths_come_back():
    rng = np.random.default_rng(0)
    for _ in range(40):
        mask = rng.random(rng.integers(1, 60, 2)) < rng.random()
        height, width = mask.shape
        assert np.array_equal(rle_decode(rle_encode(mask)), mask)
        flat = mask.ravel(order="F")
        counts = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]).tolist()
        outline = coco_outline(
            {"size": [height, width], "counts": [0, *counts] if flat[0] else counts}, (width, height)
        )
        assert outline.run_length == rle_encode(mask)
        values = np.repeat(mask.ravel() * np.int64(255), 4)
        assert np.array_equal(unpack_brush(pack_brush(values)), values)


def test_run_lengths_are_packed_as_coco_packs_them():
    """Worked out by hand: 5 bits a character from 48, differences from the fourth run on, two's complement."""
    for counts, text in (
        ([0, 1, 15], "01?"),
        ([16], "`0"),  # 16 would be negative in five bits
        ([9, 9, 9, 8], "999O"),  # 8 - 9
        ([6, 1, 40, 4, 5, 4, 5, 4, 21], "61X13mN000`0"),
    ):
        size = [sum(counts), 1]
        listed, given = (coco_outline({"size": size, "counts": c}, None).run_length for c in (counts, text))
        assert listed == given == RunLength(text.encode(), (0, 0, 1, sum(counts)))
        ones = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        assert np.array_equal(rle_decode(given)[:, 0], ones)


@pytest.mark.parametrize("counts", [b"6P", "é".encode(), b"6\n", b""])
def test_damaged_run_lengths(counts):
    with pytest.raises(ValueError, match="packed"):
        rle_decode(RunLength(counts, (0, 0, 2, 3)))


@pytest.mark.parametrize("counts", [[3], [2, 9], [1, 2], [5], [0, 3], [2**31 - 1, 9]])
def test_runs_that_do_not_fill_their_window(counts):
    code = coco_outline({"size": [2, 2], "counts": counts}, None).run_length
    with pytest.raises(ValueError, match="runs of 4 pixels"):
        rle_decode(code)


@pytest.mark.parametrize("counts", [[-1, 5], [2**31], [1.0, 3], "é", None])
def test_what_are_no_run_lengths(counts):
    assert coco_outline({"size": [2, 2], "counts": counts}, None) == NO_OUTLINE


def test_shapes_are_painted_in_order_and_cut_at_the_edge():
    square = np.array([[-1, -1], [4, -1], [4, 4], [-1, 4]], np.float64)
    block = RunLength(rle_encode(np.ones((2, 2), bool)).counts, (8, 8, 2, 2))
    mask = paint([Shape(70000, (square,)), Shape(2, (square / 2,)), Shape(3, (), block)], np.full((9, 9), -1))
    assert (mask[0, 0], mask[3, 3], mask[8, 8], mask[5, 5]) == (2, 70000, 3, -1)
    original = sample("a", [0, 5]).mask
    cells = [(i, np.array([[x1, y], [x2, y], [x2, y + 1], [x1, y + 1]], np.float64)) for i, x1, x2, y in bars(original)]
    assert np.array_equal(paint([Shape(i, (c,)) for i, c in cells], np.full(SIZE, -1)), original)
    lines = [(i, np.array([[x1, y], [x2 - 1, y], [x2 - 1, y]], np.float64)) for i, x1, x2, y in bars(original)]
    assert np.array_equal(draw_polygons([Shape(i, (c,)) for i, c in lines], np.full(SIZE, -1)), original)


def test_shapes_that_stand_out_of_the_image_are_told():
    ground = np.zeros(SIZE, np.int32)
    for corners in (
        [[-1e30, -1e30], [1e30, -1e30], [1e30, 20]],
        [[60, 1], [70, 1], [70, 9]],
        [[1, 1], [60, 1], [1, 9]],
    ):
        with pytest.raises(ValueError, match="inside the image of 53x37"):
            paint([Shape(1, (np.array(corners, np.float64),))], ground)


def test_the_hole_of_a_polygon_and_the_rim_of_a_shape_are_unknown():
    ring = [[0, 0], [20, 0], [20, 20], [0, 20], [0, 0], [5, 5], [5, 15], [15, 15], [15, 5], [5, 5]]
    ground = np.zeros((30, 30), np.int32)
    mask = paint([Shape(7, (np.array(ring, np.float64),))], ground)
    expected = np.zeros_like(ground)
    expected[:20, :20] = 7
    expected[5:15, 5:15] = -1
    assert np.array_equal(mask, expected)
    expected[20, :21] = expected[:20, 20] = -1
    assert np.array_equal(paint([Shape(7, (np.array(ring, np.float64),))], ground, rim=True), expected)


def test_boxes_in_parts_of_the_image_are_clipped_when_read(tmp_path):
    WRITERS["yolo"](tmp_path, "train", samples(["a"], [0], ((),)))
    (tmp_path / "labels/train/a.txt").write_text("1 0.5 0.5 1.001 1.001\n")
    (item,) = list_items("yolo", tmp_path, "train")
    assert read_sample(item).boxes.tolist() == [[0, 0, 53, 37]]
