"""What each label teaches: tables from label spaces to loss terms, one classifier at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heteroseg.errors import HeterosegError, nearest
from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Taxonomy


@dataclass
class LabelTerms:
    """Loss terms of every label, by running number. Padding is -1; C are channels of the fused logits.

    `path` (labels, D): one cross-entropy per classifier on the way to the label (to the common ancestor of a union);
    `path_of` the classifiers that these channels belong to. `union` (labels,): row in `parts`, -1 for single nodes.
    `parts` (unions, K, E): channels from the common ancestor down to each of its K nodes, `parts_of` (unions,) that
    ancestor's classifier. `below_gate` (labels, D) and `union_below_gate` (labels,): terms that a box trains;
    `gate` (labels, G): channels on the path to the node that must be decided before, `gate_of` (labels,) the first
    classifier at or below it.
    """

    path: Tensor
    path_of: Tensor
    union: Tensor
    parts: Tensor
    parts_of: Tensor
    below_gate: Tensor
    union_below_gate: Tensor
    gate: Tensor
    gate_of: Tensor

    def to(self, device: torch.device) -> "LabelTerms":
        return LabelTerms(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def pad_ragged(rows: Sequence[Sequence], fill: int = -1, levels: int = 0) -> Tensor:
    """Ragged nested lists of ints to a tensor of at least `levels` dimensions, padded at the end of every level."""

    def depth(x) -> int:
        return 1 + max(map(depth, x), default=0) if isinstance(x, list | tuple) else 0

    def shape(x, level: int) -> list[int]:
        if level == 0:
            return []
        inner = [shape(i, level - 1) for i in x]
        return [len(x), *(max(d) for d in zip(*inner, strict=True))] if inner else [0] * level

    levels = max(depth(rows), levels, 2)
    result = torch.full([max(s, 1) if i else s for i, s in enumerate(shape(rows, levels))], fill, dtype=torch.long)

    def write(target: Tensor, x) -> None:
        for i, value in enumerate(x):
            if isinstance(value, list | tuple):
                write(target[i], value)
            else:
                target[i] = value

    write(result, rows)
    return result


def _channels(tree: Taxonomy, path: Sequence[int]) -> list[tuple[int, int]]:
    """(channel, owning classifier) for each decided step on a path of nodes."""
    return [(tree.channel_of[n], tree.classifier_of[tree.parents[n]]) for n in path if tree.channel_of[n] >= 0]


def build_terms(spaces: Sequence[LabelSpace]) -> LabelTerms:
    """Derive all tables from the taxonomy and the label spaces of a run (in dataset order)."""
    tree = spaces[0].taxonomy
    path: list[list[int]] = []
    path_of: list[list[int]] = []
    below: list[list[int]] = []
    gates: list[list[int]] = []
    gates_of: list[int] = []
    union: list[int] = []
    union_below: list[int] = []
    parts: list[list[list[int]]] = []
    parts_of: list[int] = []
    for space in spaces:
        for index in range(space.targets):
            cover = _cover(space, index)
            top = tree.common_ancestor(cover)
            gate = label_gate(space, index)
            steps = _channels(tree, tree.path(top))
            path.append([channel for channel, _ in steps])
            path_of.append([owner for _, owner in steps])
            below.append([int(gate in tree.path(tree.classifiers[owner].node)) for _, owner in steps])
            gates.append([channel for channel, _ in _channels(tree, tree.path(gate))])
            gates_of.append(_first_classifier(tree, gate))
            union_below.append(int(gate in tree.path(top)))
            union.append(len(parts) if len(cover) > 1 else -1)
            if len(cover) > 1:
                parts.append([[c for c, _ in _channels(tree, tree.path(n)[tree.depth(top) + 1 :])] for n in cover])
                parts_of.append(tree.classifier_of[top])
    return LabelTerms(
        path=pad_ragged(path),
        path_of=pad_ragged(path_of),
        union=torch.tensor(union),
        parts=pad_ragged(parts) if parts else torch.zeros(0, 1, 1, dtype=torch.long),
        parts_of=torch.tensor(parts_of, dtype=torch.long),
        below_gate=pad_ragged(below, fill=0).bool(),
        union_below_gate=torch.tensor(union_below).bool(),
        gate=pad_ragged(gates),
        gate_of=torch.tensor(gates_of),
    )


def _cover(space: LabelSpace, index: int) -> tuple[int, ...]:
    """The nodes that a target means; an ignored label stands at the root."""
    around = index == len(space.labels)
    leaves = space.training_leaves(index) if around or space.labels[index].leaves else frozenset()
    return space.taxonomy.cover(leaves) if leaves else (0,)


def _first_classifier(tree: Taxonomy, node: int) -> int:
    """The classifier at a node or below its only children; -1 under which nothing is decided."""
    while len(tree.children[node]) == 1:
        node = tree.children[node][0]
    return tree.classifier_of[node]


def label_gate(space: LabelSpace, index: int) -> int:
    """The node that must be decided before a box or tag with this label trains anything: as declared, else the parent.

    What lies around boxes has no gate (the root).
    """
    if index == len(space.labels):
        return 0
    tree, label = space.taxonomy, space.labels[index].name
    cover = _cover(space, index)
    top, is_union = tree.common_ancestor(cover), len(cover) > 1
    if space.file.gate is None:
        return top if is_union or top == 0 else tree.parents[top]
    gate = tree.index(space.file.gate)
    if gate not in tree.path(top) and (top != 0 or is_union):  # an ignored label stands at the root
        raise HeterosegError(
            f"label space {space.name!r}: the gate {space.file.gate!r} is not above label {label!r}; "
            f"name a node on the path {' > '.join(tree.names[n] for n in tree.path(top))}"
        )
    return gate


def classifier_weights(tree: Taxonomy, weights: dict[str, float], box_weights: dict[str, float]) -> Tensor:
    """(classifiers, 2) float: weights of mask and box terms by node name; `default` stands for all not named.

    What `box_weights` does not tell is as in `weights`.
    """
    names = [tree.names[c.node] for c in tree.classifiers]
    for key, given in (("weights", weights), ("box_weights", box_weights)):
        for name in given:
            if name != "default" and name not in names:
                raise HeterosegError(f"loss.{key}: {name!r} is no classifier of {tree.name!r}{nearest(name, names)}")
    masks = [weights.get(name, weights.get("default", 1.0)) for name in names]
    boxes = [box_weights.get(n, box_weights.get("default", w)) for n, w in zip(names, masks, strict=True)]
    return torch.tensor([masks, boxes]).T
