"""What the compiled loops of both rules share.

The loops of `heteroseg.decisions.exact` are for CPUs. Numba compiles them on first use and keeps them on disk for the
next process. They do not hold Python's lock, so bands of cells run in threads.

In all of them `z` is (h, w, C) float32 logits, a band is the rows of cells [start, stop), and `walk` and `grid` are the
tables of `heteroseg.decisions.tables`. A cell (i, j) has its corners at the logits of rows i and i + 1, columns j and
j + 1, and the pixels between them.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.tables import FloatArray, Grid, IntArray

LARGE = np.float32(1e30)  # as reference.LARGE
LOWEST = np.float32(-np.inf)
MARGIN, TINY = np.float32(2.0**-20), np.float32(1e-37)  # rounding in two interpolations is below a quarter of MARGIN
ONE, HALF = np.float32(1), np.float32(0.5)
Scalar: TypeAlias = Any
"""A float32 or bool of a compiled loop; its type is numba's affair."""


class Answers(NamedTuple):
    """What bands are written to: `out` (H * W,) receives table[code] or table[label] (the last entry for outside), and
    `probs` (H * W,) float32, or empty, its probability."""

    table: IntArray
    out: IntArray
    probs: FloatArray


@kernel(inline="always")
def finite(v: Scalar) -> Scalar:
    """A logit within +-LARGE; NaN is the lowest."""
    v = v if v > -LARGE else -LARGE  # NaN too
    return v if v < LARGE else LARGE


@kernel(inline="always")
def lead(v: Scalar, m: Scalar) -> Scalar:
    """How far a logit is ahead of another one at most, with the rounding of interpolation."""
    v, m = finite(v), finite(m)
    return v - m + MARGIN * (abs(v) + abs(m))


@kernel()
def winner(logits: FloatArray) -> tuple[int, Scalar]:
    """Position of the first largest logit, and whether it leads all earlier ones by more than rounding.

    A later channel needs no lead: interpolation never decreases in a logit, so it can at most draw level, and then
    the first one wins.
    """
    best, earlier, at = LOWEST, LOWEST, 0
    for k in range(logits.size):
        v = finite(logits[k])
        if v > best:
            best, earlier, at = v, best, k
    clear = at == 0 or best - earlier > MARGIN * (abs(best) + abs(earlier)) + TINY
    return at, clear


@kernel(fastmath={"nnan", "nsz"})
def largest(v: FloatArray) -> Scalar:
    """The largest of finite numbers, as vector instructions; no order of comparisons changes it."""
    top = v[0]
    for k in range(v.size):
        top = v[k] if v[k] > top else top
    return top


@kernel(inline="always")
def between(a: Scalar, b: Scalar, c: Scalar, d: Scalar, y: Scalar, x: Scalar) -> Scalar:
    """A pixel's value between corners, of the weights of its lower and right ones: two products and a sum, twice."""
    return (a * (ONE - y) + c * y) * (ONE - x) + (b * (ONE - y) + d * y) * x


@kernel()
def add_products(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    """Add a * b to `out`, which may be longer."""
    for p in range(a.size):
        out[p] += a[p] * b[p]


@kernel()
def agreed(codes: IntArray, above: int, below: int, left: int, right: int) -> Scalar:
    """Whether four corners have the same code, which is not negative; `codes` (rows, w)."""
    code = codes[above, left]
    return code >= 0 and code == codes[above, right] and code == codes[below, left] and code == codes[below, right]


@kernel()
def fill(out: FloatArray | IntArray, value: Scalar, i: int, j: int, grid: Grid) -> None:
    """Set the pixels of a cell in `out` (H * W,) to `value`."""
    for y in range(grid.rows[i], grid.rows[i + 1]):
        row = y * len(grid.across)
        out[row + grid.columns[j] : row + grid.columns[j + 1]] = value


@kernel()
def cell_pixels(i: int, j: int, grid: Grid, down: FloatArray, across: FloatArray, place: IntArray) -> int:
    """The weights of a cell's pixels and their places in (H * W,), one row after the other; returns how many."""
    count = 0
    for y in range(grid.rows[i], grid.rows[i + 1]):
        for x in range(grid.columns[j], grid.columns[j + 1]):
            down[count], across[count], place[count] = grid.down[y], grid.across[x], y * len(grid.across) + x
            count += 1
    return count


def largest_cell(grid: Grid) -> int:
    return int(np.diff(grid.rows).max() * np.diff(grid.columns).max())
