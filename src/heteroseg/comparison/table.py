"""All ways of a comparison in one table: for programs, for people, as a plot."""

import csv
from collections.abc import Iterator, Sequence
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


def _read_scores(folder: Path, seed: int) -> list[dict[str, Any]]:
    """The scores of all parts of a way with one seed, empty unless all parts are scored."""
    files = [path.parent / f"seed-{seed}.json" for path in sorted(folder.glob("**/experiment.yaml"))]
    scored = [read_scored(file) for file in files]
    return [] if None in scored else scored  # type: ignore[return-value]


def _add_scores(cells: dict[str, Any], scores: dict[str, Any]) -> None:
    for dataset, entry in scores.items():
        cell = cells.setdefault(dataset, {"levels": {}, "ece": {}} | {metric: [] for metric in METRICS})
        for metric in METRICS:
            cell[metric].append(entry.get(metric))  # scores of an older version lack the newest
        for depth, level in entry["levels"].items():
            cell["levels"].setdefault(depth, []).append(level["miou"])
        for depth, error in entry.get("ece", {}).items():
            cell["ece"].setdefault(depth, []).append(error)


def collect(out: Path, ways: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """All scores below OUT: `{WAY: {"seeds": [...], "parameters", "train_seconds", "datasets": {...}}}`.

    A dataset's entry has the list over seeds for each of METRICS, and by depth `levels` (lists of mIoU) and `ece` (of
    calibration errors). A seed counts when all parts of its way are scored.
    """
    table: dict[str, Any] = {}
    for way in ways:
        for seed in seeds:
            if parts := _read_scores(out / way, seed):
                row = table.setdefault(way, {"seeds": [], "train_seconds": [], "datasets": {}})
                row["seeds"].append(seed)
                row["parameters"] = sum(part["parameters"] for part in parts)
                row["train_seconds"].append(sum(part["train_seconds"] for part in parts))
                for part in parts:
                    _add_scores(row["datasets"], part["datasets"])
    return table


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


def sizes_and_times(table: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Millions of parameters and mean minutes of training of every way."""
    return {way: (row["parameters"] / 1e6, float(np.mean(row["train_seconds"])) / 60) for way, row in table.items()}


def markdown(table: dict[str, Any]) -> str:
    """The table for people: one block per dataset, one row per way, and what hierarchical gains over each."""
    datasets = {name: dataset_rows(table, name) for name in dataset_names(table)}
    ours, others = table.get("hierarchical"), {way: row for way, row in table.items() if way != "hierarchical"}
    gains = {way: [_gain(ours, row, d) for d in datasets] for way, row in others.items()} if ours else {}
    values = {"datasets": datasets, "sizes": sizes_and_times(table), "gains": gains}
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


def write_table(out: Path, experiment: Experiment, ways: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    table = collect(out, ways, seeds)
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
