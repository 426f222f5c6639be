"""What the compiled loops of both rules share.

The loops of `heteroseg.decisions.exact` are for CPUs, compiled by numba on first use and kept on disk for the next
process.

All work on a band of cells [start, stop) of the logits' grid without holding Python's lock, so bands run in threads.
`z` is (h, w, C) float32 logits. A *code* is a node of the tree, or len(tree) + j for the void answer of classifier j;
`begin`/`end` (codes,) are the channels of its classifier, begin -1 where the walk ends, and `after` (C,) is the code
that a channel leads to. `rows`/`columns` (h + 1,)/(w + 1,) are the first pixels of each cell, `down`/`across` (H,)/(W,)
the weights of a pixel's lower and right neighbour.
"""

import numpy as np
from numba import njit

LARGE = np.float32(1e30)  # as decision.LARGE
LOWEST = np.float32(-np.inf)
MARGIN, TINY = np.float32(2.0**-20), np.float32(1e-37)  # rounding in two interpolations is below a quarter of MARGIN
ONE, HALF = np.float32(1), np.float32(0.5)


@njit(cache=True, nogil=True, inline="always")
def _finite(v):
    v = v if v > -LARGE else -LARGE  # NaN too
    return v if v < LARGE else LARGE


@njit(cache=True, nogil=True)
def _winner(logits):
    """Position of the first largest logit, and whether it leads all earlier ones by more than rounding.

    A later channel needs no lead: interpolation never decreases in a logit, so it can at most draw level, and then
    the first one wins.
    """
    best, earlier, at = LOWEST, LOWEST, 0
    for k in range(logits.size):
        v = _finite(logits[k])
        if v > best:
            best, earlier, at = v, best, k
    clear = at == 0 or best - earlier > MARGIN * (abs(best) + abs(earlier)) + TINY
    return at, clear


@njit(cache=True, nogil=True, inline="always")
def _between(a, b, c, d, y, x):
    """A pixel's value between corners, of the weights of its lower and right ones: two products and a sum, twice."""
    return (a * (ONE - y) + c * y) * (ONE - x) + (b * (ONE - y) + d * y) * x


@njit(cache=True, nogil=True)
def _fill(out, value, top, bottom, left, right):
    for y in range(top, bottom):
        for x in range(left, right):
            out[y, x] = value


@njit(cache=True, nogil=True)
def _weights(i, j, rows, columns, down, across, wy, wx):
    """The weights of a cell's pixels, one row after the other; returns how many there are."""
    count = 0
    for y in range(rows[i], rows[i + 1]):
        for x in range(columns[j], columns[j + 1]):
            wy[count], wx[count] = down[y], across[x]
            count += 1
    return count


@njit(cache=True, nogil=True)
def channels_last(z, start, stop, out):
    """Rows start to stop of (C, h, w) into (h, w, C)."""
    for i in range(start, stop):
        for k in range(z.shape[0]):
            for j in range(z.shape[2]):
                out[i, j, k] = z[k, i, j]
