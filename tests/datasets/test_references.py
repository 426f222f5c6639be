"""Our readers against tools that others wrote: the same files, the same ids."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from heteroseg.datasets import list_items, read_sample
from heteroseg.datasets.formats.idd import NAMES
from heteroseg.datasets.formats.label_studio import unpack_brush
from heteroseg.datasets.formats.nuimages import IDS
from tests.facts import facts

WIDTH, HEIGHT = 40, 30


def picture(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def coco_json(root: Path, rng: np.random.Generator) -> None:
    """Shapes of clearly different sizes in any order: polygons of one ring or two, and run lengths as lists."""
    notes = []
    for number in rng.permutation(8).tolist():
        size = 4 * 1.25**number
        x, y = (rng.random(2) * (WIDTH - size, HEIGHT - size)).round(2).tolist()
        rings = [[x, y, x + size, y, x, y + size / 2], [x, y + size / 2 + 2, x + size / 2, y + size, x, y + size]]
        shape = rings[: 1 + number % 2]
        if number % 3 == 2:
            ones = np.zeros((HEIGHT, WIDTH), np.uint8)
            ones[int(y) : int(y + size), int(x) : int(x + size)] = 1
            edges = np.flatnonzero(np.diff(ones.T.ravel(), prepend=0)).tolist()
            shape = {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *edges, ones.size]).tolist()}
        note = {"id": number, "image_id": 7, "category_id": number + 1, "segmentation": shape, "iscrowd": 0}
        notes.append(note | {"area": 9 - number, "bbox": [0, 0, 1, 1]})
    images = [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    categories = [{"id": note["category_id"], "name": "x"} for note in notes]
    data = {"images": images, "annotations": notes, "categories": categories}
    (root / "x.json").write_text(json.dumps(data))


@pytest.mark.parametrize("seed", range(10))
def test_coco_is_painted_as_pycocotools_reads_it_the_largest_first(tmp_path, seed):
    picture(tmp_path / "a.png")
    coco_json(tmp_path, np.random.default_rng(seed))
    api = COCO(str(tmp_path / "x.json"))
    parts = [(api.annToMask(note) == 1, note["category_id"]) for note in api.loadAnns(api.getAnnIds(7))]
    want = np.zeros((HEIGHT, WIDTH), int)
    for part, label in sorted(parts, key=lambda part: -part[0].sum()):
        want[part] = label
    options = {"images": "{name}.png", "polygons": "x.json", "background": "0"}
    (item,) = list_items("folder", tmp_path, "", options)
    assert np.array_equal(read_sample(item).mask, want)


def test_panoptic_files_of_cityscapes_scripts(tmp_path):
    tools = pytest.importorskip("cityscapesscripts.preparation.createPanopticImgs", reason="the extra dev is missing")
    labels = {label.id: label for label in tools.labels if label.id >= 0}
    things = [i for i, label in labels.items() if label.hasInstances and not label.ignoreInEval]
    rng = np.random.default_rng(0)
    ids = np.kron(rng.choice(sorted(labels), (6, 8)), np.ones((5, 5), np.int64))
    instances = np.where(np.isin(ids, things) & (rng.random(ids.shape) < 0.7), ids * 1000 + 3, ids)
    place = tmp_path / "gtFine/val/ulm/ulm_0_gtFine_instanceIds.png"
    place.parent.mkdir(parents=True)
    Image.fromarray(instances.astype(np.uint16)).save(place)
    picture(tmp_path / "images/val/ulm_0_gtFine_leftImg8bit.png")
    tools.convert2panoptic(str(tmp_path / "gtFine"), str(tmp_path), setNames=["val"])
    options = {"images": "images/{split}/{name}.*", "segments": "cityscapes_panoptic_{split}.json"}
    listing = list_items("coco_panoptic", tmp_path, "val", options)
    known = ~np.isin(ids, [i for i, label in labels.items() if label.ignoreInEval])
    groups = np.isin(ids, things) & (instances < 1000)  # a group of cars is a crowd
    assert np.array_equal(read_sample(listing[0]).mask >= 0, known & ~groups)
    assert np.array_equal(read_sample(listing[0]).mask[known & ~groups], ids[known & ~groups])
    assert listing.names == {i: label.name for i, label in labels.items() if not label.ignoreInEval}


def test_segment_numbers_of_panopticapi(tmp_path):
    known = facts("other_tools")["panopticapi"]
    colors, numbers = np.array(known["colors"], np.uint8), np.array(known["numbers"])
    picture(tmp_path / "val/a.png", colors.shape[1::-1])
    (tmp_path / "segments").mkdir()
    Image.fromarray(colors).save(tmp_path / "segments/a.png")
    segments = [{"id": number, "category_id": i} for i, number in enumerate(numbers.ravel().tolist())]
    note = {"image_id": 1, "file_name": "a.png", "segments_info": segments}
    data = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [note], "categories": []}
    (tmp_path / "x.json").write_text(json.dumps(data))
    (item,) = list_items("coco_panoptic", tmp_path, "val", {"segments": "x.json", "masks": "segments"})
    assert np.array_equal(read_sample(item).mask, np.arange(numbers.size).reshape(numbers.shape))


def test_masks_of_nuscenes_devkit(tmp_path):
    known = facts("other_tools")["nuimages"]
    semantic = np.array(known["semantic"])
    (tmp_path / "v1.0-mini").mkdir()
    for name, entries in known["tables"].items():
        (tmp_path / f"v1.0-mini/{name}.json").write_text(json.dumps(entries))
    (data,) = known["tables"]["sample_data"]
    picture(tmp_path / data["filename"], semantic.shape[::-1])
    (item,) = list_items("nuimages", tmp_path, "mini")
    mask = read_sample(item).mask
    assert np.array_equal(mask, semantic)
    assert known["index"].items() <= IDS.items()


@pytest.mark.parametrize("code", facts("other_tools")["label_studio_brush"])
def test_brush_codes_of_label_studio_converter(tmp_path, code):
    alpha = np.array(code["alpha"])
    values = unpack_brush(bytes(code["rle"]))
    assert np.array_equal(values.reshape(*alpha.shape, 4)[..., 3], alpha)
    picture(tmp_path / "images/a.png", alpha.shape[::-1])
    value = {"format": "rle", "rle": code["rle"], "brushlabels": ["x"]}
    stated = {"original_width": code["width"], "original_height": code["height"]}
    task = {
        "data": {"image": "a.png"},
        "annotations": [{"result": [{"type": "brushlabels", "value": value, **stated}]}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps([task]))
    (item,) = list_items("label_studio", tmp_path, "", {"others": "5", "background": "0"})
    assert np.array_equal(read_sample(item).mask, 5 * (alpha > 0))


def test_polygons_as_the_painter_of_idd_draws_them(tmp_path):
    """Its facts: a picture of imgWidth x imgHeight of unlabeled (35), polygons by Pillow without an outline of their
    own, deleted objects left out, LABELgroup as LABEL."""
    rng = np.random.default_rng(3)
    ids = {row[0]: row[1] for row in facts("label_tables")["idd"]["labels"]}
    assert ids == {name: i for i, name in enumerate(NAMES)}
    want = Image.new("L", (WIDTH, HEIGHT), ids["unlabeled"])
    objects = [{"label": "sky", "polygon": [[0, 0], [9, 0], [9, 9]], "deleted": 1}]
    for name in ("road", "car", "traffic sign", "persongroup", "license plate"):
        corners = rng.uniform(-5, 45, (5, 2)).round(1).tolist()
        objects.append({"label": name, "polygon": corners, "deleted": 0})
        ImageDraw.Draw(want).polygon([tuple(xy) for xy in corners], fill=ids[name.removesuffix("group")])
    picture(tmp_path / "leftImg8bit/val/1/a_leftImg8bit.png")
    (tmp_path / "gtFine/val/1").mkdir(parents=True)
    data = {"imgWidth": WIDTH, "imgHeight": HEIGHT, "objects": objects}
    (tmp_path / "gtFine/val/1/a_gtFine_polygons.json").write_text(json.dumps(data))
    (item,) = list_items("idd", tmp_path, "val", {"labels": "polygons"})
    assert np.array_equal(read_sample(item).mask, np.asarray(want))
