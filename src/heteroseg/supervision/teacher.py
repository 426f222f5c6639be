"""What a trained network teaches another where labels leave something open: its shares of what they allow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.supervision.label_terms import label_gate
from heteroseg.supervision.loss import Points, log_softmaxes, logits_at
from heteroseg.supervision.targets import MIXED, Mixtures


@dataclass
class Lesson:
    """Tables of what a teacher can teach; an atom is a node that both trees know, as fine as can be.

    `paths` and `teacher_paths` (C, leaves) float: the channels on the way to every leaf of either tree. `atoms`
    (leaves, atoms) float: the student's leaves of each; a leaf that the teacher knows nothing of has none.
    `teacher_atoms` the same for the teacher's. `labels` (labels + 1, leaves) bool: what each running label number
    leaves open, and in the last row, for -1, all; `gates` (labels, leaves) bool: what lies under each one's gate.
    """

    paths: Tensor
    teacher_paths: Tensor
    atoms: Tensor
    teacher_atoms: Tensor
    labels: Tensor
    gates: Tensor


def _paths(tree: Taxonomy) -> Tensor:
    table = torch.zeros(tree.channels, len(tree.leaves))
    for i, leaf in enumerate(tree.leaves):
        table[tree.steps[leaf], i] = 1
    return table


def _nearest(tree: Taxonomy, leaf: int, known: set[str]) -> str | None:
    """The first of `known` on the way from a leaf to the root, which is not asked."""
    return next((name for n in tree.path(leaf)[:0:-1] if (name := tree.names[n]) in known), None)


def build_lesson(spaces: Sequence[LabelSpace], teacher: Taxonomy) -> Lesson:
    """Tables for the label spaces of a run, which share the student's tree.

    An atom is a leaf of the student that the teacher knows, or a leaf of the teacher under which the student has finer
    ones. A leaf of the student that hangs beside those of the teacher is in none: the teacher never heard of it. A
    leaf of the teacher counts for the nearest atom above it.
    """
    tree = spaces[0].taxonomy
    finest = [_nearest(tree, leaf, set(teacher.names)) for leaf in tree.leaves]
    named = [tree.names[leaf] for leaf in tree.leaves]
    ends = {teacher.names[leaf] for leaf in teacher.leaves}
    of = [name if name in ends or name == leaf else None for name, leaf in zip(finest, named, strict=True)]
    atoms = dict.fromkeys(name for name in of if name)
    theirs = [_nearest(teacher, leaf, set(atoms)) for leaf in teacher.leaves]
    tables = [torch.tensor([[name == atom for atom in atoms] for name in names]).float() for names in (of, theirs)]
    under = np.zeros((sum(space.targets for space in spaces), len(tree.leaves)), bool)
    gates = [label_gate(space, i) for space in spaces for i in range(space.targets)]
    for row, gate in zip(under, gates, strict=True):
        row[slice(*tree.spans[gate])] = True
    labels = np.concatenate([*(space.training_table for space in spaces), np.ones((1, len(tree.leaves)), bool)])
    return Lesson(
        _paths(tree), _paths(teacher), tables[0], tables[1], torch.from_numpy(labels), torch.from_numpy(under)
    )


def divergences(log_s: Tensor, log_t: Tensor, opened: Tensor, atoms: Tensor) -> Tensor:
    """(N,) how far the student is from the teacher's shares of what is `opened` (N, leaves) bool, times the teacher's
    probability of all of that; 0 where it knows at most one atom there.

    `log_s` (N, leaves) log-probabilities of the student's leaves, `log_t` (N, atoms) of the teacher's atoms.
    """
    tiny = torch.finfo(log_s.dtype).tiny
    known = opened.to(log_s) @ atoms > 0
    log_s = log_s.masked_fill(~opened | (atoms.sum(1) == 0), -torch.inf)
    top = log_s.detach().amax(1, keepdim=True).clamp(min=-1e30)  # where nothing is open
    shares = (log_s - top).exp() @ atoms
    student = shares.clamp(min=tiny).log() - shares.sum(1, keepdim=True).clamp(min=tiny).log()
    teacher = log_t.masked_fill(~known, -torch.inf).log_softmax(1).masked_fill(~known, 0)
    return (log_t.exp() * known * (teacher - student)).sum(1)


def _weak(points: Points, labels: Tensor, mixtures: Mixtures) -> tuple[Tensor, Tensor, Tensor]:
    """What boxes and tags say of the pixels `points`, whose `labels` (N,) these are: each time the pixel (R,), the
    labels (R, K) of which it is one, padded with -1, and the weight (R,)."""
    single, mixed = (labels >= 0).nonzero()[:, 0], (labels <= MIXED).nonzero()[:, 0]
    which = points[0][mixed], MIXED - labels[mixed]
    here, group = (mixtures.weights[which] > 0).nonzero(as_tuple=True)
    members, weights = mixtures.labels[which][here, group], mixtures.weights[which][here, group]
    alone = members.new_full((len(single), members.shape[1]), -1)
    alone[:, 0] = labels[single]
    ones = weights.new_ones(len(single))
    return torch.cat([single, mixed[here]]), torch.cat([alone, members]), torch.cat([ones, weights])


def teacher_sum(
    log_s: Tensor, log_t: Tensor, points: Points, mask: Tensor, boxes: Tensor, mixtures: Mixtures, lesson: Lesson
) -> Tensor:
    """What the teacher adds to the loss at N sampled pixels, summed. Labels always win.

    A label of a mask leaves its leaves open. A box speaks under its gate alone: there only its own label is open, and
    in all the rest the teacher gives the gate as a whole its share.
    """
    weak = boxes[points].long()
    opened = lesson.labels[mask[points].long()]
    total = divergences(log_s, log_t, opened, lesson.atoms).sum()
    pixel, members, weights = _weak(points, weak, mixtures)
    for table, sign in ((lesson.gates[members[:, :1]], -1), (lesson.labels[members] & (members >= 0)[..., None], 1)):
        parts = divergences(log_s[pixel], log_t[pixel], opened[pixel] & table.any(1), lesson.atoms)
        total = total + sign * (weights * parts).sum()
    return total


def log_leaves(logits: Tensor, points: Points, size: tuple[int, int], tree: Taxonomy, paths: Tensor) -> Tensor:
    """(N, leaves) log-probabilities at pixels of an image of this size, from fused logits (B, C, h, w)."""
    return log_softmaxes(logits_at(logits, points, size), tree) @ paths
