"""What a dataset holds: images, boxes, and how often each label occurs in a sample of its training images."""

from typing import Any

import numpy as np

from heteroseg.datasets import read_sample
from heteroseg.datasets.sample import spread_evenly
from heteroseg.evaluation.scores import truth
from heteroseg.experiment.sources import Source

SAMPLE = 60  # training images that are decoded for the shares of the labels


def count(source: Source) -> dict[str, Any]:
    """Decode up to SAMPLE training images, spread evenly, and count all boxes.

    `train`, `val` and `sampled` are numbers of images, `size` and `annotation` words; `shares` of the labelled pixels
    and `boxes` are by label name. Pixels of boxes are those of their shapes.
    """
    space = source.space
    items = spread_evenly(source.train, SAMPLE)
    pixels = np.zeros(len(space.labels), np.int64)
    sizes = []
    for item in items:
        sample = read_sample(item)
        sizes.append(sample.image.shape[:2])
        label_indices = truth(sample, space)
        pixels += np.bincount(label_indices[label_indices >= 0], minlength=len(pixels))
    ids = np.array([i for item in source.train for i in item.box_ids], np.int64)
    boxes = {label.name: int((ids == label.id).sum()) for label in space.labels}
    known = {label.name: int(n) for label, n in zip(space.labels, pixels, strict=True) if label.leaves}
    total = sum(known.values())
    kinds = ["masks"] * any(i.mask for i in source.train) + ["boxes"] * bool(len(ids))
    extremes = (np.min(sizes, 0), np.max(sizes, 0)) if sizes else ()
    return {
        "config": source.config,
        "train": len(source.train),
        "val": len(source.val),
        "sampled": len(items),
        "size": " to ".join(dict.fromkeys(f"{width} × {height}" for height, width in extremes)),
        "annotation": " and ".join(kinds) or "none",
        "shares": {name: n / total for name, n in known.items()} if total else {},
        "boxes": {name: n for name, n in boxes.items() if n},
    }
