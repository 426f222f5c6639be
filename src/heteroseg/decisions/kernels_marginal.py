"""The loops of the marginal rule; see `kernels_cell`."""

from typing import NamedTuple

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.kernels_cell import (
    LOWEST,
    MARGIN,
    ONE,
    Answers,
    Scalar,
    add_products,
    agreed,
    between,
    cell_pixels,
    fill,
    finite,
    largest,
    largest_cell,
    lead,
    winner,
)
from heteroseg.decisions.kernels_pixel import NEAR, PixelWork, pixel
from heteroseg.decisions.kernels_probability import ask, blend_finite, exp
from heteroseg.decisions.lazy_kernel import Cell, Corners, logits_around, logits_at
from heteroseg.decisions.tables import FloatArray, Grid, IntArray, Walk
from heteroseg.labels.space import OUTSIDE

MAJORITY, CLEAR = np.float32(0.5001), np.float32(1e-4)
RARE = np.float32(2.0**-8)  # smallest probability that is looked into
RAREST = np.float32(2.0**-26)  # the same where probabilities are asked for
FLOOR = np.float32(0.9)  # share of the best below which a label needs no probability
NODES, LABELS, UNSURE = 0, 1, 2  # in `CellWork.used`


class CellWork(NamedTuple):
    """Work space: what decides each corner (rows, w), then pixels of a cell by node, channel and label, single rows of
    pixels, and lists.

    `code` and `most` list the nodes that were reached, in the order of the rows of `node`: a code, and the most that it
    can reach at any pixel, -1 when it was asked. `kept` and `reach` list the channels of one classifier that are looked
    into, and `named` the labels that have a row in `mass`; `known` (labels,) is 1 for these. `unsure` (pixels of the
    band,) lists the places of the pixels that rounding could turn round. `used` (3,) counts the nodes, the labels and
    the unsure pixels.
    """

    corner: IntArray
    node: FloatArray
    value: FloatArray
    mass: FloatArray
    down: FloatArray
    across: FloatArray
    top: FloatArray
    scale: FloatArray
    inside: FloatArray
    outside: FloatArray
    best: FloatArray
    second: FloatArray
    arg: IntArray
    place: IntArray
    known: IntArray
    named: IntArray
    code: IntArray
    most: FloatArray
    kept: IntArray
    reach: FloatArray
    unsure: IntArray
    used: IntArray


def cell_work(walk: Walk, grid: Grid, labels: int, rows: int, width: int, unsure: IntArray) -> CellWork:
    nodes, channels = int(np.sum(walk.begin >= 0)) + 1, max(int(np.max(walk.end - walk.begin)), 1)
    pixels = largest_cell(grid)
    fields = (
        np.full((rows, width), -1, np.int32),
        *(np.empty((count, pixels), np.float32) for count in (nodes, channels, labels)),
        *np.empty((8, pixels), np.float32),
        *np.empty((2, pixels), np.int64),
        *np.zeros((2, labels), np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.float32),
        np.empty(channels, np.int32),
        np.empty(channels, np.float32),
        unsure,
        np.zeros(3, np.int64),
    )
    return CellWork._make(fields)


@kernel()
def _interpolate(a: Scalar, b: Scalar, c: Scalar, d: Scalar, v: FloatArray, work: CellWork) -> None:
    """`v` (pixels,) receives one channel between its corners, `work.top` the largest of itself and of that."""
    for p in range(v.size):
        y, x, high = work.down[p], work.across[p], work.top[p]
        u = between(a, b, c, d, y, x)
        v[p] = u
        work.top[p] = u if u > high else high


@kernel()
def _exps(v: FloatArray, top: FloatArray, total: FloatArray) -> None:
    """`v` (pixels,) becomes e ** (v - top), which is added to `total`."""
    for p in range(v.size):
        before, e = total[p], exp(v[p] - top[p])
        v[p] = e
        total[p] = before + e


@kernel()
def _rank(share: FloatArray, at: int, work: CellWork) -> None:
    """Enter label `at` with the probabilities `share` (pixels,) times `work.scale` into the ranking of every pixel."""
    for p in range(share.size):
        m, high, low, was = share[p] * work.scale[p], work.best[p], work.second[p], work.arg[p]
        less = high if m > high else m
        work.best[p] = m if m > high else high
        work.arg[p] = at if m > high else was
        work.second[p] = less if less > low else low


@kernel()
def _smallest(v: FloatArray) -> Scalar:
    low = v[0]
    for p in range(v.size):
        low = v[p] if v[p] < low else low
    return low


@kernel()
def _push(node: int, share: FloatArray, most: Scalar, work: CellWork) -> None:
    """List a node that is still to be asked; its probabilities are `share` (pixels,) times `work.scale`."""
    slot = work.used[NODES]
    work.code[slot], work.most[slot], work.node[slot] = node, most, 0
    add_products(share, work.scale, work.node[slot])
    work.used[NODES] = slot + 1


@kernel()
def _add_to_label(label: int, share: FloatArray, work: CellWork) -> None:
    """Add `share` (pixels,) times `work.scale` to the probabilities of a label."""
    if not work.known[label]:
        work.named[work.used[LABELS]], work.known[label], work.mass[label] = label, 1, 0
        work.used[LABELS] += 1
    add_products(share, work.scale, work.mass[label])


@kernel()
def _reach(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, m: int, most: Scalar, out: FloatArray) -> None:
    """The most that each channel of a classifier can reach between four corners, by its lead over channel m."""
    for k in range(a.size):
        p, q, r, s = lead(a[k], a[m]), lead(b[k], b[m]), lead(c[k], c[m]), lead(d[k], d[m])
        p, r = (p if p > q else q), (r if r > s else s)  # no max, for vectors
        p = p if p > r else r
        out[k] = most * exp(p if p < 0 else np.float32(0))


@kernel()
def _keep_channels(
    at: Corners, cell: Cell, node: int, pixels: int, most: Scalar, rare: Scalar, walk: Walk, work: CellWork
) -> tuple[int, Scalar]:
    """Interpolate the channels of a classifier that can reach more than `rare` of `most` at some pixel.

    They go into `work.value`, `work.kept` and `work.reach`. Returns how many they are, and the most that all others
    have together.
    """
    a, b, c, d = logits_around(at, cell, walk, node)
    top, m = LOWEST, 0
    for k in range(a.size):
        total = finite(a[k]) + finite(b[k]) + finite(c[k]) + finite(d[k])
        if total > top:
            top, m = total, k
    _reach(a, b, c, d, m, most, work.reach)
    channels, lost = 0, np.float32(0)
    work.top[:] = LOWEST
    for k in range(a.size):
        reach = work.reach[k]
        if k == m or reach > rare:
            value = work.value[channels, :pixels]
            _interpolate(finite(a[k]), finite(b[k]), finite(c[k]), finite(d[k]), value, work)
            work.kept[channels], work.reach[channels] = walk.after[walk.begin[node] + k], reach
            channels += 1
        else:
            lost += reach
    return channels, lost


@kernel()
def _hand_on(channels: int, pixels: int, floor: Scalar, walk: Walk, work: CellWork) -> Scalar:
    """Give the probabilities of a classifier's channels to their nodes and labels; the most that was passed over.

    Where labels are single nodes and nothing lies outside, they are ranked at once, but for those that reach less than
    `floor`.
    """
    rival, early = np.float32(0), walk.single and walk.closed
    for q in range(channels):
        child, reach, share = work.kept[q], work.reach[q], work.value[q, :pixels]
        label = walk.label[child]
        if walk.begin[child] >= 0:
            _push(child, share, reach, work)
        elif label >= 0 and not early:
            _add_to_label(label, share, work)
            if not walk.closed:
                add_products(share, work.scale, work.inside)
        elif label >= 0 and reach < floor:
            rival = max(rival, reach)
        elif label >= 0:
            _rank(share, label, work)
        elif label == OUTSIDE:
            add_products(share, work.scale, work.outside)
    return rival


@kernel()
def _share_cell(at: Corners, cell: Cell, pixels: int, rare: Scalar, walk: Walk, work: CellWork) -> Scalar:
    """Probabilities of labels at the pixels of a cell, with weights `work.down` and `work.across`: in `work` those
    `inside` and `outside` the space, the `best`, the `second` and which is best (`arg`). Returns how wrong they are at
    most.

    The ratio of two channels of a classifier is largest at a corner, so a channel that is far behind another one at all
    four is so everywhere: what cannot reach `rare` is left out, with all below it. Where labels are single nodes and
    nothing lies outside, so is what comes nowhere near the best.
    """
    work.inside[:], work.outside[:], work.best[:], work.second[:], work.arg[:] = 0, 0, 0, 0, OUTSIDE
    work.node[0], work.code[0], work.most[0] = 1, walk.first, 1
    work.used[NODES], work.used[LABELS] = 1, 0
    alone, lost, floor, slot = walk.single and walk.closed, np.float32(0), np.float32(0), 0
    rival = rare if alone else np.float32(0)
    while work.most[slot] >= floor:
        node, most = work.code[slot], work.most[slot]
        work.most[slot] = -1
        channels, left_out = _keep_channels(at, cell, node, pixels, most, rare, walk, work)
        lost += np.float32(0) if alone and node == walk.first else left_out  # the same part of all probabilities
        work.scale[:] = 0
        for q in range(channels):
            _exps(work.value[q, :pixels], work.top, work.scale)
        for p in range(pixels):
            work.scale[p] = work.node[slot, p] / work.scale[p]
        rival = max(rival, _hand_on(channels, pixels, floor, walk, work))
        if alone:
            floor = FLOOR * _smallest(work.best[:pixels])
        slot, _ = winner(work.most[: work.used[NODES]])
    rival = max(rival, work.most[slot])
    work.scale[:] = 1
    for q in range(work.used[LABELS]):
        label = work.named[q]
        _rank(work.mass[label, :pixels], label, work)
        work.known[label] = 0
    for p in range(pixels):
        low = work.second[p]
        work.second[p] = low if low > rival else rival
    return lost


@kernel()
def _answer_cell(
    at: Corners, cell: Cell, pixels: int, near: Scalar, walk: Walk, work: CellWork, point: PixelWork, result: Answers
) -> None:
    """Write the labels of a cell that `_share_cell` has shared out; a pixel nearer to a draw than `near` gets all its
    probabilities, and may be unsure."""
    every = result.probs.size > 0
    for q in range(pixels):
        apart = work.outside[q] - work.inside[q]
        label, prob = (OUTSIDE, work.outside[q]) if apart > 0 else (work.arg[q], work.best[q])
        close = work.best[q] - work.second[q] <= near and apart <= near
        if close or not (walk.closed or abs(apart) > near):
            label, prob, close = pixel(at, cell, work.down[q], work.across[q], every, walk, point)
        result.out[work.place[q]] = result.table[label]
        if every:
            result.probs[work.place[q]] = prob
        if close:
            work.unsure[work.used[UNSURE]] = work.place[q]
            work.used[UNSURE] += 1


@kernel(fastmath={"nnan", "nsz"})
def _size(v: FloatArray) -> Scalar:
    """The largest absolute value of finite numbers."""
    top = np.float32(0)
    for k in range(v.size):
        top = abs(v[k]) if abs(v[k]) > top else top
    return top


@kernel()
def _corner(at: Corners, i: int, j: int, walk: Walk, value: FloatArray) -> int:
    """The code that wins at a corner, and so between four where it does; -1 where there is none. `value` is work space.

    In general that is one with more than half of the probability. Where labels are single nodes and nothing lies
    outside, it is one that is more probable than any node beside its path: the logarithm of this ratio is a difference
    of logits and logarithms of softmaxes, so it is concave too. `slack` is what rounding does to large logits.
    """
    alone, node, share = walk.single and walk.closed, walk.first, ONE
    rival, slack = np.float32(0), np.float32(0)
    while walk.begin[node] >= 0 and share > (rival if alone else MAJORITY):
        logits = logits_at(at, i, j, walk, node)
        own = value[: logits.size]
        blend_finite(logits, logits, np.float32(0), own)
        slack += MARGIN * _size(own)
        k, p = ask(own)
        own[k] = 0
        node, rival, share = walk.after[walk.begin[node] + k], max(rival, share * p * largest(own)), share * p
    least = rival * (ONE + CLEAR + slack + slack) if alone else MAJORITY + slack
    return node if share > least and slack < ONE else -1


@kernel()
def marginal_band(
    at: Corners, start: int, stop: int, grid: Grid, walk: Walk, work: CellWork, point: PixelWork, result: Answers
) -> None:
    """The marginal rule for the pixels of cell rows start to stop.

    A cell whose corners agree by majority is filled. Of the others all pixels are shared out together, and those that
    are nearly drawn are worked out one by one.
    """
    h, w, every = at.z.shape[0], at.z.shape[1], result.probs.size > 0
    if not every or walk.begin[walk.first] < 0:
        for i in range(start, min(stop, h - 1) + 1):
            for j in range(w):
                work.corner[i - start, j] = _corner(at, i, j, walk, work.reach)
    for i in range(start, stop):
        below = min(i + 1, h - 1)
        for j in range(w):
            right, code = min(j + 1, w - 1), work.corner[i - start, j]
            if agreed(work.corner, i - start, below - start, j, right) and walk.label[code] >= OUTSIDE:
                fill(result.out, result.table[walk.label[code]], i, j, grid)
                if every:
                    fill(result.probs, ONE, i, j, grid)
                continue
            pixels = cell_pixels(i, j, grid, work.down, work.across, work.place)
            if pixels:
                cell = i, below, j, right
                near = NEAR + 2 * _share_cell(at, cell, pixels, RAREST if every else RARE, walk, work)
                _answer_cell(at, cell, pixels, near, walk, work, point, result)
