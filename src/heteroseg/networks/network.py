"""The whole network: pixels to fused logits, a plain module that exports as such."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import WHOLE, ModelConfig
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.networks.backbone import build_backbone, build_errors
from heteroseg.networks.branches import Branches, branched
from heteroseg.networks.decoder import DECODERS
from heteroseg.networks.heads import Body, HierarchicalHead
from heteroseg.networks.pyramid import Pyramid
from heteroseg.networks.queries import Queries
from heteroseg.networks.segmenter import LogitsOf, build_segmenter

PARAMETERS, MODULES = 4 * 10**9, 8_000  # of the largest network that is built


class Geometry:
    """How a network brings images to a size that it takes: padded to multiples of `multiple`, then made smaller.

    `shrink` is (inner, outer): of every `outer` pixels of a side `inner` are left. `multiple` is a multiple of `outer`.
    """

    multiple: int
    shrink: tuple[int, int]

    def covers(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the padded image, which the logits of a (height, width) image stand for."""
        m = self.multiple
        return -(-height // m) * m, -(-width // m) * m

    def shrunk(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that are left of a padded image."""
        inner, outer = self.shrink
        return height // outer * inner, width // outer * inner


class Network(Geometry, nn.Module):
    """(B, 3, H, W) RGB images with values 0-255, any dtype, to (B, C, h, w) fused logits.

    Images are padded here (by repeating the border) to whole multiples of `multiple`, so every size works; the logits
    stand for the padded size, which `covers` gives. They are then made smaller if `shrink` says so: (1, 2) halves them,
    with values rounded, as an exported file gets them. `body` maps normalised images to logits.
    """

    mean: Tensor
    std: Tensor
    frozen = False  # whether the encoder stays as it is in training

    def __init__(
        self,
        body: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        multiple: int,
        shrink: tuple[int, int] = (1, 1),
    ):
        super().__init__()
        self.body, self.multiple, self.shrink = body, multiple, shrink
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(tuple(std)).view(1, 3, 1, 1), persistent=False)

    @property
    def encoder(self) -> nn.Module:
        """What is before the decoder: the backbone as it is published."""
        return self.body[0].body if isinstance(self.body, Body) else self.body.encoder  # type: ignore[return-value]

    @property
    def head(self) -> HierarchicalHead | Queries:
        """What gives the fused logits, and takes factors on them."""
        return next(m for m in self.modules() if isinstance(m, HierarchicalHead | Queries))

    def train(self, mode: bool = True) -> "Network":
        """Train what is not frozen; the norms of a frozen encoder keep their statistics, too."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    @property
    def dropped(self) -> list[str]:
        """Parts of another network that its logits did not come from, such as an auxiliary head."""
        return self.body.dropped if isinstance(self.body, LogitsOf) else []

    def prepare(self, images: Tensor) -> Tensor:
        """Padded, shrunk and normalised images, as the body takes them."""
        x = images.to(self.mean.dtype)
        height, width = images.shape[-2:]
        full = self.covers(height, width)
        if full != (height, width):
            x = F.pad(x, (0, full[1] - width, 0, full[0] - height), mode="replicate")
        size = self.shrunk(*full)
        if size != full:
            x = (F.interpolate(x, size, mode="bilinear", align_corners=False) + 0.5).floor()
        return (x - self.mean) / self.std

    def forward(self, images: Tensor, features: bool = False) -> Tensor:
        """Fused logits; with `features` what the one 1x1 layer reads that makes them (`heads.fused_head`)."""
        prepared = self.prepare(images)
        return self.body[1](self.body[0](prepared)) if features else self.body(prepared)  # type: ignore[index,operator]


@torch.no_grad()
def fault_of(network: Network, channels: int, side: int = 1) -> str | None:
    """What is wrong with the logits of a grey image of `side` pixels; None where they are `channels` finite numbers."""
    training = network.training
    image = torch.full((1, 3, side, side), 128, dtype=torch.uint8, device=network.mean.device)
    logits = network.eval()(image)
    network.train(training)
    if logits.ndim == 4 and logits.shape[1] == channels and torch.isfinite(logits).all():
        return None
    return f"expected {channels} finite logits, found {tuple(logits.shape)}, or numbers that are not finite"


def _in_image(strides: Sequence[int], scale: float) -> list[int]:
    """Strides in pixels of the image where the backbone sees it made smaller by `scale`."""
    scaled = [s / scale for s in strides]
    if any(abs(s - round(s)) > 0.01 for s in scaled):
        told = f"expected a scale that divides the backbone's strides {list(strides)} to whole numbers"
        raise HeterosegError(f"model.scale: {told} (0.8, 0.667, 0.5), found {scale}")
    return [round(s) for s in scaled]


@contextmanager
def _bounded(parameters: int) -> Iterator[None]:
    """Raise HeterosegError as soon as what is built in the block has more parameters, or more than MODULES modules.

    A parameter's memory is taken when it is filled, which is after it was counted.
    """
    counts = [parameters, MODULES]

    def count(place: int, number: int) -> None:
        counts[place] -= number
        if counts[place] < 0:
            limit = f"{(parameters, MODULES)[place]} {('parameters', 'modules')[place]}"
            raise HeterosegError(f"model: expected a network of at most {limit}, found more; make it smaller")

    handles = [
        hooks.register_module_parameter_registration_hook(lambda _, name, p: count(0, 0 if p is None else p.numel())),
        hooks.register_module_module_registration_hook(lambda _, name, m: count(1, 1)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def build_network(config: ModelConfig, taxonomy: Taxonomy, most: int = PARAMETERS) -> Network:
    """Build a network for a taxonomy (its `void` decides about void logits) from its configuration.

    One with more parameters than `most` raises HeterosegError before it takes memory or long, and so does one that does
    not give `taxonomy.channels` finite logits for the smallest image.
    """
    with _bounded(most):
        network = _build(config, taxonomy)
    with build_errors(config.backbone, config.backbone_options):
        if fault := fault_of(network, taxonomy.channels):
            raise HeterosegError(f"model.backbone: {config.backbone!r}: {fault}; take another network")
    if config.freeze:
        network.encoder.requires_grad_(False)
        network.frozen = True
    return network.train()


def _build(config: ModelConfig, taxonomy: Taxonomy) -> Network:
    if config.backbone.startswith(WHOLE):
        body, scaling, multiple = build_segmenter(config, taxonomy)
        return Network(body, config.mean or scaling[0], config.std or scaling[1], multiple)
    backbone = build_backbone(config.backbone, config.pretrained, config.backbone_options)
    strides = _in_image(backbone.maps.strides, config.scale)
    if len(strides) > 1 and {config.stride} != {*strides} == {strides[0]} and config.decoder == "fpn":
        backbone = Pyramid(backbone)
        strides = _in_image(backbone.maps.strides, config.scale)
    maps = backbone.maps
    decoder = DECODERS[config.decoder](maps.channels, strides, config.width, config.stride)
    chosen, branches = branched(config.branches, taxonomy), None
    if chosen:
        branches = Branches(chosen, config.width, maps.channels, strides, config.stride, config.branch_gradient)
    head = HierarchicalHead(config.width, taxonomy, config.adapters, config.upsample, branches)
    inner, outer = maps.strides[strides.index(config.stride)], config.stride
    multiple = math.lcm(inner, maps.multiple or max(maps.strides)) // inner * outer
    whole = Body(backbone, decoder, head)
    return Network(whole, config.mean or maps.mean, config.std or maps.std, multiple, (inner, outer))
