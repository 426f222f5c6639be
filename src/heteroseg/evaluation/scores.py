"""Score a network on every dataset, each in its own label space."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from heteroseg.datasets import read_sample
from heteroseg.datasets.sample import UNKNOWN, Item, Sample
from heteroseg.errors import HeterosegError, require_between, require_count
from heteroseg.evaluation.calibration import ancestor_error
from heteroseg.evaluation.metrics import Scores, answered, confusion, count_pairs, groups_at_depth, held, merge, scores
from heteroseg.experiment.sources import Source
from heteroseg.labels.space import OUTSIDE_NAME, LabelSpace
from heteroseg.model.model import Model
from heteroseg.model.prediction import Prediction
from heteroseg.model.promise import least_of
from heteroseg.supervision.coverage import ignored
from heteroseg.supervision.targets import encode


def in_taxonomy_of(model: Model, space: LabelSpace) -> LabelSpace:
    """The space over the model's tree: the nodes are the same, but an experiment may say nothing of void logits."""
    return space if space.taxonomy == model.taxonomy else replace(space, taxonomy=model.taxonomy)


def require_tree_of(model: Model, source: Source, advice: str) -> None:
    """A dataset of another tree than the model's raises; `advice` says what to do with one of the right tree."""
    tree, name = source.space.taxonomy, model.taxonomy.name
    if not tree.same_tree(model.taxonomy):
        other = ", another tree of that name" * (tree.name == name)
        told = f"its label space belongs to taxonomy {tree.name!r}, the model to {name!r}{other}"
        raise HeterosegError(f"datasets.{source.name}: {told}; {advice} an experiment of the model's taxonomy")


def truth(sample: Sample, space: LabelSpace) -> np.ndarray:
    """(H, W) int16 true label indices, -1 unknown: from the mask, and where that is silent from the boxes' shapes."""
    target = encode(sample, space, 0)
    boxes = np.where((target.boxes >= 0) & (target.boxes < len(space.labels)), target.boxes, -1)
    return boxes if sample.mask is None else np.where(sample.mask <= UNKNOWN, boxes, target.mask)


def predict_labelled(
    model: Model, items: Sequence[Item], space: LabelSpace
) -> Iterator[tuple[Sample, np.ndarray, Prediction]]:
    """Each image with its true label indices (H, W) in `space` and what the model predicts for it."""
    for item in items:
        sample = read_sample(item, scoring=True)
        yield sample, truth(sample, space), model.predict(sample.image)


@dataclass(frozen=True)
class Tally:
    """Counts over a dataset's val images: `confusion` (labels, labels + 1) int64, and of the pixels without a label
    how many there are and how many the network calls each label (labels,). `per_image`: scores by image name.
    `nodes` (2, labels, nodes) int64 counts decided nodes, down to the leaves and with back-off; `answered` is that of
    each image for a promised precision."""

    confusion: np.ndarray
    unlabelled: int
    claimed: np.ndarray
    images: int
    per_image: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: np.ndarray | None = None
    answered: list[np.ndarray] = field(default_factory=list)


def evaluate_source(
    model: Model,
    source: Source,
    limit: int | None = None,
    back_off: float | None = None,
    truths: LabelSpace | None = None,
    precision: float | None = None,
) -> Tally:
    """Predict and count a dataset's val images (the first `limit`).

    `truths` reads the annotation where the network was trained on less than that: the same labels in the same order, of
    which the source's space may ignore some; their pixels are misses.
    """
    require_count("limit", limit)
    space, items = in_taxonomy_of(model, source.space), source.val[:limit]
    labels, unlabelled, per_image, kept = len(space.labels), 0, {}, []
    counts, claimed = np.zeros((labels, labels + 1), np.int64), np.zeros(labels, np.int64)
    nodes = None if back_off is None else np.zeros((2, labels, len(space.taxonomy)), np.int64)
    for item, (_, true, prediction) in zip(items, predict_labelled(model, items, truths or space), strict=True):
        decided = prediction.label_indices(space)
        of_image = confusion(true, decided, labels)
        counts += of_image
        per_image[item.name] = _image_scores(of_image, space)
        free = decided[true < 0]
        unlabelled += free.size
        claimed += np.bincount(free[free >= 0], minlength=labels)
        if nodes is not None:
            for part, min_probability in zip(nodes, (0.0, back_off), strict=True):
                part += count_pairs(true[true >= 0], prediction.nodes(min_probability)[true >= 0], part.shape)
        if precision is not None:
            sure = prediction.nodes(precision=precision)[true >= 0]
            kept.append(answered(count_pairs(true[true >= 0], sure, (labels, len(space.taxonomy))), space))
    return Tally(counts, unlabelled, claimed, len(items), per_image, nodes, kept)


def _image_scores(counts: np.ndarray, space: LabelSpace) -> dict[str, Any]:
    """One image: the share of its labelled pixels that are right, and the IoU of the labels that it has."""
    result = scores(counts, space.evaluated)
    present = np.flatnonzero(result.pixels)
    return {"acc": result.pixel_acc, "iou": {space.labels[i].name: round(float(result.iou[i]), 4) for i in present}}


def _taken_for(counts: np.ndarray, space: LabelSpace) -> dict[str, dict[str, int]]:
    """Confusion counts without their zeros: true label, predicted label (or OUTSIDE_NAME), pixels."""
    names = [*(label.name for label in space.labels), OUTSIDE_NAME]
    rows = ((names[i], counts[i]) for i in np.flatnonzero(space.evaluated & (counts.sum(1) > 0)))
    return {name: {names[j]: int(row[j]) for j in np.flatnonzero(row)} for name, row in rows}


def hierarchical(counts: np.ndarray, space: LabelSpace) -> dict[str, float | None]:
    """Scores of decided nodes, (labels, nodes) int64 counts, over the evaluated labels.

    `ancestor_error`: mean steps from the label up to its lowest common ancestor with the decided node (for a union
    from the nearest of its nodes). `coverage`: the part decided as far as the labels go; `accuracy`: of this the part
    that is right. `consistent`: of all the part where the node lies under the label or above all of it.
    """
    tree, every = space.taxonomy, np.arange(len(space.taxonomy))
    under, sums = [tree.leaves_of(n) for n in range(len(tree))], np.zeros(5, np.int64)
    for i in np.flatnonzero(space.evaluated):
        label = space.labels[i].leaves
        heights = np.min([ancestor_error(tree, np.full(len(tree), n), every) for n in tree.cover(label)], 0)
        agrees = [leaves <= label or label <= leaves for leaves in under]
        sums += np.array([heights, every >= 0, space.by_node != -2, space.by_node == i, agrees]) @ counts[i]
    steps, total, covered, right, consistent = sums.tolist()
    shares = {"ancestor_error": (steps, total), "coverage": (covered, total), "accuracy": (right, covered)}
    shares["consistent"] = (consistent, total)
    return {key: part / whole if whole else None for key, (part, whole) in shares.items()}


def tree_cost(counts: np.ndarray, space: LabelSpace) -> float | None:
    """Mean steps from the true label up to its lowest common ancestor with the predicted one, of (labels, labels + 1)
    confusion counts; up to the root where that is outside. Of unions the nearest of their nodes count."""
    tree, total = space.taxonomy, 0
    nodes = [*(tree.cover(label.leaves) for label in space.labels), (0,)]
    counts = counts * space.evaluated[:, None]
    for i, j in np.argwhere(counts).tolist():
        pairs = ((n, tree.common_ancestor((n, m))) for n in nodes[i] for m in nodes[j])
        total += int(counts[i, j]) * min(tree.depths[n] - tree.depths[top] for n, top in pairs)
    return total / int(counts.sum()) if counts.any() else None


def _table(names: Sequence[str], result: Scores, shown: np.ndarray) -> dict[str, Any]:
    rows = zip(names, result.iou.tolist(), result.acc.tolist(), result.pixels.tolist(), shown, strict=True)
    per_class = {
        name: {"iou": iou if pixels else None, "acc": acc if pixels else None, "pixels": pixels}
        for name, iou, acc, pixels, is_shown in rows
        if is_shown
    }
    return {"miou": result.miou, "macc": result.macc, "acc": result.pixel_acc, "per_class": per_class}


def _levels(counts: np.ndarray, space: LabelSpace) -> dict[str, dict[str, Any]]:
    """The scores when the tree is cut at each depth above the deepest."""
    tree, evaluated, result = space.taxonomy, space.evaluated, {}
    for depth in range(1, max(tree.depths)):
        groups, names = groups_at_depth(space, depth)
        merged = merge(counts * evaluated[:, None], groups, len(names))
        shown = np.isin(np.arange(len(names)), groups[evaluated])
        result[str(depth)] = _table(names, scores(merged), shown)
    return result


def summarise(tally: Tally, space: LabelSpace) -> dict[str, Any]:
    """The JSON entry of one dataset: its own labels, and `levels`: the same counts at every depth of the tree.

    `decided` splits the labelled pixels into right, wrong and outside; `unlabelled` tells how many of the pixels
    without a label are claimed for one; `strict_miou` counts the claims as false alarms and is None unless the label
    space says what is around boxes, so that silence means something; `confusion` tells what every true label is taken
    for, `per_image` the scores of each image. Where only a part of the world is ever labelled (signs in boxes), a
    network may score well by seeing that part everywhere, and only the claims show it.
    """
    counts, evaluated = tally.confusion, space.evaluated
    *_, outside = by_answer = counts[evaluated].sum(0).tolist()
    inside, right = sum(by_answer) - outside, int(counts.diagonal()[evaluated].sum())
    share = right / inside if inside else None
    return {
        "label_space": space.name,
        "images": tally.images,
        **_table([label.name for label in space.labels], scores(counts, evaluated), evaluated),
        "strict_miou": scores(counts, evaluated, tally.claimed).miou if space.file.around_boxes else None,
        "levels": _levels(counts, space),
        "decided": {"right": right, "wrong": inside - right, "outside": outside, "right_of_inside": share},
        "unlabelled": {"pixels": tally.unlabelled, "claimed": int(tally.claimed[evaluated].sum())},
        "confusion": _taken_for(counts, space),
        "per_image": tally.per_image,
    }


def _unscored(source: Source, tally: Tally) -> list[str]:
    """A warning where masks leave much without a label; beside boxes, and in masks for scores alone, that is usual."""
    if not all(item.mask is not None and item.scoring_mask is None for item in source.val):
        return []
    total = tally.unlabelled + int(tally.confusion.sum())
    return ignored(f"{source.name} val", tally.unlabelled, total, so="no score tells how they are answered")


def evaluate(
    model: Model,
    sources: Sequence[Source],
    limit: int | None = None,
    log: Callable[[str], None] = lambda _: None,
    back_off: float | None = None,
    precision: float | None = None,
) -> dict[str, Any]:
    """Score all datasets that have a val split; the result is what `heteroseg evaluate --json` writes: `datasets` by
    name, and `warnings`, sentences about what the scores leave out.

    A dataset that was not trained on needs no more than a label space over the model's tree. With `back_off` each
    dataset also has the scores of `hierarchical` as [down to the leaves, stopped at the deepest node of that
    probability]. With `precision` each of them, and `precision` of all, tells how the promise was held. `log` gets the
    name of each dataset before it is scored. A dataset of another tree and sources without
    any val image raise HeterosegError.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from heteroseg import Experiment, evaluate
        >>> from heteroseg.experiment.sources import open_sources
        >>> from heteroseg.scenes import generate
        >>> dataset = {"root": "gtsdb", "reader": "gtsdb", "label_space": "gtsdb"}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     generate(Path(root), train=1, val=2, size=(48, 64))
        ...     experiment = Experiment(name="t", taxonomy="streets-108", data_root=root, datasets={"signs": dataset})
        ...     result = evaluate(model, open_sources(experiment, Path(root), splits=("val",)))
        >>> result["datasets"]["signs"]["images"]
        2
    """
    if back_off is not None:
        require_between("back_off", back_off, 0, 1)
    if precision is not None:
        least_of(model, precision)
    result, warnings, kept = {}, list[str](), list[np.ndarray]()
    for source in sources:
        if source.val:
            log(source.name)
            require_tree_of(model, source, "evaluate with")
            tally = evaluate_source(model, source, limit, back_off, None, precision)
            result[source.name] = summarise(tally, source.space)
            warnings += _unscored(source, tally)
            if tally.nodes is not None:
                leaves, stopped = (hierarchical(part, source.space) for part in tally.nodes)
                pairs = {key: [leaves[key], stopped[key]] for key in leaves}
                result[source.name]["back_off"] = {"least": back_off, **pairs}
            if precision is not None and model.promise:
                known = source.name in model.promise.images
                result[source.name]["precision"] = held(tally.answered, precision) | {"calibrated_on": known}
                kept += tally.answered
    if not result:
        raise HeterosegError("no dataset of the experiment has a val split; set val: to the split to evaluate on")
    whole = {"precision": held(kept, precision)} if precision is not None else {}
    return {"datasets": result, "warnings": warnings, **whole}
