"""Logits of a 1x1 head from features, one classifier at a time, for CPUs: the same bits for a few and for all of them.

Classifier i has channels cuts[i] to cuts[i + 1]. `weight` (width * C,) float32 holds for each classifier in turn
(width, its channels), so that what is read together lies together; `bias` is (C,) float32.
"""

from numba import njit


@njit(cache=True, nogil=True)
def linear(x, weight, bias, out):
    """Logits `out` (n,) of features `x` (width,): bias + x[0] * weight[0] + x[1] * weight[1] + ..., in this order.

    `weight` (width * n,) has n numbers for each feature. Every product and sum is rounded, none is fused or moved, so
    a logit has the same bits wherever it is worked out. Four features at a time save loads and stores.
    """
    n, even = out.size, x.size // 4 * 4
    for k in range(n):
        out[k] = bias[k]
    for c in range(0, even, 4):
        x0, x1, x2, x3 = x[c], x[c + 1], x[c + 2], x[c + 3]
        w0, w1 = weight[c * n : (c + 1) * n], weight[(c + 1) * n : (c + 2) * n]
        w2, w3 = weight[(c + 2) * n : (c + 3) * n], weight[(c + 3) * n : (c + 4) * n]
        for k in range(n):
            out[k] = out[k] + x0 * w0[k] + x1 * w1[k] + x2 * w2[k] + x3 * w3[k]
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
