"""Another network's last layer, found by what it does, gives way to the hierarchical head."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from heteroseg.errors import HeterosegError, listed
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.networks.heads import HierarchicalHead

SIDES = (64, 224, 512)  # pixels of the image that a network is tried with; some take no other size than their own
NEAR = 1e-3


class TokenHead(nn.Module):
    """A hierarchical head in the place of a linear layer: (..., width) to (..., taxonomy.channels)."""

    def __init__(self, head: HierarchicalHead):
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.reshape(-1, x.shape[-1], 1, 1)).reshape(*x.shape[:-1], -1)


def logits_in(output: Any) -> Tensor:
    """The logits (B, C, h, w) in what a network returned: itself, `.logits`, or 'out' of a dict."""
    output = getattr(output, "logits", output)
    output = output.get("out") if isinstance(output, Mapping) else output
    if not isinstance(output, Tensor) or output.ndim != 4:
        found = f"the shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise HeterosegError(f"expected a network that returns a map of logits (B, C, h, w), found {found}")
    return output


def tried(network: nn.Module) -> tuple[Tensor, Tensor]:
    """A small image that a network takes, and its logits there."""
    place = next(network.parameters(), None)
    if place is None:
        raise HeterosegError(f"{type(network).__name__}: expected a network that learns, found one without parameters")
    for side in SIDES:
        images = torch.linspace(-1, 1, 3 * side * side, device=place.device, dtype=place.dtype).view(1, 3, side, side)
        try:
            return images, logits_in(network(images))
        except HeterosegError:
            raise
        except Exception as error:  # of every kind: the size is too small, or not the only one that goes
            reason = str(error).partition("\n")[0][:200]
    told = f"expected a network that takes an image of 3 channels and {side} pixels a side, found that it fails"
    raise HeterosegError(f"{type(network).__name__}: {told}, {reason}; name the layer that makes the logits")


@torch.no_grad()
def find_classifier(network: nn.Module) -> str:
    """The path of the layer that makes a network's logits: what is added to its outputs is added to them, by channel.

    So it is the last convolution or linear layer before any resizing, and no auxiliary one. A network with another end
    (a probability, a transposed convolution, a sum of several layers) raises HeterosegError.
    """
    training = network.training
    network.eval()
    images, before = tried(network)
    shift = before.abs().max().clamp(min=1) * torch.linspace(1, 2, before.shape[1]).to(before)

    def moves(layer: nn.Conv2d | nn.Linear) -> bool:
        added = shift if isinstance(layer, nn.Linear) else shift[:, None, None]
        handle = layer.register_forward_hook(lambda _, inputs, output: output + added)
        try:
            after = logits_in(network(images))
        finally:
            handle.remove()
        return torch.allclose(after - before, shift[:, None, None].expand_as(before), atol=float(NEAR * shift[0]))

    found = [n for n, m in network.named_modules() if _outputs(m) == len(shift) and moves(m)]  # type: ignore[arg-type]
    network.train(training)
    if len(found) == 1:
        return found[0]
    told = listed(found, 3) + ", which only add up to them" if found else "none"
    expected = f"one convolution or linear layer whose {len(shift)} outputs are its logits"
    raise HeterosegError(f"{type(network).__name__}: expected {expected}, found {told}; put one at its end")


def _outputs(layer: nn.Module) -> int | None:
    """How many channels a layer makes that could be a classifier."""
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels if layer.groups == 1 else None
    return layer.out_features if isinstance(layer, nn.Linear) else None


def _head(old: nn.Conv2d | nn.Linear, taxonomy: Taxonomy, options: dict[str, Any]) -> nn.Module:
    if isinstance(old, nn.Conv2d):
        form = {key: getattr(old, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
        layer: Callable[[int, int], nn.Conv2d] = partial(nn.Conv2d, **form)
        head = HierarchicalHead(old.in_channels, taxonomy, layer=layer, **options)
        vars(head).update(form)  # MobileNetV2 reads them before it calls the layer
        return head
    if options.get("upsample"):
        raise HeterosegError("upsample: expected a convolution as the last layer, found a linear one; leave it out")
    return TokenHead(HierarchicalHead(old.in_features, taxonomy, **options))


def replace_classifier(
    network: nn.Module, taxonomy: Taxonomy | str, path: str | Taxonomy | None = None, **options: Any
) -> nn.Module:
    """Put a hierarchical head in the place of another network's last layer, in place.

    That layer, a convolution or a linear one, is found by what it does, or is the one that `path` names, e.g.
    'decode_head.classifier' of transformers' SegformerForSemanticSegmentation (before or after the taxonomy); the
    network then returns fused logits. `options` are those of `HierarchicalHead`. Returns `network`. A network without
    such a layer, and a path to no layer or to one of another kind raise HeterosegError.

    Examples:
        >>> from heteroseg.labels.taxonomy import load_taxonomy
        >>> tree = load_taxonomy("streets-108")
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 19, 1))  # made for 19 classes
        >>> replace_classifier(network, tree)(torch.zeros(1, 3, 8, 8)).shape == (1, tree.channels, 6, 6)
        True
    """
    if isinstance(taxonomy, str):
        taxonomy, path = path, taxonomy  # type: ignore[assignment]
    if not isinstance(taxonomy, Taxonomy):
        raise HeterosegError(f"expected a taxonomy, found {taxonomy!r:.80}; load_taxonomy gives one")
    if not isinstance(network, nn.Module):
        raise HeterosegError(f"expected a network, a torch.nn.Module, found {network!r:.80}")
    path = find_classifier(network) if path is None else str(path)
    parent_path, _, name = path.rpartition(".")
    try:
        parent = network.get_submodule(parent_path)
        old = parent.get_submodule(name)
    except AttributeError:
        last = [n for n, m in network.named_modules() if _outputs(m)][-1:]
        told = f"has no layer {path!r}; its last convolution is {''.join(last) or 'none'}"
        raise HeterosegError(f"{type(network).__name__} {told}") from None
    if not isinstance(old, nn.Conv2d | nn.Linear) or not _outputs(old):
        told = f"expected a convolution or linear layer at {path!r}, found {type(old).__name__}"
        raise HeterosegError(f"{told}; name the layer that makes the logits")
    setattr(parent, name, _head(old, taxonomy, options).to(old.weight).train(old.training))
    return network
