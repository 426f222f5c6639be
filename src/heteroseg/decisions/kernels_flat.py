"""What logits of any network need besides the loops of the path rule; see `kernels_cell`."""

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.kernels_cell import Scalar, between, largest, lead
from heteroseg.decisions.kernels_probability import blend, blend_finite, exp, exps
from heteroseg.decisions.tables import FloatArray, Grid, IntArray

SPARE = np.float32(1e-3)  # of a logarithm, for rounding
CLOSE = 1e-3  # relative distance from the least probability in which float64 decides


@kernel()
def _probability(
    at: int, least: float, left: FloatArray, right: FloatArray, across: Scalar, value: FloatArray
) -> float:
    """Softmax probability of channel `at` between two finite sides (C,), in float64 where it is close to `least`."""
    blend(left, right, across, value)
    own, top = value[at], largest(value)
    share = float(exp(own - top) / exps(value, top))
    if abs(share - least) <= CLOSE * least:
        blend(left, right, across, value)
        total = 0.0
        for k in range(value.size):
            total += np.exp(np.float64(value[k]) - np.float64(own))
        share = 1 / total
    return share


@kernel()
def reject_band(
    z: FloatArray,
    start: int,
    stop: int,
    grid: Grid,
    least: float,
    reject_id: int,
    sums: FloatArray,
    sides: FloatArray,
    out: IntArray,
) -> None:
    """Write `reject_id` where the channel in `out` (H * W,) has a softmax probability below `least`.

    Its logarithm is concave in the logits, so between corners it is at least what interpolation makes of theirs; pixels
    for which that is not enough are worked out. `sums` (rows, w) and `sides` (3, C) float32 are work space.
    """
    h, w, most = z.shape[0], z.shape[1], np.float32(-np.log(least)) - SPARE
    left, right, value = sides[0], sides[1], sides[2]
    for i in range(start, min(stop, h - 1) + 1):
        for j in range(w):
            blend_finite(z[i, j], z[i, j], np.float32(0), value)
            top = largest(value)
            sums[i - start, j] = top + np.log(exps(value, top))
    for i in range(start, stop):
        n, below = i - start, min(i + 1, h - 1)
        m = below - start
        for y in range(grid.rows[i], grid.rows[i + 1]):
            for j in range(w):
                k, down, ready = min(j + 1, w - 1), grid.down[y], False
                a, b, c, d = z[i, j], z[i, k], z[below, j], z[below, k]
                for x in range(grid.columns[j], grid.columns[j + 1]):
                    across, place = grid.across[x], y * len(grid.across) + x
                    at = out[place]
                    high, low = lead(sums[n, j], a[at]), lead(sums[m, j], c[at])
                    if between(high, lead(sums[n, k], b[at]), low, lead(sums[m, k], d[at]), down, across) < most:
                        continue
                    if not ready:
                        blend_finite(a, c, down, left)
                        blend_finite(b, d, down, right)
                        ready = True
                    if _probability(at, least, left, right, across, value) < least:
                        out[place] = reject_id
