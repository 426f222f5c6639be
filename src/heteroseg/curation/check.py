"""Every image and label of an experiment read once, and counted; what looks wrong is told."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from heteroseg.datasets import read_sample
from heteroseg.datasets.paths import IMAGE_SUFFIXES, walk
from heteroseg.datasets.sample import Item, no_ids
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source, overlaps
from heteroseg.labels.space import LabelSpace
from heteroseg.supervision.targets import encode

MAX_FAULTS = 20  # told of each split
MUCH = 0.25  # of the pixels of masks: more of them ignored is worth a warning
NAMED = 5  # labels that a warning names


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
    marks = (np.concatenate([no_ids(), *(getattr(item, kind) for item in items)]) for kind in ("box_ids", "tags"))
    boxes, tags = (np.array([int((ids == label.id).sum()) for label in source.space.labels]) for ids in marks)
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
    if counts.silent > MUCH * counts.masked:
        share = f"{counts.silent / counts.masked:.0%}"
        log(f"warning: {name}: {share} of the pixels are ignored; nothing teaches what they are")
    more = len(counts.faults) - MAX_FAULTS
    faults = [*counts.faults[:MAX_FAULTS], *[f"{name}: {more} more faults like these"] * (more > 0)]
    if not counts.faults and not counts.occurring.any():
        taught = "a labelled pixel, box or tag"
        faults.append(f"{name}: expected {taught}, found none in {counts.total} images; check the label space's ids")
    return faults


def _untaught(sources: Sequence[Source], counts: dict[tuple[str, str], Counts]) -> list[str]:
    """Warnings of labels that occur in no training image, and of leaves that no label that occurs tells apart."""
    notes, tree = [], sources[0].space.taxonomy
    taught = np.zeros(len(tree.leaves), bool)
    for source in sources:
        if not source.train:
            continue
        occurring, table = counts[source.name, "train"].occurring, source.space.training_table
        rare = [
            label.name
            for label, there in zip(source.space.labels, occurring, strict=True)
            if label.leaves and not there
        ]
        notes += _named(f"{source.name} train: no pixel, box or tag has", rare)
        for row in np.flatnonzero(np.append(occurring, [True] * (len(table) - len(occurring)))):
            for start, stop in tree.spans:
                if not table[row, start:stop].all():
                    taught[start:stop] |= table[row, start:stop]
    return notes + _named(
        "nothing teaches", [tree.names[leaf] for leaf, there in zip(tree.leaves, taught, strict=True) if not there]
    )


def _named(told: str, names: Sequence[str]) -> list[str]:
    more = f" and {len(names) - NAMED} more" * (len(names) > NAMED)
    return [f"{told} {', '.join(map(repr, names[:NAMED]))}{more}"] if names else []


def _unused(source: Source) -> list[str]:
    """A note of the image files in a dataset's folder that neither split uses."""
    items = [*source.train, *source.val]
    used = {path for item in items for path in (item.image, item.mask, item.scoring_mask)}
    spare = sorted(path for path in walk(source.root, IMAGE_SUFFIXES) if path not in used)
    told = f"{source.name}: {len(spare)} image files in {source.root} belong to neither split"
    return [f"{told}, such as {spare[0]}"] if spare else []


def check_data(sources: Sequence[Source], log: Callable[[str], None], allow_overlap: bool = False) -> None:
    """Decode every image and annotation, and print how often each label occurs, and warnings.

    Raises HeterosegError with all faults: files that cannot be read, ids outside the label space, bad boxes, splits
    without any label, and val images that are train images too, unless `allow_overlap`.
    """
    faults, counts = [], {}
    for source in sources:
        for split in ("train", "val"):
            if getattr(source, split):
                counts[source.name, split] = count_split(source, split)
                faults += _check_split(source, split, counts[source.name, split], log)
    for note in [*(note for source in sources for note in source.notes), *_untaught(sources, counts)]:
        log(f"warning: {note}")
    for source in sources:
        for note in _unused(source):
            log(note)
    same_files, same_bytes = overlaps(sources), overlaps(sources, content=True)
    for overlap in [
        *(same_files if allow_overlap else []),
        *(fault for fault in same_bytes if fault not in same_files),
    ]:
        log(f"warning: {overlap}")
    faults += [] if allow_overlap else same_files
    if faults:
        raise HeterosegError(*faults)
    log("all sound")
