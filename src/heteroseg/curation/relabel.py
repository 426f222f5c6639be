"""Finer labels for a dataset of coarse masks, within the labels that it has.

A pixel keeps what its dataset says: only the leaves that its label covers compete, p(fine | coarse) =
p(fine and coarse) / p(coarse). If the best fine label is not probable enough, the pixel keeps its coarse label, which
is a label of the new label space too. So nothing is guessed and nothing is lost.
"""

from itertools import count
from pathlib import Path

import numpy as np

from heteroseg.curation.new_dataset import (
    Log,
    entry_of,
    finish_dataset,
    items_by_path,
    job_of,
    read_masked,
    require_places,
    write_item,
)
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError, counted, require_between
from heteroseg.evaluation.metrics import count_pairs
from heteroseg.evaluation.scores import require_tree_of
from heteroseg.experiment.sources import Source
from heteroseg.files import write_json
from heteroseg.labels.space import Label, LabelEntry, LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.model.answer_files import decided_by
from heteroseg.model.model import Model
from heteroseg.model.prediction import Prediction
from heteroseg.supervision.targets import to_label_indices
from heteroseg.writing import filling

THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def choices(label: Label, fine: LabelSpace) -> list[int]:
    """The fine labels, by index, that share leaves with a coarse label: what its pixels may become."""
    return np.unique([fine.by_leaf[leaf] for leaf in label.leaves if fine.by_leaf[leaf] >= 0]).astype(int).tolist()


def keeps(label: Label, fine: LabelSpace) -> bool:
    """Whether pixels may keep a coarse label: not if a fine label crosses it, since a label space cannot hold both."""
    others = (other.leaves for other in fine.labels)
    return all(not label.leaves & o or label.leaves <= o or o <= label.leaves for o in others)


def refined(
    prediction: Prediction, given: np.ndarray, coarse: LabelSpace, fine: LabelSpace
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable fine label of every pixel.

    `given` (H, W) int16 are coarse label indices, -1 unknown. Returns (H, W) int16 fine label indices, -1 where no fine
    label is possible, and (H, W) float32 p(fine | coarse), 1 where the coarse label is a fine one.
    """
    result, confidence = np.full(given.shape, -1, np.int16), np.zeros(given.shape, np.float32)
    for rows, probs in prediction.leaf_bands():
        for i in np.unique(given[rows][given[rows] >= 0]).tolist():
            possible, leaves = np.array(choices(coarse.labels[i], fine), np.int16), sorted(coarse.labels[i].leaves)
            if not len(possible):
                continue
            pixels = given[rows] == i
            inside = probs[:, pixels][leaves]
            inside = inside / np.maximum(inside.max(0), np.finfo(np.float32).tiny)  # all of them may be almost 0
            takes = (possible[:, None] == fine.by_leaf[leaves]).astype(np.float32)
            share = takes @ inside / np.maximum(inside.sum(0), 1e-6)
            best = share.argmax(0)
            result[rows][pixels] = possible[best]
            confidence[rows][pixels] = np.minimum(share[best, np.arange(len(best))], 1.0)
    return result, confidence


class Curve:
    """How many pixels get a fine label, and how many of these the right one, at every threshold of confidence.

    `pixels` (2, 2, thresholds + 1) int64: of all pixels and of those with a choice, the wrong and the right ones by the
    number of thresholds that they reach. `labels` (fine labels, 3) int64: the pixels of a true label, those that get a
    fine label at the threshold `confidence`, those that get the right one.
    """

    def __init__(self, space: LabelSpace, confidence: float):
        self.space, self.confidence = space, confidence
        self.pixels = np.zeros((2, 2, len(THRESHOLDS) + 1), np.int64)
        self.labels = np.zeros((len(space.labels), 3), np.int64)

    def add(self, fine: np.ndarray, confidence: np.ndarray, true: np.ndarray, choice: np.ndarray) -> None:
        """Count one image; `true` (H, W) fine label indices, -1 unknown; `choice` (H, W) bool: there was a choice."""
        known = (true >= 0) & (fine >= 0)
        accepted = known & (confidence >= self.confidence)
        for column, part in enumerate((true >= 0, accepted, accepted & (fine == true))):
            self.labels[:, column] += np.bincount(true[part], minlength=len(self.labels))
        reached = np.searchsorted(THRESHOLDS, confidence, "right")
        for counts, part in zip(self.pixels, (known, known & choice), strict=True):
            counts += count_pairs((fine == true)[part], reached[part], counts.shape)

    def table(self) -> str:
        """Coverage and share of right pixels at each threshold, then by true label at the threshold that was asked."""
        lines = ["confidence    all: covered    right    with a choice: covered    right"]
        for i, threshold in enumerate(THRESHOLDS, 1):
            cells = [_shares(2, counts.sum(), *counts[:, i:].sum(1)) for counts in self.pixels]
            lines.append(f"{threshold:10.2f}    {cells[0]:>20} {cells[1]:>33}")
        lines.append(f"at {self.confidence:g}, by true label:          pixels  covered    right")
        for label, (total, accepted, right) in zip(self.space.labels, self.labels.tolist(), strict=True):
            if total:
                lines.append(f"  {label.name:<24}{total:>14} {_shares(1, total, accepted - right, right)}")
        return "\n".join(lines)


def _shares(places: int, total: int, wrong: int, right: int) -> str:
    share = f"{right / (wrong + right):8.{places}%}" if wrong + right else "     n/a"
    return f"{(wrong + right) / max(total, 1):8.{places}%} {share}"


def combined_space(coarse: LabelSpace, fine: LabelSpace, name: str) -> tuple[LabelSpace, np.ndarray]:
    """The new label space: the fine labels with their ids, then the coarse ones that pixels may keep, not scored.

    Also returns (coarse labels + 1,) int64: the id of a pixel that keeps its coarse label. It is an ignored id for
    labels that no pixel may keep, and for unlabelled pixels, the last.
    """
    tree = fine.taxonomy
    entries = [entry_of(label, tree) for label in fine.labels]
    free_ids = count(max(label.id for label in fine.labels) + 1)
    if all(label.leaves for label in fine.labels):
        twice = any(label.name == "unlabelled" for label in fine.labels)
        void_name = f"unlabelled ({coarse.name})" if twice else "unlabelled"
        entries.append(LabelEntry(id=next(free_ids), name=void_name, ignore=True))
    void = next(entry.id for entry in entries if entry.ignore)
    same = {label.leaves: label.id for label in fine.labels if label.leaves}
    kept = np.full(len(coarse.labels) + 1, void, np.int64)
    for i, label in enumerate(coarse.labels):
        if label.leaves in same:
            kept[i] = same[label.leaves]
        elif label.leaves and keeps(label, fine):
            kept[i] = next(free_ids)
            new_name = f"{label.name} ({coarse.name})"
            entries.append(entry_of(label, tree, id=int(kept[i]), name=new_name, evaluate=False))
    what = f"{coarse.name} refined to {fine.name}; labels of {coarse.name} stand where the network was not sure."
    file = LabelSpaceFile(name=name, description=what, taxonomy=tree.name, labels=entries)
    return build_label_space(file, tree), kept


def relabel(
    model: Model, source: Source, fine: LabelSpace, min_confidence: float, out: Path, truth: Source | None, log: Log
) -> None:
    """Write a dataset for the reader `folder`, with relabel.json: how many pixels of each label were refined.

    `truth` is a dataset that has images of the same names, labelled in the fine space; the curve that `log` gets
    compares with it. What a stopped run of the same began in `out` is finished; other folders that are not empty raise
    HeterosegError.
    """
    coarse = source.space
    require_between("min_confidence", min_confidence, 0, 1)
    require_tree_of(model, source, "relabel with")
    choice = np.array([len(choices(label, fine)) > 1 for label in coarse.labels] + [False])
    if not choice.any():
        told = f"divides no label of {coarse.name!r}, so there is nothing to refine; name a finer one with --labels"
        raise HeterosegError(f"label space {fine.name!r} {told}")
    space, kept = combined_space(coarse, fine, f"{source.name}-{fine.name}")
    curve, true_items = Curve(fine, min_confidence), _items_by_name(truth, fine)
    counts = np.zeros((2, len(coarse.labels) + 1), np.int64)
    items = items_by_path(source)
    facts = {"dataset": source.name, "labels": fine.name, "confidence": min_confidence}
    facts |= {"model": model.name, "model_digest": model.digest}
    require_places(out, [path for path, _ in items])
    with filling(out, job_of("relabel", [source], **facts, decided=decided_by(model, fine))):
        for path, item in items:
            image, ids = read_masked(item)
            given = to_label_indices(ids, coarse, str(item.mask))
            labels, confidence = refined(model.predict(image), given, coarse, fine)
            accepted = (labels >= 0) & (confidence >= min_confidence)
            write_item(out, path, item, np.where(accepted, fine.ids[labels], kept[given]))
            counts += count_pairs(accepted.ravel(), given.ravel() + 1, counts.shape)
            if item.name in true_items:
                true = _true_labels(true_items[item.name], fine, item, given.shape)
                curve.add(labels, confidence, np.where(given >= 0, true, -1), choice[given])
        log(f"{source.name}: {counted(len(items), 'image')}")
        by_label = zip(coarse.labels, counts.T[1:].tolist(), strict=True)
        pixels = {label.name: {"kept": n, "refined": m} for label, (n, m) in by_label if label.leaves}
        write_json(out / "relabel.json", facts | {"pixels": pixels})
        if truth is not None:
            log(curve.table())
        finish_dataset(source, out, space, log)


def _items_by_name(truth: Source | None, fine: LabelSpace) -> dict[str, Item]:
    if truth is None:
        return {}
    if truth.space.file.labels != fine.file.labels:
        told = f"its labels are those of {truth.space.name!r}, expected those of {fine.name!r}"
        raise HeterosegError(f"--truth {truth.name}: {told}")
    return {item.name: item for item in [*truth.train, *truth.val]}


def _true_labels(item: Item, fine: LabelSpace, other: Item, size: tuple[int, ...]) -> np.ndarray:
    """(H, W) int16 fine label indices of the true mask of `other`, which has this size."""
    _, ids = read_masked(item)
    if ids.shape != size:
        told = f"expected the size of {other.mask}, {size}, found {ids.shape}; --truth needs the same images"
        raise HeterosegError(f"{item.mask}: {told}")
    return to_label_indices(ids, fine, str(item.mask))
