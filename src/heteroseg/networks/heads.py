"""The hierarchical classification stage: one fused logits map with a slice for each classifier of the taxonomy."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn

from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.networks.branches import Branches
from heteroseg.networks.decoder import conv_bn

ONE_BY_ONE = partial(nn.Conv2d, kernel_size=1)


class Adapter(nn.Module):
    """The paper's adaptation subnet: a ResNet v1 bottleneck of constant width with an identity shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(conv_bn(width, width), conv_bn(width, width, 3), conv_bn(width, width, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class HierarchicalHead(nn.Module):
    """Shared features (B, width, h, w) to fused logits (B, taxonomy.channels, h, w), or twice h and w.

    `adapters`: one bottleneck per classifier before its logits; `upsample`: the paper's learned 2x transposed
    convolution per classifier (IV 2018, "hybrid" upsampling). Without both it is a single 1x1 convolution, but for the
    classifiers that have `branches`, which need the backbone's maps too. `layer` makes other convolutions than 1x1.

    Examples:
        >>> from heteroseg.labels.taxonomy import load_taxonomy
        >>> tree = load_taxonomy("streets-108")
        >>> head = HierarchicalHead(16, tree)
        >>> head(torch.zeros(1, 16, 4, 8)).shape == (1, tree.channels, 4, 8)
        True
    """

    classes: tuple[nn.Linear, ...] = ()  # of queries alone

    def __init__(
        self,
        width: int,
        taxonomy: Taxonomy,
        adapters: bool = False,
        upsample: bool = False,
        branches: Branches | None = None,
        layer: Callable[[int, int], nn.Conv2d] = ONE_BY_ONE,
    ):
        super().__init__()
        self.sizes = [c.stop - c.start for c in taxonomy.classifiers]
        self.rest = [i for i in range(len(self.sizes)) if branches is None or str(i) not in branches.each]
        rest = [self.sizes[i] for i in self.rest]
        self.adapters = nn.ModuleList(Adapter(width) for _ in rest) if adapters else None
        self.logits = nn.ModuleList(layer(width, n) for n in (rest if adapters else [sum(rest)]))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(n, n, 4, 2, 1) for n in self.sizes) if upsample else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:  # adapters have none
                transposed = isinstance(module, nn.ConvTranspose2d)
                (nn.init.kaiming_normal_ if transposed else nn.init.xavier_uniform_)(module.weight)
                nn.init.zeros_(module.bias)
        self.branches = branches

    @property
    def cuts(self) -> list[int]:
        """Where the classifiers begin and end in the fused logits."""
        return [0, *accumulate(self.sizes)]

    def forward(self, features: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        return self.fused(features, self.branches(features, maps) if self.branches else {})

    def fused(self, features: Tensor, own: Mapping[int, Tensor]) -> Tensor:
        """The fused logits, those of the branches being given, by classifier."""
        inputs = [features] if self.adapters is None else [adapt(features) for adapt in self.adapters]
        parts = [conv(x) for conv, x in zip(self.logits, inputs, strict=True)]
        if self.adapters is None and (self.ups is not None or own):
            parts = list(parts[0].split([self.sizes[i] for i in self.rest], dim=1))
        if own:
            every = {**own, **dict(zip(self.rest, parts, strict=True))}
            parts = [every[i] for i in range(len(self.sizes))]
        if self.ups is not None:
            parts = [up(p) for up, p in zip(self.ups, parts, strict=True)]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    @torch.no_grad()
    def in_one(self) -> nn.Conv2d | None:
        """The 1x1 layer with the logits of all classifiers, 0 for those of branches; None where there are adapters."""
        if self.adapters is not None:
            return None
        shared, cuts = self.logits[0], self.cuts
        whole = nn.Conv2d(shared.get_parameter("weight").shape[1], cuts[-1], 1)
        rows = torch.cat([torch.arange(cuts[i], cuts[i + 1]) for i in self.rest])
        for name, own in shared.named_parameters():
            whole.get_parameter(name).zero_()[rows] = own
        return whole

    def last(self, classifier: int) -> tuple[nn.Module, int]:
        """The layer that makes a classifier's logits, before they are upsampled, and the first of its rows there."""
        if self.branches is not None and classifier not in self.rest:
            return self.branches.by_classifier[classifier].logits, 0
        place = self.rest.index(classifier)
        if self.adapters:
            return self.logits[place], 0
        return self.logits[0], sum(self.sizes[i] for i in self.rest[:place])

    def _ends(self) -> list[tuple[nn.Module, list[int]]]:
        """The last layers, all linear, and the classifiers whose logits each makes."""
        if self.ups is not None:
            return [(up, [i]) for i, up in enumerate(self.ups)]
        owners = [self.rest] if self.adapters is None else [[i] for i in self.rest]
        branches = self.branches.each.items() if self.branches else ()
        own = [(branch.get_submodule("logits"), [int(i)]) for i, branch in branches]
        return [*zip(self.logits, owners, strict=True), *own]

    @torch.no_grad()
    def scale(self, factors: Tensor, constants: Tensor | None = None) -> None:
        """Multiply the logits by (C,) factors and add (C,) constants, in place.

        The head ends in linear layers, so their weights and biases take it and nothing else has to know.
        """
        numbers = torch.stack([factors, torch.zeros_like(factors) if constants is None else constants])
        for module, owners in self._ends():
            assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
            assert module.bias is not None  # as __init__ makes them
            own, added = torch.cat([numbers.split(self.sizes, 1)[i] for i in owners], 1).to(module.weight)
            outputs = module.weight.transpose(0, int(isinstance(module, nn.ConvTranspose2d)))  # which has them second
            outputs.mul_(own.view(-1, *[1] * (outputs.ndim - 1)))
            module.bias.mul_(own).add_(added)

    def divide(self, temperatures: Sequence[float]) -> None:
        """Divide the logits of each classifier by its temperature, in place."""
        self.scale(1 / torch.tensor(temperatures).repeat_interleave(torch.tensor(self.sizes)))


class Body(nn.Sequential):
    """Backbone, decoder and head: normalised images to fused logits."""

    def _maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = self[0](images)
        return self[1](maps), maps

    def forward(self, images: Tensor) -> Tensor:
        return self[2](*self._maps(images))

    @property
    def head(self) -> HierarchicalHead:
        assert isinstance(self[2], HierarchicalHead)
        return self[2]

    @property
    def lazy(self) -> bool:
        """Whether there are branches, and nothing after them."""
        return self.head.branches is not None and self.head.ups is None

    def before_branches(self, images: Tensor, layer: nn.Module | None = None) -> list[Tensor]:
        """The fused logits with 0 for those of branches, and the maps that these read, each (B, channels, h, w).

        `layer` is the head's `in_one`, which makes the logits in one step; without it they are put together.
        """
        features, maps = self._maps(images)
        branches = self.head.branches
        assert branches
        if layer:
            return [layer(features), *branches.read(features, maps)]
        size = (len(features), *features.shape[2:])
        nothing = {q: features.new_zeros(size[0], self.head.sizes[q], *size[1:]) for q in branches.by_classifier}
        return [self.head.fused(features, nothing), *branches.read(features, maps)]


def fused_head(body: nn.Module) -> nn.Conv2d | None:
    """The one 1x1 convolution that a network's body ends with, None where its end is something else."""
    head = body[-1] if isinstance(body, nn.Sequential) else None
    if not isinstance(head, HierarchicalHead) or head.adapters or head.ups or head.branches:
        return None
    conv = head.logits[0]
    assert isinstance(conv, nn.Conv2d)
    return conv
