"""Where a pixel lies between the cells of a smaller map: the one formula of bilinear interpolation in this project."""

from torch import Tensor


def cells_and_weight(at: Tensor, full: int, small: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper cell (int64) and the upper one's weight, for the pixels `at` of an axis of `full` pixels.

    align_corners false and edges held, over `small` cells. `at` is floating point; the weight has its dtype.
    """
    position = ((at + 0.5) * (small / full) - 0.5).clamp(min=0)
    low = position.long().clamp(max=small - 1)
    return low, (low + 1).clamp(max=small - 1), position - low
