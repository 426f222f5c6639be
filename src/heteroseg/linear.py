"""Logits of a 1x1 head from features, one classifier at a time, for CPUs: the same bits for a few and for all of them.

Classifier i has channels cuts[i] to cuts[i + 1]. `weight` (width * C,) float32 holds for each classifier in turn
(width, its channels), so that what is read together lies together; `bias` is (C,) float32.
"""

from numba import njit


@njit(cache=True, nogil=True)
def linear(x, weight, bias, out):
    """Logits `out` (n,) of features `x` (width,): bias + x[0] * weight[0] + x[1] * weight[1] + ..., in this order.

    `weight` (width * n,) has n numbers for each feature. Every product and sum is rounded, none is fused or moved, so
    a logit has the same bits wherever it is worked out. Eight features at a time save loads and stores.
    """
    n, even = out.size, x.size // 8 * 8
    for k in range(n):
        out[k] = bias[k]
    for c in range(0, even, 8):
        x0, x1, x2, x3, x4, x5, x6, x7 = x[c], x[c + 1], x[c + 2], x[c + 3], x[c + 4], x[c + 5], x[c + 6], x[c + 7]
        w = weight[c * n : (c + 8) * n]
        for k in range(n):
            first = out[k] + x0 * w[k] + x1 * w[n + k] + x2 * w[2 * n + k] + x3 * w[3 * n + k]
            out[k] = first + x4 * w[4 * n + k] + x5 * w[5 * n + k] + x6 * w[6 * n + k] + x7 * w[7 * n + k]
    for c in range(even, x.size):
        row = weight[c * n : (c + 1) * n]
        for k in range(n):
            out[k] += x[c] * row[k]


@njit(cache=True, nogil=True)
def linear_band(features, start, stop, weight, bias, cuts, out):
    """All logits: rows start to stop of `features` (h, w, width) to `out` (h, w, C)."""
    width = features.shape[2]
    for i in range(start, stop):
        for j in range(features.shape[1]):
            for q in range(len(cuts) - 1):
                lo, hi = cuts[q], cuts[q + 1]
                linear(features[i, j], weight[lo * width : hi * width], bias[lo:hi], out[i, j, lo:hi])
