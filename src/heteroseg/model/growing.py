"""A trained network gets new nodes under one of its own, and nothing else of it moves."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from heteroseg.errors import HeterosegError, listed, nearest
from heteroseg.experiment.config import WHOLE, Experiment
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.beginning import GONE, ITSELF
from heteroseg.model.model import Model
from heteroseg.networks.network import Network


def grown(experiment: Experiment, tree: Taxonomy, source: Model) -> Experiment:
    """The experiment with a branch, of no gradient into the rest, for every classifier that the MODEL lacks.

    A tree that is not the MODEL's with more nodes under `train.grow`, and a network without branches, raise.
    """
    node, old = str(experiment.train.grow), source.taxonomy
    if node not in old:
        near = nearest(node, old.names)
        raise HeterosegError(f"train.grow: the MODEL {source.name!r} has no node {node!r:.80}{near}; name one of its")
    new = [name for name in tree.names if name not in old]
    moved = next((name for name in old.names if _children(tree, name, old) != _children(old, name, old)), None)
    outside = next((n for n in new if node not in [tree.names[above] for above in tree.path(tree.index(n))]), None)
    if moved or outside or not new:
        found = f"{moved!r} with other children" if moved else f"{outside!r} elsewhere" if outside else "no new node"
        told = f"expected the tree of the MODEL {source.name!r} with new nodes under {node!r} alone, found {found}"
        raise HeterosegError(f"train.grow: {told}; change the taxonomy, or use train --from")
    names = [tree.names[c.node] for c in tree.classifiers if all(tree.names[n] in new for n in c.children)]
    if names and experiment.model.backbone.startswith(WHOLE):
        found = f"found {experiment.model.backbone!r}, which takes no branches"
        raise HeterosegError(f"train.grow: expected a backbone with a decoder of ours, {found}; use train --from")
    update = {"branches": [*source.config.branches, *names], "branch_gradient": 0.0}
    return experiment.model_copy(update={"model": experiment.model.model_copy(update=update)})


def _children(tree: Taxonomy, name: str, known: Taxonomy) -> list[str] | None:
    """The children of a node that are `known`, in their order; None where there is no such node."""
    below = [tree.names[n] for n in tree.children[tree.index(name)]] if name in tree else None
    return below and [child for child in below if child in known]


def read_new(out: Path) -> set[str]:
    """The new nodes of a run that began from a MODEL, as RUN/begun.csv tells them."""
    try:
        with (out / "begun.csv").open(newline="", encoding="utf-8") as file:
            return new_nodes({row["node"]: row["from"] for row in csv.DictReader(file)})
    except (OSError, ValueError, KeyError):
        told = "expected the nodes that this run grows, found no such list"
        raise HeterosegError(f"{out / 'begun.csv'}: {told}; put it back, or start a new run") from None


def new_nodes(origins: dict[str, str]) -> set[str]:
    return {name for name, origin in origins.items() if origin not in (ITSELF, GONE)}


def freeze_but(network: Network, tree: Taxonomy, new: set[str]) -> list[str]:
    """Let training move only what makes the logits of new nodes.

    Returns the nodes whose children are old and new, so that the new ones take pixels from the old.
    """
    network.requires_grad_(False)
    head = network.head
    masks: dict[nn.Parameter, torch.Tensor] = {}
    shared = []
    for q, classifier in enumerate(tree.classifiers):
        own = torch.tensor([tree.names[n] in new for n in classifier.children] + [False] * tree.void)
        up = head.ups[q] if head.ups is not None else None
        if own.sum() == len(classifier.children):
            for module in (head.branches and head.branches.by_classifier.get(q), up):
                if module is not None:
                    module.requires_grad_(True)
        elif own.any():
            shared.append(tree.names[classifier.node])
            _open(masks, *head.last(q), own)
            if isinstance(up, nn.ConvTranspose2d):
                _open(masks, up, 0, own)
    for parameter, mask in masks.items():
        parameter.requires_grad_(True).register_hook(lambda gradient, mask=mask: gradient * mask.to(gradient))
    return shared


def _open(masks: dict[nn.Parameter, torch.Tensor], layer: nn.Module, start: int, own: torch.Tensor) -> None:
    """Mark the rows of a last layer, from `start`, of which `own` (n,) may move."""
    side = int(isinstance(layer, nn.ConvTranspose2d))  # which has outputs second
    for parameter, at in ((layer.get_parameter("weight"), side), (layer.get_parameter("bias"), 0)):
        mask = masks.setdefault(parameter, torch.zeros_like(parameter))
        mask.transpose(0, at)[start : start + len(own)][own] = 1


def changed_pixels(before: Model, after: Model, images: Sequence[Path]) -> dict[str, float]:
    """The share of pixels of images that another network labels otherwise, in each label space that both have."""
    spaces = [name for name in before.spaces if name in after.spaces]
    changed, pixels = dict.fromkeys(spaces, 0), 0
    for image in images:
        one, other = before.predict(image), after.predict(image)
        pixels += one.size[0] * one.size[1]
        for name in spaces:
            changed[name] += int((one.labels(name) != other.labels(name)).sum())
    return {name: count / max(pixels, 1) for name, count in changed.items()}


def told_growth(shared: Sequence[str]) -> str:
    """What will stay as it is, before training."""
    if not shared:
        return "only new layers are trained: every answer in labels that do not name the new nodes stays, bit for bit"
    told = "only logits of new nodes are trained, beside old ones"
    return f"{told}: answers may change where {listed(shared, 3)} is seen"
