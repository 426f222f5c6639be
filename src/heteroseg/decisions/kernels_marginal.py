"""The loops of the marginal rule; see `kernels_cell`."""

from typing import NamedTuple

import numpy as np
from numba import njit

from heteroseg.decisions.kernels_cell import (
    HALF,
    LOWEST,
    MARGIN,
    ONE,
    _between,
    _fill,
    _finite,
    _weights,
    _winner,
)

MAJORITY = np.float32(0.5001)
NEAR = np.float32(1e-5)  # relative distance of two probabilities that rounding could turn round
RARE = np.float32(2.0**-10)  # least probability that is looked into
RAREST = np.float32(2.0**-26)  # the same where probabilities are asked for
FLOOR = np.float32(0.9)  # share of the best below which a label needs no probability
LOG2E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
E5, E4, E3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
E2, E1, E0 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
COLDEST = np.float32(-87)


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
