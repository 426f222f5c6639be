"""Image, mask and boxes stay together under every zoom, crop and flip."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.datasets.sample import Sample
from heteroseg.training.augment import UNLABELLED, augment, change_color, crop_resize

PLAIN = {"scale": (1.0, 1.0), "flip": 0.0, "focus": 0.0, "color": 0.0}


def painted(size, box, low=40, high=220, ids=(3, 65535)) -> Sample:
    """One bright rectangle, marked in the image, in the mask and by a box."""
    x1, y1, x2, y2 = box
    image, mask = np.full((*size, 3), low, np.uint8), np.full(size, ids[0], np.int32)
    image[y1:y2, x1:x2] = high
    mask[y1:y2, x1:x2] = ids[1]
    return Sample("s", image, mask, np.array([box], np.float32), np.array([7]))


def extent(where: np.ndarray):
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@given(
    st.integers(0, 2**16),
    st.tuples(st.integers(31, 90), st.integers(31, 120)),
    st.tuples(st.integers(17, 80), st.integers(17, 80)),
    st.floats(0.5, 2.0),
)
def test_image_mask_and_box_stay_together(seed, size, crop, zoom):
    rng = np.random.default_rng(seed)
    x1, y1 = rng.integers(0, size[1] - 12), rng.integers(0, size[0] - 12)
    box = (x1, y1, rng.integers(x1 + 8, size[1]), rng.integers(y1 + 8, size[0]))
    view = augment(painted(size, box), crop, rng, scale=(zoom, zoom), flip=0.5, focus=0.7, color=0.0)
    assert view.image.shape == (*crop, 3)
    assert view.image.dtype == np.uint8
    assert view.mask.shape == crop
    assert view.mask.dtype == np.int32
    assert set(np.unique(view.mask)) <= {UNLABELLED, 3, 65535}
    assert (view.image[view.mask == UNLABELLED] <= 220).all()
    found = view.mask == 65535
    if not found.any():
        # nothing to see: the box is dropped, or less than a pixel of it is left
        for b in np.clip(view.boxes, 0, [crop[1], crop[0]] * 2):
            assert min(b[2] - b[0], b[3] - b[1]) <= 1
        return
    assert view.box_ids.tolist() == [7]
    seen = np.clip(view.boxes[0], 0, [crop[1], crop[0]] * 2)
    assert np.abs(extent(found) - seen).max() <= 1.0
    # the image shows the same region, apart from the interpolated rim
    bright = view.image[..., 0] > 130
    assert np.abs(extent(bright) - extent(found)).max() <= 1
    assert (bright != found).mean() < 0.12
    # two pixels from the rim, and what lies outside of the crop is rim: np.roll would come in on the other side
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (5, 5))
    inner = cv2.erode(found.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    assert (view.image[inner][:, 0] > 130).all()


def test_flip_mirrors_everything():
    sample = painted((40, 60), (5, 7, 25, 19))
    plain = crop_resize(sample, (0, 0, 60, 40), (40, 60))
    flipped = crop_resize(sample, (0, 0, 60, 40), (40, 60), flip=True)
    assert np.array_equal(plain.image, sample.image)
    assert np.array_equal(plain.mask, sample.mask)
    assert np.array_equal(plain.boxes, sample.boxes)
    assert np.array_equal(flipped.image, sample.image[:, ::-1])
    assert np.array_equal(flipped.mask, sample.mask[:, ::-1])
    assert flipped.boxes.tolist() == [[35, 7, 55, 19]]


def test_ids_and_padding_survive():
    ids = np.random.default_rng(0).integers(0, 65536, (21, 33)).astype(np.int32)
    sample = Sample("s", np.full((21, 33, 3), 9, np.uint8), ids)
    view = crop_resize(sample, (-4, -3, 40, 30), (30, 40))
    assert np.array_equal(view.mask[3:24, 4:37], ids)
    outside = np.ones((30, 40), bool)
    outside[3:24, 4:37] = False
    assert (view.mask[outside] == UNLABELLED).all()
    assert (view.image[outside] == 0).all()
    assert (view.image[~outside] == 9).all()
    double = crop_resize(sample, (0, 0, 33, 21), (42, 66))
    assert np.array_equal(double.mask, ids.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("order", ["C", "F"])
def test_ids_of_any_size_survive(order):
    """Float32 would make 2**24 of 2**24 + 1."""
    ids = np.array([[2**24 + 1, 2**24 + 3], [2**31 - 1, 2**31 - 2]], np.int32, order=order)
    sample = Sample("s", np.zeros((2, 2, 3), np.uint8), ids)
    assert crop_resize(sample, (0, 0, 2, 2), (2, 2), flip=True).mask.tolist() == ids[:, ::-1].tolist()
    view = crop_resize(sample, (-1, -1, 4, 4), (8, 8))
    assert np.array_equal(view.mask, np.pad(ids, 1, constant_values=UNLABELLED).repeat(2, 0).repeat(2, 1))
    assert view.mask.dtype == np.int32


def test_boxes_keep_their_extent_or_go():
    boxes = np.array([[-2, 5, 6, 15], [30, 5, 50, 9], [0, 0, 10, 2], [40, 0, 60, 20]], np.float32)
    sample = Sample("s", np.zeros((20, 60, 3), np.uint8), None, boxes, np.arange(4))
    view = crop_resize(sample, (4, 4, 30, 16), (32, 60))
    assert view.box_ids.tolist() == [0, 1]
    assert view.boxes.tolist() == [[-12, 2, 4, 22], [52, 2, 92, 10]]
    assert view.mask is None
    assert np.array_equal(sample.boxes[0], [-2, 5, 6, 15]), "the sample is not changed"


@pytest.mark.parametrize("size", [(1, 1), (5, 211), (97, 3), (33, 47)])
@pytest.mark.parametrize("crop", [(17, 19), (64, 32), (1, 1)])
def test_odd_sizes(size, crop):
    rng = np.random.default_rng(0)
    sample = Sample("s", np.full((*size, 3), 200, np.uint8), np.full(size, 5, np.int32))
    for _ in range(20):
        view = augment(sample, crop, rng, scale=(0.4, 2.5), flip=0.5, focus=0.5, color=0.5)
        assert view.image.shape == (*crop, 3)
        assert view.mask.shape == crop
        assert set(np.unique(view.mask)) <= {UNLABELLED, 5}
        assert view.boxes.shape == (0, 4)


def test_same_rng_gives_the_same_view():
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    base = painted((50, 70), (10, 10, 30, 30))
    base.image = noise

    def view(seed):
        rng = np.random.default_rng(seed)
        return augment(base, (32, 40), rng, scale=(0.5, 2.0), flip=0.5, focus=0.5, color=0.5)

    for seed in range(8):
        a, b = view(seed), view(seed)
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.mask, b.mask)
        assert np.array_equal(a.boxes, b.boxes)
    assert not np.array_equal(view(0).image, view(1).image)
    assert np.array_equal(base.image, noise), "the source is not changed"


def test_colour_change():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (23, 31, 3)).astype(np.uint8)
    source, changed = image.copy(), 0
    for _ in range(40):
        result = change_color(image, 0.5, rng)
        assert result.shape == image.shape
        assert result.dtype == np.uint8
        changed += not np.array_equal(result, image)
        assert np.array_equal(image, source)
    assert changed > 30
    assert np.array_equal(change_color(image, 0.0, rng), image)
    grey = np.full((9, 9, 3), 120, np.uint8)
    for _ in range(20):  # brightness and contrast move grey by what they say and no further
        result = change_color(grey, 1.0, rng)
        assert (result.max(2) - result.min(2) <= 1).all()
        assert np.abs(result.astype(int) - 120).max() <= 24 + 0.3 * 8 + 1


def test_zoom_and_place_cover_the_image():
    """Every part of the image is cropped sometimes, and zoom 2 shows half of it."""
    size, crop = (40, 60), (16, 20)
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(60)[None, :], np.arange(40)[:, None]
    rng, left, top = np.random.default_rng(0), [], []
    for _ in range(300):
        view = augment(Sample("s", image), crop, rng, **PLAIN)
        left.append(int(view.image[0, 0, 0]))
        top.append(int(view.image[0, 0, 1]))
        assert view.image[0, -1, 0] - view.image[0, 0, 0] == 19
    assert (min(left), max(left), min(top), max(top)) == (0, 40, 0, 24)
    view = augment(Sample("s", image), crop, rng, **{**PLAIN, "scale": (2.0, 2.0)})
    assert abs(int(view.image[8, -1, 0]) - int(view.image[8, 0, 0]) - 10) <= 1


@pytest.mark.parametrize("zoom", [0.3, 1.0, 2.0])
def test_focus_places_a_box_inside(zoom):
    rng, size, crop = np.random.default_rng(0), (120, 200), (48, 64)
    for i in range(150):
        x, y = rng.integers(0, 190), rng.integers(0, 110)
        sample = painted(size, (x, y, x + 10, y + 10))
        view = augment(sample, crop, rng, scale=(zoom, zoom), flip=0.5, focus=1.0, color=0.0)
        assert len(view.boxes) == 1, i
        cx, cy = (view.boxes[0, :2] + view.boxes[0, 2:]) / 2
        assert -1 <= cx <= crop[1] + 1
        assert -1 <= cy <= crop[0] + 1
        assert (view.mask == 65535).any()
    inside = 0
    for _ in range(100):
        view = augment(painted(size, (100, 60, 110, 70)), crop, rng, scale=(1.0, 1.0), flip=0.0, focus=0.0, color=0.0)
        inside += len(view.boxes)
    assert 10 < inside < 70, "without focus a box is met by chance"
