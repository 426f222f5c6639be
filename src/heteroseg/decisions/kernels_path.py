"""The loops of the path rule; see `kernels_cell`."""

from typing import NamedTuple

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.kernels_cell import (
    LOWEST,
    MARGIN,
    TINY,
    Answers,
    Scalar,
    agreed,
    between,
    cell_pixels,
    fill,
    finite,
    largest,
    largest_cell,
    winner,
)
from heteroseg.decisions.lazy_kernel import Corners, logits_around, logits_at
from heteroseg.decisions.tables import FloatArray, Grid, IntArray, Walk


class PathWork(NamedTuple):
    """Work space: where the walk of each corner ends (rows, w); by code; by channel (3); by pixel of a cell (6)."""

    corner: IntArray
    pending: IntArray
    candidates: IntArray
    low: FloatArray
    high: FloatArray
    best: FloatArray
    down: FloatArray
    across: FloatArray
    under: IntArray
    code: IntArray
    place: IntArray


def path_work(walk: Walk, grid: Grid, rows: int, width: int) -> PathWork:
    channels, pixels = len(walk.after), largest_cell(grid)
    fields = (
        np.empty((rows, width), np.int32),
        np.empty(len(walk.begin), np.int32),
        np.empty(channels, np.int32),
        *np.empty((2, channels), np.float32),
        *np.empty((3, pixels), np.float32),
        *np.empty((2, pixels), np.int32),
        np.empty(pixels, np.int64),
    )
    return PathWork._make(fields)


@kernel()
def _candidates(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, work: PathWork) -> int:
    """Positions that may win between four corners, in order, into `work.candidates`; returns how many."""
    low, high = work.low, work.high
    for k in range(a.size):
        p, q, r, s = finite(a[k]), finite(b[k]), finite(c[k]), finite(d[k])
        low[k] = min(min(p, q), min(r, s))
        high[k] = max(max(p, q), max(r, s))
    level = largest(low[: a.size])  # some channel is nowhere below this
    level -= MARGIN * abs(level) + TINY
    count = 0
    for k in range(a.size):
        work.candidates[count] = k  # kept if counted, which no branch has to guess
        count += high[k] + MARGIN * abs(high[k]) >= level
    return count


@kernel()
def _count(node: int, code: IntArray) -> int:
    """How many pixels of `code` (pixels,) are at the node."""
    count = 0
    for p in range(code.size):
        count += code[p] == node
    return count


@kernel()
def _replace(node: int, new: IntArray, code: IntArray) -> None:
    """Move the pixels of `code` (pixels,) that are at the node on to `new` (pixels,)."""
    for p in range(code.size):
        old, under = code[p], new[p]
        code[p] = under if old == node else old


@kernel()
def _raise(a: Scalar, b: Scalar, c: Scalar, d: Scalar, code: int, pixels: int, work: PathWork) -> None:
    """Interpolate a channel between corners; where it exceeds `best`, that and `under` become its value and `code`."""
    for p in range(pixels):
        y, x, high, at = work.down[p], work.across[p], work.best[p], work.under[p]  # before any choice, for vectors
        v = between(a, b, c, d, y, x)
        work.best[p] = v if v > high else high
        work.under[p] = code if v > high else at


@kernel()
def _split_cell(at: Corners, i: int, j: int, pixels: int, walk: Walk, work: PathWork) -> None:
    """Walk from the root for every pixel of one cell; `work.code` (pixels,) receives where each ends.

    The pixels, with weights `work.down` and `work.across`, lie in one row, so that the loops over them become vector
    instructions. A classifier is asked only if some pixel was given to its node, which may happen between corners of
    which none was.
    """
    code, pending = work.code[:pixels], work.pending
    cell = i, min(i + 1, at.z.shape[0] - 1), j, min(j + 1, at.z.shape[1] - 1)
    code[:] = walk.first
    pending[0], count = walk.first, 1
    while count:
        count -= 1
        node = pending[count]
        if not _count(node, code):
            continue
        a, b, c, d = logits_around(at, cell, walk, node)
        channels = _candidates(a, b, c, d, work)
        work.best[:] = LOWEST
        for q in range(channels):
            k = work.candidates[q]
            child = walk.after[walk.begin[node] + k]
            _raise(finite(a[k]), finite(b[k]), finite(c[k]), finite(d[k]), child, pixels, work)
            if walk.begin[child] >= 0:
                pending[count] = child
                count += 1
        _replace(node, work.under, code)


@kernel()
def _corner(at: Corners, i: int, j: int, walk: Walk) -> int:
    """The code where the walk of a corner ends; -1 where rounding might matter."""
    node = walk.first
    while walk.begin[node] >= 0:
        k, clear = winner(logits_at(at, i, j, walk, node))
        if not clear:
            return -1
        node = walk.after[walk.begin[node] + k]
    return node


@kernel()
def path_band(at: Corners, start: int, stop: int, grid: Grid, walk: Walk, work: PathWork, result: Answers) -> None:
    """The path rule for the pixels of cell rows start to stop."""
    h, w, out, table = at.z.shape[0], at.z.shape[1], result.out, result.table
    for i in range(start, min(stop, h - 1) + 1):
        for j in range(w):
            work.corner[i - start, j] = _corner(at, i, j, walk)
    for i in range(start, stop):
        above, below = i - start, min(i + 1, h - 1) - start
        for j in range(w):
            if agreed(work.corner, above, below, j, min(j + 1, w - 1)):
                fill(out, table[work.corner[above, j]], i, j, grid)
                continue
            pixels = cell_pixels(i, j, grid, work.down, work.across, work.place)
            if pixels:
                _split_cell(at, i, j, pixels, walk, work)
                for p in range(pixels):
                    out[work.place[p]] = table[work.code[p]]
