"""The drawn street scenes: deterministic, well labelled, varied, and readable as three datasets."""

from collections import Counter

import numpy as np
import pytest

from heteroseg.datasets import list_items, read_mask, read_sample
from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.scenes import CONCEPTS, INDEX, OTHER_SIGN, SIGNS, concept_ids, draw_scene, generate

SIZE = (96, 192)


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(np.random.default_rng(i), many_signs=i % 2 == 1) for i in range(50)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    generate(root, 3, 2, SIZE, seed=4)
    return root


def test_same_seed_gives_the_same_scene():
    a, b = (draw_scene(np.random.default_rng(7), SIZE) for _ in range(2))
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.concepts, b.concepts)
    assert np.array_equal(a.boxes, b.boxes)
    assert a.box_names == b.box_names


@pytest.mark.parametrize("size", [(192, 384), (65, 97), (128, 128)])
def test_types_and_sizes(size):
    scene = draw_scene(np.random.default_rng(0), size)
    assert scene.image.shape == (*size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.concepts.shape == size
    assert scene.concepts.dtype == np.int32
    assert scene.concepts.max() < len(CONCEPTS)
    assert scene.boxes.dtype == np.float32


def test_concepts_are_leaves_but_for_the_unnamed_sign():
    tree = load_taxonomy("streets-108")
    leaves = {tree.names[n] for n in tree.leaves}
    assert [name for name in CONCEPTS if name not in leaves] == [OTHER_SIGN]
    assert OTHER_SIGN in tree


def test_boxes_are_tight_around_their_signs(scenes):
    for scene in scenes:
        for box, name in zip(scene.boxes.astype(int), scene.box_names, strict=True):
            x, y, x2, y2 = box
            assert 0 <= x < x2 <= scene.concepts.shape[1]
            assert 0 <= y < y2 <= scene.concepts.shape[0]
            inside = scene.concepts[y:y2, x:x2] == INDEX[name]
            assert inside.any(0)[[0, -1]].all()
            assert inside.any(1)[[0, -1]].all()
            assert inside.mean() > 0.2


def test_signs_are_drawn_in_the_shape_that_their_label_states():
    shapes = {label.name: label.shape for label in load_label_space("gtsdb").labels}
    assert {name: sign.shape for name, sign in SIGNS.items()} == {name: shapes[name] for name in SIGNS}


def test_everything_appears_often_enough(scenes):
    seen = Counter(name for scene in scenes for name in {CONCEPTS[i] for i in np.unique(scene.concepts)})
    for name in ("sky", "road", "sidewalk", "curb", "building", "vegetation", "car", "lane marking - general"):
        assert seen[name] >= 40, (name, seen[name])
    assert min(seen[name] for name in CONCEPTS) >= 3, seen
    boxes = Counter(name for scene in scenes for name in scene.box_names)
    assert min(boxes[name] for name in SIGNS) >= 2, boxes
    assert sum(boxes.values()) >= 75


def test_most_signs_are_12_to_40_pixels(scenes):
    sides = np.concatenate([(scene.boxes[:, 3] - scene.boxes[:, 1]) for scene in scenes])
    assert np.mean((sides >= 10) & (sides <= 42)) > 0.85
    assert sides.max() < 60


def test_many_signs_means_more_signs(scenes):
    assert sum(len(s.boxes) for s in scenes[1::2]) > 1.3 * sum(len(s.boxes) for s in scenes[::2])


def test_pictures_vary(scenes):
    means = np.array([scene.image.mean((0, 1)) for scene in scenes])
    assert means.std(0).min() > 8
    assert min(scene.image.std() for scene in scenes) > 20
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


@pytest.mark.parametrize("name", ["cityscapes", "vistas", "gtsdb"])
def test_native_ids_belong_to_the_label_space(name):
    space = load_label_space(name)
    assert set(concept_ids(space).tolist()) <= {*space.ids.tolist(), space.outside}


def test_native_ids_are_those_of_the_datasets():
    ids = {
        name: dict(zip(CONCEPTS, concept_ids(load_label_space(name)).tolist(), strict=True))
        for name in ("cityscapes", "vistas", "gtsdb")
    }
    city, vistas, gtsdb = ids["cityscapes"], ids["vistas"], ids["gtsdb"]
    assert (city["road"], city["lane marking - general"], city["parking"]) == (7, 7, 9)
    assert (city["bicyclist"], city["motorcyclist"], city["traffic sign (back)"]) == (25, 25, 0)
    assert {city[name] for name in (*SIGNS, OTHER_SIGN)} == {20}
    assert {vistas[name] for name in (*SIGNS, OTHER_SIGN)} == {50}
    assert (vistas["road"], vistas["lane marking - general"], vistas["traffic sign (back)"]) == (13, 24, 49)
    assert (gtsdb["o_stop"], gtsdb[OTHER_SIGN], gtsdb["road"]) == (2014, 0, 0)


@pytest.mark.parametrize(("split", "count"), [("train", 3), ("val", 2)])
@pytest.mark.parametrize("name", ["cityscapes", "vistas"])
def test_dense_datasets_can_be_read(root, name, split, count):
    items = list_items(name, root / name, split)
    assert len(items) == count
    for item in items:
        sample = read_sample(item)
        assert sample.image.shape == (*SIZE, 3)
        assert set(np.unique(sample.mask).tolist()) <= set(load_label_space(name).ids.tolist())
        assert len(np.unique(sample.mask)) > 5


def test_boxes_can_be_read_and_only_val_has_masks(root):
    train, val = (list_items("gtsdb", root / "gtsdb", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 2)
    assert all(item.mask is None and item.scoring_mask is None for item in train)
    assert sum(len(item.boxes) for item in train) > 0
    for item in val:
        mask = read_mask(item.scoring_mask)
        assert set(np.unique(mask).tolist()) - {0} <= set(item.box_ids.tolist())
        for (x, y, x2, y2), label in zip(item.boxes.astype(int), item.box_ids, strict=True):
            assert (mask[y:y2, x:x2] == label).any()


def test_datasets_and_splits_share_no_scene(root):
    items = [
        i
        for name in ("cityscapes", "vistas", "gtsdb")
        for s in ("train", "val")
        for i in list_items(name, root / name, s)
    ]
    assert len({read_sample(item).image[::8, ::8].tobytes() for item in items}) == len(items)


def test_generate_is_deterministic(root, tmp_path):
    generate(tmp_path, 3, 2, SIZE, seed=4)
    first, second = (list_items("vistas", r / "vistas", "val") for r in (root, tmp_path))
    assert [read_sample(i).mask.tobytes() for i in first] == [read_sample(i).mask.tobytes() for i in second]
