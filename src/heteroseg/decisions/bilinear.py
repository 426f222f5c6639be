"""Where a pixel lies between the cells of a smaller map: the one formula of bilinear interpolation in this project."""

from typing import Any, TypeVar

import numpy as np

Array = TypeVar("Array")  # a tensor, or an array of NumPy, so that nothing here needs torch


def cells_and_weight(at: Array, full: int, small: int) -> tuple[Array, Array, Array]:
    """Lower and upper cell (int64) and the upper one's weight, for the pixels `at` of an axis of `full` pixels.

    align_corners false and edges held, over `small` cells. `at` is floating point; the weight has its dtype. Tensors
    and arrays get the same bits.
    """
    known: Any = at
    position = ((known + 0.5) * (small / full) - 0.5).clip(0)
    if isinstance(at, np.ndarray):
        low = position.astype(np.int64).clip(0, small - 1)
        return low, (low + 1).clip(0, small - 1), (position - low).astype(at.dtype)
    low = position.long().clip(0, small - 1)
    return low, (low + 1).clip(0, small - 1), position - low
