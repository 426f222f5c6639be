"""What each label teaches: tables from label spaces to loss terms, one classifier at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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


def pad_ragged(rows: Sequence[Any], levels: int = 2, fill: int = -1) -> Tensor:
    """Nested lists of ints of any lengths, `levels` deep, to an int64 tensor; every level is padded at its end.

    Below the first level a side is at least 1 long.
    """
    sizes, blocks = [len(rows)], list(rows)
    for _ in range(levels - 1):
        sizes.append(max([1, *map(len, blocks)]))
        blocks = [part for block in blocks for part in block]
    result = np.full(sizes, fill, np.int64)

    def write(target: np.ndarray, block: Sequence[Any]) -> None:
        if target.ndim == 1:
            target[: len(block)] = block
        else:
            for part, inner in zip(target, block, strict=False):
                write(part, inner)

    write(result, rows)
    return torch.from_numpy(result)


def build_terms(spaces: Sequence[LabelSpace]) -> LabelTerms:
    """Derive the loss terms of all labels of a run from its label spaces, which share one taxonomy.

    Labels get running numbers in the order of `spaces`; the surroundings of boxes come after the labels of their space.
    A gate that is not above a label raises HeterosegError.

    Examples:
        >>> from heteroseg.labels.space import load_label_space
        >>> space = load_label_space("gtsdb")
        >>> terms = build_terms([space])
        >>> terms.path.shape  # 45 labels, up to 3 classifiers on the way to a label
        torch.Size([45, 3])
        >>> stop = [label.name for label in space.labels].index("o_stop")
        >>> [space.taxonomy.names[space.taxonomy.classifiers[i].node] for i in terms.path_of[stop]]
        ['root', 'traffic sign', 'traffic sign (front)']
    """
    tree = spaces[0].taxonomy
    channels, owner = tree.steps, [i for i, c in enumerate(tree.classifiers) for _ in range(c.start, c.stop)]
    owners = [[owner[channel] for channel in steps] for steps in channels]
    targets = [(space, index) for space in spaces for index in range(space.targets)]
    covers = [_cover(space, index) for space, index in targets]
    tops = [tree.common_ancestor(cover) for cover in covers]
    gates = [label_gate(space, index) for space, index in targets]
    deciders = [[tree.classifiers[owner].node for owner in owners[top]] for top in tops]
    unions = [(cover, top) for cover, top in zip(covers, tops, strict=True) if len(cover) > 1]
    parts = [[channels[n][len(channels[top]) :] for n in cover] for cover, top in unions]
    is_union = torch.tensor([len(cover) > 1 for cover in covers])
    return LabelTerms(
        path=pad_ragged([channels[top] for top in tops]),
        path_of=pad_ragged([owners[top] for top in tops]),
        union=torch.where(is_union, is_union.cumsum(0) - 1, -1),
        parts=pad_ragged(parts, levels=3),
        parts_of=torch.tensor([tree.classifier_of[top] for _, top in unions], dtype=torch.long),
        # numbers grow downwards on a path, and a gate lies on it
        below_gate=pad_ragged([[n >= gate for n in d] for d, gate in zip(deciders, gates, strict=True)], fill=0).bool(),
        union_below_gate=torch.tensor([gate in tree.path(top) for gate, top in zip(gates, tops, strict=True)]),
        gate=pad_ragged([channels[gate] for gate in gates]),
        gate_of=torch.tensor([_first_classifier(tree, gate) for gate in gates]),
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
