"""Probabilities in the compiled loops, and those of decisions by the path rule; see `kernels_cell`."""

import numpy as np

from heteroseg.decisions.kernels_cell import HALF, ONE, Scalar, finite, kernel
from heteroseg.decisions.plan import FloatArray, Grid, IntArray, Walk

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
def softmax(v: FloatArray, p: FloatArray) -> Scalar:
    """`p` receives e ** (v - max); returns their sum. Loops over slices from 0 become vector instructions."""
    top = v[0]
    for k in range(v.size):
        top = max(top, v[k])
    total = np.float32(0)
    for k in range(v.size):
        p[k] = exp(v[k] - top)
        total += p[k]
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
def _path_probability(
    left: FloatArray, right: FloatArray, across: Scalar, code: int, walk: Walk, value: FloatArray, part: FloatArray
) -> Scalar:
    """The probability of a decided code: the product along its path, at weight `across` between two sides (C,)."""
    share = ONE
    while walk.above[code] >= 0:
        channel, code = walk.channel[code], walk.above[code]
        if channel >= 0:
            begin, end = walk.begin[code], walk.end[code]
            blend(left[begin:end], right[begin:end], across, value[begin:end])
            total = softmax(value[begin:end], part[begin:end])
            share *= part[channel] / total
    return share


@kernel(allocates=True)
def probability_band(
    z: FloatArray, start: int, stop: int, grid: Grid, walk: Walk, codes: IntArray, probs: FloatArray
) -> None:
    """`probs` (H, W) float32 receives the probability of the decided `codes` (H, W) of cell rows start to stop."""
    h, w, channels = z.shape
    left, right = np.empty(channels, np.float32), np.empty(channels, np.float32)
    value, part = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for i in range(start, stop):
        below = min(i + 1, h - 1)
        for y in range(grid.rows[i], grid.rows[i + 1]):
            for j in range(w):
                if grid.columns[j + 1] == grid.columns[j]:
                    continue
                k = min(j + 1, w - 1)
                blend_finite(z[i, j], z[below, j], grid.down[y], left)
                blend_finite(z[i, k], z[below, k], grid.down[y], right)
                for x in range(grid.columns[j], grid.columns[j + 1]):
                    probs[y, x] = _path_probability(left, right, grid.across[x], codes[y, x], walk, value, part)
