"""Exact decisions at full size without upsampling every logit; docs/speed.md has the whole argument.

Between four neighbouring cells of the logits' grid bilinear interpolation is a convex combination, and its rounded
form, two products and a sum, never decreases in a logit. So a channel that is largest at all four corners is the answer
between them, unless an *earlier* one, which would win a tie, is within rounding. The probability of a node is
log-concave in the logits, so a node with more than half at four corners has it between them too. Only the pixels of
other cells are worked out. The result equals `upsample` + `decide`/`label_map`, the plain reference.

Of `LazyLogits` a classifier's are worked out only at the cells where its node may come to win; with 2,000 classes that
is a few of a hundred. One function (`lazy_kernel.linear`) makes a logit for it and for `dense`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from heteroseg.decisions.branched import BranchedLogits
from heteroseg.decisions.lazy_head import EMPTY, TILE, LazyHead, LazyLogits
from heteroseg.decisions.plan import Plan
from heteroseg.decisions.reference import best_label, upsample, upsample_at
from heteroseg.decisions.tables import Between, FloatArray, IntArray, Size, grid_of, in_bands

if TYPE_CHECKING:
    from heteroseg.decisions.lazy_kernel import Corners

Logits: TypeAlias = Tensor | LazyLogits | BranchedLogits
CHUNK = 2**24  # logits at a time


def decode(
    logits: Logits, covers: Size, size: Size, plan: Plan, confident: bool = False, between: Between = bool
) -> tuple[IntArray, FloatArray]:
    """(1, C, h, w) fused logits, which stand for a padded image of size `covers`, to (H, W) answers for `size`.

    The second array is (0, 0), or if `confident` (H, W) float32: the probability of the decided node (the product along
    its path; for void, of the void answer where it was given), by the marginal rule that of the label (outside: of all
    that is no label).

    Equal to the plain reference; on ties the first child (path) or label (marginal) wins. Logits beyond +-1e30 count
    as +-1e30, NaN as the lowest. On CPUs compiled loops on `torch.get_num_threads()` threads (channels last is their
    order; the first call ever compiles for some seconds and keeps the result on disk), elsewhere `decode_torch`.
    Lazy and branched logits are worked out where they are needed, but for probabilities, which need all.
    """
    plan.tree.require_logits(logits.shape)
    if isinstance(logits, BranchedLogits) and confident:
        logits.everywhere()
    elif isinstance(logits, BranchedLogits):
        logits.settle(plan)
    elif isinstance(logits, LazyLogits) and confident:
        logits = dense(logits, between)
    if isinstance(logits, Tensor) and logits.device.type != "cpu":
        answers, shares = decode_torch(logits, covers, size, plan, between)
        return answers.cpu().numpy(), (shares if confident else shares[:0, :0]).cpu().numpy()
    out, probs = np.empty(size, plan.answer.dtype), np.empty(size if confident else (0, 0), np.float32)
    (_path if plan.rule == "path" else _marginal)(logits, covers, plan, out, probs, between)
    return out, probs


def dense(lazy: LazyLogits | BranchedLogits, between: Between = bool) -> Tensor:
    """All (1, C, h, w) float32 logits, in channels-last order, with the bits that the lazy walk finds."""
    if isinstance(lazy, BranchedLogits):
        return lazy.everywhere()
    return torch.from_numpy(_linear(_rows_first(lazy), lazy.head, between)).permute(2, 0, 1)[None]


def _linear(features: FloatArray, head: LazyHead, between: Between = bool) -> FloatArray:
    """All logits (h, w, C) of features (h, w, width)."""
    from heteroseg.decisions.lazy_kernel import linear_band

    out = np.empty((*features.shape[:2], head.cuts[-1]), np.float32)
    row = TILE * (int(np.diff(head.tiles).max()) + 1)
    in_bands(len(out), lambda i, stop: linear_band(features, i, stop, head, np.empty(row, np.float32), out), between)
    return out


def _waiting(lazy: LazyLogits) -> BranchedLogits:
    """The same logits, which wait for the cells that are asked for."""
    features, (channels, h, w) = _rows_first(lazy), lazy.shape[1:]
    at = {0: lambda cells: _linear(features[cells][:, None], lazy.head)[:, 0]}
    return BranchedLogits(np.zeros((h, w, channels), np.float32), [0, channels], at, {0: np.zeros((h, w), np.bool_)})


def _rows_first(logits: Logits) -> FloatArray:
    """(1, C, h, w) logits, or what they are made of, as (h, w, C) float32 in memory order."""
    if isinstance(logits, BranchedLogits):
        return logits.values
    z = logits.features if isinstance(logits, LazyLogits) else logits
    _, channels, h, w = z.shape
    return z[0].detach().float().flatten(1).T.contiguous().view(h, w, channels).numpy()


def _corners(logits: Logits, plan: Plan) -> Callable[[int, int], "Corners"]:
    """What gives the corners of the cell rows start to stop."""
    from heteroseg.decisions.lazy_kernel import corners

    z, owner = _rows_first(logits), np.array(plan.tree.classifier_of)
    head = logits.head if isinstance(logits, LazyLogits) else EMPTY
    return lambda start, stop: corners(z, start, min(stop, len(z) - 1) - start + 1, head, owner)


def _path(logits: Logits, covers: Size, plan: Plan, out: IntArray, probs: FloatArray, between: Between) -> None:
    from heteroseg.decisions.kernels_cell import Answers
    from heteroseg.decisions.kernels_path import path_band, path_work
    from heteroseg.decisions.kernels_probability import confident_band

    (h, w), walk, corners = logits.shape[2:], plan.walk, _corners(logits, plan)
    grid, answers = grid_of(h, w, covers, out.shape), Answers(plan.answer, out.reshape(-1), probs.reshape(-1))

    def band(start: int, stop: int) -> None:
        if probs.size:
            sides = np.empty((3, plan.tree.channels), np.float32)
            confident_band(corners(start, stop).z, start, stop, grid, walk, sides, answers)
        else:
            work = path_work(walk, grid, min(stop, h - 1) - start + 1, w)
            path_band(corners(start, stop), start, stop, grid, walk, work, answers)

    in_bands(h, band, between)


def _marginal(logits: Logits, covers: Size, plan: Plan, out: IntArray, probs: FloatArray, between: Between) -> None:
    from heteroseg.decisions.kernels_cell import Answers
    from heteroseg.decisions.kernels_marginal import UNSURE, cell_work, marginal_band
    from heteroseg.decisions.kernels_pixel import pixel_work

    assert plan.space is not None
    (h, w), labels, corners = logits.shape[2:], len(plan.answer) - 1, _corners(logits, plan)
    flat, near = out.reshape(-1), []
    grid, answers = grid_of(h, w, covers, out.shape), Answers(plan.answer, flat, probs.reshape(-1))

    def band(start: int, stop: int) -> None:
        unsure = np.empty((grid.rows[stop] - grid.rows[start]) * out.shape[1], np.int64)
        work = cell_work(plan.walk, grid, labels, min(stop, h - 1) - start + 1, w, unsure)
        point = pixel_work(plan.walk, labels)
        marginal_band(corners(start, stop), start, stop, grid, plan.walk, work, point, answers)
        near.append(unsure[: work.used[UNSURE]].copy())

    in_bands(h, band, between)
    pixels = torch.from_numpy(np.concatenate(near))
    if not len(pixels):
        return
    logits = _waiting(logits) if isinstance(logits, LazyLogits) else logits
    for part in torch.split(pixels, max(1, CHUNK // logits.shape[1])):
        between()
        rows, columns = part // out.shape[1], part % out.shape[1]
        if isinstance(logits, BranchedLogits):
            logits.fill_around(rows, columns, covers)
        known = logits if isinstance(logits, Tensor) else logits.tensor
        at = upsample_at(known, covers, rows, columns)
        flat[part] = plan.answer[best_label(at, plan.space)[0][0, 0]]


def _walk(z: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """(1, C, H, W) finite logits to (1, H, W) codes by the path rule, and the product of the probabilities on it."""
    walk = plan.walk
    code = torch.full((1, *z.shape[2:]), walk.first, device=z.device)
    probs = torch.ones(code.shape, device=z.device)
    after = torch.from_numpy(walk.after).to(z.device).long()
    for node in np.flatnonzero(walk.begin >= 0).tolist():  # a parent comes before its children
        reached, begin = code == node, int(walk.begin[node])
        part = z[:, begin : walk.end[node]]
        probs = torch.where(reached, probs * part.softmax(1).amax(1), probs)
        code = torch.where(reached, after[begin + part.argmax(1)], code)
    return code, probs


def decode_torch(
    logits: Tensor, covers: Size, size: Size, plan: Plan, between: Between = bool
) -> tuple[Tensor, Tensor]:
    """Answers (H, W) and their probabilities in torch operations on any device: the plain reference in bands of rows.

    On a GPU that is two to three times as fast as to look for cells whose corners agree (docs/log.md).
    """
    plan.tree.require_logits(logits.shape)
    rows = max(1, CHUNK // (logits.shape[1] * size[1]))
    parts = []
    for start in range(0, size[0], rows):
        between()
        z = upsample(logits, covers, (start, min(start + rows, size[0])), size[1])
        parts.append(best_label(z, plan.space) if plan.rule == "marginal" and plan.space else _walk(z, plan))
    answers, shares = (torch.cat(each, 1)[0] for each in zip(*parts, strict=True))
    return torch.from_numpy(plan.answer).to(logits.device)[answers], shares
