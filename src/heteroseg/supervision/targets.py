"""From masks, boxes and tags of a sample to label maps of running numbers.

Labels of all datasets of a run get one running number, so a batch is only a stack of images with (H, W) maps of
such numbers and nothing in it is positional. -1 means: nothing is known here.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from heteroseg.datasets.sample import CROWD, UNKNOWN, Sample
from heteroseg.errors import HeterosegError, listed
from heteroseg.labels.space import BoxShape, LabelSpace
from heteroseg.supervision.label_terms import label_gate, pad_ragged

NOTHING = -1
OCTAGON = 1.5  # |x| + |y| on its slanted sides: the released masks cut a quarter of each side, a regular one 0.29
MIXED = -2  # -2, -3, ...: the first, second, ... mixture of the image

# A pixel of which only alternatives are known adds the sum over (weight, labels) of weight * -log(sum of p(label)):
# several boxes on it are shares of single labels, tags one set of labels for each gate.
Mixture = tuple[tuple[float, tuple[int, ...]], ...]


def offsets(spaces: Sequence[LabelSpace]) -> list[int]:
    """The running number of each space's first label."""
    return [0, *accumulate(s.targets for s in spaces)]


def to_label_indices(ids: np.ndarray, space: LabelSpace, where: str) -> np.ndarray:
    """Native ids of any shape to int16 indices in `space.labels`; ignored labels and -1 become -1.

    An id that the space does not list raises HeterosegError with `where` (a file name).
    """
    indices = space.indices_of(ids)
    if indices.size and indices.min() < NOTHING:
        unknown = listed(np.unique(ids[indices < NOTHING]), 8)
        raise HeterosegError(
            f"{where}: expected ids of label space {space.name!r}, found {unknown}; "
            "add them to the label space (with 'ignore: true' if they mean nothing) or choose the right one"
        )
    return indices


def draw_shape(image: np.ndarray, box: np.ndarray, shape: BoxShape, value: int) -> None:
    """Fill the shape inscribed in a box (x1, y1, x2, y2, pixels, right and bottom exclusive) with `value`, in place.

    As in GTSDB's released fine masks a polygon has its corners at the centres of the box's outermost pixels, and a
    pixel belongs to it when its centre does or is within half a pixel, sideways or up and down. The centre of a disc
    that is an even number of pixels wide (high) is half a pixel further left (up), so that it is a pixel's centre.
    """
    height, width = image.shape
    x1, y1 = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    x2, y2 = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    if x2 <= x1 or y2 <= y1:
        return
    w, h = (box[2:] - box[:2]) / 2
    # pixel centres from the middle of the box
    x = (np.arange(x1, x2) + 0.5 - box[0] - w)[None, :]
    y = (np.arange(y1, y2) + 0.5 - box[1] - h)[:, None]
    inside = (np.abs(x) <= w) & (np.abs(y) <= h)
    if shape == "disc":
        inside &= ((x + 0.5 * (w % 1 == 0)) / w) ** 2 + ((y + 0.5 * (h % 1 == 0)) / h) ** 2 <= 1
    elif shape != "rectangle":
        a, b = max(w - 0.5, 0.25), max(h - 0.5, 0.25)
        moves = ((0, 0), (0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))
        inside &= np.logical_or.reduce([_in_polygon(shape, (x + dx) / a, (y + dy) / b) for dx, dy in moves])
    image[y1:y2, x1:x2][inside] = value


def _in_polygon(shape: BoxShape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points are in a polygon with corners at -1 and 1."""
    if shape.startswith("triangle"):
        inside = np.abs(x) <= (1 + y if shape == "triangle_up" else 1 - y) / 2
    else:
        inside = np.abs(x) + np.abs(y) <= (1 if shape == "diamond" else OCTAGON)
    return np.asarray(inside & (np.abs(x) <= 1) & (np.abs(y) <= 1))


def paint_boxes(boxes: np.ndarray, shapes: Sequence[BoxShape], values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Paint boxes into one map, the largest first, so that smaller boxes lie on top.

    `boxes` (N, 4) are x1, y1, x2, y2 in pixels, `shapes` (N) what each box really holds, `values` (N,) int what is
    painted; a box of the value -1 is left out. Returns (H, W) int32, -1 where no box is.
    """
    result = np.full(size, NOTHING, np.int32)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in np.argsort(-area, kind="stable"):
        if values[i] != NOTHING:
            draw_shape(result, boxes[i], shapes[i], int(values[i]))
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
    """As `paint_boxes` with label indices (N,), but a pixel in boxes of several labels is shared among them by number.

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


class Target(NamedTuple):
    """Label maps of one image, (H, W) int16 running label numbers: from its mask, and from its boxes and tags.

    Values from MIXED down in `boxes` stand for `mixtures`.
    """

    mask: np.ndarray
    boxes: np.ndarray
    mixtures: tuple[Mixture, ...] = ()


def encode(sample: Sample, space: LabelSpace, offset: int) -> Target:
    """Turn a sample's annotation into label maps for training; `offset` is the running number of the first label.

    Where no mask says anything, pixels around boxes get the target after the last label if the space has
    `around_boxes`; what lies inside the rectangle of an ignored box stays unknown. Tags speak for pixels of which no
    more is known. Neither speaks for a crowd. Nothing is taught outside the sample's window.
    """
    size, where = sample.image.shape[:2], str(sample.file or sample.name)
    where_boxes = str(sample.box_file or where)
    shown = np.zeros(size, bool)  # what a crop shows beyond the photograph's edge is nothing
    x1, y1, x2, y2 = sample.window or (0, 0, size[1], size[0])
    shown[y1:y2, x1:x2] = True
    mask = np.full(size, NOTHING, np.int16) if sample.mask is None else to_label_indices(sample.mask, space, where)
    boxes = np.full(size, NOTHING, np.int16)
    mixtures: list[Mixture] = []
    if len(sample.boxes):
        labels = to_label_indices(sample.box_ids, space, where_boxes)
        if space.file.overlap == "share":
            boxes, mixtures = share_boxes(sample.boxes, labels, space, size)
        else:
            shapes = [space.labels[i].shape for i in labels]
            boxes = paint_boxes(sample.boxes, shapes, labels, size).astype(np.int16)
    crowds = surroundings(sample.boxes[sample.box_ids == UNKNOWN], 0.0, size)
    if sample.mask is not None:
        crowds |= sample.mask == CROWD
    around = space.file.around_boxes
    if around is not None:
        sure = sample.boxes[sample.box_ids != UNKNOWN]
        free = surroundings(sure, around.margin, size) & (boxes == NOTHING)
        if sample.mask is not None:
            free &= sample.mask == UNKNOWN
        ignored = surroundings(sample.boxes[np.isin(sample.box_ids, space.ids[space.ignored])], 0.0, size)
        boxes[free & ~ignored & ~crowds] = len(space.labels)
    if len(sample.tags) and (mixture := tag_mixture(to_label_indices(sample.tags, space, where_boxes), space)):
        boxes[(boxes == NOTHING) & (mask == NOTHING) & ~crowds] = MIXED - len(mixtures)
        mixtures.append(mixture)
    for labels in (mask, boxes):
        labels[~shown] = NOTHING
        np.add(labels, offset, out=labels, where=labels >= 0)
    running = (tuple((w, tuple(label + offset for label in labels)) for w, labels in m) for m in mixtures)
    return Target(mask, boxes, tuple(running))


class Mixtures(NamedTuple):
    """Mixtures of a batch: `labels` (B, S, G, K) int64 running numbers, padded with -1, and `weights` (B, S, G)."""

    labels: Tensor
    weights: Tensor


def pad_mixtures(images: Sequence[Sequence[Mixture]]) -> Mixtures:
    """The mixtures of every image of a batch as tensors."""
    if not any(images):
        return Mixtures(torch.zeros(len(images), 0, 1, 1, dtype=torch.long), torch.zeros(len(images), 0, 1))
    labels = pad_ragged([[[members for _, members in m] for m in image] for image in images], levels=4)
    weights = torch.zeros(labels.shape[:3])
    for i, image in enumerate(images):
        for j, mixture in enumerate(image):
            weights[i, j, : len(mixture)] = torch.tensor([w for w, _ in mixture])
    return Mixtures(labels, weights)
