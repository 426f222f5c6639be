"""All ways of a comparison in one table: for programs, for people, as a plot."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pydantic import BaseModel, ValidationError

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment
from heteroseg.files import fill_template, json_text, read_json
from heteroseg.provenance import facts
from heteroseg.writing import rewrite, rewritten

METRICS = {
    "miou": "mIoU",
    "macc": "mean pixel accuracy",
    "acc": "pixel accuracy",
    "rare_miou": "mIoU of the rarest third",
    "strict_miou": "mIoU, false alarms counted",
    "claimed": "unlabelled, given a label",
    "tree_cost": "steps to the common ancestor, of 100 pixels",
}
UNSEEN = ("miou", "macc", "tree_cost")  # what is told of datasets that were not trained on, beside calibration
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++")  # tell the bars apart without colour

Values = Sequence[float | None]
"""One figure over the seeds, from 0 to 1; None where it does not exist."""


class _Cell(BaseModel):
    miou: float | None
    macc: float | None
    acc: float | None
    levels: dict[str, dict[str, Any]]


class _Scored(BaseModel):
    """What is read of the scores of a part with one seed."""

    parameters: int
    train_seconds: float
    datasets: dict[str, _Cell]


def read_scored(path: Path) -> dict[str, Any] | None:
    """The scores of a part with one seed; None where there are none, or damaged ones, which are made again."""
    try:
        scored = read_json(path)
        _Scored.model_validate(scored)
    except (HeterosegError, ValidationError):
        return None
    return scored


def _seeds(folder: Path) -> list[int]:
    """The seeds of which a part has scores."""
    names = (re.fullmatch(r"seed-(\d+)", path.stem) for path in folder.glob("seed-*.json"))
    return sorted(int(name[1]) for name in names if name)


def _read_scores(folders: Sequence[Path], seed: int) -> list[dict[str, Any]]:
    """The scores of all parts of a way with one seed, empty unless all parts are scored."""
    scored = [read_scored(folder / f"seed-{seed}.json") for folder in folders]
    return [] if None in scored else scored  # type: ignore[return-value]


def _add_scores(cells: dict[str, Any], scores: dict[str, Any], way: str) -> None:
    for dataset, entry in scores.items():
        unseen = entry.get("unseen", way.startswith("unseen"))  # those of an older version do not say
        fresh = {"unseen": unseen, "levels": {}, "ece": {}} | {metric: [] for metric in METRICS}
        cell = cells.setdefault(dataset, fresh)
        for metric in METRICS:
            cell[metric].append(entry.get(metric))  # scores of an older version lack the newest
        for depth, level in entry["levels"].items():
            cell["levels"].setdefault(depth, []).append(level["miou"])
        for depth, error in entry.get("ece", {}).items():
            cell["ece"].setdefault(depth, []).append(error)


def collect(ways: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """All scores of `ways`, which have the folders of their parts: `{WAY: {"seeds": [...], "parameters",
    "train_seconds", "datasets": {...}}}`, with as many seeds of each way as there are.

    A dataset's entry has the list over seeds for each of METRICS, by depth `levels` (lists of mIoU) and `ece` (of
    calibration errors), and `unseen`, whether it was left out of training. A seed counts when all parts of its way are
    scored. A way that is one part of another has a row where it has seeds that the whole has not.
    """
    table: dict[str, Any] = {}
    for way, folders in ways.items():
        for seed in _seeds(folders[0]):
            if parts := _read_scores(folders, seed):
                row = table.setdefault(way, {"seeds": [], "train_seconds": [], "datasets": {}})
                row["seeds"].append(seed)
                row["parameters"] = sum(part["parameters"] for part in parts)
                row["train_seconds"].append(sum(part["train_seconds"] for part in parts))
                for part in parts:
                    _add_scores(row["datasets"], part["datasets"], way)

    def is_more(way: str) -> bool:
        whole = way.partition("-")[0]
        return way == whole or not {*table[way]["seeds"]} <= {*table.get(whole, {"seeds": []})["seeds"]}

    return {way: row for way, row in table.items() if is_more(way)}


def mean(values: Values) -> float | None:
    """Mean over the seeds that have a value, None if none has."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def spread_text(values: Values) -> str:
    """Percent: the mean over seeds ± half of the range, as '55.0 ± 5.0'."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "n/a"
    return f"{np.mean(known):.1f}" + (f" ± {(max(known) - min(known)) / 2:.1f}" if len(known) > 1 else "")


def dataset_names(table: dict[str, Any]) -> list[str]:
    """The datasets that any way knows, in the order in which they first come."""
    return list(dict.fromkeys(name for row in table.values() for name in row["datasets"]))


def dataset_rows(table: dict[str, Any], dataset: str) -> tuple[list[str], Iterator[tuple[str, int, list[Values]]]]:
    """The titles of a dataset's figures, and for each way that knows it: name, number of seeds, and the figures."""
    rows = {way: row for way, row in table.items() if dataset in row["datasets"]}
    deep = {"levels": "mIoU", "ece": "calibration error"}
    found = [(key, d) for key in deep for row in rows.values() for d in row["datasets"][dataset][key]]
    columns = list(dict.fromkeys(found))

    def figures(cell: dict[str, Any]) -> list[Values]:
        return [cell[metric] for metric in METRICS] + [cell[key].get(depth, []) for key, depth in columns]

    titles = [*METRICS.values(), *(f"{deep[key]} at depth {depth}" for key, depth in columns)]
    return titles, ((way, len(row["seeds"]), figures(row["datasets"][dataset])) for way, row in rows.items())


def _unseen_cells(table: dict[str, Any], ways: tuple[str, str], dataset: str) -> list[dict[str, Any]]:
    """The figures of a dataset by both ways, empty unless both left it out of training."""
    rows = [table.get(f"{way}-{dataset}", table.get(way)) for way in ways]
    cells = [row["datasets"].get(dataset) for row in rows if row]
    return cells if len(cells) == 2 and all(cell and cell["unseen"] for cell in cells) else []


def _judged(ours: Values, theirs: Values, sign: int) -> str | None:
    """Whether our values over the seeds are better: all of them than all of theirs. None where a way has no value."""
    a, b = ([sign * value for value in values if value is not None] for values in (ours, theirs))
    if not a or not b:
        return None
    if min(len(a), len(b)) < 2:
        return "too few seeds"
    return "better" if min(a) > max(b) else "worse" if max(a) < min(b) else "no better"


def unseen_verdict(table: dict[str, Any]) -> tuple[str, list[str]]:
    """Whether the tree is better than `flat` on datasets that neither was trained on by more than the spread, in a
    sentence, and a line of figures for each of these datasets."""
    judgements, lines = [], []
    for dataset in dataset_names(table):
        pairs = (_unseen_cells(table, ways, dataset) for ways in (("unseen", "unseen_flat"), ("hierarchical", "flat")))
        cells = next((cells for cells in pairs if cells), None)
        if not cells:
            continue
        tree, flat = cells
        figures = [(METRICS[m], tree[m], flat[m], -1 if m == "tree_cost" else 1) for m in UNSEEN]
        for depth, errors in tree["ece"].items():
            figures.append((f"calibration error at depth {depth}", errors, flat["ece"].get(depth, []), -1))
        found = [(title, a, b, _judged(a, b, sign)) for title, a, b, sign in figures]
        judgements += [judged for _, _, _, judged in found[:2] if judged]
        told = (f"{t} {spread_text(a)} and {spread_text(b)} ({judged})" for t, a, b, judged in found if judged)
        lines.append(f"{dataset}: {', '.join(told)}")
    return _in_words(judgements), lines


def _in_words(judgements: Sequence[str]) -> str:
    where, best = "On datasets that were not trained on", "better than one flat softmax by more than the spread"
    known = [judged for judged in judgements if judged != "too few seeds"]
    if not judgements:
        return f"{where} the tree was not measured beside one flat softmax (--ways unseen,unseen_flat does it)."
    if not known:
        return f"{where} it is not known whether the tree is {best}: that takes two seeds of each."
    if not (better := known.count("better")):
        than = "better than" if set(known) == {"worse"} else "as good as"
        return f"{where} one flat softmax is {than} the tree in mIoU and mean pixel accuracy."
    if better == len(known):
        return f"{where} the tree is {best} in mIoU and mean pixel accuracy."
    some = f"{better} of {len(known)} figures of mIoU and mean pixel accuracy"
    return f"{where} the tree is {best} in {some}; in the others flat is as good or better."


def sizes_and_times(table: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Millions of parameters and mean minutes of training of every way."""
    return {way: (row["parameters"] / 1e6, float(np.mean(row["train_seconds"])) / 60) for way, row in table.items()}


def markdown(table: dict[str, Any]) -> str:
    """The table for people: one block per dataset, one row per way, and what hierarchical gains over each."""
    datasets = {name: dataset_rows(table, name) for name in dataset_names(table)}
    ours, others = table.get("hierarchical"), {way: row for way, row in table.items() if way != "hierarchical"}
    gains = {way: [_gain(ours, row, d) for d in datasets] for way, row in others.items()} if ours else {}
    values = {"datasets": datasets, "sizes": sizes_and_times(table), "gains": gains, "unseen": unseen_verdict(table)}
    return fill_template("comparison.md", values, spread_text=spread_text)


def _gain(ours: dict[str, Any], other: dict[str, Any], dataset: str) -> str:
    pairs = [[mean(row["datasets"].get(dataset, {}).get(m, [])) for row in (ours, other)] for m in ("macc", "miou")]
    return " / ".join("n/a" if a is None or b is None else f"{100 * (a - b):+.1f}" for a, b in pairs)


def write_csv(path: Path, table: dict[str, Any]) -> None:
    """One line per way, dataset, metric and seed."""
    with rewritten(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("way", "dataset", "metric", "seed", "value"))
        for way, row in table.items():
            for dataset, cell in row["datasets"].items():
                for metric in METRICS:
                    for seed, value in zip(row["seeds"], cell[metric], strict=True):
                        writer.writerow((way, dataset, metric, seed, "" if value is None else f"{value:.6f}"))


def plot(table: dict[str, Any]) -> Figure:
    """Mean pixel accuracy and mIoU of every way on every dataset: a bar is the mean over seeds, a dot one seed."""
    datasets = dataset_names(table)
    figure = Figure(figsize=(3.2 * max(len(datasets), 2), 6), layout="constrained")
    grid = figure.subplots(2, len(datasets), squeeze=False, sharey="row")
    for metric, line in zip(("macc", "miou"), grid, strict=True):
        for dataset, axes in zip(datasets, line, strict=True):
            for i, row in enumerate(table.values()):
                values = [100 * v for v in row["datasets"].get(dataset, {}).get(metric, []) if v is not None]
                if values:
                    hatch = HATCHES[i % len(HATCHES)]
                    axes.bar(i, np.mean(values), color=f"C{i}", alpha=0.7, hatch=hatch, edgecolor="white")
                    axes.plot([i] * len(values), values, "k.", markersize=5)
            axes.set_title(f"{dataset}: {METRICS[metric]}, %", fontsize=10)
            axes.set_xticks(range(len(table)), list(table), rotation=60, ha="right", fontsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", alpha=0.3)
    return figure


TABLES = ("table.json", "table.csv", "table.md", "table.png")


def write_table(out: Path, experiment: Experiment, ways: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    table = collect(ways)
    rewrite(out / "table.json", json_text({"experiment": experiment.name, "facts": facts(), "ways": table}))
    write_csv(out / "table.csv", table)
    rewrite(out / "table.md", markdown(table))
    if table:
        with rewritten(out / "table.png") as part:
            plot(table).savefig(part, dpi=130, format="png")
    return table


def rarest_third(entry: dict[str, Any]) -> float | None:
    """Mean IoU of the third of the classes with the fewest true pixels (at least one class)."""
    present = sorted((c["pixels"], c["iou"]) for c in entry["per_class"].values() if c["pixels"])
    return float(np.mean([iou for _, iou in present[: -(-len(present) // 3)]])) if present else None
