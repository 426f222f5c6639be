"""What a dataset holds: images, boxes, and how often each label occurs in a sample of its training images."""

from dataclasses import dataclass, field

import numpy as np

from heteroseg.datasets import read_sample
from heteroseg.datasets.sample import spread_evenly
from heteroseg.evaluation.scores import truth
from heteroseg.experiment.sources import Source

SAMPLE = 60  # training images that are decoded for the shares of the labels


@dataclass(frozen=True)
class Statistics:
    """Counts of one dataset; `shares` and `boxes` by label name. Pixels of boxes are those of their shapes."""

    train: int
    val: int
    sampled: int
    size: str
    annotation: str
    shares: dict[str, float] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)


def count(source: Source) -> Statistics:
    """Decode up to SAMPLE training images, spread evenly, and count all boxes."""
    space = source.space
    items = spread_evenly(source.train, SAMPLE)
    pixels = np.zeros(len(space.labels), np.int64)
    sizes = set()
    for item in items:
        sample = read_sample(item)
        sizes.add(sample.image.shape[:2])
        label_indices = truth(sample, space)
        pixels += np.bincount(label_indices[label_indices >= 0], minlength=len(pixels))
    ids = np.concatenate([item.box_ids for item in source.train] or [np.zeros(0, np.int64)])
    boxes = {label.name: int((ids == label.id).sum()) for label in space.labels}
    known = [(label.name, int(n)) for label, n in zip(space.labels, pixels, strict=True) if label.leaves]
    total = sum(n for _, n in known)
    kinds = {"masks": any(i.mask for i in source.train), "boxes": bool(len(ids))}
    return Statistics(
        len(source.train), len(source.val), len(items), _sizes(sizes),
        " and ".join(kind for kind, there in kinds.items() if there) or "none",
        {name: n / total for name, n in known} if total else {}, {name: n for name, n in boxes.items() if n},
    )  # fmt: skip


def _sizes(sizes: set[tuple[int, ...]]) -> str:
    """Width times height, or the range of both."""
    if not sizes:
        return ""
    (least_h, least_w), (most_h, most_w) = np.min(list(sizes), 0), np.max(list(sizes), 0)
    if len(sizes) == 1:
        return f"{most_w} × {most_h}"
    return f"{least_w} × {least_h} to {most_w} × {most_h}"
