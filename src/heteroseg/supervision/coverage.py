"""What the annotation of a run teaches, and what it leaves untaught: told before training and by `data check`."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from heteroseg.datasets import read_annotation
from heteroseg.datasets.sample import Item, Sample, no_ids, spread_evenly
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source, require_apart
from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.supervision.targets import NOTHING, encode

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


def look_over(sources: Sequence[Source], allow_overlap: bool = False, most: int = SAMPLE) -> list[str]:
    """Warnings about the data of an experiment, for which up to `most` masks of each dataset are decoded.

    A dataset without labels, and val images that are train images too (unless `allow_overlap`) raise HeterosegError.
    """
    require_labels(sources)
    notes = [*(note for source in sources for note in source.notes), *require_apart(sources, allow_overlap)]
    taught = [look_at(source, most) for source in sources if source.train]
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


class Pixels(NamedTuple):
    """Pixels of an image: `labels` (labels,) int64 how many teach each, of masks and boxes; `labelled` how many teach
    any. Of the `masked` ones, all that a mask has, `silent` teach nothing."""

    labels: np.ndarray
    labelled: int
    masked: int
    silent: int


def count_pixels(sample: Sample, space: LabelSpace, mask_alone: bool = False) -> Pixels:
    """What the pixels of an image teach; with `mask_alone` its boxes do not count, and it is no fault to be silent."""
    target = encode(sample, space, 0)
    maps = [target.mask] if mask_alone else [target.mask, target.boxes]
    known = np.concatenate([m[m >= 0] for m in maps])
    labels = np.bincount(known, minlength=space.targets)[: len(space.labels)]
    said = np.logical_or.reduce([m != NOTHING for m in maps])
    labelled = np.logical_or.reduce([(m >= 0) & (m < len(space.labels)) for m in maps])
    masked = 0 if sample.mask is None or mask_alone else said.size
    return Pixels(labels, int(labelled.sum()), masked, int((~said).sum()) if masked else 0)


def look_at(source: Source, most: int = SAMPLE) -> Taught:
    """The labels of all boxes and tags, and of the masks of up to `most` training images; photographs stay undecoded.

    Faulty masks raise HeterosegError.
    """
    space, sample = source.space, spread_evenly([item for item in source.train if item.mask is not None], most)
    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock alone
        counts = list(pool.map(lambda item: count_pixels(read_annotation(item), space), sample))
    pixels = sum((c.labels for c in counts), np.zeros(len(space.labels), np.int64))
    occurring = pixels + count_ids(source.train, "box_ids", space) + count_ids(source.train, "tags", space) > 0
    masks = sum(item.mask is not None for item in source.train)
    where = f" in the {len(sample)} of {masks} masks that were looked at" * (len(sample) < masks)
    return Taught(source, occurring, sum(c.silent for c in counts), sum(c.masked for c in counts), where)


def ignored(
    name: str, silent: int, masked: int, where: str = "", so: str = "nothing teaches what they are"
) -> list[str]:
    """A warning where much of the `masked` pixels is `silent`."""
    told = f"{name}: {100 * silent // max(masked, 1)}% of the pixels{where} are ignored; {so}"
    return [told] if silent > MUCH * masked else []


def untaught(taught: Sequence[Taught]) -> list[str]:
    """Warnings of labels that occur in no training image, and of leaves that nothing tells from those beside them."""
    if not taught:
        return []
    notes, tree, rows = [], taught[0].source.space.taxonomy, []
    for source, occurring, *_, where in taught:
        space, table = source.space, source.space.training_table
        rare = [label.name for label, there in zip(space.labels, occurring, strict=True) if label.leaves and not there]
        notes += _named(f"{source.name} train: no pixel, box or tag has", rare, where)
        rows.append(table[np.flatnonzero(np.append(occurring, [True] * (len(table) - len(occurring))))])
    learnt = _learnt(tree, np.concatenate(rows))
    rare = [tree.names[leaf] for leaf, there in zip(tree.leaves, learnt, strict=True) if not there]
    where = " in the masks that were looked at" * any(t.where for t in taught)
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
    more = f" and {len(names) - NAMED} more" * (len(names) > NAMED)
    return [f"{told} {', '.join(map(repr, names[:NAMED]))}{more}{where}"] if names else []
