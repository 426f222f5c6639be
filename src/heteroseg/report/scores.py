"""What an evaluation says about classes, about nodes of the tree, and about what is taken for what."""

from typing import Any

import numpy as np

from heteroseg.labels.space import OUTSIDE_NAME, LabelSpace
from heteroseg.labels.taxonomy import Taxonomy

MOST_PAIRS = 40  # confusions that are listed


def counts_of(entry: dict[str, Any], space: LabelSpace) -> np.ndarray:
    """(labels, labels + 1) int64 confusion counts of a dataset's part of an evaluation; outside is the last column."""
    place = {label.name: i for i, label in enumerate(space.labels)} | {OUTSIDE_NAME: len(space.labels)}
    counts = np.zeros((len(space.labels), len(space.labels) + 1), np.int64)
    for true, row in entry.get("confusion", {}).items():
        for predicted, pixels in row.items():
            counts[place[true], place[predicted]] = pixels
    return counts


def node_scores(dataset: str, counts: np.ndarray, space: LabelSpace) -> dict[int, dict[str, Any]]:
    """How well a dataset's pixels at or under a node are told from all others: `labels` within count as one.

    By node, of those that hold at least one label with true pixels: dataset, labels, iou, pixels, and `taken_for`, what
    its missed pixels are called, as shares of its pixels. A label that is wider than the node says neither yes nor no:
    as a prediction it is a miss of the node's pixels and no false alarm, as a truth it is not counted.
    """
    tree, result = space.taxonomy, {}
    names = [*(label.name for label in space.labels), "outside its labels"]
    for node in range(1, len(tree)):
        leaves = tree.leaves_of(node)
        within = np.array([bool(label.leaves) and label.leaves <= leaves for label in space.labels])
        apart = np.array([not label.leaves & leaves for label in space.labels])
        by_prediction = counts[within].sum(0)
        if not (pixels := int(by_prediction.sum())):
            continue
        right = int(by_prediction[:-1][within].sum())
        alarms = int(counts[apart][:, :-1][:, within].sum())
        missed = np.where(np.append(within, False), 0, by_prediction)
        worst = (i for i in np.argsort(-missed, kind="stable")[:3] if missed[i])
        result[node] = {
            "dataset": dataset,
            "labels": [names[i] for i in np.flatnonzero(within & (counts.sum(1) > 0))],
            "iou": right / (pixels + alarms),
            "pixels": pixels,
            "taken_for": [(names[i], float(missed[i] / pixels)) for i in worst],
        }
    return result


def _owner(space: LabelSpace, label: int) -> int:
    """The node of a label; the common ancestor of its nodes where it is a union."""
    tree = space.taxonomy
    return tree.common_ancestor(tree.cover(space.labels[label].leaves))


def junction(space: LabelSpace, true: int, predicted: int) -> tuple[int, str]:
    """The node at which two labels part, and how they are related: siblings, nested or across branches."""
    tree = space.taxonomy
    a, b = space.labels[true].leaves, space.labels[predicted].leaves
    top = tree.common_ancestor(_owner(space, label) for label in (true, predicted))
    if a <= b or b <= a:
        return top, "one within the other"
    covers = [*tree.cover(a), *tree.cover(b)]
    siblings = len(covers) == 2 and tree.parents[covers[0]] == tree.parents[covers[1]]
    return top, "siblings" if siblings else "across branches"


def confusions(counts: np.ndarray, space: LabelSpace) -> list[dict[str, Any]]:
    """The pairs of labels that are confused most, by pixels."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    names, result = [*(label.name for label in space.labels), "none of its labels"], []
    for flat in np.argsort(-wrong, axis=None, kind="stable")[: min(MOST_PAIRS, np.count_nonzero(wrong))].tolist():
        true, predicted = divmod(flat, counts.shape[1])
        node, relation = "", "outside"
        if predicted < len(space.labels):
            parted, relation = junction(space, true, predicted)
            node = space.taxonomy.names[parted]
        pixels = int(wrong[true, predicted])
        row = {"true": names[true], "predicted": names[predicted], "pixels": pixels, "node": node, "relation": relation}
        result.append(row | {"share": float(pixels / counts[true].sum())})
    return result


def decisions(counts: np.ndarray, space: LabelSpace) -> list[dict[str, Any]]:
    """For every inner node: how many pixels came to it rightly, and how many took the wrong child there.

    Errors near the root are confusions across branches, those at the deepest nodes are between siblings.
    """
    tree = space.taxonomy
    came, wrong = np.zeros((2, len(tree)), np.int64)
    for true, predicted in np.argwhere(counts[:, :-1]).tolist():
        pixels, node = counts[true, predicted], junction(space, true, predicted)[0]
        passed = tree.path(_owner(space, true))[:-1]  # nodes at which this truth has to be decided further
        steps = {*passed[: tree.depths[node] + 1]}
        if true != predicted:
            wrong[node] += pixels
            steps.add(node)
        came[list(steps)] += pixels
    total = wrong.sum()
    return [
        {
            "node": tree.names[n],
            "depth": tree.depths[n],
            "came": came[n],
            "wrong": wrong[n],
            "rate": wrong[n] / came[n],
            "share": wrong[n] / total if total else 0.0,
        }
        for n in np.argsort(-wrong, kind="stable").tolist()
        if came[n] and tree.classifier_of[n] >= 0
    ]


def scores_by_node(tree: Taxonomy, evaluation: dict[str, Any], spaces: dict[str, LabelSpace]) -> list[list[dict]]:
    """All datasets' scores of every node."""
    result: list[list[dict]] = [[] for _ in range(len(tree))]
    for name, entry in evaluation["datasets"].items():
        for node, score in node_scores(name, counts_of(entry, spaces[name]), spaces[name]).items():
            result[node].append(score)
    return result
