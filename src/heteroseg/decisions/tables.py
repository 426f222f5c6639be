"""What the compiled loops read, and the threads that they run in: numpy and numba alone, no torch."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np

from heteroseg.decisions.bilinear import cells_and_weight

IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]
FloatArray = np.ndarray[Any, np.dtype[np.float32]]
Size = tuple[int, int]
Between = Callable[[], object]  # is called now and then, and may raise to stop what takes long
BAND = 64  # rows of cells that are worked out at a time


class Walk(NamedTuple):
    """The walk through the tree.

    A *code* is a node of the tree, or len(tree) + j for the void answer of classifier j. The walk starts at the code
    `first`. `begin` and `end` (codes,) int32 are the channels of a code's classifier, begin -1 where the walk ends.
    `after` (C,) int32 is the code that a channel leads to.

    `label` (codes,) int64 is what a code means: a node, or a label index (OUTSIDE where it is none, -2 void).
    `single`: every label is one node. `closed`: nothing lies outside the space.
    """

    first: int
    begin: IntArray
    end: IntArray
    after: IntArray
    label: IntArray
    single: bool
    closed: bool


class Grid(NamedTuple):
    """Where the cells of the logits' grid lie in the image.

    `rows` (h + 1,) and `columns` (w + 1,) int64 are the first pixels of each cell. `down` (H,) and `across` (W,)
    float32 are the weights of a pixel's lower and right neighbour.
    """

    rows: IntArray
    columns: IntArray
    down: FloatArray
    across: FloatArray


@lru_cache(16)
def grid_of(h: int, w: int, covers: Size, size: Size) -> Grid:
    """The grid of (h, w) cells, only to be read."""

    def axis(full: int, small: int, length: int) -> tuple[IntArray, FloatArray]:
        low, _, weight = cells_and_weight(np.arange(length, dtype=np.float32), full, small)
        return np.searchsorted(low, np.arange(small + 1)), weight

    (rows, down), (columns, across) = map(axis, covers, (h, w), size)
    return Grid(rows, columns, down, across)


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "decode")  # by process, because threads do not survive a fork


def in_bands(rows: int, work: Callable[[int, int], None], between: Between = bool) -> None:
    """Call `work(start, stop)` for bands of rows, on as many threads as torch uses, or numba where torch is not."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else numba.config.NUMBA_NUM_THREADS
    count = max(-(-rows // BAND), min(rows, 4 * threads) if threads > 1 else 1)
    cuts = np.linspace(0, rows, count + 1).astype(int).tolist()
    each = map if threads == 1 else _threads(os.getpid(), threads).map
    for _ in each(work, cuts[:-1], cuts[1:]):
        between()
