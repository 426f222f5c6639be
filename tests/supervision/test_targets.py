"""Ids to labels, boxes to shapes, and the faults that building the loss tables must tell."""

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from heteroseg.datasets import list_items, read_mask, read_sample
from heteroseg.datasets.sample import Sample
from heteroseg.errors import HeterosegError
from heteroseg.labels.space import LabelSpace, LabelSpaceFile, build_label_space, load_label_space
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy, load_taxonomy
from heteroseg.supervision.label_terms import build_terms, classifier_weights
from heteroseg.supervision.targets import MIXED, draw_shape, encode, offsets, pad_mixtures, to_label_indices

GTSDB = Path(__file__).parents[3] / "shared" / "data" / "gtsdb"
TREE = build_taxonomy(TaxonomyFile(name="t", tree={"root": ["a", "b", "c"], "a": ["x", "y"], "x": ["u", "v", "w"]}))
SHAPES = ["rectangle", "disc", "triangle_up", "triangle_down", "diamond", "octagon"]


def space_of(ids, nodes, gate=None, shapes=None, name="s") -> LabelSpace:
    labels = [
        {
            "id": i,
            "name": f"l{i}",
            "evaluate": False,
            **({"nodes": n} if n else {"ignore": True}),
            "shape": shapes[k] if shapes else "rectangle",
        }
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
    found = to_label_indices(native, space, "f.png")
    assert found.dtype == np.int16
    assert np.array_equal(found, np.where(places == 1, -1, places))
    assert np.array_equal(native, before)
    assert to_label_indices(native[:0], space, "f.png").shape == (0, 13)


@pytest.mark.parametrize("wrong", [1, 254, 2041, 65534, 65536, 10**6, -3, -65537])
@pytest.mark.parametrize("ids", [[0, 7, 255], [3, 2042, 65535], [5, 65537, 2**31 - 1]])
def test_an_unknown_id_is_told_with_its_file(ids, wrong):
    native = np.full((4, 5), ids[0], np.int32)
    native[2, 3] = wrong
    with pytest.raises(HeterosegError) as error:
        to_label_indices(native, space_of(ids, ["b", None, "x"], name="nice"), "town/f.png")
    (fault,) = error.value.faults
    assert "town/f.png" in fault
    assert "nice" in fault
    assert f"found {wrong};" in fault


def test_more_labels_than_255():
    names = [f"n{i}" for i in range(700)]
    tree = build_taxonomy(TaxonomyFile(name="wide", tree={"root": names}))
    labels = [{"id": 3 * i, "name": n, "nodes": n} for i, n in enumerate(names)]
    space = build_label_space(LabelSpaceFile(name="wide", taxonomy="wide", labels=labels), tree)
    assert np.array_equal(to_label_indices(np.arange(700) * 3, space, ""), np.arange(700))
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


def inside(shape, px, py, box, grow=(0.0, 0.0)) -> bool:
    """Whether the pixel with this centre belongs to the shape in a box, by cross products with a polygon's corners.

    `grow` moves the sides of the box and of the shape outwards.
    """
    x1, y1, x2, y2 = map(float, box)
    cx, cy, rx, ry = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    if abs(px - cx) > rx + grow[0] or abs(py - cy) > ry + grow[1]:
        return False
    if shape == "rectangle":
        return True
    if shape == "disc":
        if rx == int(rx):
            cx -= 0.5
        if ry == int(ry):
            cy -= 0.5
        return math.hypot((px - cx) / (rx + grow[0]), (py - cy) / (ry + grow[1])) <= 1
    rx, ry = max(rx - 0.5, 0.25) + grow[0], max(ry - 0.5, 0.25) + grow[1]
    k = 0.5  # half an octagon's straight side, on a box of half-width 1
    corners = {
        "triangle_up": [(0, -1), (1, 1), (-1, 1)],
        "triangle_down": [(-1, -1), (1, -1), (0, 1)],
        "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
        "octagon": [(-k, -1), (k, -1), (1, -k), (1, k), (k, 1), (-k, 1), (-1, k), (-1, -k)],
    }[shape]
    points = [(cx + rx * a, cy + ry * b) for a, b in corners]
    pairs = list(zip(points, points[1:] + points[:1], strict=True))
    return any(
        all((bx - ax) * (qy - ay) - (by - ay) * (qx - ax) >= 0 for (ax, ay), (bx, by) in pairs)
        for qx, qy in [(px, py), (px - 0.5, py), (px + 0.5, py), (px, py - 0.5), (px, py + 0.5)]
    )


@given(
    st.sampled_from(SHAPES), st.floats(-8, 20), st.floats(-8, 16), st.floats(0.3, 25), st.floats(0.3, 25), st.booleans()
)
def test_pixels_of_shapes(shape, x, y, w, h, whole):
    box = np.array([x, y, x + w, y + h])
    if whole:
        box = box.round() + [0, 0, 1, 1]
    image = np.full((13, 17), -1, np.int16)
    draw_shape(image, box, shape, 5)
    near = 1e-6  # a centre on the outline may go either way
    for i, j in np.ndindex(*image.shape):
        # wider still to the sides, so that the sharp corners of a flat triangle move outwards too
        if inside(shape, j + 0.5, i + 0.5, box, (-near, -near)):
            assert image[i, j] == 5
        elif not inside(shape, j + 0.5, i + 0.5, box, (200 * near, near)):
            assert image[i, j] == -1


def test_shapes_are_drawn_as_outlined_polygons_are():
    """PIL draws a polygon with its outline, as the released masks seem to be made; here and there a pixel differs."""
    corners = {
        "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
        "triangle_up": [(0, 1), (0.5, 0), (1, 1)],
        "triangle_down": [(0, 0), (0.5, 1), (1, 0)],
        "octagon": [(0.25, 0), (0.75, 0), (1, 0.25), (1, 0.75), (0.75, 1), (0.25, 1), (0, 0.75), (0, 0.25)],
    }
    rng = np.random.default_rng(3)
    for shape, points in corners.items():
        wrong = total = 0
        for w, h in rng.integers(20, 70, (40, 2)).tolist():
            picture = Image.new("L", (80, 80))
            ImageDraw.Draw(picture).polygon([(5 + a * (w - 1), 6 + b * (h - 1)) for a, b in points], fill=1, outline=1)
            wanted, found = np.asarray(picture), np.zeros((80, 80), np.int16)
            draw_shape(found, np.array([5, 6, 5 + w, 6 + h]), shape, 1)
            wrong, total = wrong + (wanted != found).sum(), total + wanted.sum()
        assert wrong / total < 0.03, shape  # 0.01 to 0.02; without the outline 0.04 to 0.07


@pytest.mark.parametrize(
    ("shape", "share"),
    [
        ("rectangle", 1.0),
        ("disc", math.pi / 4),
        ("triangle_up", 0.5),
        ("triangle_down", 0.5),
        ("diamond", 0.5),
        ("octagon", 0.875),
    ],
)
def test_areas(shape, share):
    image = np.zeros((230, 330), np.int16)
    draw_shape(image, np.array([10, 20, 311, 221]), shape, 1)
    assert image.sum() / (301 * 201) == pytest.approx(share, abs=0.01)
    turned = {"triangle_up": "triangle_down", "triangle_down": "triangle_up"}.get(shape, shape)
    other = np.zeros_like(image)
    draw_shape(other, np.array([10, 9, 311, 210]), turned, 1)
    assert np.array_equal(image[::-1], other)
    assert np.array_equal(image[:, 10:311], image[:, 310:9:-1])


def test_smaller_boxes_lie_on_top_and_ignored_ones_draw_nothing():
    space = space_of([0, 1, 2], ["u", None, "v"], shapes=["rectangle", "disc", "diamond"])
    boxes = np.array([[4, 4, 9, 9], [0, 0, 20, 20], [0, 0, 3, 3], [-5, -5, 2, 2]], np.float32)

    def drawn(size, boxes, ids):
        return encode(Sample("s", np.zeros((*size, 3), np.uint8), None, boxes, np.array(ids)), space, 0).boxes

    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        found = drawn((12, 15), boxes[order], np.array([2, 0, 1, 2])[order])
        wanted = np.zeros((12, 15), int)
        for i, j in np.ndindex(12, 15):
            if inside("diamond", j + 0.5, i + 0.5, boxes[3]) or inside("diamond", j + 0.5, i + 0.5, boxes[0]):
                wanted[i, j] = 2
        assert found.dtype == np.int16
        assert np.array_equal(found, wanted)
    assert (drawn((3, 4), np.zeros((0, 4), np.float32), []) == -1).all()
    outside = np.array([[-9, -9, 0, 0], [15, 0, 20, 5], [3, 3, 3, 9]], np.float32)
    assert (drawn((12, 15), outside, [0, 0, 0]) == -1).all()


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
    assert all(mean >= 0.87 for mean, _ in means.values()), means


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
    assert classifier_weights(TREE, {}, {}).tolist() == [[1, 1]] * 3
    weights = classifier_weights(TREE, {"default": 0.5, "x": 2.0}, {})
    assert weights.tolist() == [[0.5, 0.5], [0.5, 0.5], [2.0, 2.0]]
    assert weights.dtype == torch.float32
    weights = classifier_weights(TREE, {"x": 2.0}, {"root": 0.25})
    assert weights.tolist() == [[1, 0.25], [1, 1], [2, 2]]
    assert classifier_weights(TREE, {"x": 2.0}, {"default": 0.25}).tolist() == [[1, 0.25], [1, 0.25], [2, 0.25]]
    with pytest.raises(HeterosegError, match=r"loss\.weights: 'rot' is no classifier of 't'; did you mean 'root'"):
        classifier_weights(TREE, {"rot": 1.0}, {})
    with pytest.raises(HeterosegError, match=r"loss\.box_weights: 'b'"):
        classifier_weights(TREE, {}, {"b": 1.0})  # a leaf


# ---- around boxes


def surrounded(margin, excludes="x") -> LabelSpace:
    labels = [
        {"id": 0, "name": "sign", "nodes": "u", "shape": "disc"},
        {"id": 1, "name": "crowd", "ignore": True},
    ]
    around = {"excludes": excludes, "margin": margin}
    file = LabelSpaceFile(name="s", taxonomy="t", labels=labels, gate="root", around_boxes=around)
    return build_label_space(file, TREE)


@pytest.mark.parametrize("margin", [0.5, 1.0, None])
def test_pixels_around_boxes(margin):
    """Every pixel in reach of a box and not in its shape, but for those in the rectangle of an ignored box."""
    boxes = np.array([[6, 4, 12, 8], [11, 6, 15, 10]], np.float32)
    sample = Sample("s", np.zeros((20, 30, 3), np.uint8), None, boxes, np.array([0, 1]))
    found = encode(sample, surrounded(margin), 7).boxes
    reach = []
    for x1, y1, x2, y2 in boxes:
        m = (margin or 0) * max(x2 - x1, y2 - y1)
        reach.append((x1 - m, y1 - m, x2 + m, y2 + m))
    for y, x in np.ndindex(20, 30):
        px, py = x + 0.5, y + 0.5
        near = margin is None or any(a <= px <= c and b <= py <= d for a, b, c, d in reach)
        crowd = 11 <= px <= 15 and 6 <= py <= 10
        wanted = 7 if inside("disc", px, py, boxes[0]) else 9 if near and not crowd else -1
        assert found[y, x] == wanted, (x, y)
    assert {7, 9} <= set(found.flat)
    mask = np.full((20, 30), -1, np.int32)
    mask[:12] = 1
    masked = encode(Sample("s", sample.image, mask, boxes, np.array([0, 1])), surrounded(margin), 7).boxes
    assert 9 not in masked[:12], "a mask tells what is there"
    assert np.array_equal(masked[12:], found[12:]), "and where it does not, the surroundings do"


def test_around_boxes_says_not_this_node():
    space = surrounded(1.0)
    assert space.targets == 3
    assert offsets([space, space]) == [0, 3, 6]
    terms = build_terms([space])
    at = dict(zip(TREE.names, TREE.channel_of, strict=True))
    parts = {tuple(c for c in part if c >= 0) for part in terms.parts[terms.union[2]].tolist()} - {()}
    others = [n for n in range(len(TREE)) if not TREE.children[n] and "x" not in {TREE.names[p] for p in TREE.path(n)}]
    covered = TREE.cover(frozenset(TREE.leaves.index(n) for n in others))
    assert {p[-1] for p in parts} == {at[TREE.names[n]] for n in covered}
    assert terms.union_below_gate[2]
    with pytest.raises(HeterosegError, match=r"'z' is no node"):
        surrounded(1.0, "z")
    with pytest.raises(HeterosegError, match="'around_boxes' must name a node below the root"):
        surrounded(1.0, "root")


# ---- shares and tags


def several(overlap="share", gate=None) -> LabelSpace:
    nodes = {0: "u", 1: "v", 2: "y", 3: ["w", "y"]} if gate is None else {0: "u", 1: "v"}
    labels = [{"id": 10 * i, "name": f"l{i}", "nodes": n, "evaluate": False} for i, n in nodes.items()]
    labels.append({"id": 99, "name": "none", "ignore": True})
    file = LabelSpaceFile(name="s", taxonomy="t", labels=labels, overlap=overlap, gate=gate)
    return build_label_space(file, TREE)


def test_boxes_share_pixels_by_their_number():
    space = several()
    boxes = np.array([[0, 0, 6, 6], [2, 2, 8, 8], [3, 3, 8, 8], [0, 0, 8, 1], [0, 0, 8, 8]], np.float32)
    ids = np.array([0, 10, 10, 20, 99])
    target = encode(Sample("s", np.zeros((8, 9, 3), np.uint8), None, boxes, ids), space, 5)
    for y, x in np.ndindex(8, 9):
        covering = [i for b, i in zip(boxes, ids, strict=True) if b[0] <= x < b[2] and b[1] <= y < b[3] and i != 99]
        shares = {5 + i // 10: covering.count(i) / len(covering) for i in set(covering)}
        value = target.boxes[y, x]
        if len(shares) < 2:
            assert value == (next(iter(shares)) if shares else -1)
        else:
            mixture = target.mixtures[MIXED - value]
            assert {labels[0]: w for w, labels in mixture} == pytest.approx(shares)
            assert all(len(labels) == 1 for _, labels in mixture)
    assert len(target.mixtures) == 3  # 1:1 and 1:2 of two labels, and the row at the top
    assert not encode(Sample("s", np.zeros((8, 9, 3), np.uint8), None, boxes, ids), several("smallest"), 5).mixtures


def test_tags_speak_where_nothing_else_is_known():
    space = several()
    mask = np.full((4, 6), -1, np.int32)
    mask[0] = 20
    boxes = np.array([[0, 2, 6, 3]], np.float32)
    sample = Sample("s", np.zeros((4, 6, 3), np.uint8), mask, boxes, np.array([0]), np.array([0, 10, 20, 99, 0]))
    target = encode(sample, space, 7)
    assert target.mask.tolist() == [[9] * 6] + [[-1] * 6] * 3
    assert target.boxes.tolist() == [[-1] * 6, [-2] * 6, [7] * 6, [-2] * 6]
    # u and v under x, y under a; nothing is said where their gates are not decided
    assert target.mixtures == (((1.0, (7, 8)), (1.0, (9,))),)
    top = [{"id": 0, "name": "b", "nodes": "b"}]
    plain = build_label_space(LabelSpaceFile(name="s", taxonomy="t", labels=top), TREE)
    bare = Sample("s", np.zeros((2, 2, 3), np.uint8), tags=np.array([0]))
    assert (encode(bare, plain, 0).boxes == -1).all(), "its gate is the root, so it says nothing of one pixel"
    with pytest.raises(HeterosegError, match="found 5"):
        encode(Sample("s", np.zeros((2, 2, 3), np.uint8), tags=np.array([5])), plain, 0)


def test_mixtures_of_a_batch():
    found = pad_mixtures([[], [((0.5, (3,)), (0.5, (4,))), ((1.0, (1, 2, 7)),)]])
    assert found.labels.tolist() == [
        [[[-1] * 3] * 2] * 2,
        [[[3, -1, -1], [4, -1, -1]], [[1, 2, 7], [-1] * 3]],
    ]
    assert found.weights.tolist() == [[[0, 0]] * 2, [[0.5, 0.5], [1, 0]]]
    assert pad_mixtures([[], []]).labels.shape[:2] == (2, 0)
