"""Logits of which some classifiers' are worked out only where a decision may ask for them, with the same answers.

The path rule asks a classifier where its node may be reached. By the marginal rule a node whose probability is too
small for any label under it to win, however it is shared out among them, needs no sharing out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heteroseg.decisions.bilinear import cells_and_weight
from heteroseg.decisions.plan import Plan
from heteroseg.decisions.tables import FloatArray, IntArray
from heteroseg.labels.space import OUTSIDE

Cells = np.ndarray[Any, np.dtype[np.bool_]]
SPARE = 0.01  # of a logarithm, for rounding


@dataclass(frozen=True, eq=False)
class BranchedLogits:
    """Fused logits `values` (h, w, C) float32, of which those of the classifiers in `at` are no answer where `known`
    (h, w) is false. `at` works them out for cells (h, w) bool: (N, n) float32.
    Classifier q has channels cuts[q] to cuts[q + 1].
    """

    values: FloatArray
    cuts: Sequence[int]
    at: Mapping[int, Callable[[Cells], FloatArray]]
    known: Mapping[int, Cells]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(1, C, h, w)."""
        return (1, self.cuts[-1], *self.values.shape[:2])

    @property
    def tensor(self) -> Tensor:
        """(1, C, h, w), over the same memory."""
        return torch.from_numpy(self.values).permute(2, 0, 1)[None]

    def fill(self, classifier: int, cells: Cells) -> None:
        """Work out what is not known yet of these cells (h, w) bool."""
        new = cells & ~self.known[classifier]
        if new.any():
            low, high = self.cuts[classifier : classifier + 2]
            self.values[new, low:high] = self.at[classifier](new)
            self.known[classifier][new] = True

    def fill_around(self, rows: Tensor, columns: Tensor, covers: tuple[int, int]) -> None:
        """Work out all that pixels (N,) lie between, of an image that is padded to `covers`."""
        cells = np.zeros(self.values.shape[:2], np.bool_)
        down = cells_and_weight(rows.float(), covers[0], cells.shape[0])[:2]
        across = cells_and_weight(columns.float(), covers[1], cells.shape[1])[:2]
        for i, j in product(down, across):
            cells[i, j] = True
        for classifier in self.at:
            self.fill(classifier, cells)

    def everywhere(self) -> Tensor:
        """All logits (1, C, h, w)."""
        for classifier, known in self.known.items():
            self.fill(classifier, ~known)
        return self.tensor

    def settle(self, plan: Plan) -> None:
        """Work out all that decisions by a plan, without probabilities, depend on, but for draws within rounding."""
        from heteroseg.decisions.kernels_branch import reach

        for classifier in sorted(self.at):  # a parent comes before its children
            steps, floor = _steps(plan, classifier), _floor(plan, classifier)
            if steps is not None:
                cells = np.zeros(self.values.shape[:2], np.bool_)
                reach(self.values, steps, np.float32(floor), cells)
                self.fill(classifier, cells)


def _steps(plan: Plan, classifier: int) -> IntArray | None:
    """(steps, 3) the channels of every classifier above this one that is asked, and which leads on; None where the
    plan never asks this one."""
    tree, walk = plan.tree, plan.walk
    node = tree.classifiers[classifier].node
    if walk.begin[node] < 0:
        return None
    asked = (pair for pair in pairwise(tree.path(node)) if walk.begin[pair[0]] >= 0)
    steps = [(walk.begin[above], walk.end[above], tree.channel_of[below]) for above, below in asked]
    return np.array(steps, np.int64).reshape(-1, 3)


def _floor(plan: Plan, classifier: int) -> float:
    """The logarithm of a probability of the classifier's node below which its children change no answer.

    By the marginal rule, let the node have less than p and the `others` all labels that lie wholly outside of it. Then
    these have 0.5 - p at least where the answer is a label, so the largest of them has (0.5 - p) / others: more than p.
    """
    if plan.rule == "path" or plan.space is None:
        return 0.0
    start, stop = plan.tree.spans[plan.tree.classifiers[classifier].node]
    by_leaf = plan.space.by_leaf
    own, elsewhere = by_leaf[start:stop], np.delete(by_leaf, np.s_[start:stop])
    if plan.tree.void or OUTSIDE in own or np.isin(own, elsewhere).any():
        return -math.inf
    others = len(np.unique(elsewhere[elsewhere != OUTSIDE]))
    return math.log(0.5 / (1 + others)) - SPARE
