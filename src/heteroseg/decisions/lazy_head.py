"""Logits that nobody has worked out yet: the features before a 1x1 head, and the head's weights in tiles."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from heteroseg.decisions.tables import FloatArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor

TILE = 16  # channels that `heteroseg.decisions.lazy_kernel` works out together
MANY = 800  # logits, by measurement


class LazyHead(NamedTuple):
    """A 1x1 head in the order in which `heteroseg.decisions.lazy_kernel` reads it.

    Classifier i has channels cuts[i] to cuts[i + 1]. They are tiles[i] to tiles[i + 1] of `weight` (tiles, width, TILE)
    and `bias` (tiles, TILE), both float32, with zeros up to whole tiles.
    """

    weight: FloatArray
    bias: FloatArray
    cuts: IntArray
    tiles: IntArray


@dataclass(frozen=True, eq=False)
class LazyLogits:
    """Logits of a 1x1 head that nobody has worked out yet: `exact.decode` does so where it needs them.

    `features` (1, width, h, w) float32.
    """

    features: "Tensor"
    head: LazyHead

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(1, C, h, w), as the logits have."""
        return (1, int(self.head.cuts[-1]), self.features.shape[2], self.features.shape[3])


def pays(cuts: Sequence[int]) -> bool:
    """Whether it is faster, by measurement (docs/speed.md), to work out the logits of classifiers that end at `cuts`
    where they are needed: MANY or more, of which the root has at most half."""
    return cuts[-1] >= MANY and 2 * cuts[1] <= cuts[-1]


def lazy_head(weight: FloatArray, bias: FloatArray, cuts: Sequence[int]) -> LazyHead:
    """(C, width) weights and (C,) biases of classifiers that end at `cuts` (from 0 to C) in tiles."""
    tiles = np.array([0, *accumulate(-(-(high - low) // TILE) for low, high in pairwise(cuts))])
    rows = np.zeros((tiles[-1] * TILE, weight.shape[1]), np.float32)
    biases = np.zeros(len(rows), np.float32)
    for place, (low, high) in zip(tiles * TILE, pairwise(cuts), strict=False):
        rows[place : place + high - low], biases[place : place + high - low] = weight[low:high], bias[low:high]
    tiled = np.ascontiguousarray(rows.reshape(-1, TILE, rows.shape[1]).transpose(0, 2, 1))
    return LazyHead(tiled, biases.reshape(-1, TILE), np.array(cuts), tiles)


EMPTY = lazy_head(np.empty((0, 1), np.float32), np.empty(0, np.float32), [0])


def pack_head(weight: FloatArray, bias: FloatArray, cuts: Sequence[int]) -> dict[str, Any]:
    """The metadata of a lazy head: (C, width) weights, a classifier's (width, its channels) after another's, and (C,)
    biases, in base64."""
    blocks = np.concatenate([weight[low:high].T.ravel() for low, high in pairwise(cuts)])
    coded = [base64.b64encode(np.ascontiguousarray(a, "<f4").tobytes()).decode() for a in (blocks, bias)]
    return {"weight": coded[0], "bias": coded[1], "cuts": list(cuts)}


def unpack_head(packed: dict[str, Any]) -> LazyHead:
    """What `pack_head` wrote; anything else raises KeyError, TypeError or ValueError."""
    coded = (base64.b64decode(packed[key], validate=True) for key in ("weight", "bias"))
    blocks, bias = (np.frombuffer(numbers, "<f4").astype(np.float32) for numbers in coded)
    cuts, width = packed["cuts"], len(blocks) // max(1, len(bias))
    rising = [0, *sorted(set(cuts))][-len(cuts) :] == cuts and all(type(cut) is int for cut in cuts)
    if not rising or [cuts[:1], cuts[-1]] != [[0], len(bias)] or width * len(bias) != len(blocks) or not width:
        raise ValueError("their sizes do not fit")
    if not (np.isfinite(blocks).all() and np.isfinite(bias).all()):
        raise ValueError("numbers that are not finite")
    parts = [blocks[low * width : high * width].reshape(width, high - low).T for low, high in pairwise(cuts)]
    return lazy_head(np.concatenate(parts), bias, cuts)
