"""Exact decisions at full size without upsampling every logit; docs/speed.md has the whole argument.

Between four neighbouring cells of the logits' grid bilinear interpolation is a convex combination, and its rounded
form, two products and a sum, never decreases in a logit. So a channel that is largest at all four corners is the answer
between them, unless an *earlier* one, which would win a tie, is within rounding. The probability of a node is
log-concave in the logits, so a node with more than half at four corners has it between them too. Only the pixels of
other cells are worked out. The result equals `upsample` + `decide`/`label_map`, the plain reference.

Of `LazyLogits` the path rule works out a classifier's logits only at the cells where its node is reached; with 2,000
classes that is a few of a hundred. One function (`lazy_kernel.linear`) makes a logit for it and for `dense`.
"""

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from heteroseg.decisions.branched import BranchedLogits
from heteroseg.decisions.lazy_head import TILE, LazyLogits
from heteroseg.decisions.plan import Plan
from heteroseg.decisions.reference import best_label, upsample, upsample_at
from heteroseg.decisions.tables import Between, FloatArray, IntArray, Size, grid_of, in_bands

Logits: TypeAlias = Tensor | LazyLogits | BranchedLogits
CHUNK = 2**24  # logits at a time


def decode(
    logits: Logits,
    covers: Size,
    size: Size,
    plan: Plan,
    confident: bool = False,
    between: Between = bool,
) -> tuple[IntArray, FloatArray]:
    """(1, C, h, w) fused logits, which stand for a padded image of size `covers`, to (H, W) answers for `size`.

    The second array is (0, 0), or if `confident` (H, W) float32: the probability of the decided node (the product along
    its path; for void, of the void answer where it was given), by the marginal rule that of the label (outside: of all
    that is no label).

    Equal to the plain reference; on ties the first child (path) or label (marginal) wins. Logits beyond +-1e30 count
    as +-1e30, NaN as the lowest. On CPUs compiled loops on `torch.get_num_threads()` threads (channels last is their
    order; the first call ever compiles for some seconds and keeps the result on disk), elsewhere `decode_torch`.
    Lazy logits stay so with the path rule; the marginal rule and probabilities need all of them. Of branched ones only
    probabilities need all.
    """
    plan.tree.require_logits(logits.shape)
    if isinstance(logits, BranchedLogits) and confident:
        logits.everywhere()
    elif isinstance(logits, BranchedLogits):
        logits.settle(plan)
    elif isinstance(logits, LazyLogits) and (confident or plan.rule == "marginal"):
        logits = dense(logits, between)
    if isinstance(logits, Tensor) and logits.device.type != "cpu":
        answers, shares = decode_torch(logits, covers, size, plan, between)
        return answers.cpu().numpy(), (shares if confident else shares[:0, :0]).cpu().numpy()
    out, probs = np.empty(size, plan.answer.dtype), np.empty(size if confident else (0, 0), np.float32)
    if isinstance(logits, LazyLogits) or plan.rule == "path":
        _path(logits, covers, plan, out, probs, between)
    else:
        _marginal(logits, covers, plan, out, probs, between)
    return out, probs


def dense(lazy: LazyLogits | BranchedLogits, between: Between = bool) -> Tensor:
    """All (1, C, h, w) float32 logits, in channels-last order, with the bits that the lazy walk finds."""
    from heteroseg.decisions.lazy_kernel import linear_band

    if isinstance(lazy, BranchedLogits):
        return lazy.everywhere()
    features, head = _rows_first(lazy.features), lazy.head
    out = np.empty((*features.shape[:2], lazy.shape[1]), np.float32)
    row = TILE * (int(np.diff(head.tiles).max()) + 1)
    in_bands(len(out), lambda i, stop: linear_band(features, i, stop, head, np.empty(row, np.float32), out), between)
    return torch.from_numpy(out).permute(2, 0, 1)[None]


def _rows_first(logits: Tensor | BranchedLogits) -> FloatArray:
    """(1, C, h, w) logits as (h, w, C) float32 in memory order, branched ones with what lies behind them."""
    if isinstance(logits, BranchedLogits):
        return logits.values
    _, channels, h, w = logits.shape
    return logits[0].detach().float().flatten(1).T.contiguous().view(h, w, channels).numpy()


def _path(logits: Logits, covers: Size, plan: Plan, out: IntArray, probs: FloatArray, between: Between) -> None:
    from heteroseg.decisions.kernels_cell import Answers
    from heteroseg.decisions.kernels_path import lazy_band, path_band, path_work
    from heteroseg.decisions.kernels_probability import confident_band

    z, walk = _rows_first(logits.features if isinstance(logits, LazyLogits) else logits), plan.walk
    (h, w), owner = z.shape[:2], np.array(plan.tree.classifier_of)
    grid, answers = grid_of(h, w, covers, out.shape), Answers(plan.answer, out.reshape(-1), probs.reshape(-1))

    def band(start: int, stop: int) -> None:
        if probs.size:
            confident_band(z, start, stop, grid, walk, np.empty((3, plan.tree.channels), np.float32), answers)
            return
        rows = min(stop, h - 1) - start + 1
        lazy = lazy_band(logits.head, owner, start, rows, w) if isinstance(logits, LazyLogits) else None
        path_band(z, lazy, start, stop, grid, walk, path_work(walk, grid, rows, w), answers)

    in_bands(h, band, between)


def _marginal(
    logits: Tensor | BranchedLogits,
    covers: Size,
    plan: Plan,
    out: IntArray,
    probs: FloatArray,
    between: Between,
) -> None:
    from heteroseg.decisions.kernels_cell import Answers
    from heteroseg.decisions.kernels_marginal import UNSURE, cell_work, marginal_band
    from heteroseg.decisions.kernels_pixel import pixel_work

    assert plan.space is not None
    z, flat, near = _rows_first(logits), out.reshape(-1), []
    (h, w), labels = z.shape[:2], len(plan.answer) - 1
    grid, answers = grid_of(h, w, covers, out.shape), Answers(plan.answer, flat, probs.reshape(-1))

    def band(start: int, stop: int) -> None:
        unsure = np.empty((grid.rows[stop] - grid.rows[start]) * out.shape[1], np.int64)
        work = cell_work(plan.walk, grid, labels, min(stop, h - 1) - start + 1, w, unsure)
        marginal_band(z, start, stop, grid, plan.walk, work, pixel_work(plan.walk, labels), answers)
        near.append(unsure[: work.used[UNSURE]].copy())

    in_bands(h, band, between)
    pixels = torch.from_numpy(np.concatenate(near))
    for part in torch.split(pixels, max(1, CHUNK // z.shape[2])) if len(pixels) else ():
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
