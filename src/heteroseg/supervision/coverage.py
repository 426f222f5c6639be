"""What the annotation of a run teaches, and what it leaves untaught: told before training and by `data check`."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from heteroseg.datasets import read_annotation
from heteroseg.datasets.sample import Item, no_ids, spread_evenly
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source, require_apart
from heteroseg.labels.space import LabelSpace
from heteroseg.supervision.targets import to_label_indices

SAMPLE = 50  # training images of each dataset whose masks are looked at before training
MUCH = 0.25  # of the pixels of masks: more of them ignored is worth a warning
NAMED = 5  # labels that a warning names


class Taught(NamedTuple):
    """What the training images of a source have: `occurring` (labels,) bool, and of the `masked` pixels of their masks
    the `silent` ones that no label has; `where` says which images were looked at, if not all."""

    source: Source
    occurring: np.ndarray
    silent: int
    masked: int
    where: str = ""


def look_over(sources: Sequence[Source], allow_overlap: bool = False) -> list[str]:
    """Warnings about the data of an experiment, as far as they cost little.

    A dataset without labels, and val images that are train images too (unless `allow_overlap`) raise HeterosegError.
    """
    require_labels(sources)
    notes = [*(note for source in sources for note in source.notes), *require_apart(sources, allow_overlap)]
    taught = [look_at(source) for source in sources if source.train]
    for source, _, silent, masked, where in taught:
        notes += ignored(f"{source.name} train", silent, masked, where)
    return notes + untaught(taught)


def require_labels(sources: Iterable[Source]) -> None:
    """Raise HeterosegError for each dataset of which no training image has a mask, shape, box or tag."""
    faults = [
        f"datasets.{s.name}: expected a mask, shape, box or tag in the train split {s.config.train!r}, found none in "
        f"{len(s.train)} images; correct the reader's options, or take it out of training with train: null"
        for s in sources
        if s.train and not any(item.mask is not None or len(item.boxes) or len(item.tags) for item in s.train)
    ]
    if faults:
        raise HeterosegError(*faults)


def count_ids(items: Iterable[Item], kind: str, space: LabelSpace) -> np.ndarray:
    """(labels,) int64: how often each label is among the `box_ids` or `tags`, as `kind` says."""
    ids, counts = np.unique(np.concatenate([no_ids(), *(getattr(item, kind) for item in items)]), return_counts=True)
    of_id = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    return np.array([of_id.get(label.id, 0) for label in space.labels], np.int64)


def look_at(source: Source, most: int = SAMPLE) -> Taught:
    """The labels of all boxes and tags, and of the masks of up to `most` training images; photographs stay undecoded.

    Faulty masks raise HeterosegError.
    """
    space, sample = source.space, spread_evenly([item for item in source.train if item.mask is not None], most)
    pixels = np.zeros(len(space.labels) + 1, np.int64)  # the first: ignored

    def indices_of(item: Item) -> np.ndarray:
        annotation = read_annotation(item)
        ids = no_ids() if annotation.mask is None else annotation.mask
        return to_label_indices(ids, space, str(annotation.file)).ravel()

    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock alone
        for indices in pool.map(indices_of, sample):
            pixels += np.bincount(indices + 1, minlength=len(pixels))
    occurring = pixels[1:] + count_ids(source.train, "box_ids", space) + count_ids(source.train, "tags", space) > 0
    masks = sum(item.mask is not None for item in source.train)
    where = f" in the {len(sample)} of {masks} masks that were looked at" * (len(sample) < masks)
    return Taught(source, occurring, int(pixels[0]), int(pixels.sum()), where)


def ignored(name: str, silent: int, masked: int, where: str = "") -> list[str]:
    """A warning where much of the `masked` pixels is `silent`."""
    told = "are ignored; nothing teaches what they are"
    return [f"{name}: {silent / masked:.0%} of the pixels{where} {told}"] if silent > MUCH * masked else []


def untaught(taught: Sequence[Taught]) -> list[str]:
    """Warnings of labels that occur in no training image, and of leaves that no label that occurs tells apart."""
    if not taught:
        return []
    notes, tree = [], taught[0].source.space.taxonomy
    leaves = np.zeros(len(tree.leaves), bool)
    for source, occurring, *_, where in taught:
        space, table = source.space, source.space.training_table
        rare = [label.name for label, there in zip(space.labels, occurring, strict=True) if label.leaves and not there]
        notes += _named(f"{source.name} train: no pixel, box or tag has", rare, where)
        for row in np.flatnonzero(np.append(occurring, [True] * (len(table) - len(occurring)))):
            for start, stop in tree.spans:
                if not table[row, start:stop].all():
                    leaves[start:stop] |= table[row, start:stop]
    rare = [tree.names[leaf] for leaf, there in zip(tree.leaves, leaves, strict=True) if not there]
    return notes + _named("nothing teaches", rare, max(t.where for t in taught))


def _named(told: str, names: Sequence[str], where: str) -> list[str]:
    more = f" and {len(names) - NAMED} more" * (len(names) > NAMED)
    return [f"{told} {', '.join(map(repr, names[:NAMED]))}{more}{where}"] if names else []
