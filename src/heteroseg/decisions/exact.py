"""Exact decisions at full size without upsampling every logit.

Between four neighbouring cells of the logits' grid bilinear interpolation is a convex combination. So where one channel
of a classifier is the largest at all four corners, it is the answer for every pixel between them, and only the
remaining cells need interpolation: of the channels whose largest corner reaches the best smallest corner, and of child
classifiers only where the parent was chosen. The result equals `upsample` + `decide`/`label_map`, the plain reference:

- Rounding: interpolation is two products and a sum, which never decreases in a logit. So a channel that is largest at
  all corners stays so between them; it can at most be drawn level. Where the lead over an *earlier* channel (which
  would win the tie) is not larger than what rounding can eat, the pixels are interpolated.
- `marginal` is no convex matter, but the probability of a node is log-concave in the logits (a sum of log-softmaxes).
  So {p(node) > 1/2} is convex: a node with more than half at four corners has it everywhere between, and so has its
  label. The other cells are shared out, all pixels together. The ratio of two channels of a classifier is largest at a
  corner, so what is far behind at all four is left out with all below it, and the error is known. Pixels that are
  nearer to a draw than this error get all their probabilities one by one; those that rounding could turn round
  are left to the reference, which gives a pixel the same bits wherever it lies (`decision.in_lanes`).

Where a network ends at the features of a 1x1 head (`LazyLogits`), the path rule works out a classifier's logits only at
the cells where its node is reached; with 2,000 classes that is a few of a hundred. The result equals the reference on
`dense` logits, because one function (`linear.linear`) makes a logit in both.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from heteroseg.decisions.bilinear import cells_and_weight
from heteroseg.decisions.lazy_head import LazyLogits
from heteroseg.decisions.reference import VOID, Rule, best_label, finite, granted, upsample_at
from heteroseg.labels.space import OUTSIDE, LabelSpace
from heteroseg.labels.taxonomy import Taxonomy

Size = tuple[int, int]
MARGIN, TINY, MAJORITY = 2.0**-20, 1e-37, 0.5001  # as in the kernels, where they are explained
CHUNK = 2**24  # logits that are gathered at a time


@dataclass(frozen=True, eq=False)
class Plan:
    """A taxonomy and a question as tables; codes, `first`, `begin`, `end` and `after` as in `kernels_cell`.

    `order` are the codes of the classifiers that are asked, parents first. `above` and `channel` (codes,) lead back:
    the code above and the channel between, -1 where there is none. `label` (codes,) is what a code means: a node, or
    a position in `space.labels` (OUTSIDE where it is none, -2 void). Where every label is one node the plan is
    `single`, where nothing lies outside the space `closed`. `answer` is what is written, by code for the path rule and
    by label for the marginal one (OUTSIDE last).
    """

    tree: Taxonomy
    space: LabelSpace | None
    rule: Rule
    first: int
    order: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    after: np.ndarray
    above: np.ndarray
    channel: np.ndarray
    label: np.ndarray
    single: bool
    closed: bool
    answer: np.ndarray


def plan_decode(asked: Taxonomy | LabelSpace, rule: Rule = "path", ids: bool = False) -> Plan:
    """Prepare `decode`. A taxonomy asks for nodes (int64, VOID -1), always by the path rule; a label space for
    positions in its labels (int64, OUTSIDE -1), or with `ids` for its native ids (uint8, uint16 or int64)."""
    if isinstance(asked, Taxonomy):
        space, tree, rule, assume = None, asked, "path", {}
    else:
        space, tree, assume = asked, asked.taxonomy, granted(asked)
    if space is None or (rule == "marginal" and tree.void):  # void logits under a node take a share of its probability
        ends = np.array([not kids for kids in tree.children])
    else:
        ends = space.stops
    codes = len(tree) + len(tree.classifiers)
    begin, end, above, channel = np.full((4, codes), -1, np.int32)
    above[: len(tree)] = tree.parents
    after = np.full(tree.channels, -1, np.int32)

    def down(node: int) -> int:
        while not ends[node] and (node in assume or len(tree.children[node]) == 1):
            node = assume.get(node, tree.children[node][0])
        return node

    for j, c in enumerate(tree.classifiers):
        if c.node not in assume:
            channel[list(c.children)] = range(c.start, c.start + len(c.children))
            if not ends[c.node]:
                begin[c.node], end[c.node] = c.start, c.stop
        after[c.start : c.stop] = [*map(down, c.children), *([len(tree) + j] if c.void else [])]
        above[len(tree) + j], channel[len(tree) + j] = c.node, c.stop - 1
    label = np.full(codes, -2, np.int64)
    label[: len(tree)] = np.arange(len(tree)) if space is None else space.by_node
    order = np.array([c.node for c in tree.classifiers if begin[c.node] >= 0], np.int32)
    ends_in = label[after[begin[after] < 0]]  # of every channel that ends a walk
    closed = OUTSIDE not in ends_in
    single = bool(np.bincount(ends_in[ends_in >= 0]).max(initial=0) < 2)
    answer = (
        np.maximum(label, VOID) if rule == "path" or space is None else np.append(np.arange(len(space.labels)), OUTSIDE)
    )
    if ids and space is not None:
        answer = space.native_ids(answer)
    return Plan(tree, space, rule, down(0), order, begin, end, after, above, channel, label, single, closed, answer)


def decode(logits: Tensor | LazyLogits, covers: Size, size: Size, plan: Plan) -> np.ndarray:
    """(1, C, h, w) fused logits, which stand for a padded image of size `covers`, to (H, W) answers for `size`.

    Equal to the plain reference; on ties the first child (path) or label (marginal) wins. Logits beyond +-1e30 count
    as +-1e30, NaN as the lowest. On CPUs compiled loops on `torch.get_num_threads()` threads (channels last is their
    order; the first call ever compiles for some seconds and keeps the result on disk), elsewhere `decode_torch`.
    Lazy logits stay so with the path rule; the marginal rule needs all of them.
    """
    if isinstance(logits, LazyLogits):
        if plan.rule == "path":
            return _lazy_path(logits, covers, size, plan)
        logits = dense(logits)
    if logits.device.type == "cpu":
        return _compiled(logits, covers, size, plan, False)[0]
    return decode_torch(logits, covers, size, plan)[0].cpu().numpy()


def decode_confident(
    logits: Tensor | LazyLogits, covers: Size, size: Size, plan: Plan
) -> tuple[np.ndarray, np.ndarray]:
    """`decode`, and (H, W) float32: the probability of the decided node (the product along its path; for void, of the
    void answer where it was given), by the marginal rule that of the label (outside: of all that is no label)."""
    if isinstance(logits, LazyLogits):
        logits = dense(logits)
    if logits.device.type == "cpu":
        return _compiled(logits, covers, size, plan, True)
    answers, chance = decode_torch(logits, covers, size, plan, True)
    return answers.cpu().numpy(), chance.cpu().numpy()


def dense(lazy: LazyLogits) -> Tensor:
    """All (1, C, h, w) float32 logits, in channels-last order, with the bits that the lazy walk finds."""
    from heteroseg.decisions.lazy_kernel import linear_band

    features = _rows_first(lazy.features)
    out = np.empty((*features.shape[:2], lazy.shape[1]), np.float32)
    head = (lazy.head.weight, lazy.head.bias, lazy.head.cuts, lazy.head.places)

    def band(start: int, stop: int) -> None:
        linear_band(features, start, stop, *head, np.empty(np.diff(lazy.head.places).max(), np.float32), out)

    _in_bands(len(out), band)
    return torch.from_numpy(out).permute(2, 0, 1)[None]


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "decode")  # by process, because threads do not survive a fork


def _in_bands(rows: int, work: Callable[[int, int], None]) -> None:
    """Call `work(start, stop)` for bands of rows, on as many threads as torch uses."""
    threads = torch.get_num_threads()
    if threads == 1:
        work(0, rows)
    else:
        cuts = np.linspace(0, rows, min(rows, 4 * threads) + 1).astype(int).tolist()
        list(_threads(os.getpid(), threads).map(work, cuts[:-1], cuts[1:]))


def _axis(full: int, small: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(small + 1,) first pixel of each cell among `length` pixels, and (length,) float32 weights."""
    low, _, weight = cells_and_weight(torch.arange(length).float(), full, small)
    return np.searchsorted(low.numpy(), np.arange(small + 1)), weight.numpy()


def _rows_first(logits: Tensor) -> np.ndarray:
    """(1, C, h, w) logits as (h, w, C) float32 in memory order."""
    from heteroseg.decisions import kernels_cell  # numba takes a second to import

    z = logits[0].detach().float()
    if z.permute(1, 2, 0).is_contiguous():
        return z.permute(1, 2, 0).numpy()
    planes = z.contiguous().numpy()
    result = np.empty((planes.shape[1], planes.shape[2], planes.shape[0]), np.float32)
    _in_bands(len(result), lambda start, stop: kernels_cell.channels_last(planes, start, stop, result))
    return result


@lru_cache(16)
def _grid(h: int, w: int, covers: Size, size: Size) -> tuple[np.ndarray, ...]:
    """`rows`, `columns`, `down` and `across` as in `kernels_cell`, only to be read."""
    rows, down = _axis(covers[0], h, size[0])
    columns, across = _axis(covers[1], w, size[1])
    return rows, columns, down, across


def _lazy_path(lazy: LazyLogits, covers: Size, size: Size, plan: Plan) -> np.ndarray:
    from heteroseg.decisions import kernels_path

    features = _rows_first(lazy.features)
    h, w = features.shape[:2]
    grid, walk = _grid(h, w, covers, size), (plan.first, plan.begin, plan.end, plan.after)
    place, number, head = *np.full((2, len(plan.begin)), -1, np.int64), lazy.head
    place[[c.node for c in plan.tree.classifiers]] = head.places[:-1]
    number[plan.order] = np.arange(len(plan.order))
    out = np.empty(size, plan.answer.dtype)

    def band(start: int, stop: int) -> None:
        rows = min(stop, h - 1) - start + 1
        where = np.full((rows, w, len(plan.order)), -1, np.int64)
        pool, used = np.empty(rows * w * len(head.bias), np.float32), np.zeros(1, np.int64)
        found = kernels_path.Lazy(head.weight, head.bias, place, number, where, pool, used)
        kernels_path.path_band(features, found, start, stop, *grid, *walk, plan.answer, out)

    _in_bands(h, band)
    return out


def _compiled(logits: Tensor, covers: Size, size: Size, plan: Plan, confident: bool) -> tuple[np.ndarray, np.ndarray]:
    from heteroseg.decisions import kernels_marginal, kernels_path

    z = _rows_first(logits)
    grid, walk = _grid(z.shape[0], z.shape[1], covers, size), (plan.first, plan.begin, plan.end, plan.after)
    chance = np.empty(size if confident else (0, 0), np.float32)
    if plan.rule == "marginal":
        return _marginal(z, logits, covers, size, plan, grid, chance), chance
    table = np.arange(len(plan.label)) if confident else plan.answer
    out = np.empty(size, table.dtype)
    _in_bands(len(z), lambda start, stop: kernels_path.path_band(z, None, start, stop, *grid, *walk, table, out))
    if not confident:
        return out, chance
    back = (out, plan.begin, plan.end, plan.above, plan.channel)
    _in_bands(len(z), lambda start, stop: kernels_marginal.chance_band(z, start, stop, *grid, *back, chance))
    return plan.answer[out], chance


def _marginal(z, logits: Tensor, covers: Size, size: Size, plan: Plan, grid, chance: np.ndarray) -> np.ndarray:
    from heteroseg.decisions import kernels_marginal

    assert plan.space is not None
    out, near = np.empty(size, plan.answer.dtype), []
    kind = (plan.label, plan.single, plan.closed, len(plan.answer) - 1)
    walk = (plan.first, plan.begin, plan.end, plan.after, *kind)

    def band(start: int, stop: int) -> None:
        found = np.empty((grid[0][stop] - grid[0][start]) * size[1], np.int64)
        count = kernels_marginal.marginal_band(z, start, stop, *grid, *walk, plan.answer, out, chance, found)
        near.append(found[:count].copy())

    _in_bands(len(z), band)
    pixels = torch.from_numpy(np.concatenate(near))
    for part in pixels.split(max(1, CHUNK // z.shape[2])) if len(pixels) else ():
        at = upsample_at(logits, covers, part // size[1], part % size[1])
        labels, _ = best_label(at, plan.space)
        out.reshape(-1)[part] = plan.answer[labels[0, 0]]
    return out


def _walk(z: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """(1, C, H, W) finite logits to (1, H, W) codes, whether each lead is clear, and the product of probabilities."""
    code = torch.full((1, *z.shape[2:]), plan.first, device=z.device)
    clear, chance = torch.ones_like(code, dtype=torch.bool), torch.ones_like(code, dtype=torch.float32)
    after = torch.from_numpy(plan.after).to(z.device).long()
    for node in plan.order.tolist():
        here, low = code == node, int(plan.begin[node])
        part = z[:, low : plan.end[node]]
        best, at = part.amax(1), part.argmax(1)
        channels = torch.arange(part.shape[1], device=z.device)[:, None, None]
        earlier = part.masked_fill(channels >= at[:, None], -torch.inf).amax(1)
        leads = (at == 0) | (best - earlier > MARGIN * (best.abs() + earlier.abs()) + TINY)
        clear = clear & (leads | ~here)
        chance = torch.where(here, chance * part.softmax(1).amax(1), chance)
        code = torch.where(here, after[low + at], code)
    return code, clear, chance


def decode_torch(
    logits: Tensor, covers: Size, size: Size, plan: Plan, confident: bool = False
) -> tuple[Tensor, Tensor]:
    """`decode` and `decode_confident` in torch operations on any device: answers and probabilities (empty if unasked).

    The four corners of a cell decide its pixels where they agree; the others are gathered and worked out one by one.
    """
    device, marginal = logits.device, plan.rule == "marginal"
    answer = torch.from_numpy(plan.answer).to(device)
    code, clear, chance = _walk(finite(logits), plan)
    label = torch.from_numpy(plan.label).to(device)
    if marginal:  # the same node at all corners: it has a majority between them too, a union of nodes need not
        clear = (chance > MAJORITY) & (label[code] >= OUTSIDE)
    code = torch.where(clear & (not confident), code, -3)[0]
    across, below = torch.cat([code[:, 1:], code[:, -1:]], 1), torch.cat([code[1:], code[-1:]], 0)
    corner = torch.cat([below[:, 1:], below[:, -1:]], 1)
    cells = torch.where((code == across) & (code == below) & (code == corner), code, -3)
    cells = torch.where(cells >= 0, label[cells], -3) if marginal else cells
    i = cells_and_weight(torch.arange(size[0], device=device).float(), covers[0], code.shape[0])[0]
    j = cells_and_weight(torch.arange(size[1], device=device).float(), covers[1], code.shape[1])[0]
    found = cells[i[:, None], j]
    shares = torch.empty(size if confident else (0, 0), device=device)
    rows, columns = (found == -3).nonzero(as_tuple=True)
    step = max(1, CHUNK // logits.shape[1])
    for y, x in zip(rows.split(step), columns.split(step), strict=True):
        at = upsample_at(logits, covers, y, x)
        if marginal:
            assert plan.space is not None
            best, share = best_label(at, plan.space)
        else:
            best, _, share = _walk(at, plan)
        found[y, x] = best[0, 0]
        if confident:
            shares[y, x] = share[0, 0]
    return answer[found], shares
