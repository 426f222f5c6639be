"""One HTML page about a network and its scores. It opens from disk, alone."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from heteroseg.files import write_text, yaml_text
from heteroseg.inference import pictures
from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.report.charts import Line, line_chart, thinned
from heteroseg.report.examples import SURE, Example, example_view, rgb, widest
from heteroseg.report.scores import (
    NodeScore,
    confusions,
    counts_of,
    decisions,
    mean_iou,
    scores_by_node,
    tree_order,
)
from heteroseg.report.statistics import Statistics
from heteroseg.supervision.label_terms import build_terms
from heteroseg.supervision.targets import offsets

Row = tuple[Any, str, Any]  # step, name, value: a line of log.csv, numbers or their text
IMPORTANT = ("date", "commit", "machine")  # facts that stand at the top of the page


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
    statistics: dict[str, Statistics] = field(default_factory=dict)
    origins: dict[str, dict[str, str]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    repeat: Sequence[str] = ()
    notes: Sequence[str] = ()


def percent(value: float | None) -> str:
    """0.613 to '61.3 %', None to 'n/a'."""
    return "n/a" if value is None else f"{100 * value:.1f} %"


def spec_texts(taxonomy: Taxonomy, spaces: dict[str, LabelSpace]) -> dict[str, str]:
    """The taxonomy and the label spaces as the YAML files that they can be written to, by title."""
    unique = {space.name: space for space in spaces.values()}
    files: dict[str, Any] = {f"taxonomy {taxonomy.name}": taxonomy.to_file()}
    files |= {f"label space {name}": space.file for name, space in unique.items()}
    return {title: yaml_text(file) for title, file in files.items()}


def _class_rows(table: dict[str, Any], colors: dict[str, str], more: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "color": colors.get(name), **values, **more.get(name, {})}
        for name, values in table["per_class"].items()
    ]


def _parts(decided: dict[str, Any]) -> list[dict[str, Any]]:
    """Right, wrong and outside as shares of all labelled pixels."""
    total = decided["right"] + decided["wrong"] + decided["outside"]
    return [
        {"name": n, "color": rgb(pictures.ERROR_COLORS[n]), "share": decided[n] / total if total else None}
        for n in ("right", "wrong", "outside")
    ]


def _matrix(counts: np.ndarray, space: LabelSpace) -> dict[str, Any]:
    """Rows are true, columns predicted labels in the order of the tree, cells shares of the row from 0 to 1.

    The last column is outside of all labels. `new_branch` marks the rows that begin a topmost branch of the tree.
    """
    order, tree = tree_order(space, counts), space.taxonomy
    names = [space.labels[i].name for i in order]
    branches = [tree.path(tree.leaves[min(space.labels[i].leaves)])[1] for i in order]
    shares = counts[np.ix_(order, [*order, len(space.labels)])] / counts[order].sum(1, keepdims=True)
    new_branch = [i > 0 and branches[i] != branches[i - 1] for i in range(len(order))]
    columns = [*names, "none of its labels"]
    return {"columns": columns, "new_branch": new_branch, "rows": list(zip(names, shares.tolist(), strict=True))}


def _dataset_view(name: str, entry: dict[str, Any], contents: Contents, width: int) -> dict[str, Any]:
    """What the template shows of a dataset; `entry` is its part of the evaluation."""
    space, tree = contents.spaces[name], contents.taxonomy
    statistics = contents.statistics.get(name)
    of_nodes = dict(zip(tree.names, map(rgb, tree.colors), strict=True))
    of_labels = {label.name: rgb(label.color) for label in space.labels}
    grouped = of_nodes | {f"{label} (label)": color for label, color in of_labels.items()}
    images: dict[str, int] = defaultdict(int)
    for scores in entry.get("per_image", {}).values():
        for label in scores["iou"]:
            images[label] += 1
    more = {
        label: {
            "images": images[label] if entry.get("per_image") else None,
            "train": statistics.shares.get(label, 0.0) if statistics and statistics.shares else None,
            "boxes": statistics.boxes.get(label, 0) if statistics and statistics.boxes else None,
        }
        for label in of_labels
    }
    counts = counts_of(entry, space)
    return {
        "name": name, "space": entry["label_space"], "images": entry["images"],
        "miou": entry["miou"], "macc": entry["macc"], "acc": entry["acc"], "rows": _class_rows(entry, of_labels, more),
        "claimed": entry["unlabelled"]["claimed"] / (entry["unlabelled"]["pixels"] or 1),
        "parts": _parts(entry["decided"]), "right_of_inside": entry["decided"]["right_of_inside"],
        "levels": [
            {"depth": depth, "miou": table["miou"], "acc": table["acc"], "rows": _class_rows(table, grouped, {})}
            for depth, table in entry.get("levels", {}).items()
        ],
        "counted": bool(counts.any()), "confusions": confusions(counts, space), "decisions": decisions(counts, space),
        "matrix": _matrix(counts, space) if counts.any() else None,
        "examples": [example_view(e, tree, width) for e in contents.examples if e.dataset == name],
    }  # fmt: skip


def known_to(taxonomy: Taxonomy, spaces: dict[str, LabelSpace]) -> dict[int, list[str]]:
    """For each node the datasets that have a label of exactly this node or of a union with it."""
    known: dict[int, list[str]] = defaultdict(list)
    for dataset, space in spaces.items():
        for covered in sorted({n for label in space.labels for n in taxonomy.cover(label.leaves)}):
            known[covered].append(dataset)
    return known


def _tree_view(contents: Contents, scores: dict[int, list[NodeScore]]) -> dict[str, Any]:
    """A node with its children, its mean IoU, and the datasets that know it."""
    tree, known = contents.taxonomy, known_to(contents.taxonomy, contents.spaces)

    def view(n: int) -> dict[str, Any]:
        return {"id": n, "name": tree.names[n], "color": rgb(tree.colors[n]), "datasets": known[n],
                "iou": mean_iou(scores[n]), "children": [view(child) for child in tree.children[n]]}  # fmt: skip

    return view(0)


def _taught_by(contents: Contents) -> dict[str, list[str]]:
    """For each classifier's node the datasets that train it: those with boxes alone only at and under their gates."""
    tree, names = contents.taxonomy, list(contents.spaces)
    if not names:  # neither data nor scores are there
        return {tree.names[c.node]: [] for c in tree.classifiers}
    terms = build_terms(list(contents.spaces.values()))
    starts = offsets(list(contents.spaces.values()))
    result: dict[str, list[str]] = {tree.names[c.node]: [] for c in tree.classifiers}
    for name, start, stop in zip(names, starts, starts[1:], strict=False):
        rows = slice(start, stop)
        only_boxes = name in contents.statistics and contents.statistics[name].annotation == "boxes"
        trained = terms.path_of[rows][terms.below_gate[rows] if only_boxes else terms.path_of[rows] >= 0]
        unions = terms.union[rows][(terms.union[rows] >= 0) & (terms.union_below_gate[rows] | (not only_boxes))]
        for owner in {*trained.tolist(), *terms.parts_of[unions].tolist()} - {-1}:
            result[tree.names[tree.classifiers[owner].node]].append(name)
    return result


def _chart(title: str, text: str, lines: Sequence[Line], **options: bool) -> dict[str, Any]:
    return {"title": title, "text": text, "svg": line_chart(title, lines, **options)}


def _score_curves(name: str, history: Sequence[tuple[int, dict[str, Any]]]) -> list[Line]:
    """The scores of a dataset over steps, those that were worked out more than once."""
    entries = [(step, evaluation["datasets"].get(name, {})) for step, evaluation in history]
    curves = [
        thinned(word, [(step, entry[key]) for step, entry in entries if entry.get(key) is not None])
        for key, word in (("miou", "mIoU"), ("macc", "mean pixel accuracy"), ("acc", "pixel accuracy"))
    ]
    return [curve for curve in curves if curve and len(curve.steps) > 1]


def _training_charts(contents: Contents) -> list[dict[str, Any]]:
    """Charts with title and text: the loss, then each classifier's, then the scores of each dataset over steps."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for step, name, value in contents.log:
        points[name].append((float(step), float(value)))
    lines = {name: line for name, pairs in points.items() if (line := thinned(name, pairs))}
    charts = []
    if "loss" in lines:
        charts.append(_chart("loss", "all terms together", [lines["loss"]], log=True))
    for node, datasets in _taught_by(contents).items():
        kinds = [kind for kind in ("mask", "boxes") if f"{node}/{kind}" in lines]
        curves = [replace(lines[f"{node}/{kind}"], name=f"from {kind}") for kind in kinds]
        if curves:
            text = f"taught by {', '.join(datasets)}" if datasets else ""
            charts.append(_chart(f"classifier {node}", text, curves, log=True))
    for name in contents.spaces:
        if curves := _score_curves(name, contents.history):
            charts.append(_chart(f"scores on {name}", "val images", curves, percent=True))
    return charts


def _world(contents: Contents, scores: dict[int, list[NodeScore]]) -> str:
    """What the page's script needs to know, as JSON that is safe inside a script element."""
    tree = contents.taxonomy
    spaces = {
        space.name: {
            "labels": [label.name for label in space.labels], "colors": [rgb(label.color) for label in space.labels],
            "evaluated": space.evaluated.tolist(), "nodes": [tree.cover(label.leaves) for label in space.labels],
        }
        for space in contents.spaces.values()
    }  # fmt: skip
    world = {
        "names": tree.names, "parents": tree.parents, "colors": list(map(rgb, tree.colors)), "spaces": spaces,
        "errors": {name: rgb(color) for name, color in pictures.ERROR_COLORS.items()},
        "none": rgb(pictures.OUTSIDE_COLOR),
        "sure": SURE,
        "scores": [
            [{"dataset": s.dataset, "labels": s.labels, "iou": s.iou, "pixels": s.pixels, "taken": s.taken_for}
             for s in scores[n]] for n in range(len(tree))
        ],
    }  # fmt: skip
    return Markup(json.dumps(world, allow_nan=False).replace("<", "\\u003c"))  # so that no text can end the element


def environment() -> Environment:
    result = Environment(
        loader=PackageLoader("heteroseg"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    result.filters["percent"] = percent
    return result


def write_report(path: Path, contents: Contents) -> None:
    """Write the page."""
    width = widest(len(contents.examples))
    tree = contents.taxonomy
    scores = scores_by_node(tree, contents.evaluation, contents.spaces)
    datasets = [_dataset_view(n, entry, contents, width) for n, entry in contents.evaluation["datasets"].items()]
    page = environment().get_template("report.html").render(
        contents=contents, taxonomy=tree, datasets=datasets, tree=_tree_view(contents, scores),
        charts=_training_charts(contents), world=_world(contents, scores), important=IMPORTANT,
        once=len(contents.history) == 1,
        none=rgb(pictures.OUTSIDE_COLOR), outside=any((d["parts"][2]["share"] or 0) > 0 for d in datasets),
        scored=any(scores.values()),
    )  # fmt: skip
    write_text(path, page)
