"""Log-probabilities at pixels of the classifiers alone that their labels ask.

All 2,000 logits of the sampled pixels take four times as long as the network, and a label asks for ninety of them. A
1x1 layer and bilinear interpolation may change places: so features are gathered, and no logits.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.supervision.label_terms import LabelTerms


@dataclass(frozen=True)
class Unmade:
    """The logits (B, C, h, w) that a layer `weight` (C, width), `bias` (C,) makes of `features` (B, width, h, w).

    `asked` is what `asked_by` says, the same in every step.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor
    asked: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.features), len(self.bias), *self.features.shape[2:]

    @property
    def device(self) -> torch.device:
        return self.features.device


@dataclass(frozen=True)
class Few:
    """Some of (N, C) log-probabilities given the parent, to be read as all of them are.

    Those of a pixel and a classifier lie side by side in `values` (V,): that of a channel at `begin` (N, classifiers)
    plus the channel. `largest` (V,) has the largest of them in the place of each. `owner` (C,): a channel's classifier.
    """

    values: Tensor
    largest: Tensor
    begin: Tensor
    owner: Tensor

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    def new_ones(self, count: int) -> Tensor:
        return self.values.new_ones(count)

    def detach(self) -> "Few":
        return replace(self, values=self.values.detach())

    def index_select(self, _: int, pixels: Tensor) -> "Few":
        return replace(self, begin=self.begin[pixels])

    def gather(self, _: int, channels: Tensor) -> Tensor:
        places = self.begin.gather(1, self.owner[channels]) + channels
        return self.values.index_select(0, places.flatten()).view(places.shape)


def asked_by(terms: LabelTerms, tree: Taxonomy) -> Tensor:
    """(labels, classifiers) bool: the root's, and those with a channel in any term of a label or on its gate's path."""
    count, parts = len(tree.classifiers), F.pad(terms.parts.flatten(1), (0, 0, 0, 1), value=-1)
    channels = torch.cat([terms.path, terms.gate, parts[terms.union]], 1)  # of no union: -1, the last row
    owners = torch.where(channels >= 0, _owner(tree, channels.device)[channels.clamp(min=0)], count)
    asked = torch.zeros(len(channels), count + 1, dtype=torch.bool, device=channels.device)
    asked[:, 0] = True
    return asked.scatter(1, owners, True)[:, :count]


def _owner(tree: Taxonomy, device: torch.device) -> Tensor:
    return torch.tensor([i for i, c in enumerate(tree.classifiers) for _ in range(c.start, c.stop)], device=device)


def few(logits: Unmade, features: Callable[[Tensor], Tensor], asked: Tensor, tree: Taxonomy) -> Few:
    """Log-probabilities of N pixels, of the classifiers that `asked` (N, classifiers) says.

    `features` takes numbers of pixels (M,), some of them several times, to their (M, width) features.
    """
    sizes, starts = [c.stop - c.start for c in tree.classifiers], [c.start for c in tree.classifiers]
    owners, pixels = asked.T.nonzero(as_tuple=True)  # one classifier after the other
    inputs = torch.split(features(pixels), asked.sum(0).tolist())
    layers = zip(inputs, torch.split(logits.weight, sizes), torch.split(logits.bias, sizes), strict=True)
    parts = [F.log_softmax(F.linear(x, weight, bias), 1) for x, weight, bias in layers]
    tops = [part.detach().amax(1, keepdim=True).expand_as(part) for part in parts]
    values, largest = (torch.cat([part.flatten() for part in each]) for each in (parts, tops))
    length, start = (torch.tensor(each, device=asked.device)[owners] for each in (sizes, starts))
    begin = torch.zeros(asked.shape, dtype=torch.long, device=asked.device)
    begin[pixels, owners] = length.cumsum(0) - length - start
    return Few(values, largest, begin, _owner(tree, asked.device))
