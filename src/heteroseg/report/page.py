"""One HTML page about a network and its scores. It opens from disk, alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from heteroseg.errors import listed
from heteroseg.files import fill_template, yaml_text
from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Color, Taxonomy
from heteroseg.model import pictures
from heteroseg.report.charts import line_chart
from heteroseg.report.examples import SURE, Example, example_view, widest
from heteroseg.report.scores import confusions, counts_of, decisions, scores_by_node
from heteroseg.supervision.label_terms import build_terms
from heteroseg.writing import rewrite

Row = tuple[Any, str, Any]  # step, name, value: a line of log.csv, numbers or their text
APART = 36  # of two colours, the sum over red, green and blue
CURVES = {"miou": "mIoU", "macc": "mean pixel accuracy", "acc": "pixel accuracy"}


@dataclass
class Contents:
    """All that a page tells. `evaluation` is what `evaluate` returns, `spaces` are by dataset.

    `log` has the rows of log.csv, `history` evaluations by step; `settings` is text by title, folded away; `notes` are
    sentences about what could not be shown.
    """

    title: str
    taxonomy: Taxonomy
    spaces: dict[str, LabelSpace]
    evaluation: dict[str, Any]
    examples: Sequence[Example] = ()
    log: Sequence[Row] = ()
    history: Sequence[tuple[int, dict[str, Any]]] = ()
    statistics: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    repeat: Sequence[str] = ()
    notes: Sequence[str] = ()


def percent(value: float | None) -> str:
    """0.613 to '61.3 %', None to 'n/a'."""
    return "n/a" if value is None else f"{100 * value:.1f} %"


def write_page(path: Path, template: str, **values: Any) -> None:
    """Fill a template of the package in; texts are escaped, and a value that is missing raises."""
    rewrite(path, fill_template(template, values, percent=percent, share=pictures.share_text, yaml=yaml_text))


def _matrix(counts: np.ndarray, space: LabelSpace) -> dict[str, Any]:
    """Rows are true, columns predicted labels in the order of the tree, cells shares of the row from 0 to 1.

    The last column is outside of all labels. `new_branch` marks the rows that begin a topmost branch of the tree.
    """
    tree, first_leaf = space.taxonomy, [min(label.leaves, default=-1) for label in space.labels]
    order = sorted(np.flatnonzero(counts.sum(1)).tolist(), key=lambda i: first_leaf[i])
    branches = [tree.path(tree.leaves[first_leaf[i]])[1] for i in order]
    shares = counts[np.ix_(order, [*order, len(space.labels)])] / counts[order].sum(1, keepdims=True)
    names = [space.labels[i].name for i in order]
    return {
        "columns": [*names, "none of its labels"],
        "new_branch": [False, *(a != b for a, b in pairwise(branches))],
        "rows": list(zip(names, shares.tolist(), strict=True)),
    }


def page_colors(tree: Taxonomy, spaces: Iterable[LabelSpace]) -> dict[frozenset[int], Color]:
    """A colour for each meaning (set of leaves) on a page, that of its node or between those of its nodes.

    No two meanings have the same: where a colour is near one that is taken, the nearest that is far from all stands in.
    """
    meanings = {tree.leaves_of(n): np.array(tree.colors[n], float) for n in reversed(range(len(tree)))}
    for label in (label for space in spaces for label in space.labels if label.leaves):
        cover = np.array([tree.colors[n] for n in tree.cover(label.leaves)], float)
        meanings.setdefault(label.leaves, cover.mean(0))
    grid = np.stack(np.meshgrid(*[np.arange(16, 256, 14)] * 3), -1).reshape(-1, 3).astype(float)
    room, taken = np.full(len(grid), np.inf), np.empty((0, 3))  # from each colour of the grid to the nearest taken one
    result = {}
    for leaves, wanted in sorted(meanings.items(), key=lambda pair: -len(pair[0])):
        color = np.round(wanted)
        if len(taken) and np.abs(taken - color).sum(1).min() < APART:
            far = np.abs(grid - color).sum(1) + np.where(room < APART, 1e4 - room, 0)
            color = grid[far.argmin()]
        taken = np.vstack([taken, color])
        room = np.minimum(room, np.abs(grid - color).sum(1))
        red, green, blue = color.astype(int).tolist()
        result[leaves] = (red, green, blue)
    return result


def _cautions(entry: dict[str, Any], space: LabelSpace, statistics: dict[str, Any]) -> list[str]:
    """What a reader of the score is to know: much is not scored, or labels were never taught."""
    scored, silent = sum(row["pixels"] for row in entry["per_class"].values()), entry["unlabelled"]["pixels"]
    result = []
    if silent > scored:
        result.append(f"{percent(silent / (silent + scored))} of the pixels have no label and are not scored")
    shares, boxes = statistics.get("shares", {}), statistics.get("boxes", {})
    present = (name for name, row in entry["per_class"].items() if row["pixels"])
    never = [name for name in present if shares.get(name, 1) == 0 and name not in boxes]
    if never:
        result.append(f"no training image that was looked at has {listed(never, 3)}")
    return result


def _dataset_view(
    name: str, entry: dict[str, Any], contents: Contents, width: int, colors_of: dict[frozenset[int], Color]
) -> dict[str, Any]:
    """What the template shows of a dataset; `entry` is its part of the evaluation."""
    space, tree, statistics = contents.spaces[name], contents.taxonomy, contents.statistics.get(name, {})
    counts = counts_of(entry, space)
    of_labels: dict[str, dict[str, Any]] = {
        "in val images": Counter(label for image in entry.get("per_image", {}).values() for label in image["iou"]),
        "share of training pixels": statistics.get("shares", {}),
        "training boxes": statistics.get("boxes", {}),
    }
    colors = {label.name: colors_of.get(label.leaves, label.color) for label in space.labels}
    nodes = {node: colors_of[tree.leaves_of(n)] for n, node in enumerate(tree.names)}
    per_class = entry["per_class"]
    return entry | {
        "name": name,
        "colors": colors,
        "group_colors": nodes | {f"{label} (label)": color for label, color in colors.items()},
        "present": {label: row for label, row in per_class.items() if row["pixels"]},
        "absent": [label for label, row in per_class.items() if not row["pixels"]],
        "cautions": _cautions(entry, space, statistics),
        "more": {title: values for title, values in of_labels.items() if values},
        "confusions": confusions(counts, space),
        "decisions": decisions(counts, space),
        "matrix": _matrix(counts, space) if counts.any() else None,
        "examples": [example_view(e, tree, width) for e in contents.examples if e.dataset == name],
    }


def _taught_by(contents: Contents) -> dict[str, list[str]]:
    """For each classifier's node the datasets that train it: those with boxes alone only at and under their gates."""
    tree = contents.taxonomy
    result: dict[str, list[str]] = {tree.names[c.node]: [] for c in tree.classifiers}
    for name, space in contents.spaces.items():
        terms, masks = build_terms([space]), contents.statistics.get(name, {}).get("annotation") != "boxes"
        trained = terms.path_of[terms.below_gate | masks]
        unions = terms.union[(terms.union >= 0) & (terms.union_below_gate | masks)]
        for owner in {*trained.tolist(), *terms.parts_of[unions].tolist()} - {-1}:
            result[tree.names[tree.classifiers[owner].node]].append(name)
    return result


def _training_charts(contents: Contents) -> list[tuple[str, str, Markup]]:
    """Title, text and chart: the loss, then each classifier's, then the scores of each dataset over steps."""
    if find_spec("matplotlib") is None:
        return [("curves", "", Markup("They are drawn with the package matplotlib: pip install 'heteroseg[plots]'"))]
    log: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for step, name, value in contents.log:
        log[name].append((float(step), float(value)))
    charts = [("loss", "all terms together", line_chart("loss", {"loss": log["loss"]}))]
    for node, datasets in _taught_by(contents).items():
        title, text = f"classifier {node}", f"taught by {', '.join(datasets)}" if datasets else ""
        curves = {f"from {kind}": log[f"{node}/{kind}"] for kind in ("mask", "boxes")}
        charts.append((title, text, line_chart(title, curves)))
    for name in contents.spaces:
        entries = [(step, evaluation["datasets"].get(name, {})) for step, evaluation in contents.history]
        curves = {
            word: [(step, entry[key]) for step, entry in entries if entry.get(key) is not None]
            for key, word in CURVES.items()
        }
        often = {word: points for word, points in curves.items() if len(points) > 1}
        charts.append((f"scores on {name}", "val images", line_chart(f"scores on {name}", often, percent=True)))
    return [chart for chart in charts if chart[2]]


def _world(contents: Contents, scores: list[list[dict]], colors: dict[frozenset[int], Color]) -> dict[str, Any]:
    """What the page's script needs to know."""
    tree = contents.taxonomy
    return {
        "names": tree.names,
        "parents": tree.parents,
        "colors": [colors[tree.leaves_of(n)] for n in range(len(tree))],
        "spaces": {
            space.name: {
                "labels": [label.name for label in space.labels],
                "colors": [colors.get(label.leaves, label.color) for label in space.labels],
                "evaluated": space.evaluated.tolist(),
                "nodes": [tree.cover(label.leaves) for label in space.labels],
            }
            for space in contents.spaces.values()
        },
        "errors": pictures.ERROR_COLORS,
        "none": pictures.OUTSIDE_COLOR,
        "sure": SURE,
        "scores": scores,
    }


def write_report(path: Path, contents: Contents) -> None:
    width, tree = widest(len(contents.examples)), contents.taxonomy
    scores = scores_by_node(tree, contents.evaluation, contents.spaces)
    labels = {name: space.labels for name, space in contents.spaces.items()}
    colors = page_colors(tree, contents.spaces.values())
    entries = contents.evaluation["datasets"].items()
    world = _world(contents, scores, colors)
    write_page(
        path,
        "report.html",
        contents=contents,
        taxonomy=tree,
        datasets=[_dataset_view(name, entry, contents, width, colors) for name, entry in entries],
        colors=world["colors"],
        scores_of=scores,
        scored=any(scores),
        labelled={name: {n for label in own for n in tree.cover(label.leaves)} for name, own in labels.items()},
        charts=_training_charts(contents),
        world=world,
    )
