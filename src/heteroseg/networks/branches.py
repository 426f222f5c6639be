"""Layers of its own for a fine classifier, which learns at full speed and takes little from what all share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heteroseg.errors import HeterosegError, nearest, shortened
from heteroseg.labels.taxonomy import Taxonomy

WIDTH, BLOCKS, SIDE = 128, 2, 5


class Block(nn.Module):
    """A residual block on (B, h, w, WIDTH): a depthwise convolution, a norm of each pixel alone, and two 1x1 layers."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Conv2d(WIDTH, WIDTH, SIDE, padding=SIDE // 2, groups=WIDTH)
        wide, narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.mix = nn.Sequential(nn.LayerNorm(WIDTH), wide, nn.ReLU(), narrow)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.around(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Branch(nn.Module):
    """(B, inputs, h, w) to the logits of one classifier (B, outputs, h, w); a cell sees no farther than its blocks."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.narrow = nn.Linear(inputs, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.logits = nn.Linear(WIDTH, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.norm(self.blocks(self.narrow(x.permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)


class Branches(nn.Module):
    """The branches of a head, by classifier, over the shared map and the backbone's maps that are no coarser.

    A finer map lies in more channels: of each cell all of its numbers. In training `gradient` (0 to 1) of what they
    would teach the shared layers reaches these.
    """

    def __init__(
        self,
        sizes: dict[int, int],
        width: int,
        channels: Sequence[int],
        strides: Sequence[int],
        stride: int,
        gradient: float,
    ):
        super().__init__()
        self.gradient = gradient
        self.early = [(i, stride // s) for i, s in enumerate(strides) if stride % s == 0]
        inputs = width + sum(channels[i] * ratio**2 for i, ratio in self.early)
        self.each = nn.ModuleDict({str(classifier): Branch(inputs, n) for classifier, n in sizes.items()})

    def read(self, features: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        """What every branch reads, (B, channels, h, w) each."""
        finer = [(maps[i], ratio) for i, ratio in self.early]
        return [features, *(F.pixel_unshuffle(x, ratio) if ratio > 1 else x for x, ratio in finer)]

    def inputs(self, features: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """That as one (B, inputs, h, w), of whose gradient in training a part goes on."""
        x = torch.cat(self.read(features, maps), 1)
        if not self.training:
            return x
        return torch.lerp(x.detach(), x, self.gradient) if self.gradient else x.detach()

    def forward(self, features: Tensor, maps: Sequence[Tensor]) -> dict[int, Tensor]:
        x = self.inputs(features, maps)
        return {classifier: branch(x) for classifier, branch in self.by_classifier.items()}

    @property
    def by_classifier(self) -> dict[int, Branch]:
        return {int(q): branch for q, branch in self.each.items() if isinstance(branch, Branch)}


def branched(names: Sequence[str], tree: Taxonomy) -> dict[int, int]:
    """The classifiers of these nodes, and how many logits each has; the root and what is none raise HeterosegError."""
    own = {tree.names[c.node]: i for i, c in enumerate(tree.classifiers) if c.node}
    for name in names:
        if name not in own:
            told = f"expected classifiers of {tree.name!r} below its root, found {shortened(name)!r}"
            raise HeterosegError(f"model.branches: {told}{nearest(name, own)}")
    return {own[name]: tree.classifiers[own[name]].stop - tree.classifiers[own[name]].start for name in names}
