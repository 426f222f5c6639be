"""What a dataset holds: images, boxes, and how often each label occurs in a sample of its training images."""

from typing import Any

from heteroseg.errors import raise_faults
from heteroseg.experiment.sources import Source
from heteroseg.supervision.coverage import count_split

SAMPLE = 60  # training images that are looked at for the shares of the labels


def count(source: Source) -> dict[str, Any]:
    """Look at the masks of up to SAMPLE training images, or where there are none at boxes, and count all boxes.

    `train`, `val` and `sampled` are numbers of images, `size` and `annotation` words; `shares` of the labelled pixels
    and `boxes` are by label name. Pixels of boxes are those of their shapes.
    """
    labels, counts = source.space.labels, count_split(source, "train", SAMPLE)
    raise_faults(counts.faults)
    known = {label.name: int(n) for label, n in zip(labels, counts.pixels, strict=True) if label.leaves}
    total, sizes = sum(known.values()), counts.sizes
    kinds = ["masks"] * any(i.mask for i in source.train) + ["boxes"] * any(len(i.boxes) for i in source.train)
    extremes = (sizes.min(0), sizes.max(0)) if len(sizes) else ()
    return {
        "config": source.config,
        "train": len(source.train),
        "val": len(source.val),
        "sampled": len(sizes),
        "size": " to ".join(dict.fromkeys(f"{width} × {height}" for height, width in extremes)),
        "annotation": " and ".join(kinds) or "none",
        "shares": {name: n / total for name, n in known.items()} if total else {},
        "boxes": {label.name: int(n) for label, n in zip(labels, counts.boxes, strict=True) if n},
    }
