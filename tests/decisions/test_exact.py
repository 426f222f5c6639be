"""The fast decode equals the plain reference: shipped trees and spaces, random trees, logits made to break it."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.decisions.exact import decode, decode_torch
from heteroseg.decisions.plan import Plan, plan_decode
from heteroseg.decisions.reference import (
    assumed_children,
    decide,
    in_lanes,
    label_map,
    label_probs,
    leaf_probs,
    upsample,
)
from heteroseg.labels.space import OUTSIDE, LabelSpaceFile, build_label_space, load_label_space, own_space
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy, load_taxonomy
from tests.decisions.test_reference import SPACES, deep, unions

KINDS = [
    "random", "smooth", "ties", "constant", "huge", "infinite", "nan", "alternating", "close", "tiny", "certain",
    "unsure",
]  # fmt: skip


def logits_of(kind: str, channels: int, h: int, w: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(1, channels, h, w, generator=g)
    if kind == "smooth":
        z = F.interpolate(z[:, :, : max(1, h // 4), : max(1, w // 4)], (h, w), mode="bilinear")
    elif kind == "ties":
        z = (z / 2).round()
    elif kind == "constant":
        z = torch.full_like(z, float(z[0, 0, 0, 0]))
    elif kind == "huge":
        z = z * 10 ** torch.randint(-3, 38, z.shape, generator=g).float()
    elif kind == "infinite":
        z[torch.rand(z.shape, generator=g) < 0.3] = -torch.inf
        z[torch.rand(z.shape, generator=g) < 0.02] = torch.inf
    elif kind == "nan":
        z[torch.rand(z.shape, generator=g) < 0.1] = torch.nan
    elif kind == "alternating":
        z = z.abs() * (1 - 2.0 * ((torch.arange(h)[:, None] + torch.arange(w)) % 2))
    elif kind == "close":  # leads of one or two units in the last place, so rounding makes and breaks ties
        z = (
            1
            + torch.randint(0, 3, z.shape, generator=g) * 2.0**-23
            + (z > 0) * 100.0 * (torch.rand(1, generator=g) < 0.5)
        )
    elif kind == "unsure":  # no majority, little change: what bounds decide
        z = F.interpolate(z[:, :, :2, :2] / 4, (h, w), mode="bilinear") + z / 60
    elif kind == "tiny":
        z = z * 1e-38
    elif kind == "certain":
        z = (
            z
            + 40
            * F.one_hot(z[:, :, ::4, ::4].argmax(1), channels)
            .permute(0, 3, 1, 2)
            .float()
            .repeat(1, 1, 4, 4)[:, :, :h, :w]
        )
    return z


def reference(logits, covers, size, tree, space, rule):
    full = upsample(logits, covers, (0, size[0]), size[1])
    return (decide(full, tree) if space is None else label_map(full, space, rule))[0].numpy()


def agrees(logits: torch.Tensor, covers, size, plan: Plan) -> None:
    expected = reference(logits, covers, size, plan.tree, plan.space, plan.rule)
    found, _ = decode(logits, covers, size, plan)
    assert found.dtype == np.int64
    assert np.array_equal(found, expected)
    assert np.array_equal(decode_torch(logits, covers, size, plan)[0].numpy(), expected)
    assert np.array_equal(decode(logits.contiguous(memory_format=torch.channels_last), covers, size, plan)[0], expected)


@pytest.mark.parametrize("rule", ["path", "marginal"])
@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("name", SPACES)
def test_every_shipped_label_space(name, void, rule):
    space = load_label_space(name, load_taxonomy(load_label_space(name).taxonomy.name, void=void))
    plan, ids = plan_decode(space, rule), plan_decode(space, rule, ids=True)
    for kind in ("random", "smooth", "ties", "certain"):
        z = logits_of(kind, space.taxonomy.channels, 6, 7, 1)
        agrees(z, (48, 56), (45, 50), plan)
        positions, _ = decode(z, (48, 56), (45, 50), plan)
        found, _ = decode(z, (48, 56), (45, 50), ids)
        assert found.dtype.itemsize == (1 if max(*space.ids, space.outside) < 256 else 2)
        assert np.array_equal(found, np.append(space.ids, space.outside)[positions])


@pytest.mark.parametrize("cell", [1, 3, 4, 5, 8, 9, 12, 13, 31])
def test_cells_of_any_size(cell):
    for name in ("camvid32", "camvid11", "gtsdb-real"):  # single nodes, unions, most of it outside
        space = load_label_space(name)
        for seed, kind in enumerate(("unsure", "smooth", "random")):
            z = logits_of(kind, space.taxonomy.channels, 4, 5, seed)
            agrees(z, (4 * cell, 5 * cell), (4 * cell - cell // 2, 5 * cell), plan_decode(space, "marginal"))


def test_probabilities_of_a_pixel_have_the_same_bits_anywhere():
    space = load_label_space("camvid32")
    z = logits_of("random", space.taxonomy.channels, 45, 50, 4)
    labels, _ = label_probs(in_lanes(z), space)
    full, inside = labels[0, :, 0, : 45 * 50], labels.sum(1)[0, 0, : 45 * 50]
    for count in (1, 3, 17, 70, 1000):
        at = torch.randperm(45 * 50)[:count]
        some, _ = label_probs(in_lanes(z.flatten(2)[:, :, None, at]), space)
        assert torch.equal(some[0, :, 0, :count], full[:, at])
        assert torch.equal(some.sum(1)[0, 0, :count], inside[at])


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("name", ["streets-108", "streets-real", "streets-vistas2"])
def test_nodes_and_leaves_of_every_shipped_tree(name, void):
    tree = load_taxonomy(name, void=void)
    for asked, rule in ((tree, "path"), (own_space(tree), "path"), (own_space(tree), "marginal")):
        plan = plan_decode(asked, rule)
        for kind in KINDS:
            agrees(logits_of(kind, tree.channels, 5, 4, 2), (40, 32), (33, 32), plan)


@st.composite
def trees(draw) -> Taxonomy:
    parents = [0] + [draw(st.integers(0, i)) for i in range(1, draw(st.integers(2, 14)))]
    children: dict[str, list[str]] = {}
    for i, parent in enumerate(parents, 1):
        children.setdefault(f"n{parent}" if parent else "root", []).append(f"n{i}")
    children["root"].append("last")
    return build_taxonomy(TaxonomyFile(name="any", tree=children), void=draw(st.booleans()))


@st.composite
def spaces(draw, tree: Taxonomy):
    """Unions of leaves, some leaves outside, and perhaps a node taken for granted."""
    group = [draw(st.integers(-1, 3)) for _ in tree.leaves]
    labels = [{"id": 9, "name": "nothing", "ignore": True}] + [
        {
            "id": 300 * (i + 1),
            "name": f"l{i}",
            "nodes": [tree.names[tree.leaves[k]] for k, g in enumerate(group) if g == i],
        }
        for i in range(4)
        if i in group
    ]
    assume = draw(st.lists(st.sampled_from(tree.names[1:]), max_size=1))
    return build_label_space(LabelSpaceFile(name="any", taxonomy="any", labels=labels, assume=assume), tree)


@st.composite
def frames(draw):
    """A plan for any tree or label space, logits, what they cover, and the size of the image."""
    tree = draw(trees())
    plan = plan_decode(
        draw(st.one_of(st.just(tree), st.just(own_space(tree)), spaces(tree))),
        draw(st.sampled_from(["path", "marginal"])),
    )
    h, w = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    covers = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))  # also smaller than the grid
    size = (draw(st.integers(1, covers[0])), draw(st.integers(1, covers[1])))
    z = logits_of(draw(st.sampled_from(KINDS)), tree.channels, h, w, draw(st.integers(0, 999)))
    return plan, z, covers, size


@given(frames())
def test_any_tree_any_size_any_logits(frame):
    plan, z, covers, size = frame
    agrees(z, covers, size, plan)


@pytest.mark.parametrize("ahead", [16, 16.63, 16.64, 17, 50, 1e4, float("inf")])
def test_void_that_is_certain_is_outside(ahead):
    """2**-24 is e ** -16.6355: below it nothing is known of the labels. Before, the first label stood there."""
    tree = build_taxonomy(TaxonomyFile(name="three", tree={"root": ["a", "b", "c"]}), void=True)
    labels = [{"id": 9, "name": "nothing", "ignore": True}, {"id": 1, "name": "all", "nodes": ["a", "b", "c"]}]
    space = build_label_space(LabelSpaceFile(name="s", taxonomy="three", labels=labels), tree)
    plan, z = plan_decode(space, "marginal"), torch.zeros(1, 4, 2, 3)
    z[:, :3], z[:, 3, :, 1:] = -1e3, ahead
    z[:, 0] = 0
    agrees(z, (20, 30), (20, 30), plan)
    found, probs = decode(z, (20, 30), (20, 30), plan, confident=True)
    assert found[10, 0] == 1
    assert found[10, 29] == (OUTSIDE if ahead > 16.635 else 1)
    assert probs[10, 29] > 0.999999 or ahead < 16.635


def test_a_union_with_a_majority_at_every_corner_may_lose_between_them():
    """Another node of the union leads at each corner; halfway both are low, and the third label wins."""
    tree = build_taxonomy(TaxonomyFile(name="three", tree={"root": ["a", "b", "c"]}))
    labels = [{"id": 1, "name": "a or b", "nodes": ["a", "b"]}, {"id": 2, "name": "c", "nodes": "c"}]
    space = build_label_space(LabelSpaceFile(name="s", taxonomy="three", labels=labels), tree)
    z = torch.tensor([[[[9.0, 0.0]], [[0.0, 9.0]], [[7.0, 7.0]]]])
    plan, covers = plan_decode(space, "marginal"), (1, 40)
    assert set(np.unique(reference(z, covers, covers, tree, space, "marginal"))) == {0, 1}
    agrees(z, covers, covers, plan)


def test_rounding_may_draw_level_what_is_apart_at_every_corner():
    """The later child leads by one unit in the last place at every corner; between them the first wins some ties."""
    tree = build_taxonomy(TaxonomyFile(name="two", tree={"root": ["a", "b"]}))
    base = 1 + torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    z = torch.cat([base, torch.nextafter(base, torch.tensor(9.0))], 1)
    plan, covers = plan_decode(tree), (84, 84)
    corners = decide(z, tree)
    assert (corners == tree.index("b")).all()
    assert (reference(z, covers, covers, tree, None, "path") == tree.index("a")).any()
    agrees(z, covers, covers, plan)


@pytest.mark.parametrize("size", [1, 1e4, 1e6])
def test_rounding_of_large_logits_may_draw_level_what_has_a_majority(size):
    """One unit in the last place of 10,000 is a probability of 0.5002, at every corner; the first wins some ties."""
    tree = build_taxonomy(TaxonomyFile(name="two", tree={"root": ["a", "b"]}))
    base = size * (1 + torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0)))
    z = torch.cat([base, torch.nextafter(base, torch.tensor(9e9))], 1)
    agrees(z, (84, 84), (84, 84), plan_decode(own_space(tree), "marginal"))


@pytest.mark.parametrize("rule", ["path", "marginal"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads, rule):
    tree = load_taxonomy("streets-108")
    plan = plan_decode(own_space(tree), rule)
    z, before = logits_of("smooth", tree.channels, 20, 20, 0), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found, _ = decode(z, (160, 160), (150, 151), plan)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found, reference(z, (160, 160), (150, 151), tree, plan.space, rule))


@pytest.mark.parametrize("void", [False, True])
def test_confidence_is_the_product_along_the_path(void):
    tree = deep(void)
    z, covers, size = logits_of("random", tree.channels, 5, 6, 3), (20, 24), (19, 23)
    full = upsample(z, covers, (0, 19), 23)[0]
    nodes, chance = decode(z, covers, size, plan_decode(tree), True)
    assert chance.dtype == np.float32
    for y, x in np.ndindex(*size):
        p, node, at = 1.0, -1, 0
        while tree.children[at]:  # an independent walk: multiply the largest softmax of every classifier on the way
            if len(tree.children[at]) == 1:
                at = tree.children[at][0]
                continue
            c = tree.classifiers[tree.classifier_of[at]]
            probs = full[c.start : c.stop, y, x].double().softmax(0)
            p *= float(probs.max())
            best = int(probs.argmax())
            if best == len(c.children):
                break
            at = c.children[best]
        else:
            node = at
        assert nodes[y, x] == node
        assert chance[y, x] == pytest.approx(p, rel=1e-5)
    other, shares = decode_torch(z, covers, size, plan_decode(tree))
    assert np.array_equal(other, nodes)
    np.testing.assert_allclose(shares, chance, rtol=1e-5)


@pytest.mark.parametrize("void", [False, True])
def test_confidence_of_labels(void):
    tree = deep(void)
    space = unions(tree)
    z, covers, size = logits_of("random", tree.channels, 5, 6, 4), (20, 24), (19, 23)
    full = upsample(z, covers, (0, 19), 23)
    mass, total = label_probs(full, space)
    found, chance = decode(z, covers, size, plan_decode(space, "marginal"), True)
    outside = (total - mass.sum(1))[0].numpy()
    wanted = np.where(found == OUTSIDE, outside, np.take_along_axis(mass[0].numpy(), np.maximum(found, 0)[None], 0)[0])
    assert np.array_equal(found, label_map(full, space, "marginal")[0].numpy())
    np.testing.assert_allclose(chance, wanted, rtol=1e-4, atol=1e-6)
    _, shares = decode_torch(z, covers, size, plan_decode(space, "marginal"))
    np.testing.assert_allclose(shares, wanted, rtol=1e-4, atol=1e-6)


def test_assumed_steps_cost_no_confidence():
    tree = load_taxonomy("streets-108")
    space = load_label_space("gtsdb", tree)
    assert assumed_children(space)
    z = logits_of("random", tree.channels, 4, 4, 5)
    _, chance = decode(z, (16, 16), (16, 16), plan_decode(space, "path"), True)
    full = upsample(z, (16, 16), (0, 16), 16)
    decided = decide(full, tree, torch.from_numpy(space.stops), assumed_children(space))[0]
    for y, x in np.ndindex(16, 16):
        path = tree.path(int(decided[y, x]))
        p = 1.0
        for above, below in pairwise(path):
            if above not in assumed_children(space) and len(tree.children[above]) > 1:
                c = tree.classifiers[tree.classifier_of[above]]
                p *= float(full[0, c.start : c.stop, y, x].softmax(0)[c.children.index(below)])
        assert chance[y, x] == pytest.approx(p, rel=1e-5)


@pytest.mark.parametrize("outside", [False, True])
def test_what_is_left_out_is_not_forgotten(outside):
    """Two hundred channels that are too rare to be looked into decide together: for a label, or for no label at all."""
    dust = [f"x{i}" for i in range(200)]
    tree = build_taxonomy(TaxonomyFile(name="any", tree={"root": ["a", "b", *dust]}))
    nodes = [["a"], ["b"] if outside else ["b", *dust]]
    labels = [{"id": i, "name": f"l{i}", "nodes": n, "evaluate": False} for i, n in enumerate(nodes)]
    space = build_label_space(LabelSpaceFile(name="any", taxonomy="any", labels=labels), tree)
    a, b = (0.47, 0.0) if outside else (0.48, 0.46)
    z = torch.tensor([a, b or 1e-9] + [(1 - a - b) / 200] * 200).log().view(1, 202, 1, 1) + torch.zeros(1, 202, 4, 5)
    plan = plan_decode(space, "marginal")
    agrees(z, (32, 40), (32, 40), plan)
    assert (decode(z, (32, 40), (32, 40), plan)[0] == (OUTSIDE if outside else 1)).all()


def test_majority_is_convex():
    """What the marginal shortcut rests on: a node above one half at both ends is above it all the way."""
    tree = load_taxonomy("streets-108")
    for seed in range(50):
        ends = logits_of("certain", tree.channels, 1, 2, seed) * 0.3
        steps = torch.lerp(ends[..., :1], ends[..., 1:], torch.linspace(0, 1, 65))
        probs = leaf_probs(steps, tree)[0, :, 0]
        sure = (probs[:, 0] > 0.5) & (probs[:, -1] > 0.5)
        assert (probs[sure] > 0.5).all()
