"""The loops of the path rule; see `kernels_cell`."""

from typing import NamedTuple

import numpy as np
from numba import njit

from heteroseg.decisions.kernels_cell import (
    LOWEST,
    MARGIN,
    TINY,
    _between,
    _fill,
    _finite,
    _weights,
    _winner,
)
from heteroseg.decisions.lazy_head import TILE
from heteroseg.decisions.lazy_kernel import linear


class Lazy(NamedTuple):
    """A band's logits by classifier, worked out where a walk asks for them; `z` are then features (h, w, width).

    `weight` and `bias` as in `lazy.LazyHead`. `place` (codes,) is where a node's classifier begins in them, `number`
    (codes,) counts the classifiers. `where` (rows, w, classifiers) int64 is the place in `pool` of what is known, -1
    for the rest, and `used` (1,) int64 how much of the pool is taken; it has room for all, most of it never touched.
    """

    weight: np.ndarray
    bias: np.ndarray
    place: np.ndarray
    number: np.ndarray
    where: np.ndarray
    pool: np.ndarray
    used: np.ndarray


@njit(cache=True, nogil=True)
def _logits(z, lazy, i, j, start, node, begin, end):
    """(n,) logits of a node's classifier at a cell; `lazy` is None where `z` has them all."""
    lo, hi = begin[node], end[node]
    if lazy is None:
        return z[i, j, lo:hi]
    at = lazy.where[i - start, j, lazy.number[node]]
    if at < 0:
        at, size, width = lazy.used[0], (hi - lo + TILE - 1) // TILE * TILE, z.shape[2]
        lazy.used[0] += size
        lazy.where[i - start, j, lazy.number[node]] = at
        low = lazy.place[node]
        high = low + size
        linear(z[i, j], lazy.weight[low * width : high * width], lazy.bias[low:high], lazy.pool[at : at + size])
    return lazy.pool[at : at + hi - lo]


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _largest(v):
    """The largest of finite numbers, as vector instructions; no order of comparisons changes it."""
    top = v[0]
    for k in range(v.size):
        top = v[k] if v[k] > top else top
    return top


@njit(cache=True, nogil=True)
def _candidates(a, b, c, d, found, low, high):
    """Positions that may win between four corners, in order, into `found`; returns how many."""
    for k in range(a.size):
        p, q, r, s = _finite(a[k]), _finite(b[k]), _finite(c[k]), _finite(d[k])
        low[k] = min(min(p, q), min(r, s))
        high[k] = max(max(p, q), max(r, s))
    level = _largest(low[: a.size])  # some channel is nowhere below this
    level -= MARGIN * abs(level) + TINY
    count = 0
    for k in range(a.size):
        found[count] = k  # kept if counted, which no branch has to guess
        count += high[k] + MARGIN * abs(high[k]) >= level
    return count


@njit(cache=True, nogil=True)
def _count(node, code):
    count = 0
    for p in range(code.size):
        count += code[p] == node
    return count


@njit(cache=True, nogil=True)
def _replace(node, new, code):
    for p in range(code.size):
        here, there = code[p], new[p]
        code[p] = there if here == node else here


@njit(cache=True, nogil=True)
def _raise(a, b, c, d, wy, wx, under, best, arg):
    """Interpolate a channel between corners; where it exceeds `best`, that and `arg` become its value and `under`."""
    for p in range(best.size):
        y, x, high, at = wy[p], wx[p], best[p], arg[p]  # read before any choice, or the loop stays scalar
        v = _between(a, b, c, d, y, x)
        best[p] = v if v > high else high
        arg[p] = under if v > high else at


@njit(cache=True, nogil=True)
def _split_cell(z, lazy, i, j, start, wy, wx, first, begin, end, after, code, space):
    """Walk from the root for every pixel of one cell; `code` (pixels,) receives where each ends.

    The pixels, with weights `wy` and `wx`, lie in one row, so that the loops over them become vector instructions.

    A classifier is asked only if some pixel was given to its node, which may happen between corners of which none was.
    """
    pending, found, low, high, best, arg = space
    best, arg = best[: code.size], arg[: code.size]
    right, below = min(j + 1, z.shape[1] - 1), min(i + 1, z.shape[0] - 1)
    code[:] = first
    pending[0], count = first, 1
    while count:
        count -= 1
        node = pending[count]
        if not _count(node, code):
            continue
        a, b = _logits(z, lazy, i, j, start, node, begin, end), _logits(z, lazy, i, right, start, node, begin, end)
        c = _logits(z, lazy, below, j, start, node, begin, end)
        d = _logits(z, lazy, below, right, start, node, begin, end)
        channels = _candidates(a, b, c, d, found, low, high)
        best[:] = LOWEST
        for q in range(channels):
            k = found[q]
            under = after[begin[node] + k]
            _raise(_finite(a[k]), _finite(b[k]), _finite(c[k]), _finite(d[k]), wy, wx, under, best, arg)
            if begin[under] >= 0:
                pending[count] = under
                count += 1
        _replace(node, arg, code)


@njit(cache=True, nogil=True)
def path_band(z, lazy, start, stop, rows, columns, down, across, first, begin, end, after, table, out):
    """The path rule: `out` (H, W) receives table[code] for the pixels of cell rows start to stop."""
    h, w = z.shape[0], z.shape[1]
    last = min(stop, h - 1)
    at = np.empty((last - start + 1, w), np.int32)  # where the corners end; -1 where rounding might matter
    for i in range(start, last + 1):
        for j in range(w):
            node = first
            while begin[node] >= 0:
                k, clear = _winner(_logits(z, lazy, i, j, start, node, begin, end))
                node = after[begin[node] + k]
                if not clear:
                    node = -1
                    break
            at[i - start, j] = node
    most, pixels = len(after), np.diff(rows).max() * np.diff(columns).max()
    wy, wx, code = np.empty(pixels, np.float32), np.empty(pixels, np.float32), np.empty(pixels, np.int32)
    bounds, best = (np.empty(most, np.float32), np.empty(most, np.float32)), np.empty(pixels, np.float32)
    space = (np.empty_like(begin), np.empty_like(after), *bounds, best, np.empty(pixels, np.int32))
    for i in range(start, stop):
        up, below = i - start, min(i + 1, h - 1) - start
        ys = (rows[i], rows[i + 1])
        for j in range(w):
            k, xs = min(j + 1, w - 1), (columns[j], columns[j + 1])
            node = at[up, j]
            if node >= 0 and node == at[up, k] and node == at[below, j] and node == at[below, k]:
                _fill(out, table[node], ys[0], ys[1], xs[0], xs[1])
                continue
            count = _weights(i, j, rows, columns, down, across, wy, wx)
            if count:
                here = code[:count]
                _split_cell(z, lazy, i, j, start, wy[:count], wx[:count], first, begin, end, after, here, space)
                count = 0
                for y in range(ys[0], ys[1]):
                    for x in range(xs[0], xs[1]):
                        out[y, x] = table[code[count]]
                        count += 1
