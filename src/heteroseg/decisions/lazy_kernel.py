"""Logits of a 1x1 head from features, one classifier at a time, for CPUs: the same bits for a few and for all."""

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.lazy_head import TILE, LazyHead
from heteroseg.decisions.tables import FloatArray


@kernel()
def linear(x: FloatArray, weight: FloatArray, bias: FloatArray, out: FloatArray) -> None:
    """Logits `out` (tiles * TILE,) of features `x` (width,), all float32; the next TILE of `out` are work space.

    `weight` (tiles, width, TILE), `bias` (tiles, TILE). The sum of a logit is in this order: bias + x[0] * weight[0] +
    x[2] * weight[2] + ..., and the sum of the odd features added in the end. Every product and sum is rounded, none is
    fused or moved.
    """
    fours, odd = x.size // 4 * 4, out[len(weight) * TILE : (len(weight) + 1) * TILE]
    for tile in range(len(weight)):
        rows, even = weight[tile], out[tile * TILE : (tile + 1) * TILE]
        for k in range(TILE):
            even[k], odd[k] = bias[tile, k], 0
        for c in range(0, fours, 4):  # four at a time, or most of the time goes into loading and storing the sums
            x0, x1, x2, x3 = x[c], x[c + 1], x[c + 2], x[c + 3]
            for k in range(TILE):
                first, second = even[k], odd[k]
                first += x0 * rows[c, k]
                second += x1 * rows[c + 1, k]
                first += x2 * rows[c + 2, k]
                second += x3 * rows[c + 3, k]
                even[k], odd[k] = first, second
        for c in range(fours, x.size):
            sums = odd if c % 2 else even
            for k in range(TILE):
                sums[k] += x[c] * rows[c, k]
        for k in range(TILE):
            even[k] += odd[k]


@kernel()
def linear_band(features: FloatArray, start: int, stop: int, head: LazyHead, row: FloatArray, out: FloatArray) -> None:
    """All logits of the cell rows start to stop: `features` (h, w, width) to `out` (h, w, C).

    `row` is work space: the channels of the largest classifier in whole tiles, and one tile.
    """
    weight, bias, cuts, tiles = head
    for i in range(start, stop):
        for j in range(features.shape[1]):
            for q in range(len(cuts) - 1):
                first, last = tiles[q], tiles[q + 1]
                linear(features[i, j], weight[first:last], bias[first:last], row)
                for k in range(cuts[q], cuts[q + 1]):
                    out[i, j, k] = row[k - cuts[q]]
