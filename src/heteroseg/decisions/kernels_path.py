"""The loops of the path rule; see `kernels_cell`."""

from typing import NamedTuple

import numpy as np

from heteroseg.decisions.kernels_cell import (
    LOWEST,
    MARGIN,
    TINY,
    Scalar,
    agreed,
    between,
    fill,
    finite,
    kernel,
    pixel_weights,
    winner,
)
from heteroseg.decisions.lazy_head import TILE
from heteroseg.decisions.lazy_kernel import linear
from heteroseg.decisions.plan import FloatArray, Grid, IntArray, Walk


class LazyBand(NamedTuple):
    """A band's logits by classifier, worked out where a walk asks for them; `z` are then features (h, w, width).

    `weight` and `bias` as in `lazy_head.LazyHead`. `tile` (codes,) is where a node's classifier begins in them,
    `number` (codes,) counts the classifiers, `start` is the first row of cells. `where` (rows, w, classifiers) int64
    is the place in `pool` of what is known, -1 for the rest, and `used` (1,) int64 how much of the pool is taken; it
    has room for all, most of it never touched. `odd` (TILE,) is work space.
    """

    weight: FloatArray
    bias: FloatArray
    tile: IntArray
    number: IntArray
    start: int
    where: IntArray
    pool: FloatArray
    used: IntArray
    odd: FloatArray


class CellWork(NamedTuple):
    """Work space of `_split_cell`: by code, by channel (three), and by pixel of a cell (five)."""

    pending: IntArray
    candidates: IntArray
    low: FloatArray
    high: FloatArray
    best: FloatArray
    under: IntArray
    down: FloatArray
    across: FloatArray
    code: IntArray


@kernel(allocates=True)
def _work(walk: Walk, grid: Grid) -> CellWork:
    """`CellWork` for the largest cell."""
    codes, channels = len(walk.begin), len(walk.after)
    pixels = np.diff(grid.rows).max() * np.diff(grid.columns).max()
    return CellWork(
        np.empty(codes, np.int32),
        np.empty(channels, np.int32),
        np.empty(channels, np.float32),
        np.empty(channels, np.float32),
        np.empty(pixels, np.float32),
        np.empty(pixels, np.int32),
        np.empty(pixels, np.float32),
        np.empty(pixels, np.float32),
        np.empty(pixels, np.int32),
    )


@kernel(inline="always")
def _logits(z: FloatArray, lazy: LazyBand | None, i: int, j: int, walk: Walk, node: int) -> FloatArray:
    """(n,) logits of a node's classifier at a corner; `lazy` is None where `z` has them all."""
    begin, end = walk.begin[node], walk.end[node]
    if lazy is None:
        return z[i, j, begin:end]
    row, number = i - lazy.start, lazy.number[node]
    at = lazy.where[row, j, number]
    if at < 0:
        at, tiles = lazy.used[0], (end - begin + TILE - 1) // TILE
        lazy.used[0] += tiles * TILE
        lazy.where[row, j, number] = at
        first = lazy.tile[node]
        last = first + tiles
        linear(z[i, j], lazy.weight[first:last], lazy.bias[first:last], lazy.pool[at : at + tiles * TILE], lazy.odd)
    return lazy.pool[at : at + end - begin]


@kernel(fastmath={"nnan", "nsz"})
def _largest(v: FloatArray) -> Scalar:
    """The largest of finite numbers, as vector instructions; no order of comparisons changes it."""
    top = v[0]
    for k in range(v.size):
        top = v[k] if v[k] > top else top
    return top


@kernel()
def _candidates(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, work: CellWork) -> int:
    """Positions that may win between four corners, in order, into `work.candidates`; returns how many."""
    low, high = work.low, work.high
    for k in range(a.size):
        p, q, r, s = finite(a[k]), finite(b[k]), finite(c[k]), finite(d[k])
        low[k] = min(min(p, q), min(r, s))
        high[k] = max(max(p, q), max(r, s))
    level = _largest(low[: a.size])  # some channel is nowhere below this
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
def _raise(
    a: Scalar,
    b: Scalar,
    c: Scalar,
    d: Scalar,
    down: FloatArray,
    across: FloatArray,
    code: int,
    best: FloatArray,
    under: IntArray,
) -> None:
    """Interpolate a channel between corners; where it exceeds `best`, that and `under` become its value and `code`."""
    for p in range(best.size):
        y, x, high, at = down[p], across[p], best[p], under[p]  # read before any choice, or the loop stays scalar
        v = between(a, b, c, d, y, x)
        best[p] = v if v > high else high
        under[p] = code if v > high else at


@kernel()
def _split_cell(z: FloatArray, lazy: LazyBand | None, i: int, j: int, pixels: int, walk: Walk, work: CellWork) -> None:
    """Walk from the root for every pixel of one cell; `work.code` (pixels,) receives where each ends.

    The pixels, with weights `work.down` and `work.across`, lie in one row, so that the loops over them become vector
    instructions. A classifier is asked only if some pixel was given to its node, which may happen between corners of
    which none was.
    """
    down, across, code = work.down[:pixels], work.across[:pixels], work.code[:pixels]
    best, under, pending = work.best[:pixels], work.under[:pixels], work.pending
    right, below = min(j + 1, z.shape[1] - 1), min(i + 1, z.shape[0] - 1)
    code[:] = walk.first
    pending[0], count = walk.first, 1
    while count:
        count -= 1
        node = pending[count]
        if not _count(node, code):
            continue
        a, b = _logits(z, lazy, i, j, walk, node), _logits(z, lazy, i, right, walk, node)
        c, d = _logits(z, lazy, below, j, walk, node), _logits(z, lazy, below, right, walk, node)
        channels = _candidates(a, b, c, d, work)
        best[:] = LOWEST
        for q in range(channels):
            k = work.candidates[q]
            child = walk.after[walk.begin[node] + k]
            _raise(finite(a[k]), finite(b[k]), finite(c[k]), finite(d[k]), down, across, child, best, under)
            if walk.begin[child] >= 0:
                pending[count] = child
                count += 1
        _replace(node, under, code)


@kernel()
def _corner(z: FloatArray, lazy: LazyBand | None, i: int, j: int, walk: Walk) -> int:
    """The code where the walk of a corner ends; -1 where rounding might matter."""
    node = walk.first
    while walk.begin[node] >= 0:
        k, clear = winner(_logits(z, lazy, i, j, walk, node))
        if not clear:
            return -1
        node = walk.after[walk.begin[node] + k]
    return node


@kernel()
def _write(out: IntArray, table: IntArray, code: IntArray, i: int, j: int, grid: Grid) -> None:
    """Set the pixels of a cell in `out` (H, W) to table[code], of `code` (pixels,)."""
    count = 0
    for y in range(grid.rows[i], grid.rows[i + 1]):
        for x in range(grid.columns[j], grid.columns[j + 1]):
            out[y, x] = table[code[count]]
            count += 1


@kernel(allocates=True)
def path_band(
    z: FloatArray, lazy: LazyBand | None, start: int, stop: int, grid: Grid, walk: Walk, table: IntArray, out: IntArray
) -> None:
    """The path rule: `out` (H, W) receives table[code] for the pixels of cell rows start to stop."""
    h, w = z.shape[0], z.shape[1]
    last = min(stop, h - 1)
    codes = np.empty((last - start + 1, w), np.int32)
    for i in range(start, last + 1):
        for j in range(w):
            codes[i - start, j] = _corner(z, lazy, i, j, walk)
    work = _work(walk, grid)
    for i in range(start, stop):
        above, below = i - start, min(i + 1, h - 1) - start
        for j in range(w):
            if agreed(codes, above, below, j, min(j + 1, w - 1)):
                fill(out, table[codes[above, j]], i, j, grid)
                continue
            pixels = pixel_weights(i, j, grid, work.down, work.across)
            if pixels:
                _split_cell(z, lazy, i, j, pixels, walk, work)
                _write(out, table, work.code, i, j, grid)
