"""A MODEL may come from anywhere: its weights are looked at before they are used, and its files belong together."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from heteroseg.errors import HeterosegError
from heteroseg.files import read_text, require_regular
from heteroseg.networks.network import Network, fault_of

WEIGHTS = "model.safetensors"
SCALE = "/scale"
"""Ends the name of the tensor (N, 1, ...) that the int8 weights (N, ...) of its name before are multiplied by."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PROBE = 64  # pixels of a side of the image that a network, or the graph of a file, is tried with


def checksums(folder: Path, spaces: Iterable[str], config: dict[str, Any]) -> dict[str, str]:
    """SHA-256 by file of all that a MODEL's answers follow from; of texts without regard to their line ends.

    `config` is what config.json holds; it counts without its own `checksums`.
    """
    texts = {"config.json": json.dumps({key: config[key] for key in sorted(config) if key != "checksums"})}
    texts |= {name: read_text(folder / name) for name in ("taxonomy.yaml", *(f"label_spaces/{s}.yaml" for s in spaces))}
    sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    with (folder / WEIGHTS).open("rb") as file:
        return {**sums, WEIGHTS: hashlib.file_digest(file, "sha256").hexdigest()}


def require_unchanged(folder: Path, spaces: Iterable[str], config: dict[str, Any]) -> None:
    """Raise HeterosegError where a file is not the one that the `checksums` in `config`, of config.json, tell."""
    for name, found in checksums(folder, spaces, config).items():
        if config["checksums"].get(name) != found:
            told = "expected the file that was saved with this MODEL, found another content; fetch the MODEL again"
            hint = f"or if you changed it yourself, take `checksums` out of {folder / 'config.json'}"
            raise HeterosegError(f"{folder / name}: {told}, {hint}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, int8 ones times their scales; what is none raises HeterosegError."""
    try:
        tensors = load_file(require_regular(path))
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise HeterosegError(f"{path}: not the weights of this network, {reason}; fetch the MODEL again") from None
    for name in [name.removesuffix(SCALE) for name in tensors if name.endswith(SCALE)]:
        weight, scale = tensors.get(name, torch.empty(0)), tensors[name + SCALE]
        due = (*weight.shape[:1], *[1] * (weight.ndim - 1))
        if weight.dtype == torch.int8 and scale.dtype in FLOATS and scale.shape == due:
            tensors[name] = weight * tensors.pop(name + SCALE).float()
    return tensors


def fill(network: Network, weights: dict[str, Tensor], path: Path, channels: int) -> None:
    """Put the weights of the file `path` into a network that gives `channels` logits.

    Tensors that it lacks or has not, of other shapes or kinds of numbers, numbers that are not finite, negative
    variances, and weights that lead to no finite logits raise HeterosegError.
    """
    if fault := next(_faults(network.state_dict(), weights), None):
        raise HeterosegError(f"{path}: expected the weights of this network, found {fault}; fetch the MODEL again")
    network.load_state_dict(weights)
    if fault := fault_of(network.eval(), channels, PROBE):
        raise HeterosegError(f"{path}: {fault}; do not use this MODEL")


def _faults(due: dict[str, Tensor], weights: dict[str, Tensor]) -> Iterator[str]:
    yield from (f"no tensor {name!r}" for name in due if name not in weights)
    yield from (f"the tensor {name!r:.80} too" for name in weights if name not in due)
    for name, tensor in weights.items():
        kinds = FLOATS if due[name].is_floating_point() else (due[name].dtype,)
        if tensor.shape != due[name].shape:
            yield f"{name!r} of the shape {list(tensor.shape)} where {list(due[name].shape)} is due"
        elif tensor.dtype not in kinds:
            yield f"{name!r} of {tensor.dtype} where {due[name].dtype} is due"
        elif tensor.numel() and tensor.is_floating_point():
            least, most = tensor.aminmax()
            if not (torch.isfinite(least) and torch.isfinite(most)):
                yield f"{name!r} with numbers that are not finite"
            if name.endswith("running_var") and least < 0:
                yield f"{name!r} with a variance of {float(least):.3g}"
