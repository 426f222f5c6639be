"""A trained network as the beginning of another one: weights are taken by the names of the tree's nodes."""

import csv
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from heteroseg.errors import HeterosegError, counted, listed
from heteroseg.experiment.config import Experiment, ModelConfig, expanded
from heteroseg.labels.space import LabelSpace, build_label_space
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.exported import ExportedNetwork
from heteroseg.model.hub import PREFIX
from heteroseg.model.model import SHIPPED, Model, load
from heteroseg.networks.heads import Adapter, HierarchicalHead
from heteroseg.networks.network import Network, build_network
from heteroseg.networks.portable import portable_config
from heteroseg.networks.queries import Queries
from heteroseg.writing import is_free, written

FREE = {"pretrained", "freeze", "lora", "branches", "branch_gradient"}  # what may be otherwise than in the MODEL
ITSELF, NOWHERE, GONE = "itself", "at random", "left out"
SHOWN = 12  # nodes that are told
Row = tuple[list[tuple[str, int]], float, str]
"""Rows of the trained head by classifier and place, what is added to their mean's bias, and who they are."""


def open_model(name: str, folder: Path, key: str, trust: str | None = None) -> Model:
    """The trained network that a key of an experiment names: a path relative to `folder`, hf://owner/name or "demo".

    `trust` is the experiment's backbone, whose code runs for the MODEL too.
    """
    path = folder / expanded(name)
    shipped = name == SHIPPED.name and is_free(path)
    model = load(name if name.startswith(PREFIX) else SHIPPED if shipped else path, trust=trust)
    if isinstance(model.network, ExportedNetwork):
        raise HeterosegError(f"train.{key}: expected a MODEL folder, found the exported file {name}; name its MODEL")
    return model


def with_model_of(experiment: Experiment, source: Model) -> Experiment:
    """The experiment with the MODEL's own value of every key of `model` that it leaves out."""
    config, theirs = experiment.model, source.config
    given = config.model_fields_set
    same = "backbone" not in given or config.backbone == theirs.backbone
    free = given if same else given | {"backbone_options"}
    update = {key: getattr(theirs, key) for key in ModelConfig.model_fields if key not in free}
    return experiment.model_copy(update={"model": config.model_copy(update=update)})


def first_network(experiment: Experiment, tree: Taxonomy, source: Model | None) -> tuple[Network, dict[str, str]]:
    """A new network with the weights of the `source`, and whence each node's are; see `take_weights`."""
    config = experiment.model
    if experiment.train.begin:
        config = config.model_copy(update={"pretrained": False})
    network = build_network(config, tree)
    if source is None:
        return network, {}
    ours, theirs = (c.model_dump(exclude=FREE) for c in (portable_config(config, network), source.config))
    if key := next((key for key in ours if ours[key] != theirs[key]), None):
        told = f"expected model.{key}={theirs[key]!r:.80}, as the MODEL {source.name!r} has it, found {ours[key]!r:.80}"
        raise HeterosegError(f"train.begin: {told}; leave it out, or name another MODEL")
    return network, take_weights(network, tree, source)


@torch.no_grad()
def take_weights(network: Network, tree: Taxonomy, source: Model) -> dict[str, str]:
    """Put the weights of a MODEL, built alike, into a network for another tree; returns whence each node's are.

    Outside of the head they are taken by name. In the head a node of both trees keeps its logit. A new node gets the
    mean of its known children's, with the logarithm of their number more, or that of its known siblings, or its
    parent's; else its first weights stay. Layers of a classifier's own, which all but the plain head has, are those of
    the same classifier, an adapter else that of the nearest classifier above; a logit is taken where its layers are.
    Queries have their class logits so, and "no object" as it was.
    """
    theirs, known = source.torch_network, source.taxonomy
    due, given = _outside(network), _outside(theirs)
    alike = {name: tensor for name, tensor in given.items() if name in due and tensor.shape == due[name].shape}
    unlike = (due.keys() | given.keys()) - alike.keys()
    names = {name for name in unlike if ".criterion." not in name}  # a loss is not used
    if names:
        told = f"expected a network as the MODEL {source.name!r} has, found {listed(sorted(names), 1)} otherwise"
        raise HeterosegError(f"train.begin: {told}; take its model: section")
    network.load_state_dict(alike, strict=False)
    origins: dict[str, str] = {}
    for parts, old in zip(_parts(network.head, tree), _parts(theirs.head, known), strict=True):
        origins |= _take_head(parts, tree, old, known)  # of queries thrice the same
    for layer, before in zip(network.head.classes, theirs.head.classes, strict=True):
        layer.weight[-1], layer.bias[-1] = before.weight[-1], before.bias[-1]
    return origins | {name: GONE for name in known.names if name not in tree}


def _outside(network: Network) -> dict[str, Tensor]:
    """The tensors of a network, by name, that belong to no node."""
    own = (network.head, *network.head.classes)
    inside = tuple(f"{name}." for name, module in network.named_modules() if module in own)
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(inside)}


@dataclass
class _Part:
    """What makes the logits of one classifier: layers of its own, if any, the last layer's rows, and an upsampling.

    `weight` (n, inputs) and `bias` (n,) are views. Rows of parts with the same `reads` can stand for one another.
    """

    layers: nn.Module | None
    weight: Tensor
    bias: Tensor
    up: nn.ConvTranspose2d | None
    reads: str | None


def _parts(head: HierarchicalHead | Queries, tree: Taxonomy) -> list[dict[str, _Part]]:
    """The parts of a head by the names of the classifiers' nodes; of queries also of the numbers behind them."""
    parts = {}
    branches = head.branches.by_classifier if head.branches else {}
    for i, classifier in enumerate(tree.classifiers):
        (layer, start), name = head.last(i), tree.names[classifier.node]
        rows = slice(start, start + head.sizes[i])
        weight, bias = layer.get_parameter("weight").flatten(1)[rows], layer.get_parameter("bias")[rows]
        adapter = head.adapters[head.rest.index(i)] if head.adapters and i in head.rest else None
        layers = branches.get(i, adapter)
        up = head.ups[i] if head.ups else None
        assert up is None or isinstance(up, nn.ConvTranspose2d)
        parts[name] = _Part(layers, weight, bias, up, name if layers or up else "")
    numbers = (head.factors, head.constants) if isinstance(head, Queries) else ()
    cuts = {tree.names[c.node]: slice(c.start, c.stop) for c in tree.classifiers}
    more = ({n: _Part(None, v[at, None], torch.zeros_like(v[at]), None, "") for n, at in cuts.items()} for v in numbers)
    return [parts, *more]


def _take_head(parts: dict[str, _Part], tree: Taxonomy, old: dict[str, _Part], known: Taxonomy) -> dict[str, str]:
    """Fill the parts of a head from those of an `old` one over the tree `known`; whence each node's row is."""
    origins: dict[str, str] = {}
    for classifier in tree.classifiers:
        path = [tree.names[n] for n in reversed(tree.path(classifier.node))]
        part = parts[path[0]]
        part.reads = _take_layers(part, path, old)
        place = _finder(known, old, part.reads)
        rows = [_row(tree, child, place) for child in classifier.children]
        origins |= {tree.names[c]: r[2] if r else NOWHERE for c, r in zip(classifier.children, rows, strict=True)}
        before = old.get(path[0])
        if tree.void:
            kept = before and before.reads == part.reads
            rows.append(([(path[0], len(before.bias) - 1)], 0.0, ITSELF) if before and kept else None)
        for i, row in enumerate(rows):
            if row:
                part.weight[i] = torch.stack([old[owner].weight[k] for owner, k in row[0]]).mean(0)
                part.bias[i] = torch.stack([old[owner].bias[k] for owner, k in row[0]]).mean() + row[1]
        if part.up and before and before.up and before.reads == part.reads:
            _take_up(part.up, [row for row in rows if row], before.up)
    return origins


def _take_layers(part: _Part, path: list[str], old: dict[str, _Part]) -> str | None:
    """Fill a classifier's own layers, but the last; returns what its rows read then. `path` goes up from its node."""
    candidates = path if isinstance(part.layers, Adapter) else path[:1]
    same = [name for name in candidates if name in old and type(old[name].layers) is type(part.layers)]
    if part.layers is None and part.up is None:
        return ""
    if part.layers is not None and same:
        given = old[same[0]].layers
        assert given is not None
        state = {name: tensor for name, tensor in given.state_dict().items() if not name.startswith("logits.")}
        part.layers.load_state_dict(state, strict=False)
    return same[0] if same else None


def _finder(known: Taxonomy, old: dict[str, _Part], reads: str | None) -> Callable[[str], tuple[str, int] | None]:
    """What finds the old row of a node, by classifier and place, where it is one of parts that read the same."""

    def find(name: str) -> tuple[str, int] | None:
        node = known.index(name) if name in known else 0
        if known.channel_of[node] < 0:
            return None
        owner = known.classifiers[known.classifier_of[known.parents[node]]]
        place = known.names[owner.node], known.channel_of[node] - owner.start
        return place if old[place[0]].reads == reads else None

    return find


def _row(tree: Taxonomy, node: int, find: Callable[[str], tuple[str, int] | None]) -> Row | None:
    """What a node's logit begins with; see `take_weights`."""
    if own := find(tree.names[node]):
        return [own], 0.0, ITSELF
    if children := [place for c in tree.children[node] if (place := find(tree.names[c]))]:
        return children, math.log(len(children)), "its children"
    above = tree.parents[node]
    if siblings := [place for c in tree.children[above] if (place := find(tree.names[c]))]:
        return siblings, 0.0, "its siblings"
    while tree.channel_of[above] < 0 and above:  # an only child has no logit
        above = tree.parents[above]
    row = _row(tree, above, find) if above else None
    return row and (row[0], row[1], "its parent")


def _take_up(up: nn.ConvTranspose2d, rows: list[Row], old: nn.ConvTranspose2d) -> None:
    """Fill an upsampling (in, out, 4, 4), so that the logits of new nodes after it, too, are the means of others."""
    assert up.bias is not None
    assert old.bias is not None
    up.weight.zero_()
    for o, (others, _, _) in enumerate(rows):
        places = [place for _, place in others]
        up.bias[o] = old.bias[places].mean()
        for i, (own, _, origin) in enumerate(rows):
            if origin == ITSELF:
                up.weight[i, o] = old.weight[own[0][1], places].mean(0)


def kept_spaces(source: Model, tree: Taxonomy) -> dict[str, LabelSpace]:
    """The label spaces of a MODEL that a new tree can hold too."""
    kept = {}
    for name, space in source.spaces.items():
        with suppress(HeterosegError):
            kept[name] = build_label_space(space.file, tree)
    return kept


def tell_origins(name: str, origins: dict[str, str], out: Path) -> None:
    """Tell in a few lines on stderr what was taken from the MODEL of that name and what is new, and write all there."""
    new = [f"{n} {o if o == NOWHERE else f'as {o}'}" for n, o in origins.items() if o not in (ITSELF, GONE)]
    gone = [node for node, origin in origins.items() if origin == GONE]
    taken = counted(list(origins.values()).count(ITSELF), "node")
    print(f"begins as {name}: {taken} taken by name, {len(new)} new, {len(gone)} left out", file=sys.stderr)
    for what, names in (("new", new), (GONE, gone)):
        if names:
            print(f"{what}: {listed(names, SHOWN)}", file=sys.stderr)
    with written(out / "begun.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("node", "from"), *origins.items()])
