"""What each label teaches: tables from label spaces to loss terms, and label maps from masks and boxes.

Labels of all datasets of a run get one running number, so a batch is only a stack of images with (H, W) maps of
such numbers and nothing in it is positional. -1 means: nothing is known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heteroseg.errors import HeterosegError, nearest
from heteroseg.labelspace import LabelSpace, Shape
from heteroseg.structures import Sample
from heteroseg.taxonomy import Taxonomy

NOTHING = -1
OCTAGON = 1.5  # |x| + |y| on its slanted sides: the released masks cut a quarter of each side, a regular one 0.29


def offsets(spaces: Sequence[LabelSpace]) -> list[int]:
    """The running number of each space's first label."""
    return np.cumsum([0, *(len(s.labels) for s in spaces)]).tolist()


def encode_ids(ids: np.ndarray, space: LabelSpace, where: str) -> np.ndarray:
    """Native ids of any shape to int16 positions in `space.labels`; ignored labels and -1 become -1.

    An id that the space does not list raises HeterosegError with `where` (a file name).
    """
    order = np.argsort(space.ids)
    known = space.ids[order]
    meaning = np.where(space.ignored, NOTHING, np.arange(len(known))).astype(np.int16)
    if known[-1] < 2**16 and ids.size and ids.min() >= -1 and ids.max() < 2**16:
        table = np.full(2**16 + 1, -2, np.int16)
        table[known] = meaning[order]
        table[-1] = NOTHING
        result = table[ids]
    else:
        position = order[np.searchsorted(known, ids).clip(max=len(known) - 1)]
        result = np.where(space.ids[position] == ids, meaning[position], np.where(ids == -1, NOTHING, -2)).astype(
            np.int16
        )
    if (result == -2).any():
        wrong = np.unique(ids[result == -2])
        raise HeterosegError(
            f"{where}: expected ids of label space {space.name!r}, found {', '.join(map(str, wrong[:8].tolist()))}; "
            "add them to the label space (with 'ignore: true' if they mean nothing) or choose the right one"
        )
    return result


def draw_shape(image: np.ndarray, box: np.ndarray, shape: Shape, value: int) -> None:
    """Fill the shape inscribed in a box (x1, y1, x2, y2, pixels, right and bottom exclusive) with `value`, in place.

    A pixel belongs to the shape when its centre does. Shapes follow the sign types of GTSDB's released fine masks.
    """
    height, width = image.shape
    x1, y1 = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    x2, y2 = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    if x2 <= x1 or y2 <= y1:
        return
    # coordinates of pixel centres, -1 to 1 across the box
    x = ((np.arange(x1, x2) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1)[None, :]
    y = ((np.arange(y1, y2) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1)[:, None]
    inside = {
        "rectangle": lambda: (np.abs(x) <= 1) & (np.abs(y) <= 1),
        "disc": lambda: x**2 + y**2 <= 1,
        "diamond": lambda: np.abs(x) + np.abs(y) <= 1,
        "triangle_up": lambda: (np.abs(x) <= (y + 1) / 2) & (y <= 1),
        "triangle_down": lambda: (np.abs(x) <= (1 - y) / 2) & (y >= -1),
        "octagon": lambda: (np.abs(x) <= 1) & (np.abs(y) <= 1) & (np.abs(x) + np.abs(y) <= OCTAGON),
    }[shape]()
    image[y1:y2, x1:x2][inside] = value


def rasterise(boxes: np.ndarray, labels: np.ndarray, space: LabelSpace, size: tuple[int, int]) -> np.ndarray:
    """Boxes (N, 4) with label positions (N,) to an (H, W) int16 map, -1 outside; smaller boxes lie on top."""
    result = np.full(size, NOTHING, np.int16)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in np.argsort(-area, kind="stable"):
        if labels[i] != NOTHING:
            draw_shape(result, boxes[i], space.labels[labels[i]].shape, int(labels[i]))
    return result


@dataclass(frozen=True)
class Target:
    """Label maps of one image, (H, W) int16 running label numbers: from its mask and from its boxes."""

    mask: np.ndarray
    boxes: np.ndarray


def encode(sample: Sample, space: LabelSpace, offset: int) -> Target:
    """Turn a sample's annotation into label maps; `offset` is the running number of the space's first label."""
    size = sample.image.shape[:2]
    mask = np.full(size, NOTHING, np.int16)
    if sample.mask is not None:
        mask = encode_ids(sample.mask, space, sample.name)
    boxes = np.full(size, NOTHING, np.int16)
    if len(sample.boxes):
        boxes = rasterise(sample.boxes, encode_ids(sample.box_ids, space, sample.name), space, size)
    return Target(*(np.where(m == NOTHING, NOTHING, m + offset).astype(np.int16) for m in (mask, boxes)))


@dataclass
class Terms:
    """Loss terms of every label, by running number. Padding is -1; C are channels of the fused logits.

    `path` (labels, D): one cross-entropy per classifier on the way to the label (to the common ancestor of a union);
    `path_of` the classifiers that these channels belong to. `union` (labels,): row in `parts`, -1 for single nodes.
    `parts` (unions, K, E): channels from the common ancestor down to each of its K nodes, `parts_of` (unions,) that
    ancestor's classifier. `below_gate` (labels, D) and `union_below_gate` (labels,): terms that a box trains;
    `gate` (labels, G): channels on the path to the node that must be decided before.
    """

    path: Tensor
    path_of: Tensor
    union: Tensor
    parts: Tensor
    parts_of: Tensor
    below_gate: Tensor
    union_below_gate: Tensor
    gate: Tensor

    def to(self, device: torch.device) -> "Terms":
        return Terms(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def _padded(rows: Sequence[Sequence], fill: int = -1) -> Tensor:
    """Ragged nested lists of ints to a tensor, padded at the end of every level."""

    def depth(x) -> int:
        return 1 + max(map(depth, x), default=0) if isinstance(x, list | tuple) else 0

    def shape(x, level: int) -> list[int]:
        if level == 0:
            return []
        inner = [shape(i, level - 1) for i in x]
        return [len(x), *(max(d) for d in zip(*inner, strict=True))] if inner else [0] * level

    levels = max(depth(rows), 2)
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


def build_terms(spaces: Sequence[LabelSpace]) -> Terms:
    """Derive all tables from the taxonomy and the label spaces of a run (in dataset order)."""
    tree = spaces[0].taxonomy
    path: list[list[int]] = []
    path_of: list[list[int]] = []
    below: list[list[int]] = []
    gates: list[list[int]] = []
    union: list[int] = []
    union_below: list[int] = []
    parts: list[list[list[int]]] = []
    parts_of: list[int] = []
    for space in spaces:
        for index, label in enumerate(space.labels):
            leaves = space.training_leaves(index) if label.leaves else frozenset()
            cover = tree.cover(leaves) if leaves else (0,)
            top = tree.common_ancestor(cover)
            gate = _gate(space, label.name, top, len(cover) > 1)
            steps = _channels(tree, tree.path(top))
            path.append([channel for channel, _ in steps])
            path_of.append([owner for _, owner in steps])
            below.append([int(gate in tree.path(tree.classifiers[owner].node)) for _, owner in steps])
            gates.append([channel for channel, _ in _channels(tree, tree.path(gate))])
            union_below.append(int(gate in tree.path(top)))
            union.append(len(parts) if len(cover) > 1 else -1)
            if len(cover) > 1:
                parts.append([[c for c, _ in _channels(tree, tree.path(n)[tree.depth(top) + 1 :])] for n in cover])
                parts_of.append(tree.classifier_of[top])
    return Terms(
        path=_padded(path),
        path_of=_padded(path_of),
        union=torch.tensor(union),
        parts=_padded(parts) if parts else torch.zeros(0, 1, 1, dtype=torch.long),
        parts_of=torch.tensor(parts_of, dtype=torch.long),
        below_gate=_padded(below, fill=0).bool(),
        union_below_gate=torch.tensor(union_below).bool(),
        gate=_padded(gates),
    )


def _gate(space: LabelSpace, label: str, top: int, is_union: bool) -> int:
    """The node that must be decided before a box with this label trains anything: as declared, else the parent."""
    tree = space.taxonomy
    if space.file.gate is None:
        return top if is_union or top == 0 else tree.parents[top]
    gate = tree.index(space.file.gate)
    if gate not in tree.path(top) and (top != 0 or is_union):  # an ignored label stands at the root
        raise HeterosegError(
            f"label space {space.name!r}: the gate {space.file.gate!r} is not above label {label!r}; "
            f"name a node on the path {' > '.join(tree.names[n] for n in tree.path(top))}"
        )
    return gate


def classifier_weights(tree: Taxonomy, weights: dict[str, float]) -> Tensor:
    """(classifiers,) float: weight by node name; `default` stands for all that are not named."""
    names = [tree.names[c.node] for c in tree.classifiers]
    for name in weights:
        if name != "default" and name not in names:
            raise HeterosegError(f"loss.weights: {name!r} is no classifier of {tree.name!r}{nearest(name, names)}")
    default = weights.get("default", 1.0)
    return torch.tensor([weights.get(name, default) for name in names])


__all__ = [
    "NOTHING",
    "Target",
    "Terms",
    "build_terms",
    "classifier_weights",
    "draw_shape",
    "encode",
    "encode_ids",
    "offsets",
    "rasterise",
]
