"""The loss against slow float64 references written from the mathematics, and the properties that it must have."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.labels.space import LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy
from heteroseg.supervision.few import Unmade, asked_by
from heteroseg.supervision.label_terms import build_terms
from heteroseg.supervision.loss import (
    STRONG,
    WEAK,
    hierarchical_loss,
    logits_at,
    nll_sums,
    reduce_sums,
    sample_points,
)
from heteroseg.supervision.targets import MIXED, pad_mixtures
from tests.supervision.loss_reference import (
    SPACES,
    Reference,
    make_space,
    make_tree,
    random_pixels,
    reference_sums,
    world,
)


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize(("kind", "gate"), [(STRONG, "hard"), (WEAK, "hard"), (WEAK, "soft"), (WEAK, "open")])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_equal_the_reference(void, kind, gate, weighted):
    tree, terms, ref, logits, labels = random_pixels(void, 600)
    weights = torch.rand(600, dtype=torch.float64) if weighted else None
    found = nll_sums(logits, labels, kind, terms, tree, weights, gate)
    nll, weight = reference_sums(tree, ref, logits, labels, kind, gate, weights)
    np.testing.assert_allclose(found.nll, nll, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.weight, weight, rtol=1e-12)
    assert (weight[:, kind] > 0).all() or kind == WEAK, "every classifier is asked"
    assert (weight[:, kind] > 0).sum() >= 5


@pytest.mark.parametrize("normalise", ["classifier", "pixel"])
@pytest.mark.parametrize(("gate", "balance"), [("hard", 0.0), ("soft", 0.5), ("open", 1.0)])
def test_whole_loss_equals_the_reference(normalise, gate, balance):
    """From logits at a lower resolution: bilinear by the formula, then every pixel of mask and boxes by itself."""
    tree, terms, ref, ends = world(True)
    g = torch.Generator().manual_seed(5)
    batch, (h, w), (height, width) = 3, (3, 4), (7, 9)
    logits = torch.randn(batch, tree.channels, h, w, generator=g, dtype=torch.float64) * 2
    ignored = torch.tensor([nodes is None for _, nodes in ref.labels])
    mask = torch.randint(-1, ends[2], (batch, height, width), generator=g)
    boxes = torch.randint(ends[2], ends[-1], (batch, height, width), generator=g)
    boxes[torch.rand(boxes.shape, generator=g) < 0.5] = -1
    mask[1] = -1  # an image with boxes alone
    mask, boxes = (torch.where(ignored[m], -1, m).to(torch.int16) for m in (mask, boxes))
    label_weights = torch.rand(ends[-1], generator=g) + 0.5
    kinds = torch.rand(len(tree.classifiers), 2, generator=g).double()
    sums, pixels = hierarchical_loss(
        logits, mask, boxes, terms, tree, cell=1, gate=gate, balance=balance, label_weights=label_weights
    )
    found = reduce_sums(sums, kinds, normalise, pixels)

    def at(b, y, x):  # every low-resolution pixel with its tent, held at the edges
        py, px = ((p + 0.5) * s / f - 0.5 for p, s, f in ((y, h, height), (x, w, width)))
        py, px = min(max(py, 0), h - 1), min(max(px, 0), w - 1)
        tents = [(i, j, max(0, 1 - abs(py - i)) * max(0, 1 - abs(px - j))) for i, j in np.ndindex(h, w)]
        return sum(t * logits[b, :, i, j].numpy() for i, j, t in tents)

    nll, weight, known = np.zeros((len(kinds), 2)), np.zeros((len(kinds), 2)), set()
    for kind, target in ((STRONG, mask), (WEAK, boxes)):
        where = [(b, y, x) for b, y, x in np.ndindex(*target.shape) if target[b, y, x] >= 0]
        known |= set(where)
        picked = torch.tensor([int(target[p]) for p in where])
        n = {int(v): int((picked == v).sum()) for v in picked.unique()}
        raw = np.array([n[int(v)] ** -balance for v in picked])
        each = raw / raw.mean() * label_weights[picked].numpy()
        rows = [at(*p) for p in where]
        a, c = reference_sums(tree, ref, np.array(rows), picked, kind, gate, each)
        nll, weight = nll + a, weight + c
    total = (nll * kinds.numpy()).sum() / len(known)
    if normalise == "classifier":
        cells = zip(kinds.numpy().flat, nll.flat, weight.flat, strict=True)
        total = sum(k * n / c for k, n, c in cells if c)
    assert pixels == len(known)
    assert found.item() == pytest.approx(total, rel=1e-6)  # pixel weights are float32


@given(st.sets(st.integers(0, 12), min_size=1), st.integers(0, 2**16))
def test_any_union_costs_minus_log_of_its_leaves(leaves, seed):
    tree = make_tree(False)
    assert len(tree.leaves) == 13
    nodes = [tree.names[tree.leaves[i]] for i in sorted(leaves)]
    file = LabelSpaceFile(name="u", taxonomy="t", labels=[{"id": 0, "name": "u", "nodes": nodes}])
    logits = torch.randn(1, tree.channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    terms = build_terms([build_label_space(file, tree)])
    sums = nll_sums(logits, torch.tensor([0]), STRONG, terms, tree)
    ref = Reference(tree)
    p = sum(math.prod(ref.given_parent(logits[0].tolist(), n) for n in ref.path(leaf)[1:]) for leaf in nodes)
    one = reduce_sums(sums, torch.ones(len(tree.classifiers), 2), "pixel", torch.tensor(1.0))
    assert one.item() == pytest.approx(-math.log(p), rel=1e-9, abs=1e-12)


def test_flat_tree_is_cross_entropy():
    tree = build_taxonomy(TaxonomyFile(name="f", tree={"root": list("abcde")}))
    labels = [{"id": i, "name": n, "nodes": n} for i, n in enumerate("abcde")]
    terms = build_terms([build_label_space(LabelSpaceFile(name="f", taxonomy="f", labels=labels), tree)])
    logits, mask = torch.randn(2, 5, 6, 7), torch.randint(0, 5, (2, 6, 7))
    mask[0, 0] = -1
    sums, pixels = hierarchical_loss(logits, mask, torch.full_like(mask, -1), terms, tree, cell=1)
    for normalise in ("pixel", "classifier"):
        found = reduce_sums(sums, torch.ones(1, 2), normalise, pixels)
        torch.testing.assert_close(found, F.cross_entropy(logits, mask, ignore_index=-1))


@pytest.mark.parametrize(("kind", "gate"), [(STRONG, "hard"), (WEAK, "hard"), (WEAK, "open")])
@pytest.mark.parametrize("normalise", ["classifier", "pixel"])
def test_gradcheck(kind, gate, normalise):
    tree, terms, _, logits, labels = random_pixels(True, 12, seed=3)
    weights = torch.rand(8, 2, generator=torch.Generator().manual_seed(1))

    def loss(x):
        sums = nll_sums(x, labels, kind, terms, tree, None, gate)
        return reduce_sums(sums, weights, normalise, torch.tensor(12.0))

    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


def test_gradcheck_through_the_interpolation():
    tree, terms, _, _ = world(False)
    mask = torch.randint(-1, 3, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    logits = torch.randn(2, tree.channels, 2, 3, dtype=torch.float64, requires_grad=True)

    def loss(x):
        sums, pixels = hierarchical_loss(x, mask, torch.full_like(mask, -1), terms, tree, cell=1)
        return reduce_sums(sums, torch.ones(8, 2), "pixel", pixels)

    assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize("gate", ["hard", "soft"])
def test_no_gradient_flows_through_a_gate(gate):
    tree, terms, _, ends = world(True)
    front = tree.classifiers[tree.classifier_of[tree.index("front")]]
    sign = tree.classifiers[tree.classifier_of[tree.index("sign")]]
    logits = torch.randn(50, tree.channels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits[:25, sign.start] += 9  # front wins
    logits.requires_grad_()
    labels = torch.full((50,), ends[2])  # stop, gated by front
    sums = nll_sums(logits, labels, WEAK, terms, tree, None, gate)
    (gradient,) = torch.autograd.grad(sums.nll.sum(), logits)
    assert sums.nll.sum() > 0
    elsewhere = [c for c in range(tree.channels) if not front.start <= c < front.stop]
    assert (gradient[:, elsewhere] == 0).all()
    p = logits.detach()[:, front.start : front.stop].softmax(1)
    p[:, 0] -= 1
    steps = [tree.classifiers[0], tree.classifiers[tree.classifier_of[tree.index("thing")]], sign]
    positions = [2, 2, 0]  # thing, sign, front
    soft = math.prod(
        logits.detach()[:, c.start : c.stop].softmax(1)[:, i] for c, i in zip(steps, positions, strict=True)
    )
    hard = (logits.detach()[:, sign.start : sign.stop].argmax(1) == 0).double()
    factor = soft if gate == "soft" else hard
    torch.testing.assert_close(gradient[:, front.start : front.stop], p * factor[:, None])


@pytest.mark.parametrize("normalise", ["classifier", "pixel"])
@pytest.mark.parametrize("cell", [1, 4])
def test_nothing_known_is_zero_with_zero_gradients(normalise, cell):
    tree, terms, _, _ = world(True)
    logits = torch.randn(2, tree.channels, 4, 4, requires_grad=True)
    nothing = torch.full((2, 16, 16), -1, dtype=torch.int16)
    sums, pixels = hierarchical_loss(logits, nothing, nothing, terms, tree, cell=cell, gate="soft", balance=0.5)
    loss = reduce_sums(sums, torch.ones(len(tree.classifiers), 2), normalise, pixels)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_closed_gates_are_zero_with_zero_gradients():
    tree, terms, _, ends = world(False)
    sign = tree.classifiers[tree.classifier_of[tree.index("sign")]]
    logits = torch.zeros(9, tree.channels)
    logits[:, sign.start + 1] = 5  # back
    logits.requires_grad_()
    sums = nll_sums(logits, torch.full((9,), ends[2]), WEAK, terms, tree, None, "hard")
    loss = reduce_sums(sums, torch.ones(8, 2), "classifier", torch.tensor(9.0))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def small_batch(seed=0, size=(24, 20), batch=3):
    tree, terms, ref, ends = world(True)
    g = torch.Generator().manual_seed(seed)
    ignored = torch.tensor([nodes is None for _, nodes in ref.labels])
    mask = torch.randint(-1, ends[2], (batch, *size), generator=g)
    boxes = torch.randint(ends[2], ends[-1], (batch, *size), generator=g)
    mask, boxes = (torch.where(ignored[m], -1, m).to(torch.int16) for m in (mask, boxes))
    mask[0, :, 5:] = -1
    boxes[1, 3:] = -1
    return tree, terms, torch.randn(batch, tree.channels, 6, 5, generator=g, dtype=torch.float64), mask, boxes


def mixtures_of(ends) -> list[list]:
    """Per image, mixtures over the spaces with a gate: tags of one and of two gates, and shares of boxes."""
    stop, give, limit = (ends[2] + i for i in (0, 1, 3))
    sign, person, either = (ends[4] + i for i in (0, 1, 2))
    return [
        [((1.0, (stop, limit)),), ((0.25, (sign,)), (0.75, (person,)))],
        [],
        [
            ((1.0, (stop, give)), (1.0, (person, either))),
            ((1.0, (sign, person, either)),),
            ((0.5, (stop,)), (0.5, (either,))),
        ],
    ]


@pytest.mark.parametrize("gate", ["hard", "soft", "open"])
@pytest.mark.parametrize("void", [False, True])
def test_mixtures_equal_the_reference(void, gate):
    """Alone and among masks and boxes: what shared boxes and tags add, and nothing else."""
    tree, terms, ref, ends = world(void)
    _, _, _, mask, boxes = small_batch()
    g = torch.Generator().manual_seed(9)
    logits = torch.randn(3, tree.channels, *mask.shape[1:], generator=g, dtype=torch.float64)
    mixed = mixtures_of(ends)
    before = boxes.clone()
    for i, image in enumerate(mixed):
        if image:
            spots = torch.rand(boxes.shape[1:], generator=g) < 0.3
            boxes[i] = torch.where(spots, MIXED - torch.randint(0, len(image), boxes.shape[1:], generator=g), boxes[i])
    rest = torch.where(boxes <= MIXED, -1, boxes)
    assert (rest != before).any()
    found, _ = hierarchical_loss(logits, mask, boxes, terms, tree, cell=1, gate=gate, mixtures=pad_mixtures(mixed))
    without, _ = hierarchical_loss(logits, mask, rest, terms, tree, cell=1, gate=gate)
    names = [tree.names[c.node] for c in tree.classifiers]
    nll, weight = np.zeros((len(names), 2)), np.zeros((len(names), 2))
    for b, y, x in (boxes <= MIXED).nonzero().tolist():
        groups = mixed[b][MIXED - int(boxes[b, y, x])]
        for owner, (value, count) in ref.mixture(logits[b, :, y, x].tolist(), groups, gate).items():
            nll[names.index(owner), 1] += value
            weight[names.index(owner), 1] += count
    assert (weight[:, 1] > 0).sum() >= 4
    np.testing.assert_allclose(found.nll - without.nll, nll, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.weight - without.weight, weight, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gate", ["hard", "open"])
def test_gradcheck_of_mixtures(gate):
    tree, terms, _, ends = world(True)
    mixed = mixtures_of(ends)
    boxes = torch.tensor([[[-2, -3, -1]], [[-1, -1, -1]], [[-2, -3, -4]]])
    logits = torch.randn(3, tree.channels, 1, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for image, x in ((0, 0), (2, 0), (2, 1), (2, 2)):  # open the gates well, so that a small step closes none
        for node in ("thing", "sign", "front"):
            logits[image, tree.channel_of[tree.index(node)], 0, x] += 6
    nothing = torch.full_like(boxes, -1)

    def loss(values):
        options = {"cell": 1, "gate": gate, "mixtures": pad_mixtures(mixed)}
        sums, pixels = hierarchical_loss(values, nothing, boxes, terms, tree, **options)
        return reduce_sums(sums, torch.ones(8, 2), "classifier", pixels)

    assert loss(logits) > 0
    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


def test_permuting_a_batch_changes_nothing_and_inputs_stay():
    tree, terms, logits, mask, boxes = small_batch()
    before = [t.clone() for t in (logits, mask, boxes)]
    options = {"cell": 1, "gate": "soft", "balance": 0.7, "label_weights": torch.linspace(0.5, 2, 40)}
    a, n = hierarchical_loss(logits, mask, boxes, terms, tree, **options)
    assert all(torch.equal(x, y) for x, y in zip(before, (logits, mask, boxes), strict=True))
    order = torch.tensor([2, 0, 1])
    b, m = hierarchical_loss(logits[order], mask[order], boxes[order], terms, tree, **options)
    assert n == m
    torch.testing.assert_close(a.nll, b.nll, rtol=1e-6, atol=1e-7)  # pixel weights are float32
    torch.testing.assert_close(a.weight, b.weight, rtol=1e-6, atol=1e-7)


def test_refining_an_unlabelled_node_changes_no_other_term():
    old, terms, logits, mask, boxes = small_batch()
    new = make_tree(True, sky=["clear", "cloudy"], clear=["blue", "dawn"])
    wider = torch.randn(3, new.channels, 6, 5, dtype=torch.float64)
    for c in old.classifiers:
        start = new.classifiers[new.classifier_of[new.index(old.names[c.node])]].start
        wider[:, start : start + c.stop - c.start] = logits[:, c.start : c.stop]
    spaces = [make_space(new, name) for name in SPACES]
    a, _ = hierarchical_loss(logits, mask, boxes, terms, old, cell=1, gate="soft")
    b, _ = hierarchical_loss(wider, mask, boxes, build_terms(spaces), new, cell=1, gate="soft")
    for i, c in enumerate(new.classifiers):
        name = new.names[c.node]
        j = old.classifier_of[old.index(name)] if name in old else -1
        wanted = a.nll[old.classifier_of[old.index(name)]] if j >= 0 else torch.zeros(2).double()
        torch.testing.assert_close(b.nll[i], wanted, msg=name)


def test_every_pixel_is_equally_likely():
    labelled = torch.ones(2, 7, 10, dtype=torch.bool)
    labelled[0, 2:4, 3] = False
    count, g, draws = torch.zeros(2, 7, 10), torch.Generator().manual_seed(0), 3000
    for _ in range(draws):
        count[sample_points(labelled, 3, g)] += 1
    assert (count[~labelled] == 0).all()
    sigma = math.sqrt(draws / 9 * (8 / 9))
    assert (count[labelled] - draws / 9).abs().max() < 5 * sigma
    every = sample_points(labelled, 1)
    assert len(every[0]) == labelled.sum()
    assert labelled[every].all()


def test_sampled_sums_are_unbiased():
    tree, terms, logits, mask, boxes = small_batch(size=(22, 19))
    full, _ = hierarchical_loss(logits, mask, boxes, terms, tree, cell=1)
    g = torch.Generator().manual_seed(1)
    draws = [hierarchical_loss(logits, mask, boxes, terms, tree, cell=4, generator=g) for _ in range(300)]
    for pick, wanted in ((lambda d: d[0].nll, full.nll), (lambda d: d[0].weight, full.weight)):
        values = torch.stack([pick(d) for d in draws]) * 16
        error = (values.mean(0) - wanted).abs()
        assert (error <= 4.5 * values.std(0) / math.sqrt(300) + 1e-9).all()
    means = torch.stack([reduce_sums(d[0], torch.ones(8, 2), "pixel", d[1]) for d in draws])
    exact = reduce_sums(full, torch.ones(8, 2), "pixel", ((mask != -1) | (boxes != -1)).sum())
    assert means.mean().item() == pytest.approx(exact.item(), rel=0.02)


@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 23)] * 2))
def test_logits_at_equals_upsampling(small, size):
    logits = torch.randn(2, 3, *small, dtype=torch.float64)
    full = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    points = torch.ones(2, *size).nonzero(as_tuple=True)
    torch.testing.assert_close(logits_at(logits, points, size), full.permute(0, 2, 3, 1).reshape(-1, 3))


@pytest.mark.parametrize("gate", ["hard", "soft", "open"])
@pytest.mark.parametrize("void", [False, True])
def test_classifiers_that_are_asked_alone_give_the_same(void, gate):
    """From features, and the layer that would make the logits: sums and gradients of masks, boxes and mixtures."""
    tree, terms, _, ends = world(void)
    _, _, _, mask, boxes = small_batch()
    g, mixed = torch.Generator().manual_seed(3), mixtures_of(ends)
    for i in (0, 2):
        spots = torch.rand(boxes.shape[1:], generator=g) < 0.2
        boxes[i] = torch.where(spots, MIXED - torch.randint(0, len(mixed[i]), spots.shape, generator=g), boxes[i])
    shapes = (3, 5, 6, 5), (tree.channels, 5), (tree.channels,)
    inputs = [torch.randn(shape, generator=g, dtype=torch.float64, requires_grad=True) for shape in shapes]
    features, weight, bias = inputs
    made = torch.einsum("bnhw,cn->bchw", features, weight) + bias[:, None, None]

    def found(logits, *maps):
        options = {"cell": 2, "gate": gate, "balance": 0.5, "mixtures": pad_mixtures(mixed)}
        sums, pixels = hierarchical_loss(
            logits, *maps, terms, tree, **options, generator=torch.Generator().manual_seed(1)
        )
        loss = reduce_sums(sums, torch.arange(16).view(8, 2) + 1.0, "classifier", pixels)
        return [*sums, *torch.autograd.grad(loss, inputs, retain_graph=True)]

    torch.testing.assert_close(found(Unmade(*inputs, asked_by(terms, tree)), mask, boxes), found(made, mask, boxes))
    nothing = torch.full_like(mask, -1)
    assert not any(each.any() for each in found(Unmade(*inputs, asked_by(terms, tree)), nothing, nothing))


def test_no_more_classifiers_are_asked_than_terms_need():
    tree, terms, _, _ = world(False)
    asked = asked_by(terms, tree)
    assert asked[:, 0].all()
    assert (asked.sum(1) < len(tree.classifiers)).all()
    for owners, row in zip(terms.path_of.tolist(), asked.tolist(), strict=True):
        assert all(row[owner] for owner in owners if owner >= 0)
