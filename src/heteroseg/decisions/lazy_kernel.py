"""Logits of a 1x1 head from features, one classifier at a time, for CPUs: the same bits for a few and for all."""

from typing import NamedTuple

import numpy as np

from heteroseg.decisions.compiled import kernel
from heteroseg.decisions.lazy_head import EMPTY, TILE, LazyHead
from heteroseg.decisions.tables import FloatArray, IntArray, Walk

Cell = tuple[int, int, int, int]  # its upper and lower row of corners, its left and right column
NOBODY = np.zeros(1, np.int64)


class Corners(NamedTuple):
    """Logits at the corners of a band of cells: `z` (h, w, C), or features (h, w, width) of a head that is not empty.

    Of a head they are worked out by classifier, where a rule asks for them. `owner` (nodes,) is a node's classifier,
    `start` the first row of cells. `where` (rows, w, classifiers) int64 is the place in `pool` of what is known, -1 for
    the rest, and `used` (1,) int64 how much of the pool is taken; it has room for all, most of it never touched.
    """

    z: FloatArray
    head: LazyHead
    owner: IntArray
    start: int
    where: IntArray
    pool: FloatArray
    used: IntArray


def corners(z: FloatArray, start: int, rows: int, head: LazyHead = EMPTY, owner: IntArray = NOBODY) -> Corners:
    """`Corners` in so many rows, of which no logit of a head is known yet."""
    where = np.full((rows, z.shape[1], len(head.tiles) - 1), -1, np.int64)
    pool = np.empty(rows * z.shape[1] * head.bias.size + TILE, np.float32)
    return Corners(z, head, owner, start, where, pool, np.zeros(1, np.int64))


@kernel()
def linear(x: FloatArray, weight: FloatArray, bias: FloatArray, out: FloatArray) -> None:
    """Logits `out` (tiles * TILE,) of features `x` (width,), all float32; the next TILE of `out` are work space.

    `weight` (tiles, width, TILE), `bias` (tiles, TILE). The sum of a logit is in this order: bias + x[0] * weight[0] +
    x[2] * weight[2] + ..., and the sum of the odd features added in the end. Every product and sum is rounded, none is
    fused or moved.
    """
    fours, odd = x.size // 4 * 4, out[len(weight) * TILE : (len(weight) + 1) * TILE]
    for tile in range(len(weight)):
        rows, even = weight[tile], out[tile * TILE : (tile + 1) * TILE]
        for k in range(TILE):
            even[k], odd[k] = bias[tile, k], 0
        for c in range(0, fours, 4):  # four at a time, or most of the time goes into loading and storing the sums
            x0, x1, x2, x3 = x[c], x[c + 1], x[c + 2], x[c + 3]
            for k in range(TILE):
                first, second = even[k], odd[k]
                first += x0 * rows[c, k]
                second += x1 * rows[c + 1, k]
                first += x2 * rows[c + 2, k]
                second += x3 * rows[c + 3, k]
                even[k], odd[k] = first, second
        for c in range(fours, x.size):
            sums = odd if c % 2 else even
            for k in range(TILE):
                sums[k] += x[c] * rows[c, k]
        for k in range(TILE):
            even[k] += odd[k]


@kernel()
def linear_band(features: FloatArray, start: int, stop: int, head: LazyHead, row: FloatArray, out: FloatArray) -> None:
    """All logits of the cell rows start to stop: `features` (h, w, width) to `out` (h, w, C).

    `row` is work space: the channels of the largest classifier in whole tiles, and one tile.
    """
    weight, bias, cuts, tiles = head
    for i in range(start, stop):
        for j in range(features.shape[1]):
            for q in range(len(cuts) - 1):
                first, last = tiles[q], tiles[q + 1]
                linear(features[i, j], weight[first:last], bias[first:last], row)
                for k in range(cuts[q], cuts[q + 1]):
                    out[i, j, k] = row[k - cuts[q]]


@kernel(inline="always")
def logits_at(at: Corners, i: int, j: int, walk: Walk, node: int) -> FloatArray:
    """(n,) logits of a node's classifier at a corner."""
    begin, end = walk.begin[node], walk.end[node]
    if not at.where.size:
        return at.z[i, j, begin:end]
    row, number, head = i - at.start, at.owner[node], at.head
    place = at.where[row, j, number]
    if place < 0:
        place, first, last = at.used[0], head.tiles[number], head.tiles[number + 1]
        at.used[0] += (last - first) * TILE
        at.where[row, j, number] = place
        linear(at.z[i, j], head.weight[first:last], head.bias[first:last], at.pool[place:])
    return at.pool[place : place + end - begin]


@kernel(inline="always")
def logits_around(at: Corners, cell: Cell, walk: Walk, node: int) -> tuple[FloatArray, ...]:
    """The same at the corners of a cell: above left and right, below left and right."""
    i, below, j, right = cell
    a, b = logits_at(at, i, j, walk, node), logits_at(at, i, right, walk, node)
    return a, b, logits_at(at, below, j, walk, node), logits_at(at, below, right, walk, node)
