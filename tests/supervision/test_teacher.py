"""What a teacher adds to the loss, against a loop over pixels and labels in plain Python."""

import math

import numpy as np
import pytest
import torch

from heteroseg.labels.space import AroundBoxes, LabelEntry, LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy
from heteroseg.supervision.label_terms import label_gate
from heteroseg.supervision.loss import log_softmaxes
from heteroseg.supervision.targets import pad_mixtures
from heteroseg.supervision.teacher import build_lesson, teacher_sum


def tree_of(tree: dict[str, list[str]], void: bool = False) -> Taxonomy:
    return build_taxonomy(TaxonomyFile(name="t", tree=tree), void=void)


STUDENT = {"root": ["a", "b", "c"], "a": ["x", "y", "new"], "x": ["u", "v", "w"], "b": ["only", "p"]}
TEACHERS = {
    "the same": STUDENT,
    "lacks a sibling": {**STUDENT, "a": ["x", "y"]},
    "coarser": {"root": ["a", "b", "c"], "a": ["x", "y"]},
    "finer": {**STUDENT, "u": ["u1", "u2"], "c": ["c1", "c2", "c3"]},
    "arranged anew": {"root": ["u", "rest"], "rest": ["y", "c", "more"], "more": ["v", "p", "other"]},
    "of other things": {"root": ["k", "l"]},
}
NAMES = ["x", ["p", "c"], "a", "u", "new", "p", ["b", "c"], "w"]  # of labels 0 to 7; 8 lies around boxes


def space_of(tree: Taxonomy, gate: str | None = None) -> LabelSpace:
    labels = [LabelEntry(id=i, name=f"l{i}", nodes=nodes, evaluate=False) for i, nodes in enumerate(NAMES)]
    file = LabelSpaceFile(name="s", taxonomy="t", labels=labels, gate=gate, around_boxes=AroundBoxes(excludes="x"))
    return build_label_space(file, tree)


def leaf_probabilities(logits: np.ndarray, tree: Taxonomy) -> dict[str, float]:
    """The probability of every node, by softmax after softmax."""
    p = {tree.names[0]: 1.0}
    for node in range(1, len(tree)):
        above = tree.parents[node]
        share = 1.0
        if (q := tree.classifier_of[above]) >= 0:
            c = tree.classifiers[q]
            part = np.exp(logits[c.start : c.stop] - logits[c.start : c.stop].max())
            share = part[tree.channel_of[node] - c.start] / part.sum()
        p[tree.names[node]] = p[tree.names[above]] * share
    return p


def atoms_of(student: Taxonomy, teacher: Taxonomy) -> dict[str, tuple[set[str], set[str]]]:
    """The student's and the teacher's leaves of each atom, by name."""
    atoms: dict[str, tuple[set[str], set[str]]] = {}
    for leaf in student.leaves:
        for node in student.path(leaf)[:0:-1]:
            name = student.names[node]
            if name in teacher:
                if node == leaf or teacher.index(name) in teacher.leaves:
                    atoms.setdefault(name, (set(), set()))[0].add(student.names[leaf])
                break
    for leaf in teacher.leaves:
        for node in teacher.path(leaf)[:0:-1]:
            if teacher.names[node] in atoms:
                atoms[teacher.names[node]][1].add(teacher.names[leaf])
                break
    return atoms


def divergence(s: dict, t: dict, atoms: dict, allowed: set[str]) -> float:
    parts = [(sum(t[k] for k in theirs), sum(s[k] for k in ours & allowed)) for ours, theirs in atoms.values()]
    parts = [(a, b) for a, b in parts if b > 0]
    known, m = sum(b for _, b in parts), sum(a for a, _ in parts)
    return sum(a * (math.log(a / m) - math.log(b / known)) for a, b in parts if a > 0)


def reference(s: dict, t: dict, atoms: dict, space: LabelSpace, mask: int, weak: list) -> float:
    """The loss of one pixel; `weak` are (weight, labels) of boxes and tags there."""
    tree = space.taxonomy

    def names(leaves) -> set[str]:
        return {tree.names[tree.leaves[i]] for i in leaves}

    everything = names(range(len(tree.leaves)))
    allowed = names(space.training_leaves(mask)) if mask >= 0 else everything
    total = divergence(s, t, atoms, allowed)
    for weight, members in weak:
        gate = names(tree.leaves_of(label_gate(space, members[0])))
        told = set().union(*(names(space.training_leaves(i)) for i in members))
        total -= weight * divergence(s, t, atoms, allowed & gate)
        total += weight * divergence(s, t, atoms, allowed & told)
    return total


MIXTURES = (((0.25, (3,)), (0.75, (5,))), ((1.0, (3, 7)),))
PIXELS = [  # mask, boxes
    (-1, -1), (0, -1), (1, -1), (2, -1), (3, -1), (4, -1), (5, -1), (6, -1), (7, -1),
    (-1, 0), (-1, 1), (-1, 2), (-1, 3), (-1, 4), (-1, 5), (-1, 7), (-1, 8), (2, 3), (0, 8),
    (5, 3), (-1, -2), (-1, -3), (2, -3),
]  # fmt: skip


@pytest.mark.parametrize("void", [False, True], ids=["plain", "void"])
@pytest.mark.parametrize("gate", [None, "root"], ids=["gate above", "gate root"])
@pytest.mark.parametrize("teacher", TEACHERS.values(), ids=TEACHERS)
def test_it_equals_a_loop_over_pixels(teacher, gate, void):
    student, known = tree_of(STUDENT, void), tree_of(teacher)
    space = space_of(student, gate)
    lesson = build_lesson([space], known)
    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 2, (len(PIXELS), student.channels)), rng.normal(0, 2, (len(PIXELS), known.channels))
    log_s = log_softmaxes(torch.from_numpy(z), student) @ lesson.paths.double()
    probabilities = (log_softmaxes(torch.from_numpy(y), known) @ lesson.teacher_paths.double()).exp()
    log_t = (probabilities @ lesson.teacher_atoms.double()).clamp(min=1e-300).log()
    lesson.atoms = lesson.atoms.double()
    mask, boxes = (torch.tensor(column).view(1, 1, -1) for column in zip(*PIXELS, strict=True))
    points = tuple(torch.tensor(axis) for axis in ([0] * len(PIXELS), [0] * len(PIXELS), range(len(PIXELS))))
    mixtures = pad_mixtures([MIXTURES])
    total = teacher_sum(log_s, log_t, points, mask, boxes, mixtures, lesson)
    atoms, due = atoms_of(student, known), 0.0
    for i, (label, box) in enumerate(PIXELS):
        weak = [] if box == -1 else [(1.0, (box,))] if box >= 0 else list(MIXTURES[-2 - box])
        s, t = leaf_probabilities(z[i], student), leaf_probabilities(y[i], known)
        due += reference(s, t, atoms, space, label, weak)
    assert total.item() == pytest.approx(due, rel=1e-6, abs=1e-9)


def gradient(
    label: int, box: int, teacher: dict = STUDENT, logits: np.ndarray | None = None
) -> tuple[np.ndarray, Taxonomy]:
    """(C,) what one pixel pulls at the student's logits."""
    student, known = tree_of(STUDENT), tree_of(teacher)
    lesson = build_lesson([space_of(student)], known)
    rng = np.random.default_rng(1)
    z = torch.from_numpy(rng.normal(0, 2, (1, student.channels)).astype(np.float32)).requires_grad_()
    y = torch.from_numpy(rng.normal(0, 2, (1, known.channels)).astype(np.float32) if logits is None else logits)
    log_t = ((log_softmaxes(y, known) @ lesson.teacher_paths).exp() @ lesson.teacher_atoms).clamp(min=1e-38).log()
    points = (torch.tensor([0]),) * 3
    maps = [torch.full((1, 1, 1), value) for value in (label, box)]
    teacher_sum(log_softmaxes(z, student) @ lesson.paths, log_t, points, *maps, pad_mixtures([()]), lesson).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    return z.grad[0].numpy(), student


def of_node(values: np.ndarray, tree: Taxonomy, name: str) -> np.ndarray:
    c = tree.classifiers[tree.classifier_of[tree.index(name)]]
    return values[c.start : c.stop]


def test_where_a_label_says_all_the_teacher_says_nothing():
    values, _ = gradient(3, -1)
    assert np.abs(values).max() < 1e-6


def test_a_coarse_label_is_shared_out_and_not_doubted():
    values, tree = gradient(0, -1)  # x
    assert np.abs(of_node(values, tree, "x")).max() > 1e-3
    for name in ("root", "a", "b"):
        assert np.abs(of_node(values, tree, name)).max() < 1e-6


def test_under_the_gate_of_a_box_the_teacher_says_nothing_but_above_it_all():
    values, tree = gradient(-1, 3)  # u, whose gate is x
    assert np.abs(of_node(values, tree, "x")).max() < 1e-5
    assert np.abs(of_node(values, tree, "root")).max() > 1e-3


def test_a_node_that_the_teacher_does_not_know_is_left_alone():
    """Whether a pixel is the new sibling, of that it says nothing: how the known ones share it is what it teaches."""
    values, tree = gradient(-1, -1, TEACHERS["lacks a sibling"])
    assert abs(of_node(values, tree, "a")[2] + of_node(values, tree, "a")[:2].sum()) < 1e-5


def test_a_teacher_of_other_things_and_one_that_is_sure_are_no_nan():
    assert not gradient(-1, -1, TEACHERS["of other things"])[0].any()
    sure = np.full((1, tree_of(STUDENT).channels), -200, np.float32)
    sure[0, ::3] = 200
    for label in range(-1, 8):
        gradient(label, -1, logits=sure)
