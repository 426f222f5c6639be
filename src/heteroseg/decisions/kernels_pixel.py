"""Single pixels by the marginal rule; see `kernels_cell`."""

from typing import NamedTuple

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.kernels_cell import ONE, Scalar, largest, winner
from heteroseg.decisions.kernels_probability import blend, exps
from heteroseg.decisions.tables import FloatArray, IntArray, Walk
from heteroseg.labels.space import OUTSIDE

CERTAIN = np.float32(2.0**-24)  # as reference.CERTAIN
NEAR = np.float32(1e-5)  # relative distance of two probabilities that rounding could turn round


class PixelWork(NamedTuple):
    """Work space of `pixel`: three by channel, one by label, and the list of nodes that are still to be asked."""

    left: FloatArray
    right: FloatArray
    value: FloatArray
    mass: FloatArray
    share: FloatArray
    frontier: IntArray


def pixel_work(walk: Walk, labels: int) -> PixelWork:
    """`PixelWork` for any pixel."""
    codes, channels = len(walk.begin), len(walk.after)
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
def pixel(across: Scalar, every: bool, walk: Walk, work: PixelWork) -> tuple[int, Scalar, Scalar]:
    """The most probable label of a pixel, its probability, and whether rounding could turn it round.

    The pixel lies between `work.left` and `work.right` (C,), `across` is the weight of the right side; the label is
    OUTSIDE outside. Classifiers are asked in the order of their nodes' probability, until (not with `every`) what is
    left in the others can change nothing: all of it together, or, where every label is one node, the largest part.
    """
    work.mass[:] = 0
    outside, inside, best, second, arg = np.float32(0), np.float32(0), np.float32(0), np.float32(0), OUTSIDE
    work.frontier[0], work.share[0], count = walk.first, ONE, 1
    rest, rival = ONE, ONE  # what is left; the most that another label could come to
    while count and (every or best - rival <= NEAR or not (walk.closed or abs(inside - outside) > NEAR + rest)):
        at, _ = winner(work.share[:count])
        node, scale, count = work.frontier[at], work.share[at], count - 1
        work.frontier[at], work.share[at] = work.frontier[count], work.share[count]
        begin, end = walk.begin[node], walk.end[node]
        value = work.value[begin:end]
        blend(work.left[begin:end], work.right[begin:end], across, value)
        scale /= exps(value, largest(value))
        for k in range(begin, end):
            child, part = walk.after[k], work.value[k] * scale
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
    close = best - rival <= NEAR * best or not (walk.closed or abs(inside - outside) > NEAR + rest)
    known = inside + outside + rest  # all that is not void
    if known < 2 * CERTAIN:
        close = known > CERTAIN / 2
    if known < CERTAIN:
        return OUTSIDE, ONE - known, close
    if inside < outside:
        return OUTSIDE, outside, close
    return arg, best, close
