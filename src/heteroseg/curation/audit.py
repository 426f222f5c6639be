"""What the annotation of an experiment is worth: how often labels occur, label spaces at odds, and, with a network,
where it surely sees something else than what was annotated.

A network that was trained on the same annotation has learnt its errors too, where they are regular; what it disputes
are the rare ones. A finding is a question to a person, not a verdict.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from heteroseg.curation.check import Counts, count_split
from heteroseg.datasets import read_sample
from heteroseg.datasets.sample import Item, Sample
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.scores import in_taxonomy_of, require_tree_of, truth
from heteroseg.experiment.sources import Source
from heteroseg.inference.pictures import cut_out
from heteroseg.labels.space import LabelSpace
from heteroseg.model.model import Model
from heteroseg.model.prediction import Prediction
from heteroseg.supervision.targets import paint_boxes, surroundings, to_label_indices

MOST, ALIKE = 24, 3  # findings shown of a dataset and kind, and of one pair of labels among them
PICTURE = 260  # pixels of a cut-out
LEAST_SHARE = 0.01  # of a label's pixels, for a conflict to be told

Kind = Literal["region", "box", "no box"]


@dataclass(frozen=True)
class Relation:
    """Two labels of different datasets that invite confusion; `only` are the leaves that one has and not the other."""

    first: str
    second: str
    kind: Literal["one name, two meanings", "overlapping"]
    shared: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


@dataclass(frozen=True)
class Conflict:
    """`share` of the pixels that `dataset` labels `label` are surely something that `other` labels `called`."""

    dataset: str
    label: str
    other: str
    called: str
    share: float
    pixels: int


@dataclass(frozen=True)
class Finding:
    """One place where the network surely disagrees. `label` is what was annotated ('' for nothing), `called` what the
    network says; `fit` and `sure` are their mean probabilities over the `pixels`; `window` x, y, width, height."""

    kind: Kind
    dataset: str
    image: str
    window: tuple[int, int, int, int]
    pixels: int
    label: str
    called: str
    fit: float
    sure: float
    picture: np.ndarray = field(compare=False)

    @property
    def weight(self) -> float:
        """The largest come first: a box counts as one, a region by its pixels."""
        return (self.sure - self.fit) * (1 if self.kind == "box" else self.pixels)


@dataclass(frozen=True)
class BoxTally:
    """Boxes of one label: how many, in how many the label is the likeliest, and its mean probability."""

    label: str
    boxes: int
    agreed: int
    fit: float


@dataclass
class View:
    """What the network says of one dataset. `findings` are the weightiest, `found` how many there were of each kind."""

    images: int = 0
    findings: list[Finding] = field(default_factory=list)
    found: Counter[Kind] = field(default_factory=Counter)
    boxes: list[BoxTally] = field(default_factory=list)


@dataclass
class Audit:
    """Everything by dataset name; `counts` also by split. Without a network `conflicts` and `views` are empty."""

    counts: dict[str, dict[str, Counts]]
    relations: list[Relation]
    conflicts: list[Conflict]
    views: dict[str, View]


def relations(sources: Sequence[Source]) -> list[Relation]:
    """Labels with equal names and different leaves, and labels that overlap with neither inside the other."""
    result = []
    for i, a in enumerate(sources):
        for b in sources[i + 1 :]:
            for p in a.space.labels:
                for q in b.space.labels:
                    shared = p.leaves & q.leaves
                    named = p.name.casefold() == q.name.casefold() and p.leaves != q.leaves
                    crossed = bool(shared) and not (p.leaves <= q.leaves or q.leaves <= p.leaves)
                    if p.leaves and q.leaves and (named or crossed):
                        result.append(
                            Relation(
                                f"{a.name}/{p.name}",
                                f"{b.name}/{q.name}",
                                "one name, two meanings" if named else "overlapping",
                                *(_nodes(a.space, s) for s in (shared, p.leaves - q.leaves, q.leaves - p.leaves)),
                            )
                        )
    return result


def _nodes(space: LabelSpace, leaves: frozenset[int]) -> tuple[str, ...]:
    tree = space.taxonomy
    return tuple(tree.names[n] for n in tree.cover(leaves))


def _regions(differs: np.ndarray, pairs: np.ndarray, least: int) -> Iterator[np.ndarray]:
    """(H, W) bool 8-connected regions of one pair of labels, at least `least` pixels without the thin ones: outlines
    are never exact, and a border that is off by a few pixels is no error."""
    side = 1 + 2 * max(1, differs.shape[1] // 320)
    thick = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    values, counts = np.unique(pairs[thick > 0], return_counts=True)
    for value in values[counts >= least]:
        part = ((pairs == value) & (thick > 0)).astype(np.uint8)
        number, numbers, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
        for i in range(1, number):
            if stats[i, cv2.CC_STAT_AREA] >= least:
                yield numbers == i


@dataclass
class _Looked:
    """An image that was looked at, with its annotation and what the network says."""

    source: Source
    space: LabelSpace
    name: str
    sample: Sample
    said: Prediction

    def findings(self, kind: Kind, masks: Sequence[np.ndarray], labels: Sequence[int]) -> list[Finding]:
        """What the network makes of regions, (H, W) bool that do not overlap, annotated with `labels` (-1: nothing)."""
        if not masks:
            return []
        regions = np.zeros(self.said.size, np.int32)
        for i, mask in enumerate(masks, 1):
            regions[mask] = i
        result = []
        means = self.said.mean_probs(regions)
        for i, (mask, label) in enumerate(zip(masks, labels, strict=True), 1):
            called, sure = self._called(means[i])
            leaves = sorted(self.space.labels[label].leaves) if label >= 0 else []
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            result.append(
                Finding(
                    kind, self.source.name, self.name, (x, y, w, h), int(mask.sum()),
                    self.space.labels[label].name if label >= 0 else "", called, float(means[i, leaves].sum()), sure,
                    cut_out(self.sample.image, mask, (x, y, w, h), PICTURE, PICTURE),
                )
            )  # fmt: skip
        return result

    def _called(self, probs: np.ndarray) -> tuple[str, float]:
        """The likeliest label for mean probabilities (leaves,); a leaf where that lies in no label."""
        each = [probs[sorted(label.leaves)].sum() if label.leaves else 0.0 for label in self.space.labels]
        leaf = int(probs.argmax())
        best = int(np.argmax(each))
        if any(leaf in label.leaves for label in self.space.labels):
            return self.space.labels[best].name, float(each[best])
        tree = self.space.taxonomy
        return f"{tree.names[tree.leaves[leaf]]} (no label of it)", float(probs[leaf])


def _disputed(looked: _Looked, sure: float, least: int) -> list[Finding]:
    """Regions whose label the network surely does not see."""
    expected = truth(looked.sample, looked.space)
    found, confidence = looked.said.positions(looked.space), looked.said.confidence(looked.space)
    differs = (expected >= 0) & (expected != found) & (confidence >= sure)
    masks = list(_regions(differs, expected.astype(np.int64) * (len(looked.space.labels) + 1) + found + 1, least))
    return looked.findings("region", masks, [int(expected[mask][0]) for mask in masks])


def _boxes(looked: _Looked) -> list[Finding]:
    """What the network makes of every box (of the part that no smaller box hides)."""
    sample, size = looked.sample, looked.said.size
    if not len(sample.boxes):
        return []
    labels = to_label_indices(sample.box_ids, looked.space, sample.name)
    shapes = [looked.space.labels[label].shape for label in labels]
    numbers = paint_boxes(sample.boxes, shapes, np.where(labels >= 0, np.arange(len(labels)), -1), size)
    kept = np.unique(numbers[numbers >= 0])
    return looked.findings("box", [numbers == i for i in kept], [int(labels[i]) for i in kept])


def _missing_boxes(looked: _Looked, sure: float, least: int) -> list[Finding]:
    """Regions that the network surely calls a label of the dataset, where there is no box."""
    found, confidence = looked.said.positions(looked.space), looked.said.confidence(looked.space)
    evaluated = np.append(looked.space.evaluated, False)
    free = evaluated[found] & (confidence >= sure) & ~surroundings(looked.sample.boxes, 0.0, looked.said.size)
    masks = list(_regions(free, found.astype(np.int64), least))
    return looked.findings("no box", masks, [-1] * len(masks))


def _keep(view: View, new: Sequence[Finding]) -> None:
    """Count the new findings and keep the weightiest, not too many alike."""
    view.found.update(f.kind for f in new)
    alike: Counter[tuple[str, str, str]] = Counter()
    of_kind: Counter[str] = Counter()
    kept = []
    for f in sorted([*view.findings, *new], key=lambda f: -f.weight):
        pair = (f.kind, f.label, f.called)
        if alike[pair] < ALIKE and of_kind[f.kind] < MOST:
            alike[pair] += 1
            of_kind[f.kind] += 1
            kept.append(f)
    view.findings = kept


def _spread(source: Source, count: int) -> list[tuple[str, Item]]:
    """`SPLIT/NAME` and item of `count` images of each split, spread evenly."""
    result = []
    for split, items in ((source.config.train, source.train), (source.config.val, source.val)):
        places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
        result += [(f"{split}/{items[i].name}", items[i]) for i in places]
    return result


def look(
    model: Model, sources: Sequence[Source], count: int, sure: float, least: int, say: Callable[[str], None]
) -> tuple[dict[str, View], list[Conflict]]:
    """Let the network look at `count` images of every dataset and split. `sure` is the least probability of its answer,
    `least` the least pixels of a region. Files that cannot be read are passed over: `count_split` tells them."""
    spaces = []
    for source in sources:
        require_tree_of(model, source, "audit")
        spaces.append(in_taxonomy_of(model, source.space))
    views, conflicts = {}, []
    for source, space in zip(sources, spaces, strict=True):
        say(f"looking at {source.name}")
        view = views[source.name] = View()
        pixels = np.zeros(len(space.labels), np.int64)
        seen = [np.zeros((len(space.labels), len(other.labels) + 1), np.int64) for other in spaces]
        boxes: list[Finding] = []
        for name, item in _spread(source, count):
            try:
                sample = read_sample(item)
                expected = truth(sample, space)
            except HeterosegError:
                continue
            view.images += 1
            looked = _Looked(source, space, name, sample, model.predict(sample.image))
            if sample.mask is not None:
                _keep(view, _disputed(looked, sure, least))
            else:
                _keep(view, _missing_boxes(looked, sure, least))
            here = _boxes(looked)
            boxes += here
            _keep(view, [f for f in here if f.called != f.label])
            known = expected >= 0
            pixels += np.bincount(expected[known], minlength=len(pixels))
            for counts, other in zip(seen, spaces, strict=True):
                if other is not space:
                    found = np.where(looked.said.confidence(other) >= sure, looked.said.positions(other), -1)[known]
                    flat = expected[known].astype(np.int64) * counts.shape[1] + found + 1
                    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
        view.boxes = _tallies(boxes, space)
        for other_source, other, counts in zip(sources, spaces, seen, strict=True):
            conflicts += _conflicts(source.name, space, other_source.name, other, counts, pixels)
    return views, sorted(conflicts, key=lambda c: -c.share)


def _tallies(boxes: Sequence[Finding], space: LabelSpace) -> list[BoxTally]:
    result = []
    for label in space.labels:
        mine = [b for b in boxes if b.label == label.name]
        if mine:
            agreed = sum(b.called == b.label for b in mine)
            result.append(BoxTally(label.name, len(mine), agreed, float(np.mean([b.fit for b in mine]))))
    return result


def _conflicts(
    dataset: str, space: LabelSpace, other_name: str, other: LabelSpace, counts: np.ndarray, pixels: np.ndarray
) -> list[Conflict]:
    """Where sure answers in another dataset's labels, (labels, other labels + 1) int64, exclude the own label."""
    result = []
    for i, j in np.argwhere(counts[:, 1:]).tolist():
        share = float(counts[i, j + 1] / pixels[i])
        if share >= LEAST_SHARE and not space.labels[i].leaves & other.labels[j].leaves:
            result.append(
                Conflict(dataset, space.labels[i].name, other_name, other.labels[j].name, share, int(counts[i, j + 1]))
            )
    return result


def audit(
    sources: Sequence[Source], model: Model | None, images: int, sure: float, least: int, say: Callable[[str], None]
) -> Audit:
    """Count every label of every dataset, compare the label spaces, and with a model look at `images` images of each
    split."""
    counts: dict[str, dict[str, Counts]] = {}
    for source in sources:
        say(f"counting {source.name}")
        splits = [split for split, items in (("train", source.train), ("val", source.val)) if items]
        counts[source.name] = {split: count_split(source, split) for split in splits}
    views, conflicts = look(model, sources, images, sure, least, say) if model else ({}, [])
    return Audit(counts, relations(sources), conflicts, views)


def audit_table(audit: Audit) -> str:
    """What an audit found, one line for each dataset."""
    lines = []
    for name, splits in audit.counts.items():
        parts = [f"{c.total} {split} images" for split, c in splits.items()]
        parts += [f"{sum(len(c.faults) for c in splits.values())} faults"]
        if view := audit.views.get(name):
            found = view.found
            parts += [
                f"{found['region']} regions and {found['box']} boxes in dispute, {found['no box']} seen without a box"
            ]
        lines.append(f"{name}: {', '.join(parts)}")
    odd = f"{len(audit.relations)} pairs of labels with names at odds"
    return "\n".join([*lines, odd + (f", {len(audit.conflicts)} seen at odds" if audit.views else "")])
