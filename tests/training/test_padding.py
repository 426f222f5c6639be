"""Where a crop reaches over the photograph's edge nothing is taught, and inside of it nothing is lost."""

from dataclasses import replace

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.datasets.sample import CROWD, UNKNOWN, Sample
from heteroseg.labels.space import LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy
from heteroseg.supervision.targets import encode
from heteroseg.training.augment import crop_resize

TREE = build_taxonomy(
    TaxonomyFile(name="t", tree={"root": ["sky", "thing"], "thing": ["car", "sign"], "sign": ["u", "v"]})
)
SIZES = st.tuples(st.integers(3, 40), st.integers(3, 40))


def space_of(margin: float | None, around: bool, overlap: str) -> LabelSpace:
    labels = [
        {"id": 0, "name": "u", "nodes": "u", "shape": "disc"},
        {"id": 1, "name": "v", "nodes": "v", "shape": "octagon"},
        {"id": 2, "name": "void", "ignore": True},
    ]
    more = {"around_boxes": {"excludes": "sign", "margin": margin}} if around else {}
    return build_label_space(
        LabelSpaceFile(name="s", taxonomy="t", labels=labels, gate="sign", overlap=overlap, **more), TREE
    )


@st.composite
def crops(draw):
    """A sample with mask, boxes or tags, and how it is cut: often over the edge, at times wholly beside it."""
    height, width = draw(SIZES)
    part = st.floats(-1.5, 1.5)
    window = (
        draw(part) * width,
        draw(part) * height,
        draw(st.floats(0.2, 3)) * width,
        draw(st.floats(0.2, 3)) * height,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    corners = np.sort(rng.uniform(0, [[width], [height]], (draw(st.integers(0, 3)), 2, 2)), 2)
    boxes = corners.transpose(0, 2, 1).reshape(-1, 4).astype(np.float32)
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    mask = rng.choice([0, 1, 2, UNKNOWN, CROWD], (height, width)).astype(np.int32) if draw(st.booleans()) else None
    tags = np.array(draw(st.sampled_from([[], [0], [0, 1]])), np.int64)
    ids = rng.choice([0, 1, 2, UNKNOWN], len(boxes))
    sample = Sample("s", np.full((height, width, 3), 255, np.uint8), mask, boxes, ids, tags)
    return sample, window, draw(SIZES), draw(st.booleans())


def inside(sample: Sample, window, size, flip) -> np.ndarray:
    """(H, W) bool: the pixels of a crop that show the photograph, by a mask that is the same everywhere in it."""
    whole = replace(sample, mask=np.zeros(sample.image.shape[:2], np.int32))
    return crop_resize(whole, window, size, flip).mask == 0


@given(crops())
def test_the_window_is_where_the_photograph_is(crop):
    sample, window, size, flip = crop
    x1, y1, x2, y2 = crop_resize(sample, window, size, flip).window
    shown = np.zeros(size, bool)
    shown[y1:y2, x1:x2] = True
    np.testing.assert_array_equal(shown, inside(sample, window, size, flip))


@given(crops(), st.sampled_from([0.3, 2.0, None]), st.booleans(), st.sampled_from(["smallest", "share"]))
def test_nothing_is_taught_outside_and_nothing_lost_inside(crop, margin, around, overlap):
    sample, window, size, flip = crop
    space, view = space_of(margin, around, overlap), crop_resize(sample, window, size, flip)
    target, where = encode(view, space, 0), inside(sample, window, size, flip)
    assert (target.mask[~where] == -1).all()
    assert (target.boxes[~where] == -1).all()
    whole = encode(replace(view, window=None), space, 0)
    np.testing.assert_array_equal(target.mask[where], whole.mask[where])
    np.testing.assert_array_equal(target.boxes[where], whole.boxes[where])
    if around and margin is None and sample.mask is None and not len(view.boxes):
        assert (target.boxes[where] == len(space.labels)).all()


@given(crops())
def test_a_crop_of_a_crop_keeps_to_the_photograph(crop):
    """Black pixels of the padding, told by the image itself: whoever crops again must not teach them."""
    sample, window, size, flip = crop
    view = crop_resize(sample, window, size, flip)
    again = crop_resize(view, (0, 0, size[1], size[0]), size)
    target = encode(again, space_of(None, True, "smallest"), 0)
    dark = cv2.erode((view.image == 0).all(2).astype(np.uint8), np.ones((3, 3))) == 1
    assert (target.boxes[dark & ~inside(sample, window, size, flip)] == -1).all()


@given(crops(), st.sampled_from([0.3, None]), st.sampled_from(["smallest", "share"]))
def test_crowds_are_spoken_for_by_their_own_boxes_alone(crop, margin, overlap):
    sample, window, size, flip = crop
    view = crop_resize(sample, window, size, flip)
    crowds = np.zeros(size, bool) if view.mask is None else view.mask == CROWD
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for x1, y1, x2, y2 in view.boxes[view.box_ids == UNKNOWN]:
        crowds |= (x1 < x) & (x < x2) & (y1 < y) & (y < y2)
    boxed = encode(replace(view, tags=np.zeros(0, np.int64)), space_of(None, False, overlap), 0).boxes
    taught = encode(view, space_of(margin, True, overlap), 0).boxes
    assert (taught[crowds & (boxed == -1)] == -1).all()
    np.testing.assert_array_equal(taught[boxed >= 0], boxed[boxed >= 0])
