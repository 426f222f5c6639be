"""The hierarchical classification stage: one fused logits map with a slice for each classifier of the taxonomy."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from heteroseg.errors import HeterosegError
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.networks.decoder import conv_bn


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
    convolution per classifier (IV 2018, "hybrid" upsampling). Without both it is a single 1x1 convolution.

    Example:
        >>> from heteroseg.labels.taxonomy import load_taxonomy
        >>> tree = load_taxonomy("streets-108")
        >>> head = HierarchicalHead(16, tree)
        >>> head(torch.zeros(1, 16, 4, 8)).shape == (1, tree.channels, 4, 8)
        True
    """

    def __init__(self, width: int, taxonomy: Taxonomy, adapters: bool = False, upsample: bool = False):
        super().__init__()
        sizes = [c.stop - c.start for c in taxonomy.classifiers]
        self.adapters = nn.ModuleList(Adapter(width) for _ in sizes) if adapters else None
        self.logits = nn.ModuleList(nn.Conv2d(width, n, 1) for n in (sizes if adapters else [sum(sizes)]))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(n, n, 4, 2, 1) for n in sizes) if upsample else None
        self.sizes = sizes
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:  # adapters have none
                transposed = isinstance(module, nn.ConvTranspose2d)
                (nn.init.kaiming_normal_ if transposed else nn.init.xavier_uniform_)(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        inputs = [features] if self.adapters is None else [adapt(features) for adapt in self.adapters]
        parts = [conv(x) for conv, x in zip(self.logits, inputs, strict=True)]
        if self.ups is not None:
            each = parts[0].split(self.sizes, dim=1) if self.adapters is None else parts
            parts = [up(p) for up, p in zip(self.ups, each, strict=True)]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    @torch.no_grad()
    def divide(self, temperatures: Sequence[float]) -> None:
        """Divide the logits of each classifier by its temperature, in place.

        The head ends in a linear layer, so its weights and biases take the division and nothing else has to know.
        """
        chosen = self.ups if self.ups is not None else self.logits
        modules = [m for m in chosen if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        each = torch.tensor(temperatures).repeat_interleave(torch.tensor(self.sizes)).to(modules[0].weight)
        for module, own in zip(modules, each.split([m.out_channels for m in modules]), strict=True):
            transposed = isinstance(module, nn.ConvTranspose2d)  # whose weight has its outputs second
            module.weight.div_(own[:, None, None] if transposed else own[:, None, None, None])
            assert module.bias is not None  # as __init__ makes them
            module.bias.div_(own)


def fused_head(body: nn.Module) -> nn.Conv2d | None:
    """The one 1x1 convolution that a network's body ends with, None where its end is something else."""
    head = body[-1] if isinstance(body, nn.Sequential) else None
    if not isinstance(head, HierarchicalHead) or head.adapters is not None or head.ups is not None:
        return None
    conv = head.logits[0]
    assert isinstance(conv, nn.Conv2d)
    return conv


def replace_classifier(network: nn.Module, path: str, taxonomy: Taxonomy, **options) -> nn.Module:
    """Put a hierarchical head in the place of another network's last 1x1 convolution, in place.

    `path` names that layer, e.g. 'decode_head.classifier' of transformers' SegformerForSemanticSegmentation; the
    network then returns fused logits. Returns `network`. A path to no layer or to one of another kind raises
    HeterosegError.

    Example:
        >>> from heteroseg.labels.taxonomy import load_taxonomy
        >>> tree = load_taxonomy("streets-108")
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 19, 1))  # made for 19 classes
        >>> replace_classifier(network, "1", tree)(torch.zeros(1, 3, 8, 8)).shape == (1, tree.channels, 6, 6)
        True
    """
    parent_path, _, name = path.rpartition(".")
    try:
        parent = network.get_submodule(parent_path)
        old = parent.get_submodule(name)
    except AttributeError:
        last = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)][-1:]
        raise HeterosegError(
            f"{type(network).__name__} has no layer {path!r}; its last convolution is {''.join(last) or 'none'}"
        ) from None
    if not isinstance(old, nn.Conv2d) or old.kernel_size != (1, 1):
        raise HeterosegError(
            f"expected a 1x1 convolution at {path!r}, found {type(old).__name__}; name the layer that makes the logits"
        )
    setattr(parent, name, HierarchicalHead(old.in_channels, taxonomy, **options).to(old.weight.device))
    return network
