"""What queries learn beside the likelihood of pixels: one for each label of an image, as in mask classification.

The cost and the loss of a pair are -log o_q p_q(label) and how the mask differs from the label's, at labelled pixels
alone. "No object" is asked of a query that got no label only where its mask lies in labelled ground: elsewhere it may
be right, in datasets that say little most of all. Weights are those of Mask2Former (Cheng et al., CVPR 2022).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.supervision.label_terms import LabelTerms
from heteroseg.supervision.loss import log_of_labels, log_softmaxes, logits_at, sample_points
from heteroseg.supervision.targets import NOTHING

CLASS, MASK, DICE, NO_OBJECT = 2.0, 5.0, 5.0, 0.1


def matching_loss(
    classes: Tensor,
    masks: Tensor,
    labels: Tensor,
    terms: LabelTerms,
    tree: Taxonomy,
    cell: int = 4,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the losses of labels' queries, how many there are, and the mean over all queries of what "no object"
    costs those of which it is asked.

    `classes` (B, Q, C + 1) and `masks` (B, Q, h, w) as `Queries` gets them; `labels` (B, H, W) running label numbers
    of masks, -1 where nothing is known. `cell` is as for `hierarchical_loss`.
    """
    points = sample_points(labels != NOTHING, cell, generator)
    chosen, at = labels[points].long(), logits_at(masks.float(), points, (labels.shape[1], labels.shape[2]))
    log_o, log_none = F.logsigmoid(-classes[..., -1].float()), F.logsigmoid(classes[..., -1].float())
    inside = torch.zeros_like(log_o).index_add(0, points[0], at.detach().sigmoid()) * cell**2
    whole = masks.detach().sigmoid().mean((2, 3)) * labels[0].numel()
    asked = (2 * inside > whole).to(log_o)
    paired, count = (torch.zeros((), device=at.device) for _ in range(2))
    for i in range(len(classes)):
        here = points[0] == i
        if not here.any():
            continue
        present, which = torch.unique(chosen[here], return_inverse=True)
        log_p = _log_of(classes[i, :, :-1], present, terms, tree) + log_o[i, :, None]
        costs = CLASS * -log_p + _differences(at[here].T, F.one_hot(which, len(present)).T.to(at))
        query, label = _matched(costs.detach())
        paired, count = paired + costs[query, label].sum(), count + len(query)
        asked[i, query] = 0
    return paired, count, -CLASS * NO_OBJECT * (asked * log_none).mean()


def _log_of(logits: Tensor, labels: Tensor, terms: LabelTerms, tree: Taxonomy) -> Tensor:
    """(Q, L) log p_q of each label, of (Q, C) class logits."""
    logp = log_softmaxes(logits, tree)
    pairs = logp.repeat_interleave(len(labels), 0), labels.repeat(len(logits))
    return log_of_labels(*pairs, terms).view(len(logits), len(labels))


def _differences(masks: Tensor, truth: Tensor) -> Tensor:
    """(Q, L) how mask logits (Q, N) differ from masks (L, N) of 0 and 1: cross-entropy and Dice, weighted."""
    entropy = (F.softplus(masks).sum(1, keepdim=True) - masks @ truth.T) / masks.shape[1]
    shares = masks.sigmoid()
    dice = 1 - (2 * shares @ truth.T + 1) / (shares.sum(1, keepdim=True) + truth.sum(1) + 1)
    return MASK * entropy + DICE * dice


def _matched(costs: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs (query, label) of (Q, L) costs that cost least together."""
    from scipy.optimize import linear_sum_assignment  # of the extra hf

    pairs = linear_sum_assignment(costs.nan_to_num(1e6, 1e6, -1e6).cpu().numpy())
    query, label = (torch.from_numpy(part).to(costs.device) for part in pairs)
    return query, label
