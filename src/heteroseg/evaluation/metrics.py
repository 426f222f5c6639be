"""Scores from int64 confusion counts, summed over images.

Rows are true labels, columns predicted ones; the last column counts predictions outside the label space, which are
misses. Only classes with true pixels have scores: others are None, never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heteroseg.labels.space import LabelSpace


def count_pairs(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """How often each pair of indices occurs: (N,) ints below shape[0] and (N,) below shape[1] to `shape` int64."""
    flat = first.astype(np.int64) * shape[1] + second
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)


def confusion(truth: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """(labels, labels + 1) int64 counts; `truth` -1 is not counted, `predicted` -1 is outside (last column)."""
    known = truth >= 0
    columns = np.where(predicted[known] < 0, labels, predicted[known])
    return count_pairs(truth[known], columns, (labels, labels + 1))


@dataclass(frozen=True)
class Scores:
    """`iou` and `acc` per class (NaN where a class has no true pixel), `pixels` its true pixels, and their means."""

    iou: np.ndarray
    acc: np.ndarray
    pixels: np.ndarray
    miou: float | None
    macc: float | None
    pixel_acc: float | None


def scores(counts: np.ndarray, evaluated: np.ndarray | None = None, alarms: np.ndarray | None = None) -> Scores:
    """Scores of (classes, classes + 1) counts; `evaluated` (classes,) bool leaves classes out as truth.

    A pixel of a class that is not evaluated is neither hit nor miss nor false alarm, as in cityscapesScripts. `alarms`
    (classes,) int64 are false alarms on pixels without a label.
    """
    counts = counts.astype(np.int64)
    if evaluated is not None:
        counts = counts * evaluated[:, None]
    pixels = counts.sum(1)
    hit = np.diagonal(counts)
    present = pixels > 0
    union = pixels + counts[:, :-1].sum(0) - hit + (0 if alarms is None else alarms)
    iou = np.where(present, hit / np.maximum(union, 1), np.nan)
    acc = np.where(present, hit / np.maximum(pixels, 1), np.nan)
    if not present.any():
        return Scores(iou, acc, pixels, None, None, None)
    return Scores(iou, acc, pixels, float(np.nanmean(iou)), float(np.nanmean(acc)), float(hit.sum() / pixels.sum()))


def merge(counts: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    """Confusion counts of label groups: `groups` (labels,) gives each label's group."""
    result = np.zeros((size, size + 1), np.int64)
    columns = np.append(groups, size)
    np.add.at(result, (groups[:, None], columns[None, :]), counts)
    return result


def groups_at_depth(space: LabelSpace, depth: int) -> tuple[np.ndarray, list[str]]:
    """Each label's group when the tree is cut at `depth`, and the groups' names.

    A label goes to its ancestor at that depth; one that lies higher, or across several branches, stays by itself.
    """
    tree = space.taxonomy
    names: dict[str, int] = {}
    groups = []
    for label in space.labels:
        path = tree.path(tree.common_ancestor(tree.cover(label.leaves))) if label.leaves else ()
        name = tree.names[path[depth]] if len(path) > depth else f"{label.name} (label)"
        groups.append(names.setdefault(name, len(names)))
    return np.array(groups), list(names)


def compatible(space: LabelSpace) -> np.ndarray:
    """(nodes, labels) bool: whether a node has a leaf that the label allows."""
    spans = space.taxonomy.spans
    return np.array([[any(a <= leaf < b for leaf in label.leaves) for label in space.labels] for a, b in spans])


def answered(counts: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(2, depths + 1) int64 of the (labels, nodes) int64 answers in an image: evaluated pixels, and right ones, by the
    depth of the answer."""
    counts, depths = counts.T * space.evaluated, np.array(space.taxonomy.depths)
    by_node = np.stack([counts.sum(1), (counts * compatible(space)).sum(1)])
    return np.stack([by_node[:, depths == d].sum(1) for d in range(max(depths) + 1)], 1)


def held(images: Sequence[np.ndarray], precision: float) -> dict[str, Any]:
    """How the promise was held, from `answered` of each image.

    `held`: the mean over images of the share of their pixels that is answered right. Of all pixels, by depth 1, 2, ...:
    `coverage`, the share that is answered so deep or deeper, and `right`, of these the right ones. `depth`: the mean.
    """
    pixels, right = np.stack(images).transpose(1, 0, 2)
    some = pixels.sum(1) > 0
    deeper, right_deeper = (each.sum(0)[::-1].cumsum()[::-1] for each in (pixels, right))
    shares = deeper / max(deeper[0], 1)
    return {
        "promised": precision,
        "held": float((right.sum(1)[some] / pixels.sum(1)[some]).mean()) if some.any() else None,
        "images": int(some.sum()),
        "coverage": shares[1:].tolist(),
        "right": [int(r) / int(p) if p else None for r, p in zip(right_deeper[1:], deeper[1:], strict=True)],
        "depth": float(shares[1:].sum()),
    }
