"""Every image and label of an experiment read once, and counted; what looks wrong is told."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from heteroseg.datasets import read_sample
from heteroseg.datasets.paths import IMAGE_SUFFIXES, walk
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source, overlaps, require_apart
from heteroseg.labels.space import LabelSpace
from heteroseg.supervision.coverage import Taught, count_ids, ignored, untaught
from heteroseg.supervision.targets import encode

MAX_FAULTS = 20  # told of each split


@dataclass(frozen=True)
class Counts:
    """How often the labels of a split occur; arrays are (labels,) int64: pixels, images with any, boxes, and tags.

    `total` are its images; `notes` say how often images are read in a way that is not plain. Of the `masked` pixels
    `silent` teach nothing.
    """

    total: int
    notes: dict[str, int]
    pixels: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    tags: np.ndarray
    masked: int
    silent: int
    faults: tuple[str, ...]

    @property
    def occurring(self) -> np.ndarray:
        """(labels,) bool: labels that anything in the split has."""
        return (self.pixels + self.boxes + self.tags) > 0


def _count(item: Item, space: LabelSpace, scoring: bool) -> tuple[np.ndarray, tuple[str, ...], int, int] | list[str]:
    """Labelled pixels of one image by label position, notes of the image, pixels of its mask and those without a
    label; or its faults. `scoring` reads its mask for scoring."""
    try:
        sample = read_sample(item, scoring)
        target = encode(sample, space, 0)
        maps = [target.mask] if scoring and item.scoring_mask is not None else [target.mask, target.boxes]
        known = np.concatenate([m[m >= 0] for m in maps])
        pixels = np.bincount(known, minlength=space.targets)[: len(space.labels)]
        masked = 0 if sample.mask is None else target.mask.size
        return pixels, sample.notes, masked, int((target.mask < 0).sum()) if masked else 0
    except HeterosegError as error:
        return list(error.faults)


def count_split(source: Source, split: str) -> Counts:
    """Decode all images and annotations of `split` ('train' or 'val'). Faults are collected and not raised."""
    items = source.train if split == "train" else source.val
    with ThreadPoolExecutor(2) as pool:  # decoding leaves Python's lock alone
        results = list(pool.map(lambda item: _count(item, source.space, split == "val"), items))
    sound = [r for r in results if not isinstance(r, list)]
    pixels = np.array([r[0] for r in sound], np.int64).reshape(-1, len(source.space.labels))
    boxes, tags = (count_ids(items, kind, source.space) for kind in ("box_ids", "tags"))
    notes = Counter(note for r in sound for note in r[1])
    masked, silent = sum(r[2] for r in sound), sum(r[3] for r in sound)
    faults = tuple(fault for r in results if isinstance(r, list) for fault in r)
    return Counts(len(items), notes, pixels.sum(0), (pixels > 0).sum(0), boxes, tags, masked, silent, faults)


def _check_split(source: Source, split: str, counts: Counts, log: Callable[[str], None]) -> list[str]:
    """Print the counts of a split; returns its first faults."""
    labelled, boxes, name = counts.pixels.sum(), counts.boxes.sum(), f"{source.name} {split}"
    log(f"{name}: {counts.total} images, {labelled} labelled pixels{f', {boxes} boxes' * bool(boxes)}")
    for label, pixels, images in zip(source.space.labels, counts.pixels, counts.images, strict=True):
        if label.leaves:
            log(f"  {label.id:6d}  {label.name:<28} {pixels:>12}  {pixels / max(labelled, 1):8.3%}  in {images} images")
    for note, images in counts.notes.items():
        log(f"warning: {name}: {images} images {note}")
    for note in ignored(name, counts.silent, counts.masked):
        log(f"warning: {note}")
    more = len(counts.faults) - MAX_FAULTS
    faults = [*counts.faults[:MAX_FAULTS], *[f"{name}: {more} more faults like these"] * (more > 0)]
    if not counts.faults and not counts.occurring.any():
        taught = "a labelled pixel, box or tag"
        faults.append(f"{name}: expected {taught}, found none in {counts.total} images; check the label space's ids")
    return faults


def _unused(source: Source) -> list[str]:
    """A note of the image files in a dataset's folder that neither split uses."""
    items = [*source.train, *source.val]
    used = {path for item in items for path in (item.image, item.mask, item.scoring_mask)}
    spare = sorted(path for path in walk(source.root, IMAGE_SUFFIXES) if path not in used)
    told = f"{source.name}: {len(spare)} image files in {source.root} belong to neither split"
    return [f"{told}, such as {spare[0]}"] if spare else []


def check_data(sources: Sequence[Source], log: Callable[[str], None], allow_overlap: bool = False) -> None:
    """Decode every image and annotation, and print how often each label occurs, and warnings (but for the notes of the
    sources, which are known before).

    Raises HeterosegError with all faults: files that cannot be read, ids outside the label space, bad boxes, splits
    without any label, and val images that are train images too, unless `allow_overlap`.
    """
    faults, counts = [], {}
    for source in sources:
        for split in ("train", "val"):
            if getattr(source, split):
                counts[source.name, split] = count_split(source, split)
                faults += _check_split(source, split, counts[source.name, split], log)
    trained = [(source, counts[source.name, "train"]) for source in sources if source.train]
    for note in untaught([Taught(source, c.occurring, c.silent, c.masked) for source, c in trained]):
        log(f"warning: {note}")
    for source in sources:
        for note in _unused(source):
            log(note)
    same = []
    try:
        same = require_apart(sources, allow_overlap)
    except HeterosegError as error:
        faults += error.faults
    for overlap in [*same, *overlaps(sources, content=True)]:
        log(f"warning: {overlap}")
    if faults:
        raise HeterosegError(*faults)
    log("all sound")
