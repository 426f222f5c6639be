"""Mask classification: queries, each with classes and a mask, to fused logits.

Query q is a thing at all with probability o_q, it is a node of the tree with p_q(node), and covers a pixel with m_q.
S(node) = sum over q of o_q p_q(node) m_q is linear in the queries, so S of a node is the sum of its children's, and
log S(child) in a child's channel is a fused logit as any other: a classifier's softmax over it is S(child) / S(node).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heteroseg.labels.taxonomy import Taxonomy

LEAST = 1e-12  # of S, below any answer


class Queries(nn.Module):
    """Class logits (B, Q, C + 1), the last for "no object", and mask logits (B, Q, h, w) to fused logits (B, C, h, w).

    Worked out in float32 or wider. While it trains, `seen` are the last class and mask logits. `classes` is the
    layer of the class logits, in a tuple, as it is no part of this module.
    """

    adapters = ups = branches = None  # which heads of pixels may have

    steps: Tensor
    factors: Tensor
    constants: Tensor

    def __init__(self, tree: Taxonomy):
        super().__init__()
        self.sizes = [c.stop - c.start for c in tree.classifiers]
        self.classes: tuple[nn.Linear, ...] = ()
        self.seen: tuple[Tensor, Tensor] | None = None
        steps = torch.eye(tree.channels)  # which channels lead to that of a node
        for c in tree.classifiers:
            steps[tree.steps[c.node], c.start : c.stop] = 1
        self.register_buffer("steps", steps, persistent=False)
        self.register_buffer("factors", torch.ones(tree.channels))
        self.register_buffer("constants", torch.zeros(tree.channels))

    def forward(self, classes: Tensor, masks: Tensor) -> Tensor:
        self.seen = (classes, masks) if self.training else None
        with torch.autocast(classes.device.type, enabled=False):
            classes, masks = (x if x.dtype == torch.float64 else x.float() for x in (classes, masks))
            log_p = self.log_p(classes[..., :-1]) + F.logsigmoid(-classes[..., -1:])
            shares = torch.einsum("bqc,bqhw->bchw", log_p.exp(), masks.sigmoid())
            logits, by, more = shares.clamp(min=LEAST).log(), self.factors.to(shares), self.constants.to(shares)
            return logits * by[:, None, None] + more[:, None, None]

    def log_p(self, logits: Tensor) -> Tensor:
        """(..., C) class logits to the log-probability of each channel's node: the product along its path."""
        parts = [F.log_softmax(part, -1) for part in logits.split(self.sizes, -1)]
        return torch.cat(parts, -1) @ self.steps.to(logits)

    def last(self, classifier: int) -> tuple[nn.Module, int]:
        """As `HierarchicalHead.last`; the row behind all is that of "no object"."""
        return self.classes[0], sum(self.sizes[:classifier])

    @torch.no_grad()
    def scale(self, factors: Tensor, constants: Tensor) -> None:
        """As `HierarchicalHead.scale`; no layer ends in the fused logits, so the numbers are kept beside them."""
        self.factors.mul_(factors)
        self.constants.mul_(factors).add_(constants)

    def divide(self, temperatures: Sequence[float]) -> None:
        """Divide the logits of each classifier by its temperature."""
        factors = 1 / torch.tensor(temperatures).repeat_interleave(torch.tensor(self.sizes))
        self.scale(factors, torch.zeros_like(factors))


def outputs_of(output: Any) -> tuple[Tensor, Tensor]:
    """The class logits and mask logits of what a network of transformers returns."""
    if hasattr(output, "pred_masks"):  # DETR
        return output.logits, output.pred_masks
    return output.class_queries_logits, output.masks_queries_logits
