"""The loops of the marginal rule; see `kernels_cell`."""

from typing import NamedTuple

import numpy as np

from heteroseg.decisions.kernels_cell import (
    LOWEST,
    MARGIN,
    ONE,
    Scalar,
    agreed,
    between,
    fill,
    finite,
    kernel,
    pixel_weights,
)
from heteroseg.decisions.kernels_pixel import NEAR, PixelWork, majority, pixel, pixel_work
from heteroseg.decisions.kernels_probability import blend_finite, exp
from heteroseg.decisions.plan import FloatArray, Grid, IntArray, Walk
from heteroseg.labels.space import OUTSIDE

RARE = np.float32(2.0**-10)  # smallest probability that is looked into
RAREST = np.float32(2.0**-26)  # the same where probabilities are asked for
Corners = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
FLOOR = np.float32(0.9)  # share of the best below which a label needs no probability


class CellWork(NamedTuple):
    """Work space of `_share_cell`: rows of pixels by node, channel and label, single rows of pixels, and lists.

    `row` (labels,) is a label's row in `mass`, -1 for none, and `named` the label of each row. `stack`, `slot` and
    `most` list what is still to be asked: a code, its row in `node`, and the most that it can reach at any pixel.
    `kept` and `reach` list the channels of one classifier that are looked into. `used` (3,) counts the entries of
    `stack`, and the rows taken of `node` and of `mass`.
    """

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
    row: IntArray
    named: IntArray
    stack: IntArray
    slot: IntArray
    most: FloatArray
    kept: IntArray
    reach: FloatArray
    used: IntArray


STACK, NODES, ROWS = 0, 1, 2  # in `CellWork.used`


class Answers(NamedTuple):
    """What a band is written to.

    `out` (H, W) receives table[label], the last entry of `table` for outside. `probs` (H, W) float32, or empty,
    receives the label's probability. `unsure` (pixels,) int64 receives row * W + column of the pixels that rounding
    could turn round, and `unsure_count` (1,) int64 how many there are.
    """

    table: IntArray
    out: IntArray
    probs: FloatArray
    unsure: IntArray
    unsure_count: IntArray


@kernel(allocates=True)
def _cell_work(pixels: int, walk: Walk, labels: int) -> CellWork:
    nodes, channels = np.sum(walk.begin >= 0) + 1, max(np.max(walk.end - walk.begin), 1)
    by_pixel = np.empty((8, pixels), np.float32)
    return CellWork(
        np.empty((nodes, pixels), np.float32),
        np.empty((channels, pixels), np.float32),
        np.empty((labels, pixels), np.float32),
        by_pixel[0], by_pixel[1], by_pixel[2], by_pixel[3], by_pixel[4], by_pixel[5], by_pixel[6], by_pixel[7],
        np.empty(pixels, np.int32),
        np.full(labels, -1, np.int32),
        np.empty(labels, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.float32),
        np.empty(channels, np.int32),
        np.empty(channels, np.float32),
        np.zeros(3, np.int64),
    )  # fmt: skip


@kernel()
def _interpolate(
    a: Scalar, b: Scalar, c: Scalar, d: Scalar, down: FloatArray, across: FloatArray, v: FloatArray, top: FloatArray
) -> None:
    """`v` (pixels,) receives one channel between its corners, `top` the largest of itself and of that."""
    for p in range(v.size):
        y, x, high = down[p], across[p], top[p]
        u = between(a, b, c, d, y, x)
        v[p] = u
        top[p] = u if u > high else high


@kernel()
def _exps(v: FloatArray, top: FloatArray, total: FloatArray) -> None:
    """`v` (pixels,) becomes e ** (v - top), which is added to `total`."""
    for p in range(v.size):
        before, e = total[p], exp(v[p] - top[p])
        v[p] = e
        total[p] = before + e


@kernel()
def _add_products(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    for p in range(out.size):
        out[p] += a[p] * b[p]


@kernel()
def _rank(share: FloatArray, scale: FloatArray, at: int, best: FloatArray, second: FloatArray, arg: IntArray) -> None:
    """Enter label `at` with the probabilities `share` times `scale` into the ranking of every pixel."""
    for p in range(share.size):
        m, high, low, was = share[p] * scale[p], best[p], second[p], arg[p]
        less = high if m > high else m
        best[p] = m if m > high else high
        arg[p] = at if m > high else was
        second[p] = less if less > low else low


@kernel(inline="always")
def _lead(v: Scalar, m: Scalar) -> Scalar:
    """How far a logit is ahead of another one at most, with the rounding of interpolation."""
    v, m = finite(v), finite(m)
    return v - m + MARGIN * (abs(v) + abs(m))


@kernel()
def _smallest(v: FloatArray) -> Scalar:
    low = v[0]
    for p in range(v.size):
        low = v[p] if v[p] < low else low
    return low


@kernel()
def _push(node: int, share: FloatArray, most: Scalar, work: CellWork) -> None:
    """List a node that is still to be asked; its probabilities are `share` (pixels,) times `work.scale`."""
    count, slot = work.used[STACK], work.used[NODES]
    work.stack[count], work.slot[count], work.most[count] = node, slot, most
    work.node[slot] = 0
    _add_products(share, work.scale, work.node[slot])
    work.used[STACK], work.used[NODES] = count + 1, slot + 1


@kernel()
def _pop(work: CellWork) -> tuple[int, int, Scalar]:
    """The node of the list that can reach most, its row in `work.node`, and that most."""
    last = work.used[STACK] - 1
    at = 0
    for q in range(last + 1):
        if work.most[q] > work.most[at]:
            at = q
    node, slot, most = work.stack[at], work.slot[at], work.most[at]
    work.stack[at], work.slot[at], work.most[at] = work.stack[last], work.slot[last], work.most[last]
    work.used[STACK] = last
    return node, slot, most


@kernel()
def _add_to_label(label: int, share: FloatArray, work: CellWork) -> None:
    """Add `share` (pixels,) times `work.scale` to the probabilities of a label."""
    if work.row[label] < 0:
        row = work.used[ROWS]
        work.row[label], work.named[row] = row, label
        work.mass[row] = 0
        work.used[ROWS] = row + 1
    _add_products(share, work.scale, work.mass[work.row[label]])


@kernel()
def _keep_channels(
    corners: Corners,
    node: int,
    most: Scalar,
    min_probability: Scalar,
    walk: Walk,
    work: CellWork,
) -> tuple[int, Scalar]:
    """Interpolate the channels of a classifier that can reach `min_probability` of `most` at some pixel.

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
        ahead = max(max(_lead(a[k], a[m]), _lead(b[k], b[m])), max(_lead(c[k], c[m]), _lead(d[k], d[m])))
        reach = most * exp(min(ahead, np.float32(0)))
        if k == m or reach > min_probability:
            corner = (finite(a[k]), finite(b[k]), finite(c[k]), finite(d[k]))
            _interpolate(*corner, work.down, work.across, work.value[channels], work.top)
            work.kept[channels], work.reach[channels] = walk.after[k], reach
            channels += 1
        else:
            lost += reach
    return channels, lost


@kernel()
def _hand_on(channels: int, early: bool, floor: Scalar, walk: Walk, work: CellWork) -> Scalar:
    """Give the probabilities of a classifier's channels to their nodes and labels; the most that was passed over.

    With `early` labels are ranked at once, but for those that reach less than `floor`.
    """
    rival = np.float32(0)
    for q in range(channels):
        child, reach, share = work.kept[q], work.reach[q], work.value[q]
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
            _rank(share, work.scale, label, work.best, work.second, work.arg)
        elif label == OUTSIDE:
            _add_products(share, work.scale, work.outside)
    return rival


@kernel()
def _share_cell(corners: Corners, min_probability: Scalar, walk: Walk, work: CellWork) -> Scalar:
    """Probabilities of labels at the pixels of a cell, with weights `work.down` and `work.across`: in `work` those
    `inside` and `outside` the space, the `best`, the `second` and which is best (`arg`). Returns how wrong they are at
    most.

    The ratio of two channels of a classifier is largest at a corner, so a channel that is far behind another one at all
    four is so everywhere: what cannot reach `min_probability` is left out, with all below it. Where labels are single
    nodes and nothing lies outside, so is what comes nowhere near the best.
    """
    early = walk.single and walk.closed
    work.inside[:], work.outside[:], work.best[:], work.second[:], work.arg[:] = 0, 0, 0, 0, OUTSIDE
    work.node[0], work.stack[0], work.slot[0], work.most[0] = 1, walk.first, 0, 1
    work.used[STACK], work.used[NODES], work.used[ROWS] = 1, 1, 0
    lost, floor, rival = np.float32(0), np.float32(0), np.float32(0)
    while work.used[STACK]:
        node, slot, most = _pop(work)
        if most < floor:
            rival = max(rival, most)
            break
        channels, rare = _keep_channels(corners, node, most, min_probability, walk, work)
        lost += rare
        work.scale[:] = 0
        for q in range(channels):
            _exps(work.value[q], work.top, work.scale)
        for p in range(work.scale.size):
            work.scale[p] = work.node[slot, p] / work.scale[p]
        rival = max(rival, _hand_on(channels, early, floor, walk, work))
        if early:
            floor = FLOOR * _smallest(work.best)
    work.scale[:] = 1
    for q in range(work.used[ROWS]):
        _rank(work.mass[q], work.scale, work.named[q], work.best, work.second, work.arg)
        work.row[work.named[q]] = -1
    for p in range(work.second.size):
        low = work.second[p]
        work.second[p] = low if low > rival else rival
    return lost


@kernel()
def _answer_cell(
    corners: Corners,
    i: int,
    j: int,
    near: Scalar,
    grid: Grid,
    walk: Walk,
    cell: CellWork,
    work: PixelWork,
    answers: Answers,
) -> None:
    """Write the labels of a cell that `_share_cell` has shared out; a pixel nearer to a draw than `near` gets all its
    probabilities."""
    every, q = answers.probs.size > 0, 0
    for y in range(grid.rows[i], grid.rows[i + 1]):
        ready = False
        for x in range(grid.columns[j], grid.columns[j + 1]):
            apart = cell.outside[q] - cell.inside[q]
            label, prob = (OUTSIDE, cell.outside[q]) if apart > 0 else (cell.arg[q], cell.best[q])
            close = cell.best[q] - cell.second[q] <= near and apart <= near
            close = close or not (walk.closed or abs(apart) > near)
            if close and not ready:
                blend_finite(corners[0], corners[2], cell.down[q], work.left)
                blend_finite(corners[1], corners[3], cell.down[q], work.right)
                ready = True
            if close:
                label, prob, close = pixel(cell.across[q], every, walk, work)
            answers.out[y, x] = answers.table[label]
            if every:
                answers.probs[y, x] = prob
            if close:
                answers.unsure[answers.unsure_count[0]] = y * answers.out.shape[1] + x
                answers.unsure_count[0] += 1
            q += 1


@kernel(allocates=True)
def marginal_band(z: FloatArray, start: int, stop: int, grid: Grid, walk: Walk, answers: Answers) -> None:
    """The marginal rule for the pixels of cell rows start to stop; see `Answers`.

    A cell whose corners agree by majority is filled. Of the others all pixels are shared out together, and those that
    are nearly drawn are worked out one by one.
    """
    (h, w), labels, every = z.shape[:2], len(answers.table) - 1, answers.probs.size > 0
    work, last = pixel_work(walk, labels), min(stop, h - 1)
    codes = np.full((last - start + 1, w), -1, np.int32)
    if not every or walk.begin[walk.first] < 0:
        for i in range(start, last + 1):
            for j in range(w):
                codes[i - start, j] = majority(z[i, j], walk, work)
    min_probability, size = RAREST if every else RARE, -1
    for i in range(start, stop):
        below = min(i + 1, h - 1)
        for j in range(w):
            right, code = min(j + 1, w - 1), codes[i - start, j]
            if agreed(codes, i - start, below - start, j, right) and walk.label[code] >= OUTSIDE:
                fill(answers.out, answers.table[walk.label[code]], i, j, grid)
                if every:
                    fill(answers.probs, ONE, i, j, grid)
                continue
            pixels = (grid.rows[i + 1] - grid.rows[i]) * (grid.columns[j + 1] - grid.columns[j])
            if pixels == 0:
                continue
            if pixels != size:
                size, cell = pixels, _cell_work(pixels, walk, labels)
            pixel_weights(i, j, grid, cell.down, cell.across)
            corners = (z[i, j], z[i, right], z[below, j], z[below, right])
            near = NEAR + 2 * _share_cell(corners, min_probability, walk, cell)
            _answer_cell(corners, i, j, near, grid, walk, cell, work, answers)
