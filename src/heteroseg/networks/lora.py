"""Low-rank adapters (LoRA; Hu et al., ICLR 2022) in an encoder's linear layers, by peft; the rest of it stays."""

import copy
from typing import Any

from torch import nn

from heteroseg.errors import HeterosegError, missing_package
from heteroseg.networks.network import Network


def add_lora(network: Network, rank: int) -> None:
    """Give every linear layer of the encoder an adapter of this rank, and freeze all else of the encoder.

    An encoder without such layers, and a missing peft, raise HeterosegError.
    """
    encoder = network.encoder
    linear = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        told = "expected an encoder with linear layers, such as a ViT, found one without"
        raise HeterosegError(f"model.lora: {told}; leave it out, or take model.freeze")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise missing_package("model.lora", error, "lora") from None
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=linear), encoder)
    network.frozen = True
    network.train()


def merged(network: Network) -> Network:
    """The network with adapters as part of its weights, which needs no peft; itself where it has none.

    It shares all tensors but those with `network`.
    """
    layers: dict[str, Any] = {name: m for name, m in network.named_modules() if hasattr(m, "lora_A")}
    if not layers:
        return network
    own = {id(layer.get_base_layer().weight) for layer in layers.values()}
    shared = {id(t): t for t in (*network.parameters(), *network.buffers()) if id(t) not in own}
    whole = copy.deepcopy(network, shared)  # type: ignore[arg-type]
    for name in layers:
        layer: Any = whole.get_submodule(name)
        layer.merge()
        whole.set_submodule(name, layer.get_base_layer())
    return whole
