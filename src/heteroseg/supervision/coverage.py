"""What the annotation of a run teaches, and what it leaves untaught: told before training and by `data check`."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from heteroseg.datasets import read_annotation, read_sample
from heteroseg.datasets.image_files import bytes_of, view
from heteroseg.datasets.paths import grouped
from heteroseg.datasets.sample import Item, Sample, no_ids, spread_evenly
from heteroseg.errors import HeterosegError, counted, listed, raise_faults
from heteroseg.experiment.sources import Source, require_apart
from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.supervision.targets import NOTHING, encode

SAMPLE, AFTERWARDS = 50, 1000  # training images of each dataset whose masks are looked at before training, and after
PIXELS = 2**29  # of these masks, where they are more than SAMPLE: some seconds
MUCH = 0.25  # of the pixels of masks: more of them ignored is worth a warning
NAMED = 5  # labels that a warning names


@dataclass(frozen=True)
class Counts:
    """How often the labels of a split occur; arrays are (labels,) int64: pixels, images with any, boxes, and tags.

    `total` are the images of the split, `labelled` its pixels with any label. Of the `masked` pixels, all that masks
    have, `silent` teach nothing. `sizes` (images, 2) int64 are height and width of the images that were looked at.
    `notes`: how often images are read in a way that is not plain. `where` says which masks were looked at, if not all.
    """

    total: int
    pixels: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    tags: np.ndarray
    labelled: int
    masked: int
    silent: int
    sizes: np.ndarray
    notes: dict[str, int]
    faults: tuple[str, ...]
    where: str = ""

    @property
    def occurring(self) -> np.ndarray:
        """(labels,) bool: labels that anything in the split has."""
        return np.asarray(self.pixels + self.boxes + self.tags > 0)


def look_over(sources: Sequence[Source], allow_overlap: bool = False, most: int = SAMPLE) -> list[str]:
    """Warnings about the data of an experiment, for which up to `most` masks of each dataset are decoded.

    Of large ones only as many as have PIXELS, but SAMPLE at least.

    A dataset without labels, and val images that are train images too (unless `allow_overlap`) raise HeterosegError.
    """
    require_labels(sources)
    notes = [*(note for source in sources for note in source.notes), *require_apart(sources, allow_overlap)]
    taught = [(source, count_split(source, "train", most)) for source in sources if source.train]
    raise_faults(fault for source, counts in taught for fault in grouped(f"{source.name} train", counts.faults))
    for source, counts in taught:
        notes += ignored(f"{source.name} train", counts.silent, counts.masked, counts.where)
    return notes + untaught(taught)


def require_labels(sources: Iterable[Source]) -> None:
    """Raise HeterosegError for each dataset of which no training image has a mask, shape, box or tag."""
    faults = [
        f"datasets.{s.name}: expected a mask, shape, box or tag in the train split {s.config.train!r}, found none in "
        f"{counted(len(s.train), 'image')}; correct the reader's options, or take it out of training with train: null"
        for s in sources
        if s.train and not any(item.mask is not None or len(item.boxes) or len(item.tags) for item in s.train)
    ]
    raise_faults(faults)


class _Pixels(NamedTuple):
    """Pixels of an image: `labels` (labels,) int64 how many teach each, of masks and boxes, and others as in Counts."""

    labels: np.ndarray
    labelled: int
    masked: int
    silent: int
    size: tuple[int, int]
    notes: tuple[str, ...]


def count_split(source: Source, split: str, most: int | None = None) -> Counts:
    """Decode all images and annotations of `split` ('train' or 'val'). Faults are collected and not raised.

    With `most` no photograph is decoded, and of the masks only so many, spread evenly; where there are none, so many
    images are looked at for the pixels of boxes. Boxes and tags count all.
    """
    items, space = source.train if split == "train" else source.val, source.space
    masks = [item for item in items if item.mask is not None]
    if most is not None and most > SAMPLE and masks:
        first = masks[0].image
        width, height = view(io.BytesIO(bytes_of(first)), first).size(True)
        most = min(most, max(SAMPLE, PIXELS // (width * height)))
    read, looked_at = (read_sample, items) if most is None else (read_annotation, spread_evenly(masks or items, most))
    with ThreadPoolExecutor(4) as pool:  # decoding leaves Python's lock alone
        results = list(pool.map(lambda item: _count_pixels(read, item, space, split == "val"), looked_at))
    images = [result for result in results if isinstance(result, _Pixels)]
    pixels = np.array([image.labels for image in images], np.int64).reshape(-1, len(space.labels))
    some = most is not None and len(looked_at) < len(masks)
    return Counts(
        total=len(items),
        pixels=pixels.sum(0),
        images=(pixels > 0).sum(0),
        boxes=_count_ids((item.box_ids for item in items), space),
        tags=_count_ids((item.tags for item in items), space),
        labelled=sum(image.labelled for image in images),
        masked=sum(image.masked for image in images),
        silent=sum(image.silent for image in images),
        sizes=np.array([image.size for image in images], np.int64).reshape(-1, 2),
        notes=Counter(note for image in images for note in image.notes),
        faults=tuple(fault for result in results if isinstance(result, HeterosegError) for fault in result.faults),
        where=f" in the {len(looked_at)} of {len(masks)} masks that were looked at" * some,
    )


def _count_pixels(
    read: Callable[[Item, bool], Sample], item: Item, space: LabelSpace, scoring: bool
) -> _Pixels | HeterosegError:
    """What the pixels of an image teach. Of a mask for scoring alone boxes do not count, and it may be silent."""
    try:
        sample = read(item, scoring)
        target = encode(sample, space, 0)
    except HeterosegError as error:
        return error
    mask_alone = scoring and item.scoring_mask is not None
    maps = [target.mask] if mask_alone else [target.mask, target.boxes]
    known = np.concatenate([m[m >= 0] for m in maps])
    labels = np.bincount(known, minlength=space.targets)[: len(space.labels)]
    labelled = np.logical_or.reduce([(m >= 0) & (m < len(space.labels)) for m in maps])
    silent = np.logical_and.reduce([m == NOTHING for m in maps])
    counts = sample.mask is not None and not mask_alone
    masked, of_no_use = silent.size * counts, int(silent.sum()) * counts
    return _Pixels(labels, int(labelled.sum()), masked, of_no_use, sample.image.shape[:2], sample.notes)


def _count_ids(ids: Iterable[np.ndarray], space: LabelSpace) -> np.ndarray:
    """(labels,) int64: how often each label is among ids (N,)."""
    counts = Counter(np.concatenate([no_ids(), *ids]).tolist())
    return np.array([counts[label.id] for label in space.labels], np.int64)


def ignored(
    name: str, silent: int, masked: int, where: str = "", so: str = "nothing teaches what they are"
) -> list[str]:
    """A warning where much of the `masked` pixels is `silent`."""
    told = f"{name}: {100 * silent // max(masked, 1)}% of the pixels{where} are ignored; {so}"
    return [told] if silent > MUCH * masked else []


def untaught(taught: Sequence[tuple[Source, Counts]]) -> list[str]:
    """Warnings of labels that occur in no training image, and of leaves that nothing tells from those beside them."""
    if not taught:
        return []
    notes, tree, rows = [], taught[0][0].space.taxonomy, []
    for source, counts in taught:
        space, table, occurring = source.space, source.space.training_table, counts.occurring
        rare = [label.name for label, there in zip(space.labels, occurring, strict=True) if label.leaves and not there]
        notes += _named(f"{source.name} train: no pixel, box or tag has", rare, counts.where)
        rows.append(table[np.flatnonzero(np.append(occurring, [True] * (len(table) - len(occurring))))])
    learnt = _learnt(tree, np.concatenate(rows))
    rare = [tree.names[leaf] for leaf, there in zip(tree.leaves, learnt, strict=True) if not there]
    where = " in the masks that were looked at" * any(counts.where for _, counts in taught)
    return notes + _named("nothing teaches", rare, where)


def _learnt(tree: Taxonomy, rows: np.ndarray) -> np.ndarray:
    """(leaves,) bool: leaves to which every decision on their way is taught, by `rows` (targets, leaves) bool.

    A target teaches a child where it holds a part of it and not all of the child's parent.
    """
    learnt = np.ones(len(tree.leaves), bool)
    for node, children in enumerate(tree.children):
        if len(children) > 1:
            parts = rows[:, slice(*tree.spans[node])]
            held, first = np.asarray(parts[~parts.all(1)].any(0)), tree.spans[node][0]
            for start, stop in (tree.spans[child] for child in children):
                learnt[start:stop] &= held[start - first : stop - first].any()
    return learnt


def _named(told: str, names: Sequence[str], where: str) -> list[str]:
    return [f"{told} {listed(map(repr, names), NAMED)}{where}"] if names else []
