"""What of a network's configuration a MODEL may hold: sizes, switches and plain words, as `specs/options.yaml` lists.

A library that builds a network takes many more, and some of these name files, addresses or hubs. What is not listed
here never reaches a library from a MODEL, whatever a later version of it may do with the name.
"""

import re
from functools import cache
from typing import Any

import torch

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import WHOLE, ModelConfig
from heteroseg.files import SPECS, read_yaml
from heteroseg.networks.backbone import IMAGENET, OWN
from heteroseg.networks.network import Network
from heteroseg.networks.segmenter import LogitsOf

IMAGENET_32 = tuple(tuple(torch.tensor(v).tolist()) for v in IMAGENET)  # as a network holds them
LARGEST = 2**20  # of a number
MOST = 4096  # values of an option
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@cache
def known(kind: str) -> frozenset[str]:
    """Names of options of one kind, as `specs/options.yaml` has them."""
    return frozenset(read_yaml(SPECS / "options.yaml").data[kind])


def portable_config(config: ModelConfig, network: Network) -> ModelConfig:
    """The same configuration without anything to download: hub names become a model type with all of its options.

    An option that a MODEL must not hold raises HeterosegError.
    """
    update: dict[str, Any] = {"pretrained": False, "lora": 0}
    if config.backbone.startswith(("hf:", *WHOLE)):
        inner = network.body.model if isinstance(network.body, LogitsOf) else network.get_submodule("body.0.body")
        scaling = tuple(tuple(v.flatten().tolist()) for v in (network.mean, network.std))
        if scaling != IMAGENET_32:
            update |= dict(zip(("mean", "std"), scaling, strict=True))
        options: dict[str, Any] = inner.config.to_diff_dict()  # type: ignore[operator,union-attr]
        kind = options.pop("model_type")
        options.get("decoder_config", {}).pop("backbone_config", None)  # MaskFormer's, whose decoder has no backbone
        if "out_features" in options:
            options.pop("out_indices", None)  # which it says too
        update |= {"backbone": f"{config.backbone.partition(':')[0]}:{kind}", "backbone_options": options}
    told = "a MODEL of this network could not be loaded"
    return require_portable(config.model_copy(update=update), told, "leave it out")


def require_portable(config: ModelConfig, where: str, hint: str = "do not trust this MODEL") -> ModelConfig:
    """The configuration of a MODEL without what no network is built from.

    A backbone that is no plain name, and an option that is not listed as harmless or holds more than its kind of values
    raise HeterosegError, which begins with `where` and ends with `hint`.
    """
    family, _, name = config.backbone.partition(":")
    if not (OWN.fullmatch(name) if family == "python" else re.fullmatch(r"(\w[\w.-]*)?", name, re.ASCII)):
        raise HeterosegError(f"{where}: model.backbone: expected a plain name, found {config.backbone!r:.80}; {hint}")
    options = _portable(config.backbone_options, "backbone_options", family, where, hint)
    return config.model_copy(update={"backbone_options": options})


def _portable(options: dict[str, Any], place: str, family: str, where: str, hint: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    own = family == "python"  # whose options nobody knows
    for key, value in options.items():
        told = f"{where}: model.{place}.{key if WORD.fullmatch(key) else ascii(key)[:80]}"
        if key in known("unused") and not own:
            continue
        usual = known("timm") if family == "timm" else known("numbers") | known("words") | known("blocks")
        if not WORD.fullmatch(key) if own else key not in usual:
            expected = "expected an option that is known to load nothing"
            raise HeterosegError(f"{told}: {expected}, found this one with {value!r:.80}; {hint}")
        if key in known("blocks") and not own and isinstance(value, dict):
            if place.count(".") > 2:
                raise HeterosegError(f"{told}: expected few blocks in one another, found more; {hint}")
            kept[key] = _portable(value, f"{place}.{key}", family, where, hint)
        elif _is_plain(value, own or key in known("words")):
            kept[key] = value
        else:
            expected = "plain words" if key in known("words") else "plain words or " * own + f"numbers up to {LARGEST}"
            raise HeterosegError(f"{told}: expected {expected}, found {value!r:.80}; {hint}")
    return kept


def _is_plain(value: Any, words: bool) -> bool:
    """Whether an option is nothing, a word or a number, as is due, or up to MOST of them in lists."""
    waiting, seen = [value], 0
    while waiting and seen + len(waiting) <= MOST:
        part, seen = waiting.pop(), seen + 1
        if isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, str):
            if not words or not WORD.fullmatch(part):
                return False
        elif part is not None and not (isinstance(part, int | float) and abs(part) <= LARGEST):  # NaN is not either
            return False
    return not waiting
