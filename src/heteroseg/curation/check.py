"""Every image and label of an experiment read once, and counted."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from heteroseg.datasets import read_sample
from heteroseg.datasets.sample import Item, no_ids
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source
from heteroseg.labels.space import LabelSpace
from heteroseg.supervision.targets import encode

MAX_FAULTS = 20  # told of each split


@dataclass(frozen=True)
class Counts:
    """How often the labels of a split occur; arrays are (labels,) int64: pixels, images with any, and boxes."""

    total: int
    pixels: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    faults: tuple[str, ...]


def _count(item: Item, space: LabelSpace, scoring: bool) -> np.ndarray | list[str]:
    """Labelled pixels of one image by label position, or its faults; `scoring` reads its mask for scoring."""
    try:
        target = encode(read_sample(item, scoring), space, 0)
        maps = [target.mask] if scoring and item.scoring_mask is not None else [target.mask, target.boxes]
        known = np.concatenate([m[m >= 0] for m in maps])
        return np.bincount(known, minlength=space.targets)[: len(space.labels)]
    except HeterosegError as error:
        return list(error.faults)


def count_split(source: Source, split: str) -> Counts:
    """Decode all images and annotations of `split` ('train' or 'val'). Faults are collected and not raised."""
    items = source.train if split == "train" else source.val
    with ThreadPoolExecutor(2) as pool:  # decoding leaves Python's lock alone
        results = list(pool.map(lambda item: _count(item, source.space, split == "val"), items))
    labels = source.space.labels
    pixels = np.array([r for r in results if not isinstance(r, list)], np.int64).reshape(-1, len(labels))
    ids = np.concatenate([no_ids(), *(item.box_ids for item in items)])
    boxes = np.array([int((ids == label.id).sum()) for label in labels])
    faults = tuple(fault for r in results if isinstance(r, list) for fault in r)
    return Counts(len(items), pixels.sum(0), (pixels > 0).sum(0), boxes, faults)


def _check_split(source: Source, split: str, log: Callable[[str], None]) -> list[str]:
    """Count a split and print the counts; returns its first faults."""
    counts = count_split(source, split)
    labelled, boxes = counts.pixels.sum(), counts.boxes.sum()
    log(f"{source.name} {split}: {counts.total} images, {labelled} labelled pixels{f', {boxes} boxes' * bool(boxes)}")
    for label, pixels, images in zip(source.space.labels, counts.pixels, counts.images, strict=True):
        if label.leaves:
            log(f"  {label.id:6d}  {label.name:<28} {pixels:>12}  {pixels / max(labelled, 1):8.3%}  in {images} images")
    more = len(counts.faults) - MAX_FAULTS
    return [*counts.faults[:MAX_FAULTS], *[f"{source.name} {split}: {more} more faults like these"] * (more > 0)]


def check_data(sources: Sequence[Source], log: Callable[[str], None]) -> None:
    """Decode every image and annotation, and print how often each label occurs.

    Raises HeterosegError with all faults: files that cannot be read, ids outside the label space, bad boxes.
    """
    splits = [(source, split) for source in sources for split in ("train", "val") if getattr(source, split)]
    faults = [fault for source, split in splits for fault in _check_split(source, split, log)]
    if faults:
        raise HeterosegError(*faults)
    log("all sound")
