"""An image seen several times, larger, smaller and mirrored, and averaged to one answer (`--tta`).

p(node) is the mean of its probabilities in all views, so p(label) in any label space, a sum of them, is the mean of its
own too. Means of logits would be neither, and would depend on the tree. log p(node) is a logit again, as the softmax of
a classifier's is the mean of the tree given its parent: whatever is worked out from logits takes them as they are.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from heteroseg.datasets.sample import LARGEST
from heteroseg.decisions.exact import CHUNK
from heteroseg.decisions.reference import finite, log_probs
from heteroseg.errors import HeterosegError, shortened

if TYPE_CHECKING:
    from heteroseg.model.prediction import Prediction

FLIP, USUAL = "flip", "0.75,1,1.25"
SCALES, MOST = (0.1, 4), 16  # least and largest; how many

Views = tuple[tuple[float, ...], bool]  # scales, the largest first, and whether each is looked at mirrored too
ALONE: Views = (1.0,), False


def views_of(tta: Any) -> Views:
    """What "0.75,1,1.25,flip", or a list of such, asks for; True: as USUAL, nothing: the image alone."""
    try:
        text = USUAL if tta is True else tta or "1"
        parts = text.replace(" ", "").split(",") if isinstance(text, str) else list(text)
        scales = sorted({float(part) for part in parts if part != FLIP}, reverse=True) or [1.0]
    except (TypeError, ValueError):
        scales = []
    if not 0 < len(scales) <= MOST or not all(SCALES[0] <= scale <= SCALES[1] for scale in scales):
        told = f"expected up to {MOST} scales from {SCALES[0]} to {SCALES[1]}, and flip, such as {USUAL},{FLIP}"
        raise HeterosegError(f"tta: {told}, found {shortened(repr(tta))}")
    return tuple(scales), FLIP in parts


def views_text(views: Views) -> str:
    """The views as text, which `views_of` reads; empty for the image alone."""
    text = ",".join([*(repr(scale).removesuffix(".0") for scale in views[0][::-1]), *[FLIP] * views[1]])
    return "" if views == ALONE else text


def require_taken(network: Any, views: Views) -> None:
    """Raise HeterosegError for scales where the network was exported for images of one size alone."""
    if (only := getattr(network, "size", None)) and views[0] != (1.0,):
        told = f"the network was exported for images of {only[0]}x{only[1]} alone, so it takes no scales"
        raise HeterosegError(f"tta: {told}, found {views_text(views)}; take {FLIP} alone, or export without --size")


def averaged(image: np.ndarray, views: Views, predict: Callable[[np.ndarray], "Prediction"]) -> Tensor:
    """(1, C, h, w) logits of the mean of all views of an image (H, W, 3) uint8, on the grid of the largest view.

    They stand for the padded image, as those of the image alone. One view at a time is in memory. Too large a view
    raises HeterosegError.
    """
    size, total = (image.shape[0], image.shape[1]), None
    for scale in views[0]:
        height, width = (max(1, round(side * scale)) for side in size)
        if height * width > LARGEST:
            raise HeterosegError(f"tta: expected views of at most {LARGEST} pixels, found {height}x{width}")
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        view = cv2.resize(image, (width, height), interpolation=how)
        for mirrored in (False, True)[: 1 + views[1]]:
            total = _add(total, predict(np.ascontiguousarray(view[:, ::-1]) if mirrored else view), mirrored, size)
    assert total is not None
    return total


def _add(before: Tensor | None, seen: "Prediction", mirrored: bool, size: tuple[int, int]) -> Tensor:
    """The sum with the probabilities of one more view of an image of `size`, in logs; in bands, in place."""
    logits, tree, covers = finite(seen.logits), seen.model.taxonomy, seen.model.network.covers(*size)
    grid = [covers[i] * seen.size[i] / size[i] / seen.covers[i] * logits.shape[2 + i] for i in (0, 1)]
    shape = (1, logits.shape[1], *(max(1, round(cells)) for cells in grid))
    total = torch.full(shape, -torch.inf, device=logits.device) if before is None else before

    def places(axis: int) -> Tensor:
        """Where the cells of the sum lie in the padded view, whose edges are -1 and 1."""
        cells, side = total.shape[2 + axis], size[axis]
        at = (torch.arange(cells, dtype=torch.float64) + 0.5) * (covers[axis] / cells)
        at = (side - at if axis and mirrored else at) * (seen.size[axis] / side)
        return (2 * at / seen.covers[axis] - 1).float().to(total.device)

    down, across = places(0), places(1)
    step = max(1, CHUNK // (total.shape[1] * total.shape[3]))
    for start in range(0, total.shape[2], step):
        rows = slice(start, start + step)
        at = torch.stack(torch.meshgrid(across, down[rows], indexing="xy"), -1)[None]
        z = F.grid_sample(logits, at, padding_mode="border", align_corners=False)
        total[:, :, rows] = torch.logaddexp(total[:, :, rows], log_probs(z, tree))
    return total
