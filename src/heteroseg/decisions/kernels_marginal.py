"""The loops of `heteroseg.decisions.exact` for CPUs, compiled by numba on first use and kept on disk for the next process.

All work on a band of cells [start, stop) of the logits' grid without holding Python's lock, so bands run in threads.
`z` is (h, w, C) float32 logits. A *code* is a node of the tree, or len(tree) + j for the void answer of classifier j;
`begin`/`end` (codes,) are the channels of its classifier, begin -1 where the walk ends, and `after` (C,) is the code
that a channel leads to. `rows`/`columns` (h + 1,)/(w + 1,) are the first pixels of each cell, `down`/`across` (H,)/(W,)
the weights of a pixel's lower and right neighbour.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from heteroseg.decisions.lazy_head import TILE
from heteroseg.decisions.lazy_kernel import linear

LARGE = np.float32(1e30)  # as decision.LARGE
LOWEST = np.float32(-np.inf)
MARGIN, TINY = np.float32(2.0**-20), np.float32(1e-37)  # rounding in two interpolations is below a quarter of MARGIN
ONE, HALF = np.float32(1), np.float32(0.5)
MAJORITY = np.float32(0.5001)
NEAR = np.float32(1e-5)  # relative distance of two probabilities that rounding could turn round
RARE = np.float32(2.0**-10)  # least probability that is looked into
RAREST = np.float32(2.0**-26)  # the same where probabilities are asked for
FLOOR = np.float32(0.9)  # share of the best below which a label needs no probability
LOG2E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
E5, E4, E3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
E2, E1, E0 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
COLDEST = np.float32(-87)


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


@njit(cache=True, nogil=True, inline="always")
def _between(a, b, c, d, y, x):
    """A pixel's value between corners, of the weights of its lower and right ones: two products and a sum, twice."""
    return (a * (ONE - y) + c * y) * (ONE - x) + (b * (ONE - y) + d * y) * x


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


@njit(cache=True, nogil=True)
def channels_last(z, start, stop, out):
    """Rows start to stop of (C, h, w) into (h, w, C)."""
    for i in range(start, stop):
        for k in range(z.shape[0]):
            for j in range(z.shape[2]):
                out[i, j, k] = z[k, i, j]


@njit(cache=True, nogil=True, inline="always")
def _exp(x):
    """e ** x for x <= 0 within 2 units in the last place: powers of two, and a polynomial (Cephes' expf)."""
    x = x if x > COLDEST else COLDEST
    n = np.floor(x * LOG2E + HALF)
    f = x - n * LN2_HIGH - n * LN2_LOW
    p = ((((E5 * f + E4) * f + E3) * f + E2) * f + E1) * f + E0
    return (p * f * f + f + ONE) * np.int32((np.int32(n) + 127) << 23).view(np.float32)


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _softmax(v, p):
    """`p` receives e ** (v - max); returns their sum. Loops over slices from 0 become vector instructions."""
    top = v[0]
    for k in range(v.size):
        top = max(top, v[k])
    total = np.float32(0)
    for k in range(v.size):
        p[k] = _exp(v[k] - top)
        total += p[k]
    return total


@njit(cache=True, nogil=True)
def _blend(a, b, wa, wb, out):
    for k in range(out.size):
        out[k] = a[k] * wa + b[k] * wb


@njit(cache=True, nogil=True)
def _blend_finite(a, b, wa, wb, out):
    for k in range(out.size):
        out[k] = _finite(a[k]) * wa + _finite(b[k]) * wb


@njit(cache=True, nogil=True)
def _majority(row, first, begin, end, after, v, p):
    """The code with more than half of the probability, -1 if there is none."""
    node, share = first, ONE
    while begin[node] >= 0:
        lo, hi = begin[node], end[node]
        _blend_finite(row[lo:hi], row[lo:hi], ONE, np.float32(0), v[lo:hi])
        k, _ = _winner(v[lo:hi])
        share /= _softmax(v[lo:hi], p[lo:hi])  # e ** 0 for the largest
        if not share > MAJORITY:
            return -1
        node = after[lo + k]
    return node


@njit(cache=True, nogil=True)
def _pixel(left, right, wx, whole, single, closed, first, begin, end, after, label, frontier, share, v, p, mass):
    """The most probable label of a pixel from its left and right sides, its probability, and whether rounding could
    turn it round; the label is -1 outside.

    Classifiers are asked in the order of their nodes' probability, until (not with `whole`) what is left in the others
    can change nothing: all of it together, or, where every label is one node (`single`), the largest part of it. In a
    `closed` space nothing lies outside. `mass` (labels,), `frontier` and `share` (codes,), `v` and `p` (C,) are work
    space.
    """
    mass[:] = 0
    outside, inside, best, second, winner = np.float32(0), np.float32(0), np.float32(0), np.float32(0), -1
    frontier[0], share[first], count = first, ONE, 1
    rest, rival = ONE, ONE  # what is left; the most that another label could come to
    while count and (whole or best - rival <= NEAR or not (closed or abs(inside - outside) > NEAR + rest)):
        at = 0
        for q in range(count):
            if share[frontier[q]] > share[frontier[at]]:
                at = q
        node = frontier[at]
        count -= 1
        frontier[at] = frontier[count]
        lo, hi = begin[node], end[node]
        _blend(left[lo:hi], right[lo:hi], ONE - wx, wx, v[lo:hi])
        scale = share[node] / _softmax(v[lo:hi], p[lo:hi])
        for k in range(lo, hi):
            below, part = after[k], p[k] * scale
            if begin[below] >= 0:
                share[below] = part
                frontier[count] = below
                count += 1
            elif label[below] >= 0:
                mass[label[below]] += part
                inside += part
                m = mass[label[below]]
                if label[below] == winner:
                    best = m
                elif m > best:
                    best, second, winner = m, best, label[below]
                elif m > second:
                    second = m
            elif label[below] == -1:
                outside += part
        rest, most = np.float32(0), np.float32(0)
        for q in range(count):
            rest += share[frontier[q]]
            most = max(most, share[frontier[q]])
        rival = max(second, most) if single else second + rest
    close = best - rival <= NEAR * best or not (closed or abs(inside - outside) > NEAR + rest)
    if inside < outside:
        return -1, outside, close
    return winner, best, close


@njit(cache=True, nogil=True)
def _interpolate(a, b, c, d, wy, wx, v, top):
    """`v` (pixels,) receives one channel between its corners, `top` the largest of itself and of that."""
    for p in range(v.size):
        y, x, high = wy[p], wx[p], top[p]
        u = _between(a, b, c, d, y, x)
        v[p] = u
        top[p] = u if u > high else high


@njit(cache=True, nogil=True)
def _exps(v, top, total):
    for p in range(v.size):
        before, e = total[p], _exp(v[p] - top[p])
        v[p] = e
        total[p] = before + e


@njit(cache=True, nogil=True)
def _add_products(a, b, out):
    for p in range(out.size):
        out[p] += a[p] * b[p]


@njit(cache=True, nogil=True)
def _rank(share, scale, at, best, second, arg):
    """Enter label `at` with the probabilities `share` times `scale` into the ranking of every pixel."""
    for p in range(share.size):
        m, high, low, was = share[p] * scale[p], best[p], second[p], arg[p]
        less = high if m > high else m
        best[p] = m if m > high else high
        arg[p] = at if m > high else was
        second[p] = less if less > low else low


@njit(cache=True, nogil=True, inline="always")
def _lead(v, m):
    """How far a logit is ahead of another one at most, with the rounding of interpolation."""
    v, m = _finite(v), _finite(m)
    return v - m + MARGIN * (abs(v) + abs(m))


class Shares(NamedTuple):
    """Work space of `_share_cell`: rows of pixels by node, channel and label, single rows, and lists."""

    node: np.ndarray
    value: np.ndarray
    mass: np.ndarray
    top: np.ndarray
    scale: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    best: np.ndarray
    second: np.ndarray
    arg: np.ndarray
    row: np.ndarray
    named: np.ndarray
    stack: np.ndarray
    slot: np.ndarray
    most: np.ndarray
    kept: np.ndarray
    reach: np.ndarray


@njit(cache=True, nogil=True)
def _room(pixels, begin, end, labels):
    """`Shares` for cells of so many pixels."""
    nodes, channels = np.sum(begin >= 0) + 1, max(np.max(end - begin), 1)
    one = np.empty((6, pixels), np.float32)
    return Shares(
        np.empty((nodes, pixels), np.float32), np.empty((channels, pixels), np.float32),
        np.empty((labels, pixels), np.float32), one[0], one[1], one[2], one[3], one[4], one[5],
        np.empty(pixels, np.int32), np.full(labels, -1, np.int32), np.empty(labels, np.int32),
        np.empty(nodes, np.int32), np.empty(nodes, np.int32), np.empty(nodes, np.float32),
        np.empty(channels, np.int32), np.empty(channels, np.float32),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _share_cell(corners, wy, wx, least, single, closed, first, begin, end, after, label, s):
    """Probabilities of labels at the pixels of a cell, with weights `wy` and `wx` (pixels,): in `s` those `inside` and
    `outside` the space, the `best`, the `second` and which is best (`arg`). Returns how wrong they are at most.

    The ratio of two channels of a classifier is largest at a corner, so a channel that is far behind another one at all
    four is so everywhere: what cannot reach a probability of `least` is left out, with all below it. Where labels are
    single nodes and nothing lies outside, so is what comes nowhere near the best.
    """
    a, b, c, d = corners
    early = single and closed
    s.inside[:], s.outside[:], s.best[:], s.second[:], s.arg[:] = 0, 0, 0, 0, -1
    s.node[0], s.stack[0], s.slot[0], s.most[0] = 1, first, 0, 1
    count, slots, rows = 1, 1, 0
    lost, floor, rival = np.float32(0), np.float32(0), np.float32(0)
    while count:
        at = np.argmax(s.most[:count])
        node, slot, most = s.stack[at], s.slot[at], s.most[at]
        if most < floor:
            rival = max(rival, most)
            break
        count -= 1
        s.stack[at], s.slot[at], s.most[at] = s.stack[count], s.slot[count], s.most[count]
        lo, hi = begin[node], end[node]
        largest, m = LOWEST, lo
        for k in range(lo, hi):
            total = _finite(a[k]) + _finite(b[k]) + _finite(c[k]) + _finite(d[k])
            if total > largest:
                largest, m = total, k
        channels = 0
        s.top[:], s.scale[:] = LOWEST, 0
        for k in range(lo, hi):
            ahead = max(max(_lead(a[k], a[m]), _lead(b[k], b[m])), max(_lead(c[k], c[m]), _lead(d[k], d[m])))
            reach = most * _exp(min(ahead, np.float32(0)))
            if k == m or reach > least:
                corner = (_finite(a[k]), _finite(b[k]), _finite(c[k]), _finite(d[k]))
                _interpolate(*corner, wy, wx, s.value[channels], s.top)
                s.kept[channels], s.reach[channels] = after[k], reach
                channels += 1
            else:
                lost += reach
        for q in range(channels):
            _exps(s.value[q], s.top, s.scale)
        for p in range(wy.size):
            s.scale[p] = s.node[slot, p] / s.scale[p]
        for q in range(channels):
            under, reach = s.kept[q], s.reach[q]
            if begin[under] >= 0:
                s.stack[count], s.slot[count], s.most[count] = under, slots, reach
                s.node[slots] = 0
                _add_products(s.value[q], s.scale, s.node[slots])
                slots += 1
                count += 1
            elif early and label[under] >= 0:
                if reach < floor:
                    rival = max(rival, reach)
                else:
                    _rank(s.value[q], s.scale, label[under], s.best, s.second, s.arg)
            elif label[under] >= 0:
                if s.row[label[under]] < 0:
                    s.row[label[under]], s.named[rows] = rows, label[under]
                    s.mass[rows] = 0
                    rows += 1
                _add_products(s.value[q], s.scale, s.mass[s.row[label[under]]])
                if not closed:
                    _add_products(s.value[q], s.scale, s.inside)
            elif label[under] == -1:
                _add_products(s.value[q], s.scale, s.outside)
        if early:
            floor = FLOOR * s.best.min()
    s.scale[:] = 1
    for q in range(rows):
        _rank(s.mass[q], s.scale, s.named[q], s.best, s.second, s.arg)
        s.row[s.named[q]] = -1
    for p in range(wy.size):
        low = s.second[p]
        s.second[p] = low if low > rival else rival
    return lost


@njit(cache=True, nogil=True)
def marginal_band(
    z, start, stop, rows, columns, down, across, first, begin, end, after, label, single, closed, labels, table, out,
    chance, open_,
):  # fmt: skip
    """The marginal rule: `out` (H, W) receives table[label] of the most probable label, its last entry for outside.

    `label` (codes,) is the label of each code, -1 outside the space, -2 void; `single` and `closed` as in `_pixel`.
    `chance` (H, W) float32, or empty, receives the label's probability. Returns how many pixels rounding could turn
    round; they go as row * W + column into `open_`.

    A cell whose corners agree by majority is filled; of the others all pixels are shared out together, and those that
    are nearly drawn are worked out one by one.
    """
    h, w, channels = z.shape
    last, every = min(stop, h - 1), chance.size > 0
    v, p = np.empty(channels, np.float32), np.empty(channels, np.float32)
    left, right = np.empty(channels, np.float32), np.empty(channels, np.float32)
    share, mass = np.empty(len(begin), np.float32), np.empty(labels, np.float32)
    frontier = np.empty(len(begin), np.int32)
    walk = (single, closed, first, begin, end, after, label, frontier, share, v, p, mass)
    at = np.full((last - start + 1, w), -1, np.int32)
    if not every or begin[first] < 0:
        for i in range(start, last + 1):
            for j in range(w):
                at[i - start, j] = _majority(z[i, j], first, begin, end, after, v, p)
    least = RAREST if every else RARE
    size, count = -1, 0
    for i in range(start, stop):
        up, below = i - start, min(i + 1, h - 1)
        for j in range(w):
            k = min(j + 1, w - 1)
            node = at[up, j]
            agreed = node == at[up, k] and node == at[below - start, j] and node == at[below - start, k]
            if node >= 0 and agreed and label[node] >= -1:
                _fill(out, table[label[node]], rows[i], rows[i + 1], columns[j], columns[j + 1])
                if every:
                    _fill(chance, ONE, rows[i], rows[i + 1], columns[j], columns[j + 1])
                continue
            pixels = (rows[i + 1] - rows[i]) * (columns[j + 1] - columns[j])
            if pixels == 0:
                continue
            if pixels != size:
                size = pixels
                wy, wx, s = np.empty(size, np.float32), np.empty(size, np.float32), _room(size, begin, end, labels)
            _weights(i, j, rows, columns, down, across, wy, wx)
            corners = (z[i, j], z[i, k], z[below, j], z[below, k])
            near = NEAR + 2 * _share_cell(corners, wy, wx, least, single, closed, first, begin, end, after, label, s)
            q = 0
            for y in range(rows[i], rows[i + 1]):
                ready = False
                for x in range(columns[j], columns[j + 1]):
                    apart = s.outside[q] - s.inside[q]
                    found, prob = (-1, s.outside[q]) if apart > 0 else (s.arg[q], s.best[q])
                    close = s.best[q] - s.second[q] <= near and apart <= near
                    close = close or not (closed or abs(apart) > near)
                    if close:
                        if not ready:
                            _blend_finite(corners[0], corners[2], ONE - wy[q], wy[q], left)
                            _blend_finite(corners[1], corners[3], ONE - wy[q], wy[q], right)
                            ready = True
                        found, prob, close = _pixel(left, right, wx[q], every, *walk)
                    out[y, x] = table[found]
                    if every:
                        chance[y, x] = prob
                    if close:
                        open_[count] = y * out.shape[1] + x
                        count += 1
                    q += 1
    return count


@njit(cache=True, nogil=True)
def chance_band(z, start, stop, rows, columns, down, across, codes, begin, end, parent, channel, chance):
    """`chance` (H, W) float32 receives the probability of the decided `codes` (H, W): the product along their paths.

    `parent` (codes,) is the code above, -1 at the top, and `channel` (codes,) the channel that leads to a code, -1
    where it is taken for granted.
    """
    h, w, channels = z.shape
    v, p = np.empty(channels, np.float32), np.empty(channels, np.float32)
    left, right = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for i in range(start, stop):
        for y in range(rows[i], rows[i + 1]):
            for j in range(w):
                k, below, wy = min(j + 1, w - 1), min(i + 1, h - 1), down[y]
                if columns[j + 1] == columns[j]:
                    continue
                _blend_finite(z[i, j], z[below, j], ONE - wy, wy, left)
                _blend_finite(z[i, k], z[below, k], ONE - wy, wy, right)
                for x in range(columns[j], columns[j + 1]):
                    node, share = codes[y, x], ONE
                    while parent[node] >= 0:
                        if channel[node] >= 0:
                            lo, hi = begin[parent[node]], end[parent[node]]
                            _blend(left[lo:hi], right[lo:hi], ONE - across[x], across[x], v[lo:hi])
                            total = _softmax(v[lo:hi], p[lo:hi])
                            share *= p[channel[node]] / total
                        node = parent[node]
                    chance[y, x] = share
