"""Where a node may be reached, and a convolution at a few cells; see `kernels_cell`."""

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.kernels_cell import Scalar, add_products, lead, winner
from heteroseg.decisions.tables import FloatArray, IntArray


@kernel(inline="always")
def _ahead(z: FloatArray, i: int, j: int, below: int, right: int, k: int, m: int) -> Scalar:
    """How far channel k is ahead of channel m anywhere between four corners, at most."""
    first = max(lead(z[i, j, k], z[i, j, m]), lead(z[i, right, k], z[i, right, m]))
    return max(first, max(lead(z[below, j, k], z[below, j, m]), lead(z[below, right, k], z[below, right, m])))


@kernel()
def reach(z: FloatArray, steps: IntArray, floor: Scalar, cells: IntArray) -> None:
    """Set in `cells` (h, w) the corners of all cells in which a node may have a probability of e ** `floor` or more,
    0 meaning that it may win; `steps` (steps, 3) begin, end and channel of every classifier on the way to it.

    A channel has at most e ** (its lead over any other) of the probability, and the lead is largest at a corner. The
    other one is that of the cell before, and only where that does not do, the largest of this corner.
    """
    h, w = z.shape[0], z.shape[1]
    for i in range(h):
        below = min(i + 1, h - 1)
        rival = steps[0, 0] if len(steps) else 0
        for j in range(w):
            right = min(j + 1, w - 1)
            if len(steps) and min(_ahead(z, i, j, below, right, steps[0, 2], rival), np.float32(0)) < floor:
                continue
            total = np.float32(0)
            for s in range(len(steps)):
                begin, end, k = steps[s]
                at, _ = winner(z[i, j, begin:end])
                rival = begin + at if s == 0 else rival
                total += min(_ahead(z, i, j, below, right, k, begin + at), np.float32(0))
                if total < floor:
                    break
            if total >= floor:
                cells[i, j] = cells[i, right] = cells[below, j] = cells[below, right] = True


@kernel()
def weigh_around(
    x: FloatArray, number: IntArray, rows: IntArray, columns: IntArray, weight: FloatArray, out: FloatArray
) -> None:
    """A depthwise convolution: to `out` (N, C), for the cells at `rows` and `columns`, add what lies around them.

    `number` is the row in `x` (M, C) of every cell, -1 for none, with as much border as `weight` (side, side, C) needs.
    """
    for n in range(rows.size):
        for a in range(weight.shape[0]):
            for b in range(weight.shape[1]):
                at = number[rows[n] + a, columns[n] + b]
                if at >= 0:
                    add_products(x[at], weight[a, b], out[n])
