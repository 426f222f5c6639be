"""The loops of the marginal rule; see `kernels_cell`."""

from typing import NamedTuple

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.kernels_cell import (
    LOWEST,
    ONE,
    Answers,
    Scalar,
    agreed,
    between,
    cell_pixels,
    fill,
    finite,
    largest_cell,
    lead,
    winner,
)
from heteroseg.decisions.kernels_pixel import NEAR, PixelWork, pixel
from heteroseg.decisions.kernels_probability import blend_finite, exp, walk_between
from heteroseg.decisions.tables import FloatArray, Grid, IntArray, Walk
from heteroseg.labels.space import OUTSIDE

MAJORITY = np.float32(0.5001)
RARE = np.float32(2.0**-10)  # smallest probability that is looked into
RAREST = np.float32(2.0**-26)  # the same where probabilities are asked for
FLOOR = np.float32(0.9)  # share of the best below which a label needs no probability
NODES, LABELS, UNSURE = 0, 1, 2  # in `CellWork.used`
Corners = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


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
    """`CellWork` for (rows, width) corners and the largest cell."""
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
def _add_products(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    for p in range(a.size):
        out[p] += a[p] * b[p]


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
    _add_products(share, work.scale, work.node[slot])
    work.used[NODES] = slot + 1


@kernel()
def _add_to_label(label: int, share: FloatArray, work: CellWork) -> None:
    """Add `share` (pixels,) times `work.scale` to the probabilities of a label."""
    if not work.known[label]:
        work.named[work.used[LABELS]], work.known[label], work.mass[label] = label, 1, 0
        work.used[LABELS] += 1
    _add_products(share, work.scale, work.mass[label])


@kernel()
def _keep_channels(
    corners: Corners, node: int, pixels: int, most: Scalar, rare: Scalar, walk: Walk, work: CellWork
) -> tuple[int, Scalar]:
    """Interpolate the channels of a classifier that can reach more than `rare` of `most` at some pixel.

    They go into `work.value`, `work.kept` and `work.reach`. Returns how many they are, and the most that all others
    have together.
    """
    a, b, c, d = corners
    begin, end = walk.begin[node], walk.end[node]
    largest, m = LOWEST, begin
    for k in range(begin, end):
        total = finite(a[k]) + finite(b[k]) + finite(c[k]) + finite(d[k])
        if total > largest:
            largest, m = total, k
    channels, lost = 0, np.float32(0)
    work.top[:] = LOWEST
    for k in range(begin, end):
        ahead = max(max(lead(a[k], a[m]), lead(b[k], b[m])), max(lead(c[k], c[m]), lead(d[k], d[m])))
        reach = most * exp(min(ahead, np.float32(0)))
        if k == m or reach > rare:
            value = work.value[channels, :pixels]
            _interpolate(finite(a[k]), finite(b[k]), finite(c[k]), finite(d[k]), value, work)
            work.kept[channels], work.reach[channels] = walk.after[k], reach
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
                _add_products(share, work.scale, work.inside)
        elif label >= 0 and reach < floor:
            rival = max(rival, reach)
        elif label >= 0:
            _rank(share, label, work)
        elif label == OUTSIDE:
            _add_products(share, work.scale, work.outside)
    return rival


@kernel()
def _share_cell(corners: Corners, pixels: int, rare: Scalar, walk: Walk, work: CellWork) -> Scalar:
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
    lost, floor, rival, slot = np.float32(0), np.float32(0), np.float32(0), 0
    while work.most[slot] >= floor:
        node, most = work.code[slot], work.most[slot]
        work.most[slot] = -1
        channels, left_out = _keep_channels(corners, node, pixels, most, rare, walk, work)
        lost += left_out
        work.scale[:] = 0
        for q in range(channels):
            _exps(work.value[q, :pixels], work.top, work.scale)
        for p in range(pixels):
            work.scale[p] = work.node[slot, p] / work.scale[p]
        rival = max(rival, _hand_on(channels, pixels, floor, walk, work))
        if walk.single and walk.closed:
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
    corners: Corners, pixels: int, near: Scalar, walk: Walk, work: CellWork, point: PixelWork, result: Answers
) -> None:
    """Write the labels of a cell that `_share_cell` has shared out; a pixel nearer to a draw than `near` gets all its
    probabilities, and may be unsure."""
    every, ready = result.probs.size > 0, -ONE
    for q in range(pixels):
        apart, down = work.outside[q] - work.inside[q], work.down[q]
        label, prob = (OUTSIDE, work.outside[q]) if apart > 0 else (work.arg[q], work.best[q])
        close = work.best[q] - work.second[q] <= near and apart <= near
        if close or not (walk.closed or abs(apart) > near):
            if down != ready:
                blend_finite(corners[0], corners[2], down, point.left)
                blend_finite(corners[1], corners[3], down, point.right)
                ready = down
            label, prob, close = pixel(work.across[q], every, walk, point)
        result.out[work.place[q]] = result.table[label]
        if every:
            result.probs[work.place[q]] = prob
        if close:
            work.unsure[work.used[UNSURE]] = work.place[q]
            work.used[UNSURE] += 1


@kernel()
def marginal_band(
    z: FloatArray, start: int, stop: int, grid: Grid, walk: Walk, work: CellWork, point: PixelWork, result: Answers
) -> None:
    """The marginal rule for the pixels of cell rows start to stop.

    A cell whose corners agree by majority is filled. Of the others all pixels are shared out together, and those that
    are nearly drawn are worked out one by one.
    """
    h, w, every = z.shape[0], z.shape[1], result.probs.size > 0
    if not every or walk.begin[walk.first] < 0:
        for i in range(start, min(stop, h - 1) + 1):
            for j in range(w):
                blend_finite(z[i, j], z[i, j], np.float32(0), point.left)
                code, share = walk_between(point.left, point.left, np.float32(0), MAJORITY, walk, work.reach)
                work.corner[i - start, j] = code if share > MAJORITY else -1
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
                corners = (z[i, j], z[i, right], z[below, j], z[below, right])
                near = NEAR + 2 * _share_cell(corners, pixels, RAREST if every else RARE, walk, work)
                _answer_cell(corners, pixels, near, walk, work, point, result)
