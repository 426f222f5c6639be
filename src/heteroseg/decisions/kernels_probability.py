"""Probabilities in the compiled loops, and the path rule with them; see `kernels_cell`."""

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.kernels_cell import HALF, ONE, Answers, Scalar, finite, largest
from heteroseg.decisions.tables import FloatArray, Grid, Walk

LOG2E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
E5, E4, E3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
E2, E1, E0 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
COLDEST = np.float32(-87)


@kernel(inline="always")
def exp(x: Scalar) -> Scalar:
    """e ** x for x <= 0 within 2 units in the last place: powers of two, and a polynomial (Cephes' expf)."""
    x = x if x > COLDEST else COLDEST
    n = np.floor(x * LOG2E + HALF)
    f = x - n * LN2_HIGH - n * LN2_LOW
    p = ((((E5 * f + E4) * f + E3) * f + E2) * f + E1) * f + E0
    return (p * f * f + f + ONE) * np.int32((np.int32(n) + 127) << 23).view(np.float32)


@kernel(fastmath={"nnan", "nsz", "reassoc"})
def exps(v: FloatArray, top: Scalar) -> Scalar:
    """`v` becomes e ** (v - top); returns their sum. Loops over slices from 0 become vector instructions."""
    total = np.float32(0)
    for k in range(v.size):
        v[k] = exp(v[k] - top)
        total += v[k]
    return total


@kernel()
def blend(a: FloatArray, b: FloatArray, weight: Scalar, out: FloatArray) -> None:
    """`out` = a * (1 - weight) + b * weight."""
    for k in range(out.size):
        out[k] = a[k] * (ONE - weight) + b[k] * weight


@kernel()
def blend_finite(a: FloatArray, b: FloatArray, weight: Scalar, out: FloatArray) -> None:
    """The same for logits that may be infinite or NaN."""
    for k in range(out.size):
        out[k] = finite(a[k]) * (ONE - weight) + finite(b[k]) * weight


@kernel()
def ask(logits: FloatArray) -> tuple[int, Scalar]:
    """The first largest of a classifier's finite logits, which are spent, and its probability."""
    top, k = largest(logits), 0
    while logits[k] != top:
        k += 1
    return k, ONE / exps(logits, top)


@kernel()
def walk_between(
    left: FloatArray, right: FloatArray, across: Scalar, floor: Scalar, walk: Walk, value: FloatArray
) -> tuple[int, Scalar]:
    """The code where the walk of a pixel between two finite sides (C,) ends, and the probability of all its steps.

    A walk whose probability is not above `floor` goes no further; `value` is work space for one classifier.
    """
    node, share = walk.first, ONE
    while walk.begin[node] >= 0 and share > floor:
        begin, end = walk.begin[node], walk.end[node]
        logits = value[: end - begin]
        blend(left[begin:end], right[begin:end], across, logits)
        k, p = ask(logits)
        node, share = walk.after[begin + k], share * p
    return node, share


@kernel()
def confident_band(
    z: FloatArray, start: int, stop: int, grid: Grid, walk: Walk, sides: FloatArray, result: Answers
) -> None:
    """The path rule with probabilities, every pixel by itself; `sides` (3, C) is work space."""
    h, w, width = z.shape[0], z.shape[1], len(grid.across)
    left, right, value = sides[0], sides[1], sides[2]
    for i in range(start, stop):
        below = min(i + 1, h - 1)
        for y in range(grid.rows[i], grid.rows[i + 1]):
            for j in range(w):
                first, last, k = grid.columns[j], grid.columns[j + 1], min(j + 1, w - 1)
                if first < last:
                    blend_finite(z[i, j], z[below, j], grid.down[y], left)
                    blend_finite(z[i, k], z[below, k], grid.down[y], right)
                for x in range(first, last):
                    code, share = walk_between(left, right, grid.across[x], -ONE, walk, value)
                    result.out[y * width + x], result.probs[y * width + x] = result.table[code], share
