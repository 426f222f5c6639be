"""How weights move: the optimiser, its rate, the average, and what makes a step quick."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from heteroseg.experiment.config import OptimiserConfig
from heteroseg.networks.network import Network


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """Factor on the learning rate at a step: linear warm-up, then poly decay or halving at given steps."""
    factor = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "poly":
        return factor * (1 - step / steps) ** config.power
    return factor * 0.5 ** sum(step >= at for at in config.halve_at)


def build_optimiser(network: nn.Module, config: OptimiserConfig, fused: bool = False) -> torch.optim.Optimizer:
    """SGD or AdamW; norms and biases are not decayed, the backbone has its own factor on the rate.

    `fused`: in one pass over the weights, which are small and many; on CPUs torch does not think of it, and it does not
    go with the scaled gradients of 16-bit floats.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        decayed = parameter.ndim > 1 and not parameter._backward_hooks  # by which a part of it stays as it is
        key = (name.startswith("body.0.body."), decayed)  # the backbone of our own networks
        if parameter.requires_grad:
            groups.setdefault(key, []).append(parameter)
    rates, decays = (config.lr, config.lr * config.backbone_lr), (0.0, config.weight_decay)
    parameters = [
        {"params": params, "lr": rates[backbone], "weight_decay": decays[decay]}
        for (backbone, decay), params in groups.items()
    ]
    how: Any = {"fused": True} if fused else {}
    if config.name == "sgd":
        optimiser: torch.optim.Optimizer = torch.optim.SGD(parameters, config.lr, config.momentum, **how)
    else:
        optimiser = torch.optim.AdamW(parameters, config.lr, **how)
    optimiser.register_load_state_dict_post_hook(_as_weights_lie)
    return optimiser


def _as_weights_lie(optimiser: torch.optim.Optimizer) -> None:
    """Bring a state, perhaps of another device, into the order in memory of its weights: a fused step goes by that."""
    for weight, kept in optimiser.state.items():
        for name in [name for name, value in kept.items() if value is not None and value.shape == weight.shape]:
            kept[name] = torch.empty_like(weight, dtype=kept[name].dtype).copy_(kept[name])


def rest_idle(network: Network) -> None:
    """Ask no gradient for parameters that the logits do not come from, such as norms of maps that nobody reads.

    Several processes would wait for them.
    """
    side = network.multiple
    network.eval()(torch.zeros(1, 3, side, side, device=network.mean.device)).sum().backward()
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    network.train()


def weight_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network in evaluation mode whose weights follow it as an exponential moving average.

    After every step `update_parameters` takes the network in: step n with the decay min(decay, (1 + n) / (10 + n)), so
    that the first steps are soon forgotten. The statistics of norms are copied. `module` is the averaged network.
    """

    @torch.no_grad()
    def take_in(averages: Sequence[Tensor], weights: Sequence[Tensor], step: Tensor | int) -> None:
        kept = min(decay, (1 + int(step)) / (10 + int(step)))
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, 1 - kept)

    average = AveragedModel(network, multi_avg_fn=take_in).eval()
    average.n_averaged.fill_(1)  # the copy counts; with 0 the first step would take its place
    return average


def memory_layout(network: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last (half the time of a step on CPUs, and what tensor cores want) wherever it is safe.

    On CPUs the backward pass of 1x1 convolutions with a stride, as in ResNets, overwrites foreign memory in that layout
    (seen with torch 2.13.0, two threads, an odd batch).
    """
    strided = any(
        isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.stride != (1, 1) for m in network.modules()
    )
    return torch.contiguous_format if strided and device.type == "cpu" else torch.channels_last


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks instead of handing them back to the system; False where there is no glibc.

    Otherwise every large tensor is mapped anew and its pages are cleared on first touch, in every step: up to a third
    of the time of a step on CPUs (docs/log.md). The process keeps its largest size until it ends.
    """
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    mmap_max, trim_threshold = -4, -1  # names and numbers of <malloc.h>
    return bool(set_option(mmap_max, 0) and set_option(trim_threshold, -1))
