"""Every image and label of an experiment read once, and counted; what looks wrong is told."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from heteroseg.datasets import read_sample
from heteroseg.datasets.paths import IMAGE_SUFFIXES, grouped, walk
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source, require_apart
from heteroseg.labels.space import LabelSpace
from heteroseg.supervision.coverage import Pixels, Taught, count_ids, count_pixels, ignored, untaught


@dataclass(frozen=True)
class Counts:
    """How often the labels of a split occur; arrays are (labels,) int64: pixels, images with any, boxes, and tags.

    `total` are its images, `labelled` its pixels with any label; `notes` say how often images are read in a way that is
    not plain. Of the `masked` pixels `silent` teach nothing.
    """

    total: int
    notes: dict[str, int]
    pixels: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    tags: np.ndarray
    labelled: int
    masked: int
    silent: int
    faults: tuple[str, ...]

    @property
    def occurring(self) -> np.ndarray:
        """(labels,) bool: labels that anything in the split has."""
        return (self.pixels + self.boxes + self.tags) > 0


def _count(item: Item, space: LabelSpace, scoring: bool) -> tuple[Pixels, tuple[str, ...]] | list[str]:
    """Pixels and notes of one image, or its faults. `scoring` reads its mask for scoring."""
    try:
        sample = read_sample(item, scoring)
        return count_pixels(sample, space, scoring and item.scoring_mask is not None), sample.notes
    except HeterosegError as error:
        return list(error.faults)


def count_split(source: Source, split: str) -> Counts:
    """Decode all images and annotations of `split` ('train' or 'val'). Faults are collected and not raised."""
    items = source.train if split == "train" else source.val
    with ThreadPoolExecutor(2) as pool:  # decoding leaves Python's lock alone
        results = list(pool.map(lambda item: _count(item, source.space, split == "val"), items))
    sound = [r for r in results if not isinstance(r, list)]
    images = [image for image, _ in sound]
    pixels = np.array([image.labels for image in images], np.int64).reshape(-1, len(source.space.labels))
    return Counts(
        total=len(items),
        notes=Counter(note for _, notes in sound for note in notes),
        pixels=pixels.sum(0),
        images=(pixels > 0).sum(0),
        boxes=count_ids(items, "box_ids", source.space),
        tags=count_ids(items, "tags", source.space),
        labelled=sum(image.labelled for image in images),
        masked=sum(image.masked for image in images),
        silent=sum(image.silent for image in images),
        faults=tuple(fault for r in results if isinstance(r, list) for fault in r),
    )


def _table(space: LabelSpace, counts: Counts) -> Iterator[str]:
    """A line for each label that means something, under a line of headings."""
    width = max(len(label.name) for label in space.labels)
    marks = {kind: n for kind, n in (("boxes", counts.boxes), ("tags", counts.tags)) if n.any()}
    yield f"  {'id':>6}  {'label':<{width}}  {'pixels':>12}  {'share':>8}  {'images':>7}" + "".join(
        f"  {kind:>7}" for kind in marks
    )
    for i, label in enumerate(space.labels):
        if label.leaves:
            pixels, share = counts.pixels[i], counts.pixels[i] / max(counts.labelled, 1)
            line = f"  {label.id:6d}  {label.name:<{width}}  {pixels:>12}  {share:>8.3%}  {counts.images[i]:>7}"
            yield line + "".join(f"  {n[i]:>7}" for n in marks.values())


def _check_split(source: Source, split: str, counts: Counts, log: Callable[[str], None]) -> list[str]:
    """Print the counts of a split; returns its first faults."""
    name, boxes, tags = f"{source.name} {split}", counts.boxes.sum(), counts.tags.sum()
    marks = f"{f', {boxes} boxes' * bool(boxes)}{f', {tags} tags' * bool(tags)}"
    log(f"{name}: {counts.total} images, {counts.labelled} labelled pixels{marks}")
    for line in _table(source.space, counts):
        log(line)
    for note, images in counts.notes.items():
        log(f"warning: {name}: {images} images {note}")
    so = "nothing teaches what they are" if split == "train" else "no score tells how they are answered"
    for note in ignored(name, counts.silent, counts.masked, so=so):
        log(f"warning: {note}")
    faults = grouped(name, counts.faults)
    if not counts.faults and not counts.occurring.any():
        taught = "a labelled pixel, box or tag"
        faults.append(f"{name}: expected {taught}, found none in {counts.total} images; check the label space's ids")
    return faults


def _unused(sources: Sequence[Source]) -> Iterator[str]:
    """A note of the image files in each dataset's folder that no split of any dataset uses."""
    items = [item for source in sources for item in (*source.train, *source.val)]
    used = {path for item in items for path in (item.image, item.mask, item.scoring_mask)}
    for source in sources:
        spare = sorted(path for path in walk(source.root, IMAGE_SUFFIXES) if path not in used)
        if spare:
            told = f"{source.name}: {len(spare)} image files in {source.root} belong to neither split"
            yield f"{told}, such as {spare[0]}"


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
    taught = [Taught(source, c.occurring, c.silent, c.masked) for source, c in trained]
    for note in [] if any(c.faults for _, c in trained) else untaught(taught):  # what is faulty may hold what lacks
        log(f"warning: {note}")
    for note in _unused(sources):
        log(note)
    same = []
    try:
        same = require_apart(sources, allow_overlap, content=True)
    except HeterosegError as error:
        faults += error.faults
    for overlap in same:
        log(f"warning: {overlap}")
    if faults:
        raise HeterosegError(*faults)
    log("all sound")
