"""The one likelihood: -log p(label), by classifier.

p(label) is the sum over the nodes that it covers, p(node) the product of the softmaxes on its path. A single node
gives one cross-entropy per classifier on its path (IV 2018, eq. of section III-C); a union gives one partial-label
term (Bevandic & Segvic, NLL+) at its nodes' common ancestor; a tree of depth one is the flat classifier.
"""

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from heteroseg.decisions.bilinear import cells_and_weight
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.supervision.few import Few, Unmade, few
from heteroseg.supervision.label_terms import LabelTerms
from heteroseg.supervision.targets import MIXED, NOTHING, Mixtures

Gate = Literal["hard", "soft", "open"]
Normalise = Literal["classifier", "pixel"]
Points = tuple[Tensor, ...]
"""Sampled pixels of a batch: image, row and column, (N,) int64 each."""
STRONG, WEAK = 0, 1


def log_softmaxes(logits: Tensor, tree: Taxonomy) -> Tensor:
    """(N, C) fused logits to log-probabilities given the parent, one softmax per classifier, in float32 or wider."""
    tree.require_logits(logits.shape, sides=2)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    parts = torch.split(logits, [c.stop - c.start for c in tree.classifiers], 1)  # slices have gradients of all
    return torch.cat([F.log_softmax(part, dim=1) for part in parts], dim=1)


class Sums(NamedTuple):
    """Weighted negative log-likelihoods and their weights, (classifiers, 2): strong (masks) and weak (boxes)."""

    nll: Tensor
    weight: Tensor


def gate_weight(logits: Tensor | Few, logp: Tensor | Few, gate: Tensor, tree: Taxonomy, kind: Gate) -> Tensor:
    """(N,) how far a box may train here; no gradient flows through it.

    `gate` (N, G) are the channels on the path to the gate node, padded with -1. hard: 1 where the classifier that
    decides the node has it as its largest logit (the paper's rule), soft: p(node), open: 1.
    """
    if kind == "open":
        return logp.new_ones(len(logp))
    if kind == "soft":
        return _log_of_steps(logp.detach(), gate).exp()
    logits, last = logits.detach(), (gate >= 0).sum(1) - 1
    asked = gate.gather(1, last.clamp(min=0)[:, None]).clamp(min=0)  # by the paper only the last of the path
    largest: Tensor | Few
    if isinstance(logits, Few):
        largest = replace(logits, values=logits.largest)
    else:
        slices = [logits[:, c.start : c.stop] for c in tree.classifiers]
        largest = torch.cat([part.amax(1, keepdim=True).expand_as(part) for part in slices], dim=1)
    decided = logits.gather(1, asked) == largest.gather(1, asked)
    return ((last < 0) | decided[:, 0]).to(logp.dtype)


def nll_sums(
    logits: Tensor | Few,
    labels: Tensor,
    kind: int,
    terms: LabelTerms,
    tree: Taxonomy,
    weights: Tensor | None = None,
    gate: Gate = "hard",
) -> Sums:
    """Sum the loss terms of N pixels by classifier.

    `logits` (N, C) float, or what `few` makes, `labels` (N,) running label numbers (-1 adds nothing), `kind` STRONG or
    WEAK for all N, `weights` (N,) or None. The result's `weight` counts what is known, so its ratio is a mean.
    """
    known = (labels >= 0).nonzero()[:, 0]
    if len(known) < len(labels):
        logits, labels = logits.index_select(0, known), labels[known]
        weights = None if weights is None else weights[known]
    logp = logits if isinstance(logits, Few) else log_softmaxes(logits, tree)
    pixel = logp.new_ones(len(labels)) if weights is None else weights.to(logp.dtype)
    opened = pixel
    if kind == WEAK:
        factor = gate_weight(logits, logp, terms.gate[labels], tree, gate)
        pixel, opened = pixel * (factor > 0), pixel * factor
    path = terms.path[labels]
    used, in_union = path >= 0, terms.union[labels] >= 0
    if kind == WEAK:
        used, in_union = used & terms.below_gate[labels], in_union & terms.union_below_gate[labels]
    union = in_union.nonzero()[:, 0]
    row = terms.union[labels[union]]
    nll = -logp.gather(1, path.clamp(min=0))[used]
    if len(union):
        nll = torch.cat([nll, -_log_of_unions(logp.index_select(0, union), terms.parts[row])])
    pixels = torch.cat([used.nonzero()[:, 0], union])
    owners = torch.cat([terms.path_of[labels][used], terms.parts_of[row]])
    return _sums_of(kind, owners, nll * opened[pixels], pixel[pixels], tree)


def _log_of_steps(logp: Tensor | Few, channels: Tensor) -> Tensor:
    """Log-probabilities (N, C) at channels (N, ...), added up over the last side; padding adds nothing."""
    steps = logp.gather(1, channels.clamp(min=0).flatten(1)).view(channels.shape)
    return torch.where(channels >= 0, steps, 0).sum(-1)


def _log_of_unions(logp: Tensor | Few, parts: Tensor) -> Tensor:
    """(U,) log of the summed probabilities of the nodes of unions, given their common ancestor; `parts` (U, K, E)."""
    return _log_of_steps(logp, parts).masked_fill(~(parts >= 0).any(2), -torch.inf).logsumexp(1)


def log_of_labels(logp: Tensor, labels: Tensor, terms: LabelTerms) -> Tensor:
    """(N,) log p(label) of labels (N,) by log-probabilities (N, C) given the parent."""
    pixel, row = (terms.union[labels] >= 0).nonzero()[:, 0], terms.union[labels]
    shares = _log_of_unions(logp[pixel], terms.parts[row[pixel]])
    return _log_of_steps(logp, terms.path[labels]).index_add(0, pixel, shares)


def _sums_of(kind: int, owners: Tensor, nll: Tensor, weights: Tensor, tree: Taxonomy) -> Sums:
    """Terms (N,) added up by their classifier `owners`, in the column of `kind` beside zeros."""
    zero = nll.new_zeros(2 * len(tree.classifiers))
    return Sums(*(zero.index_add(0, 2 * owners + kind, values).view(-1, 2) for values in (nll, weights)))


def mixture_sums(
    logits: Tensor | Few, members: Tensor, weights: Tensor, terms: LabelTerms, tree: Taxonomy, gate: Gate = "hard"
) -> Sums:
    """Loss terms of N pixels that are, where a gate is decided, one of several labels: -log of the sum of p(label).

    `members` (N, K) running label numbers that share a gate, padded with -1; `weights` (N,). Nothing is drawn here that
    an open gate could trust, so `open` asks as `hard` does. The terms belong to the gate's classifier.
    """
    logp = logits if isinstance(logits, Few) else log_softmaxes(logits, tree)
    first = members[:, 0]
    factor = gate_weight(logits, logp, terms.gate[first], tree, "hard" if gate == "open" else gate)
    real = members >= 0
    label = members.clamp(min=0)
    log_p = _log_of_steps(logp, terms.path[label].masked_fill(~terms.below_gate[label], -1))
    row = terms.union[label]
    in_union = (row >= 0) & terms.union_below_gate[label] & real
    share = _log_of_unions(logp.index_select(0, in_union.nonzero()[:, 0]), terms.parts[row[in_union]])
    log_p = log_p.index_put(in_union.nonzero(as_tuple=True), share, accumulate=True)
    nll = -log_p.masked_fill(~real, -torch.inf).logsumexp(1)
    weights = weights.to(logp.dtype)
    return _sums_of(WEAK, terms.gate_of[first], nll * factor * weights, (factor > 0) * weights, tree)


def reduce_sums(sums: Sums, weights: Tensor, normalise: Normalise, pixels: Tensor) -> Tensor:
    """One number from the sums. `weights` (classifiers, 2); `pixels` () the labelled pixels that the sums came from.

    classifier: weighted sum of the means per classifier, strong and weak apart (IV 2018, figure 3: each term has its
    own denominator); pixel: mean of -log p(label) over labelled pixels. With nothing known the result is 0.
    """
    weighted = sums.nll * weights.to(sums.nll)
    if normalise == "pixel":
        return weighted.sum() / pixels.clamp(min=1)
    known = sums.weight != 0
    return torch.where(known, weighted / torch.where(known, sums.weight, 1), 0).sum()


def sample_points(labelled: Tensor, cell: int, generator: torch.Generator | None = None) -> Points:
    """One random pixel in every `cell` x `cell` block of a (B, H, W) bool map, where the map is true.

    Every pixel is equally likely, so means over the points are unbiased; `cell` 1 takes every pixel.
    """
    batch, height, width = labelled.shape
    if cell == 1:
        return labelled.nonzero(as_tuple=True)
    rows, columns = -(-height // cell), -(-width // cell)
    jitter = torch.randint(0, cell, (2, batch, rows, columns), generator=generator).to(labelled.device)
    row = torch.arange(rows, device=labelled.device)[None, :, None] * cell + jitter[0]
    column = torch.arange(columns, device=labelled.device)[None, None, :] * cell + jitter[1]
    image = torch.arange(batch, device=labelled.device)[:, None, None].expand_as(row)
    inside = (row < height) & (column < width)
    points = image[inside], row[inside], column[inside]
    hit = labelled[points]
    return tuple(axis[hit] for axis in points)


def logits_at(logits: Tensor, points: Points, size: tuple[int, int]) -> Tensor:
    """(N, C) bilinear logits at pixels of the full-size image; equals upsampling everything and picking the pixels.

    `logits` (B, C, h, w) at the output stride, `size` (H, W) of the image. Bilinear with align_corners false and
    edges held: a weighted sum of the four cells, so that the cost follows the points and not the image.
    """
    (height, width), (image, row, column) = logits.shape[2:], points
    rows = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])  # a pixel's channels lie together
    top, bottom, fy = cells_and_weight(row.double(), size[0], height)
    left, right, fx = cells_and_weight(column.double(), size[1], width)
    cells = torch.stack([(image * height + y) * width + x for y in (top, bottom) for x in (left, right)], 1)
    shares = torch.stack([y * x for y in (1 - fy, fy) for x in (1 - fx, fx)], 1).to(logits.dtype)
    return F.embedding_bag(cells, rows, mode="sum", per_sample_weights=shares)


def pixel_weights(labels: Tensor, balance: float, label_weights: Tensor | None) -> Tensor | None:
    """(N,) weights of labelled pixels, or None where all are 1.

    A pixel weighs n ** -balance, n being the pixels of its label in this batch, scaled to mean 1 over known pixels,
    times its entry in `label_weights` (labels,).
    """
    if balance == 0 and label_weights is None:
        return None
    known = labels >= 0
    weights = known.float()
    if balance and known.any():
        weights[known] = torch.bincount(labels[known])[labels[known]].float() ** -balance
        weights = weights / weights[known].mean()
    if label_weights is not None:
        weights[known] = weights[known] * label_weights[labels[known]]
    return weights


def _at(logits: Tensor | Unmade, points: Points, size: tuple[int, int], labels: Tensor, tree: Taxonomy) -> Tensor | Few:
    """Logits at N points, or of unmade ones the log-probabilities for which the labels (N, K) there ask."""
    if isinstance(logits, Tensor):
        return logits_at(logits, points, size)
    features, asked = logits.features, logits.asked[labels.clamp(min=0)].any(1)
    return few(logits, lambda which: logits_at(features, tuple(axis[which] for axis in points), size), asked, tree)


def hierarchical_loss(
    logits: Tensor | Unmade,
    mask: Tensor,
    boxes: Tensor,
    terms: LabelTerms,
    tree: Taxonomy,
    *,
    cell: int = 4,
    gate: Gate = "hard",
    balance: float = 0.0,
    label_weights: Tensor | None = None,
    mixtures: Mixtures | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Sums, Tensor]:
    """Loss sums of a batch and the number of labelled pixels that they stand for.

    `logits` (B, C, h, w), or what would make them; `mask` and `boxes` (B, H, W) running label numbers, -1 where nothing
    is known; values from MIXED down in `boxes` stand for `mixtures`.
    `cell` sets the share of pixels that are looked at (1 in cell**2; 1 is the full-resolution reference).

    Examples:
        >>> from heteroseg.labels.space import load_label_space
        >>> from heteroseg.supervision.label_terms import build_terms
        >>> space = load_label_space("gtsdb")
        >>> logits = torch.zeros(1, space.taxonomy.channels, 2, 2)  # every decision is even
        >>> unknown = torch.full((1, 8, 8), -1)
        >>> mask = torch.full((1, 8, 8), 1)  # label 1 everywhere
        >>> sums, pixels = hierarchical_loss(logits, mask, unknown, build_terms([space]), space.taxonomy, cell=1)
        >>> pixels, sums.weight[0]  # all 64 pixels, by the root's classifier: of masks, of boxes
        (tensor(64.), tensor([64.,  0.]))
    """
    tree.require_logits(logits.shape)
    points = sample_points((mask != NOTHING) | (boxes != NOTHING), cell, generator)
    size, result = (mask.shape[1], mask.shape[2]), list[Sums]()

    def at(which: Tensor, labels: Tensor) -> Tensor | Few:
        return _at(logits, tuple(axis[which] for axis in points), size, labels, tree)

    for kind, labels in ((STRONG, mask), (WEAK, boxes)):
        chosen = labels[points].long()
        known = (chosen >= 0).nonzero()[:, 0]
        if len(known) or kind == STRONG:  # by which the loss depends on the logits where nothing is known, too
            of = chosen[known]
            weights = pixel_weights(of, balance, label_weights)
            result.append(nll_sums(at(known, of[:, None]), of, kind, terms, tree, weights, gate))
    if mixtures is not None and mixtures.labels.numel():
        mixed = (chosen <= MIXED).nonzero()[:, 0]
        which = points[0][mixed], MIXED - chosen[mixed]
        members, weights = mixtures.labels[which], mixtures.weights[which]  # (N, G, K), (N, G)
        pixel, group = (weights > 0).nonzero(as_tuple=True)
        members, weights, here = members[pixel, group], weights[pixel, group], mixed[pixel]
        one = (members >= 0).sum(1) == 1
        single, several = members[one], members[~one]
        result.append(nll_sums(at(here[one], single), single[:, 0], WEAK, terms, tree, weights[one], gate))
        result.append(mixture_sums(at(here[~one], several), several, weights[~one], terms, tree, gate))
    pixels = torch.tensor(float(len(points[0])), device=logits.device)
    return Sums(sum(r.nll for r in result), sum(r.weight for r in result)), pixels  # type: ignore[arg-type]
