"""What the annotation of an experiment is worth: how often labels occur, which label spaces are at odds, and, with a
network, where it surely sees something else. It has learnt regular errors too, so what it disputes are the rare ones.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import cv2
import numpy as np

from heteroseg.curation.new_dataset import Log, items_by_path
from heteroseg.curation.region_review import components
from heteroseg.datasets import read_sample
from heteroseg.datasets.sample import Sample
from heteroseg.errors import HeterosegError, require_between, require_count
from heteroseg.evaluation.metrics import count_pairs
from heteroseg.evaluation.scores import in_taxonomy_of, require_tree_of, truth
from heteroseg.experiment.sources import Source
from heteroseg.labels.space import LabelSpace
from heteroseg.model.model import Model
from heteroseg.model.pictures import cut_out
from heteroseg.model.prediction import Prediction
from heteroseg.supervision.coverage import Counts, count_split
from heteroseg.supervision.targets import paint_boxes, surroundings, to_label_indices

MAX_SHOWN, MAX_ALIKE = 24, 3  # findings with a picture of a dataset and kind, and of one pair of labels among them
PICTURE = 260  # pixels of a cut-out
MIN_SHARE = 0.01  # of a label's pixels, for a conflict to be told


Row = dict[str, Any]  # as it stands in audit.json


def _weight(finding: Row) -> float:
    """The largest come first: a box counts as one, a region by its pixels."""
    return (finding["sure"] - finding["fit"]) * (1 if finding["kind"] == "box" else finding["pixels"])


@dataclass
class DatasetFindings:
    """What the network says of `images` images: all findings, the weightiest first, and how many of each kind.

    Only the weightiest of a kind, and of these not too many alike, have a `picture`.

    `boxes` are rows by label: how many `boxes`, in how many the label is the likeliest (`agreed`), and its mean
    probability (`fit`).
    """

    images: int = 0
    findings: list[Row] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    boxes: list[Row] = field(default_factory=list)

    def add(self, new: Sequence[Row]) -> None:
        """Put the new findings in their places among the others; what comes later only goes down."""
        self.totals.update(finding["kind"] for finding in new)
        alike: Counter[tuple] = Counter()
        self.findings = sorted([*self.findings, *new], key=_weight, reverse=True)
        for finding in self.findings:
            kind, pair = (finding["kind"],), (finding["kind"], finding["label"], finding["called"])
            if alike[pair] < MAX_ALIKE and alike[kind] < MAX_SHOWN:
                alike.update([pair, kind])
            else:
                finding.pop("picture", None)


@dataclass
class Audit:
    """Everything by dataset name, `counts` also by split. Without a network `conflicts` and `findings` are empty.

    A conflict: `share` of the pixels that `dataset` labels `label`, and their number `pixels`, are surely something
    that `other` labels `called`.
    """

    counts: dict[str, dict[str, Counts]]
    relations: list[Row]
    conflicts: list[Row]
    findings: dict[str, DatasetFindings]


def relations(sources: Sequence[Source]) -> list[Row]:
    """Labels with equal names and different leaves, and labels that overlap with neither inside the other.

    `first` and `second` are DATASET/LABEL, `kind` says which of the two it is, `shared`, `only_first` and `only_second`
    are the names of the nodes that both or only one of them has.
    """
    result = []
    for first, second in combinations(sources, 2):
        for p, q in product(first.space.labels, second.space.labels):
            only = {"only_first": p.leaves - q.leaves, "only_second": q.leaves - p.leaves}
            parts = {"shared": p.leaves & q.leaves} | only
            same_name = p.name.casefold() == q.name.casefold() and p.leaves != q.leaves
            if p.leaves and q.leaves and (same_name or all(parts.values())):
                tree, kind = first.space.taxonomy, "one name, two meanings" if same_name else "overlapping"
                row = {"first": f"{first.name}/{p.name}", "second": f"{second.name}/{q.name}", "kind": kind}
                result.append(row | {k: [tree.names[n] for n in tree.cover(leaves)] for k, leaves in parts.items()})
    return result


def _regions(differs: np.ndarray, pairs: np.ndarray, min_pixels: int) -> np.ndarray:
    """(H, W) int32 numbers, from 1, of the 8-connected regions where `differs` and `pairs` (H, W) int has one value.

    They have `min_pixels` or more pixels without the thin ones: outlines are never exact, and a border that is off by
    a few pixels is no error.
    """
    side = 1 + 2 * max(1, differs.shape[1] // 320)
    thick = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    thick_pairs, result = np.where(thick > 0, pairs, -1), np.zeros(differs.shape, np.int32)
    values, counts = np.unique(thick_pairs, return_counts=True)
    for value in values[(values >= 0) & (counts >= min_pixels)]:
        numbers, places = components(thick_pairs, value, min_pixels)
        for number in places:
            result[numbers == number] = result.max() + 1
    return result


@dataclass
class _Image:
    """An image that was looked at: its annotation, `true` (H, W) label indices, and what the network says."""

    dataset: str
    space: LabelSpace
    name: str
    sample: Sample
    true: np.ndarray
    prediction: Prediction

    def findings(self, kind: str, numbers: np.ndarray, annotated: np.ndarray) -> list[Row]:
        """What the network makes of the regions 1, 2, ... of `numbers` (H, W).

        `annotated` (H, W) int is the label index of each region, -1 for nothing. In a row `label` is what was annotated
        ('' for nothing), `called` what the network says; `fit` and `sure` are their mean probabilities over the
        `pixels`. `window` is x, y, width, height, `picture` (h, w, 3) uint8 RGB shows it.
        """
        if not numbers.any():
            return []
        means, space, result = self.prediction.mean_probs(numbers), self.space, []
        names = [label.name for label in space.labels]
        for number in np.unique(numbers[numbers > 0]).tolist():
            mask = numbers == number
            label = int(annotated[mask][0])
            shown = _competing(space, label)
            probs, free = shown @ means[number], np.where(shown.any(0), 0.0, means[number])
            called, sure = names[probs.argmax()], float(probs.max())
            if free.sum() > probs.sum():
                called = f"{space.taxonomy.names[space.taxonomy.leaves[free.argmax()]]} (no label of it)"
                sure = float(free.max())
            name, fit = ("", 0.0) if label < 0 else (names[label], float(probs[label]))
            window = cv2.boundingRect(mask.astype(np.uint8))
            picture = cut_out(self.sample.image, mask, window, PICTURE, PICTURE)
            place = {"kind": kind, "dataset": self.dataset, "image": self.name, "window": window}
            said = {"pixels": int(mask.sum()), "label": name, "called": called, "fit": fit, "sure": sure}
            result.append(place | said | {"picture": picture})
        return result


def _competing(space: LabelSpace, label: int) -> np.ndarray:
    """(labels, leaves) bool: each leaf as one label, so that a wide label does not beat the narrower ones inside it.

    Where nothing but narrower labels shows the annotated `label` (an index, or -1), it has their leaves.
    """
    shown = space.shown_table
    if label < 0 or shown[label].any():
        return shown
    inside = space.meaning_table[label]
    shown = shown & ~inside
    shown[label] = inside
    return shown


def _accepted(space: LabelSpace) -> np.ndarray:
    """(labels, labels + 1) bool: whether an answer, the last is none of them, is what a label says."""
    accepted = np.eye(len(space.labels), len(space.labels) + 1, dtype=bool)
    hidden, leaves = ~space.shown_table.any(1), space.meaning_table.astype(np.float32)
    accepted[hidden, :-1] |= (leaves[hidden] @ leaves.T == leaves.sum(1)) & ~space.ignored  # labels inside it
    return accepted


def _disputed(image: _Image, min_confidence: float, min_pixels: int) -> list[Row]:
    """Regions whose label the network surely does not see."""
    answers, confidence = image.prediction.confident_label_indices(image.space)
    differs = (image.true >= 0) & ~_accepted(image.space)[image.true, answers] & (confidence >= min_confidence)
    pairs = image.true.astype(np.int64) * (len(image.space.labels) + 1) + answers + 1
    return image.findings("region", _regions(differs, pairs, min_pixels), image.true)


def _boxes(image: _Image) -> list[Row]:
    """What the network makes of every box, of the part that no smaller box hides."""
    sample = image.sample
    labels = to_label_indices(sample.box_ids, image.space, sample.name)
    shapes = [image.space.labels[label].shape for label in labels]
    values = np.where(labels >= 0, np.arange(len(labels)), -1)
    numbers = paint_boxes(sample.boxes, shapes, values, image.prediction.size) + 1
    return image.findings("box", numbers, np.append(labels, -1)[numbers - 1])


def _box_counts(boxes: Sequence[Row], space: LabelSpace) -> list[Row]:
    """The judged boxes of each label, in the order of the labels."""
    result = []
    for name in (label.name for label in space.labels):
        fits = [box["fit"] for box in boxes if box["label"] == name]
        agreed = sum(box["label"] == box["called"] == name for box in boxes)
        if fits:
            result.append({"label": name, "boxes": len(fits), "agreed": agreed, "fit": float(np.mean(fits))})
    return result


def _missing_boxes(image: _Image, min_confidence: float, min_pixels: int) -> list[Row]:
    """Regions that the network surely calls a label of the dataset, where there is no box."""
    answers, confidence = image.prediction.confident_label_indices(image.space)
    boxed = surroundings(image.sample.boxes, 0.0, image.prediction.size)
    free = np.append(image.space.evaluated, False)[answers] & (confidence >= min_confidence) & ~boxed
    return image.findings("no box", _regions(free, answers, min_pixels), np.full(answers.shape, -1))


def _look_at(
    model: Model, source: Source, spaces: dict[str, LabelSpace], images: int, min_confidence: float, min_pixels: int
) -> tuple[DatasetFindings, dict[str, np.ndarray]]:
    """The findings of one dataset, and for each other one (labels, other labels + 1) int64 pixels by label and by the
    network's sure answer in the labels of the other; the first column counts where it is not sure, or sees none of it.
    """
    space, result, boxes = spaces[source.name], DatasetFindings(), []
    sizes = {name: (len(space.labels), len(other.labels) + 1) for name, other in spaces.items() if name != source.name}
    taken_for = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
    for name, item in items_by_path(source, images):
        try:
            sample = read_sample(item)
            true = truth(sample, space)
        except HeterosegError:
            continue  # `count_split` tells them
        image = _Image(source.name, space, name, sample, true, model.predict(sample.image))
        result.images += 1
        result.add((_missing_boxes if sample.mask is None else _disputed)(image, min_confidence, min_pixels))
        judged = _boxes(image) if len(sample.boxes) else []
        result.add([box for box in judged if box["called"] != box["label"]])
        boxes += judged
        for other, counts in taken_for.items():
            answers, confidence = image.prediction.confident_label_indices(spaces[other])
            sure_answers = np.where(confidence >= min_confidence, answers, -1)
            counts += count_pairs(true[true >= 0], sure_answers[true >= 0] + 1, counts.shape)
    result.boxes = _box_counts(boxes, space)
    return result, taken_for


def _conflicts(spaces: dict[str, LabelSpace], dataset: str, other: str, counts: np.ndarray) -> Iterator[Row]:
    """Where sure answers in another dataset's labels exclude the own label; `counts` as `_look_at` returns them."""
    for i, j in np.argwhere(counts[:, 1:]).tolist():
        label, called, pixels = spaces[dataset].labels[i], spaces[other].labels[j], int(counts[i, j + 1])
        share = float(pixels / counts[i].sum())
        if share >= MIN_SHARE and not label.leaves & called.leaves:
            whose = {"dataset": dataset, "label": label.name, "other": other, "called": called.name}
            yield whose | {"share": share, "pixels": pixels}


def audit(
    sources: Sequence[Source], model: Model | None, images: int, min_confidence: float, min_pixels: int, log: Log
) -> Audit:
    """Count every label of every dataset, compare the label spaces, and let a model look at the annotation.

    The model looks at `images` images of each split. `min_confidence` is the least probability of an answer that
    counts, `min_pixels` the size of the smallest region.
    """
    require_count("images", images)
    require_between("min_confidence", min_confidence, 0, 1)
    result = Audit({}, relations(sources), [], {})
    for source in sources:
        log(f"counting {source.name}")
        splits = [split for split in ("train", "val") if getattr(source, split)]
        result.counts[source.name] = {split: count_split(source, split) for split in splits}
        if model is not None:
            require_tree_of(model, source, "audit")
    if model is None:
        return result
    spaces = {source.name: in_taxonomy_of(model, source.space) for source in sources}
    for source in sources:
        log(f"looking at {source.name}")
        looked_at = _look_at(model, source, spaces, images, min_confidence, min_pixels)
        result.findings[source.name], taken_for = looked_at
        for other, counts in taken_for.items():
            result.conflicts += _conflicts(spaces, source.name, other, counts)
    result.conflicts.sort(key=lambda conflict: -conflict["share"])
    return result
