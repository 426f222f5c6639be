"""Single pixels by the marginal rule; see `kernels_cell`."""

from typing import NamedTuple

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.kernels_cell import ONE, Scalar, largest, winner
from heteroseg.decisions.kernels_probability import blend, blend_finite, exps
from heteroseg.decisions.lazy_kernel import Cell, Corners, logits_around
from heteroseg.decisions.tables import FloatArray, IntArray, Walk
from heteroseg.labels.space import OUTSIDE

CERTAIN = np.float32(2.0**-24)  # as reference.CERTAIN
NEAR = np.float32(1e-5)  # relative distance of two probabilities that rounding could turn round


class PixelWork(NamedTuple):
    """Work space of `pixel`: three by channel of one classifier, one by label, and what lists the nodes to be asked."""

    left: FloatArray
    right: FloatArray
    value: FloatArray
    mass: FloatArray
    share: FloatArray
    frontier: IntArray


def pixel_work(walk: Walk, labels: int) -> PixelWork:
    codes, channels = len(walk.begin), int(np.max(walk.end - walk.begin))
    by_channel, by_label = np.empty((3, channels), np.float32), np.empty(labels, np.float32)
    return PixelWork._make((*by_channel, by_label, np.empty(codes, np.float32), np.empty(codes, np.int32)))


@kernel()
def _add(
    label: int, part: Scalar, mass: FloatArray, best: Scalar, second: Scalar, arg: int
) -> tuple[Scalar, Scalar, int]:
    """Add to the probability of a label; returns the two largest ones and the label of the first after that."""
    mass[label] += part
    m = mass[label]
    if label == arg:
        return m, second, arg
    if m > best:
        return m, best, label
    return best, max(second, m), arg


@kernel()
def pixel(
    at: Corners, cell: Cell, down: Scalar, across: Scalar, every: bool, walk: Walk, work: PixelWork
) -> tuple[int, Scalar, Scalar]:
    """The most probable label of a pixel, its probability, and whether rounding could turn it round.

    `down` and `across` are the weights of the lower and the right side of its cell; the label is OUTSIDE outside.
    Classifiers are asked in the order of their nodes' probability, until (not with `every`) what is left in the others
    can change nothing: all of it together, or, where every label is one node, the largest part.
    """
    work.mass[:] = 0
    outside, inside, best, second, arg = np.float32(0), np.float32(0), np.float32(0), np.float32(0), OUTSIDE
    work.frontier[0], work.share[0], count = walk.first, ONE, 1
    rest, rival = ONE, ONE  # what is left; the most that another label could come to
    undecided = True  # what is left may change something
    while count and (every or undecided or not (walk.closed or abs(inside - outside) > NEAR + rest)):
        slot, _ = winner(work.share[:count])
        node, scale, count = work.frontier[slot], work.share[slot], count - 1
        work.frontier[slot], work.share[slot] = work.frontier[count], work.share[count]
        a, b, c, d = logits_around(at, cell, walk, node)
        left, right, value = work.left[: a.size], work.right[: a.size], work.value[: a.size]
        blend_finite(a, c, down, left)
        blend_finite(b, d, down, right)
        blend(left, right, across, value)
        scale /= exps(value, largest(value))
        for k in range(a.size):
            child, part = walk.after[walk.begin[node] + k], value[k] * scale
            label = walk.label[child]
            if walk.begin[child] >= 0:
                work.frontier[count], work.share[count] = child, part
                count += 1
            elif label >= 0:
                inside += part
                best, second, arg = _add(label, part, work.mass, best, second, arg)
            elif label == OUTSIDE:
                outside += part
        rest, most = np.float32(0), np.float32(0)
        for q in range(count):
            rest += work.share[q]
            most = max(most, work.share[q])
        rival = max(second, most) if walk.single else second + rest
        undecided = bool(best - rival <= NEAR and (rival > second or best <= NEAR))  # two that are known may be close
    close = best - rival <= NEAR * best or not (walk.closed or abs(inside - outside) > NEAR + rest)
    known = inside + outside + rest  # all that is not void
    if known < 2 * CERTAIN:
        close = known > CERTAIN / 2
    if known < CERTAIN:
        return OUTSIDE, ONE - known, close
    if inside < outside:
        return OUTSIDE, outside, close
    return arg, best, close
