"""Ids to labels, boxes to shapes, and the faults that building the loss tables must tell."""

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroseg.datasets import list_items, read_mask, read_sample
from heteroseg.errors import HeterosegError
from heteroseg.labelspace import LabelSpace, LabelSpaceFile, build_label_space, load_label_space
from heteroseg.structures import Sample
from heteroseg.targets import build_terms, classifier_weights, draw_shape, encode, encode_ids, offsets, rasterise
from heteroseg.taxonomy import TaxonomyFile, build_taxonomy, load_taxonomy

GTSDB = Path(__file__).parents[2] / "shared" / "data" / "gtsdb"
TREE = build_taxonomy(TaxonomyFile(name="t", tree={"root": ["a", "b", "c"], "a": ["x", "y"], "x": ["u", "v", "w"]}))
SHAPES = ["rectangle", "disc", "triangle_up", "triangle_down", "diamond", "octagon"]


def space_of(ids, nodes, gate=None, shapes=None, name="s") -> LabelSpace:
    labels = [
        {"id": i, "name": f"l{i}", "evaluate": False, **({"nodes": n} if n else {"ignore": True}),
         "shape": shapes[k] if shapes else "rectangle"}
        for k, (i, n) in enumerate(zip(ids, nodes, strict=True))
    ]
    return build_label_space(LabelSpaceFile(name=name, taxonomy="t", labels=labels, gate=gate), TREE)


# ---- ids


@pytest.mark.parametrize("ids", [[0, 7, 255], [3, 2042, 65535], [5, 65536, 2**31 - 1], [255, 1, 0], [70000, 2, 65535]])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_encode_ids(ids, dtype):
    if max(ids) > np.iinfo(dtype).max:
        return
    space = space_of(ids, ["b", None, "x"])
    rng = np.random.default_rng(0)
    places = rng.integers(-1 if dtype not in (np.uint8, np.uint16) else 0, 3, (11, 13))
    native = np.array([*ids, -1])[places].astype(dtype)
    before = native.copy()
    found = encode_ids(native, space, "f.png")
    assert found.dtype == np.int16
    assert np.array_equal(found, np.where(places == 1, -1, places))
    assert np.array_equal(native, before)
    assert encode_ids(native[:0], space, "f.png").shape == (0, 13)


@pytest.mark.parametrize("wrong", [1, 254, 2041, 65534, 65536, 10**6, -2, -65537])
@pytest.mark.parametrize("ids", [[0, 7, 255], [3, 2042, 65535], [5, 65537, 2**31 - 1]])
def test_an_unknown_id_is_told_with_its_file(ids, wrong):
    native = np.full((4, 5), ids[0], np.int32)
    native[2, 3] = wrong
    with pytest.raises(HeterosegError) as error:
        encode_ids(native, space_of(ids, ["b", None, "x"], name="nice"), "town/f.png")
    (fault,) = error.value.faults
    assert "town/f.png" in fault
    assert "nice" in fault
    assert f"found {wrong};" in fault


def test_more_labels_than_255():
    names = [f"n{i}" for i in range(700)]
    tree = build_taxonomy(TaxonomyFile(name="wide", tree={"root": names}))
    labels = [{"id": 3 * i, "name": n, "nodes": n} for i, n in enumerate(names)]
    space = build_label_space(LabelSpaceFile(name="wide", taxonomy="wide", labels=labels), tree)
    assert np.array_equal(encode_ids(np.arange(700) * 3, space, ""), np.arange(700))
    terms = build_terms([space])
    assert terms.path[:, 0].tolist() == list(range(700))


def test_encode_gives_running_numbers():
    spaces = [space_of([0, 1, 2], ["b", None, "x"]), space_of([9, 4], ["c", "u"])]
    assert offsets(spaces)[:2] == [0, 3]
    mask = np.array([[9, 4], [4, -1]], np.int32)
    sample = Sample("s", np.zeros((2, 2, 3), np.uint8), mask, np.array([[1, 0, 2, 1]], np.float32), np.array([4]))
    target = encode(sample, spaces[1], 3)
    assert target.mask.tolist() == [[3, 4], [4, -1]]
    assert target.boxes.tolist() == [[-1, 4], [-1, -1]]
    assert target.mask.dtype == target.boxes.dtype == np.int16
    bare = encode(Sample("s", np.zeros((3, 5, 3), np.uint8)), spaces[0], 0)
    assert (bare.mask == -1).all()
    assert (bare.boxes == -1).all()
    assert bare.boxes.shape == (3, 5)


# ---- shapes


def inside(shape, px, py, box) -> bool:
    """Whether a point lies in the shape inscribed in a box, by cross products with the corners."""
    x1, y1, x2, y2 = map(float, box)
    cx, cy, rx, ry = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    if shape == "disc":
        return math.hypot((px - cx) / rx, (py - cy) / ry) <= 1
    k = 0.5  # half an octagon's straight side, on a box of half-width 1
    corners = {
        "rectangle": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle_up": [(0, -1), (1, 1), (-1, 1)],
        "triangle_down": [(-1, -1), (1, -1), (0, 1)],
        "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
        "octagon": [(-k, -1), (k, -1), (1, -k), (1, k), (k, 1), (-k, 1), (-1, k), (-1, -k)],
    }[shape]
    points = [(cx + rx * a, cy + ry * b) for a, b in corners]
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return all((bx - ax) * (py - ay) - (by - ay) * (px - ax) >= 0 for (ax, ay), (bx, by) in pairs)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SHAPES), st.floats(-8, 20), st.floats(-8, 16), st.floats(0.3, 25), st.floats(0.3, 25)
)
def test_a_pixel_belongs_to_a_shape_when_its_centre_does(shape, x, y, w, h):
    box = np.array([x, y, x + w, y + h])
    image = np.full((13, 17), -1, np.int16)
    draw_shape(image, box, shape, 5)
    near = 1e-6  # a centre on the outline may go either way
    for i, j in np.ndindex(*image.shape):
        # wider still to the sides, so that the sharp corners of a flat triangle move outwards too
        grown, shrunk = box + [-200 * near, -near, 200 * near, near], box - [-near, -near, near, near]
        if inside(shape, j + 0.5, i + 0.5, shrunk):
            assert image[i, j] == 5
        elif not inside(shape, j + 0.5, i + 0.5, grown):
            assert image[i, j] == -1


@pytest.mark.parametrize(
    ("shape", "share"),
    [("rectangle", 1.0), ("disc", math.pi / 4), ("triangle_up", 0.5), ("triangle_down", 0.5), ("diamond", 0.5),
     ("octagon", 0.875)],
)
def test_areas(shape, share):
    image = np.zeros((230, 330), np.int16)
    draw_shape(image, np.array([10, 20, 310, 220]), shape, 1)
    assert image.sum() / (300 * 200) == pytest.approx(share, abs=0.01)
    turned = {"triangle_up": "triangle_down", "triangle_down": "triangle_up"}.get(shape, shape)
    other = np.zeros_like(image)
    draw_shape(other, np.array([10, 10, 310, 210]), turned, 1)
    assert np.array_equal(image[::-1], other)
    assert np.array_equal(image[:, 10:310], image[:, 309:9:-1])


def test_smaller_boxes_lie_on_top_and_ignored_ones_draw_nothing():
    space = space_of([0, 1, 2], ["u", None, "v"], shapes=["rectangle", "disc", "diamond"])
    boxes = np.array([[4, 4, 9, 9], [0, 0, 20, 20], [0, 0, 3, 3], [-5, -5, 2, 2]], np.float32)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        found = rasterise(boxes[order], np.array([2, 0, -1, 2])[order], space, (12, 15))
        wanted = np.zeros((12, 15), int)
        for i, j in np.ndindex(12, 15):
            if inside("diamond", j + 0.5, i + 0.5, boxes[3]) or inside("diamond", j + 0.5, i + 0.5, boxes[0]):
                wanted[i, j] = 2
        assert found.dtype == np.int16
        assert np.array_equal(found, wanted)
    assert (rasterise(np.zeros((0, 4), np.float32), np.zeros(0, int), space, (3, 4)) == -1).all()
    outside = np.array([[-9, -9, 0, 0], [15, 0, 20, 5], [3, 3, 3, 9]], np.float32)
    assert (rasterise(outside, np.array([0, 0, 0]), space, (12, 15)) == -1).all()


def test_shapes_equal_the_released_fine_masks():
    """Signs drawn from the boxes of GTSDB's val images against its masks, IoU per box, mean per shape."""
    if not GTSDB.exists():
        pytest.skip(f"the datasets are not part of the repository: {GTSDB} is absent")
    space = load_label_space("gtsdb-real")
    by_id = {label.id: label for label in space.labels}
    ious = defaultdict(list)
    for item in list_items("gtsdb", GTSDB, "val"):
        truth = read_mask(item.scoring_mask)
        for box, label in zip(read_sample(item).boxes, item.box_ids.tolist(), strict=True):
            drawn = np.zeros(truth.shape, np.int16)
            draw_shape(drawn, box, by_id[label].shape, 1)
            x1, y1, x2, y2 = box.astype(int)
            part = np.s_[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2]
            a, b = drawn[part] == 1, truth[part] == label
            ious[by_id[label].shape].append((a & b).sum() / (a | b).sum())
    assert set(ious) == {"disc", "triangle_up", "triangle_down", "diamond", "octagon"}
    means = {shape: (round(float(np.mean(v)), 3), len(v)) for shape, v in ious.items()}
    print(means)
    assert all(mean >= 0.85 for mean, _ in means.values()), means


# ---- tables


def test_terms_of_labels():
    spaces = [space_of([0, 1, 2], ["b", None, "w"]), space_of([0, 1], [["u", "v"], ["y", "c"]])]
    terms = build_terms(spaces)
    at = dict(zip(TREE.names, TREE.channel_of, strict=True))
    rows = [[c for c in row if c >= 0] for row in terms.path.tolist()]
    assert rows == [[at["b"]], [], [at["a"], at["x"], at["w"]], [at["a"], at["x"]], []]
    assert (terms.union >= 0).tolist() == [False, False, False, True, True]
    parts = [{tuple(c for c in part if c >= 0) for part in union} - {()} for union in terms.parts.tolist()]
    assert parts == [{(at["u"],), (at["v"],)}, {(at["a"], at["y"]), (at["c"],)}]
    owners = [TREE.names[TREE.classifiers[c].node] for c in terms.parts_of]
    assert owners == ["x", "root"]


def test_a_gate_must_lie_above_every_label():
    build_terms([space_of([0, 1, 2], ["u", None, "x"], gate="x")])
    for nodes in (["u", None, "y"], ["u", None, ["v", "y"]], [["u", "v"], None, "a"]):
        with pytest.raises(HeterosegError) as error:
            build_terms([space_of([0, 1, 2], nodes, gate="x", name="boxed")])
        assert "'boxed'" in str(error.value)
        assert "'x'" in str(error.value)
        assert "'l2'" in str(error.value)


@pytest.mark.parametrize("nodes", [["u", None, ["v", "c"]], ["u", None, ["y", "b"]]])
def test_a_gate_must_lie_above_a_union_across_the_root(nodes):
    with pytest.raises(HeterosegError, match="l2"):
        build_terms([space_of([0, 1, 2], nodes, gate="x", name="boxed")])


def test_gates_of_shipped_spaces():
    tree = load_taxonomy("streets-108")
    spaces = [load_label_space(n, tree) for n in ("gtsdb", "cityscapes")]
    terms = build_terms(spaces)
    front = [tree.channel_of[tree.index(n)] for n in ("traffic sign", "traffic sign (front)")]
    row = spaces[0].labels.index(next(x for x in spaces[0].labels if x.id == 2013))
    assert [c for c in terms.gate[row].tolist() if c >= 0] == front
    assert terms.path[row].tolist() == [*front, tree.channel_of[tree.index("o_give_away")]]
    assert terms.below_gate[row].tolist() == [False, False, True]


def test_classifier_weights():
    assert classifier_weights(TREE, {}).tolist() == [1, 1, 1]
    weights = classifier_weights(TREE, {"default": 0.5, "x": 2.0})
    assert weights.tolist() == [0.5, 0.5, 2.0]
    assert weights.dtype == torch.float32
    with pytest.raises(HeterosegError, match=r"loss\.weights: 'rot' is no classifier of 't'; did you mean 'root'"):
        classifier_weights(TREE, {"rot": 1.0})
    with pytest.raises(HeterosegError, match="'b'"):
        classifier_weights(TREE, {"b": 1.0})  # a leaf
