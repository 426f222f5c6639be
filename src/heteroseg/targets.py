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
MIXED = -2  # -2, -3, ...: the first, second, ... mixture of the image

# A pixel of which only alternatives are known adds the sum over (weight, labels) of weight * -log(sum of p(label)):
# several boxes on it are shares of single labels, tags one set of labels for each gate.
Mixture = tuple[tuple[float, tuple[int, ...]], ...]


def offsets(spaces: Sequence[LabelSpace]) -> list[int]:
    """The running number of each space's first label."""
    return np.cumsum([0, *(s.targets for s in spaces)]).tolist()


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
        "octagon": lambda: (np.abs(x) <= 1) & (np.abs(y) <= 1) & (np.abs(x) + np.abs(y) <= np.sqrt(2)),
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


def surroundings(boxes: np.ndarray, margin: float | None, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: pixels of boxes (N, 4) and of their surroundings, `margin` times the longer side to all sides."""
    if margin is None:
        return np.ones(size, bool)
    result = np.zeros(size, np.uint8)
    for x1, y1, x2, y2 in boxes:
        m = margin * max(x2 - x1, y2 - y1)
        draw_shape(result, np.array([x1 - m, y1 - m, x2 + m, y2 + m]), "rectangle", 1)
    return result.astype(bool)


def share_boxes(
    boxes: np.ndarray, labels: np.ndarray, space: LabelSpace, size: tuple[int, int]
) -> tuple[np.ndarray, list[Mixture]]:
    """As `rasterise`, but a pixel in boxes of several labels shares itself among them by their number.

    Returns the (H, W) int16 map and the mixtures that its values MIXED, MIXED - 1, ... stand for (IV 2019, figure 4).
    """
    kinds = np.unique(labels[labels != NOTHING])
    counts = np.zeros((len(kinds), *size), np.int16)
    for box, label in zip(boxes, labels, strict=True):
        if label != NOTHING:
            one = np.zeros(size, np.int16)
            draw_shape(one, box, space.labels[label].shape, 1)
            counts[np.searchsorted(kinds, label)] += one
    result = np.full(size, NOTHING, np.int16)
    several = (counts > 0).sum(0)
    if len(kinds):
        result[several == 1] = kinds[counts.argmax(0)[several == 1]]
    rows, index = np.unique(counts[:, several > 1].T, axis=0, return_inverse=True)
    result[several > 1] = MIXED - index.reshape(-1)
    mixtures: list[Mixture] = [
        tuple((n / row.sum(), (label,)) for n, label in zip(row.tolist(), kinds.tolist(), strict=True) if n)
        for row in rows
    ]
    return result, mixtures


def tag_mixture(tags: np.ndarray, space: LabelSpace) -> Mixture:
    """What tags (positions in `space.labels`) say of a pixel: where a gate is decided, it is one of the tags below it.

    A tag whose gate is the root says nothing of any one pixel.
    """
    below: dict[int, list[int]] = {}
    for tag in tags.tolist():
        if tag != NOTHING and (gate := label_gate(space, tag)):
            below.setdefault(gate, []).append(tag)
    return tuple((1.0, tuple(sorted(set(members)))) for members in below.values())


@dataclass(frozen=True)
class Target:
    """Label maps of one image, (H, W) int16 running label numbers: from its mask, and from its boxes and tags.

    Values from MIXED down in `boxes` stand for `mixtures`.
    """

    mask: np.ndarray
    boxes: np.ndarray
    mixtures: tuple[Mixture, ...] = ()


def encode(sample: Sample, space: LabelSpace, offset: int) -> Target:
    """Turn a sample's annotation into label maps for training; `offset` is the running number of the first label.

    Without a mask, pixels around boxes get the target after the last label where the space has `around_boxes`;
    what lies inside the rectangle of an ignored box stays unknown. Tags speak for pixels of which no more is known.
    """
    size = sample.image.shape[:2]
    mask = np.full(size, NOTHING, np.int16)
    if sample.mask is not None:
        mask = encode_ids(sample.mask, space, sample.name)
    boxes = np.full(size, NOTHING, np.int16)
    mixtures: list[Mixture] = []
    if len(sample.boxes):
        labels = encode_ids(sample.box_ids, space, sample.name)
        if space.file.overlap == "share":
            boxes, mixtures = share_boxes(sample.boxes, labels, space, size)
        else:
            boxes = rasterise(sample.boxes, labels, space, size)
    around = space.file.around_boxes
    if around is not None and sample.mask is None:
        free = surroundings(sample.boxes, around.margin, size) & (boxes == NOTHING)
        ignored = np.isin(sample.box_ids, space.ids[space.ignored])
        boxes[free & ~surroundings(sample.boxes[ignored], 0.0, size)] = len(space.labels)
    if len(sample.tags) and (mixture := tag_mixture(encode_ids(sample.tags, space, sample.name), space)):
        boxes[(boxes == NOTHING) & (mask == NOTHING)] = MIXED - len(mixtures)
        mixtures.append(mixture)
    mask, boxes = (np.where(m >= 0, m + offset, m).astype(np.int16) for m in (mask, boxes))
    running = (tuple((w, tuple(label + offset for label in labels)) for w, labels in m) for m in mixtures)
    return Target(mask, boxes, tuple(running))


@dataclass
class Mixtures:
    """Mixtures of a batch: `labels` (B, S, G, K) int64 running numbers, padded with -1, and `weights` (B, S, G)."""

    labels: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> "Mixtures":
        return Mixtures(self.labels.to(device), self.weights.to(device))


def pad_mixtures(images: Sequence[Sequence[Mixture]]) -> Mixtures:
    """The mixtures of every image of a batch as tensors."""
    if not any(images):
        return Mixtures(torch.zeros(len(images), 0, 1, 1, dtype=torch.long), torch.zeros(len(images), 0, 1))
    labels = _padded([[[list(members) for _, members in m] for m in image] for image in images], levels=4)
    weights = torch.zeros(labels.shape[:3])
    for i, image in enumerate(images):
        for j, mixture in enumerate(image):
            weights[i, j, : len(mixture)] = torch.tensor([w for w, _ in mixture])
    return Mixtures(labels, weights)


@dataclass
class Terms:
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

    def to(self, device: torch.device) -> "Terms":
        return Terms(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def _padded(rows: Sequence[Sequence], fill: int = -1, levels: int = 0) -> Tensor:
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


def build_terms(spaces: Sequence[LabelSpace]) -> Terms:
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
    return Terms(
        path=_padded(path),
        path_of=_padded(path_of),
        union=torch.tensor(union),
        parts=_padded(parts) if parts else torch.zeros(0, 1, 1, dtype=torch.long),
        parts_of=torch.tensor(parts_of, dtype=torch.long),
        below_gate=_padded(below, fill=0).bool(),
        union_below_gate=torch.tensor(union_below).bool(),
        gate=_padded(gates),
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


__all__ = [
    "MIXED",
    "NOTHING",
    "Mixture",
    "Mixtures",
    "Target",
    "Terms",
    "build_terms",
    "classifier_weights",
    "draw_shape",
    "encode",
    "encode_ids",
    "label_gate",
    "offsets",
    "pad_mixtures",
    "rasterise",
    "share_boxes",
    "surroundings",
    "tag_mixture",
]
