"""Crops that are turned or made worse: everything that teaches turns together, and without settings nothing changes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.datasets import read_sample
from heteroseg.datasets.sample import Sample
from heteroseg.experiment.config import AugmentConfig
from heteroseg.experiment.sources import open_sources
from heteroseg.scenes import draw_scene
from heteroseg.supervision.targets import encode
from heteroseg.training import augment as module
from heteroseg.training.augment import augment, change_color, crop_resize, degrade, point_of, turned
from heteroseg.training.batches import TrainingDraws
from tests.training.test_batches import batches, experiment, root, same  # noqa: F401
from tests.training.test_padding import space_of

SIZE, CROP = (70, 110), (31, 44)
ALL = {"rotate": 20, "gamma": 1.8, "fog": 0.6, "blur": 2, "noise": 12, "jpeg": 20}


def numbered() -> Sample:
    """Every pixel says where it lies: by its id, and by its colour."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.stack([columns * 2 + 20, rows * 3 + 20, rows * 0 + 9], 2).astype(np.uint8)
    boxes = np.array([[5, 8, 32, 31], [25, 20, 61, 52], [70, 3, 104, 40], [80, 45, 99, 69]], np.float32)
    return Sample("s", image, (rows * SIZE[1] + columns).astype(np.int32), boxes, np.array([0, 1, 1, 2]))


@given(st.integers(0, 2**16), st.floats(-45, 45), st.booleans(), st.sampled_from([0.5, 1.0, 1.7]))
def test_image_and_ids_turn_by_the_angle(seed, degrees, mirrored, zoom):
    rng = np.random.default_rng(seed)
    view = augment(
        numbered(), CROP, rng, scale=(zoom, zoom), flip=float(mirrored), focus=0.5, color=0.0, degrees=degrees
    )
    image, ids = turned(view.image, degrees, CROP), turned(view.mask, degrees, CROP)
    assert (image.shape, image.dtype, ids.shape, ids.dtype) == ((*CROP, 3), np.uint8, CROP, np.int32)
    rows, columns = np.nonzero(ids >= 0)
    if len(rows) < 200:
        return
    y, x = np.divmod(ids[rows, columns], SIZE[1])
    fit, *_ = np.linalg.lstsq(np.stack([columns, rows, np.ones(len(rows))], 1), np.stack([x, y], 1), rcond=None)
    side, angle = -1 if mirrored else 1, np.radians(degrees)
    turn = [[side * np.cos(angle), np.sin(angle)], [-side * np.sin(angle), np.cos(angle)]]
    assert np.abs(fit[:2] * zoom - turn).max() < 0.08  # windows are whole pixels
    inner = cv2.erode(np.pad((ids >= 0).astype(np.uint8), 1), np.ones((7, 7)))[1:-1, 1:-1] > 0
    y, x = np.divmod(ids[inner], SIZE[1])
    assert (
        np.abs(image[inner][:, :2].astype(int) - np.stack([x * 2 + 20, y * 3 + 20], 1)).max(initial=0) <= 3 / zoom + 3
    )


@given(st.integers(0, 2**16), st.floats(-45, 45), st.booleans(), st.sampled_from(["smallest", "share"]))
def test_shapes_in_boxes_and_what_surrounds_them_turn_with_the_image(seed, degrees, around, overlap):
    """A crop teaches of every pixel what the whole image teaches of it: at zoom 1 exactly."""
    space, sample = space_of(0.4, around, overlap), numbered()
    whole = encode(replace(sample, mask=None), space, 0).boxes
    rng = np.random.default_rng(seed)
    view = augment(sample, CROP, rng, scale=(1.0, 1.0), flip=0.0, focus=0.8, color=0.0, degrees=degrees)
    taught = turned(encode(replace(view, mask=None), space, 0).boxes, degrees, CROP)
    ids = turned(view.mask, degrees, CROP)
    shown = ids >= 0
    whole_there = whole.ravel()[ids]
    inside = shown & ~((whole_there == 3) & (taught == -1))  # around a box that the crop has nothing of
    assert np.array_equal(taught[inside], whole_there[inside])
    assert (taught[~shown] == -1).all()


@given(st.integers(0, 2**16), st.floats(-45, 45), st.sampled_from([0.5, 1.0, 1.7]))
def test_a_wanted_point_stays_in_a_turned_crop(seed, degrees, zoom):
    rng, sample = np.random.default_rng(seed), numbered()
    x, y = int(rng.integers(SIZE[1])), int(rng.integers(SIZE[0]))
    options = {"scale": (zoom, zoom), "flip": 0.5, "focus": 0.0, "color": 0.0}
    view = augment(sample, CROP, rng, near=(x + 0.5, y + 0.5), degrees=degrees, **options)
    ids = turned(view.mask, degrees, CROP)
    rows, columns = np.divmod(ids[ids >= 0], SIZE[1])
    assert np.hypot(rows - y, columns - x).min() <= 2 / min(zoom, 1)


def test_beyond_the_photograph_nothing_is_taught():
    sample = Sample("s", np.full((20, 30, 3), 200, np.uint8), np.full((20, 30), 7, np.int32))
    for degrees in (-45.0, -8.0, 8.0, 45.0):
        rng = np.random.default_rng(0)
        view = augment(sample, (40, 40), rng, scale=(1, 1), flip=0.5, focus=0.0, color=0.0, degrees=degrees)
        image, ids = turned(view.image, degrees, (40, 40)), turned(view.mask, degrees, (40, 40))
        assert (ids[image[..., 0] == 0] == -1).all()
        assert (image[ids == 7] > 50).all()
        assert (ids == 7).sum() > 500, "and most of the photograph is there"


def test_without_settings_a_draw_is_what_it_was(root):  # noqa: F811
    """The steps of a draw before there were settings, one by one."""
    e = experiment(root, color=0.5)
    e.datasets["vistas"].rare = 0.5
    sources = open_sources(e, root)
    draws = TrainingDraws(sources, 4, (33, 47), 0.5, 3, e.augment)
    for index in range(12):
        owner, item, label = draws.item(index)
        rng, config = np.random.default_rng([3, 1_000_003, index]), sources[owner].config
        sample = read_sample(item)
        near = None if label is None else point_of(sample, label, rng)
        zoom = float(np.exp(rng.uniform(np.log(config.scale[0]), np.log(config.scale[1]))))
        window, _ = module._window(sample, zoom, (33, 47), config.focus, near, rng)
        view = crop_resize(sample, window, (33, 47), flip=bool(rng.random() < config.flip))
        view.image = change_color(view.image, 0.5, rng)
        target = encode(view, sources[owner].space, draws.offsets[owner])
        image, mask, boxes, _, mixtures = draws[index]
        assert np.array_equal(image.permute(1, 2, 0), view.image)
        assert np.array_equal(mask, target.mask)
        assert np.array_equal(boxes, target.boxes)
        assert mixtures == target.mixtures


def test_a_resumed_run_and_workers_see_the_same(root):  # noqa: F811
    e = experiment(root)
    e.augment = AugmentConfig(**ALL)
    run = batches(e, root)
    assert all(map(same, batches(e, root, first=4), run[4:]))
    e.train.workers = 2
    assert all(map(same, batches(e, root), run))
    e.augment = AugmentConfig()
    assert not any(map(same, batches(e, root), run))


@pytest.mark.parametrize("key", [key for key in ALL if key != "rotate"])
def test_each_setting_changes_the_picture_as_it_says(key):
    image = draw_scene(np.random.default_rng(0), (64, 96)).image
    before, how = image.copy(), AugmentConfig(chance=1, **{key: ALL[key]})
    views = [degrade(image, how, np.random.default_rng(i)) for i in range(30)]
    assert np.array_equal(image, before)
    assert all(v.shape == image.shape and v.dtype == np.uint8 for v in views)
    assert np.array_equal(views[3], degrade(image, how, np.random.default_rng(3)))
    means, spreads = [float(v.mean()) for v in views], [float(v.std()) for v in views]
    errors = [float(np.sqrt(np.mean((v - image.astype(float)) ** 2))) for v in views]
    edges = [float(np.abs(np.diff(v.astype(float), axis=1)).mean()) for v in views]
    edge = float(np.abs(np.diff(image.astype(float), axis=1)).mean())
    assert max(errors) > 3
    if key == "gamma":
        assert min(means) < image.mean() < max(means)
    elif key == "fog":
        assert min(spreads) >= 0.4 * image.std() - 1
        assert max(spreads) <= image.std()
    elif key == "blur":
        assert max(edges) <= edge > 2 * min(edges)
    elif key == "noise":
        assert max(errors) <= 12.5
        assert abs(np.mean([v.mean() for v in views]) - image.mean()) < 1
    else:
        assert abs(np.mean(means) - image.mean()) < 1
    assert all(
        np.array_equal(degrade(image, AugmentConfig(chance=1), np.random.default_rng(i)), image) for i in range(5)
    )


def test_the_chance_is_that_of_each_setting():
    image = draw_scene(np.random.default_rng(0), (32, 48)).image
    views = [degrade(image, AugmentConfig(chance=0.3, noise=20), np.random.default_rng(i)) for i in range(400)]
    assert 0.22 < np.mean([not np.array_equal(v, image) for v in views]) < 0.38
