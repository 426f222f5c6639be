"""All ways of a comparison in one table: for programs, for people, as a plot."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heteroseg.evaluation.metrics import knowledge
from heteroseg.experiment.config import Experiment
from heteroseg.files import write_json, write_text, written
from heteroseg.provenance import facts

METRICS = ("miou", "macc", "acc", "rare_miou", "strict_miou", "claimed")


def collect(out: Path, ways: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """All scores found below OUT: `{WAY: {"seeds": [...], "parameters", "train_seconds", "datasets": {...}}}`.

    A dataset's entry has the list over seeds for each of METRICS, and `levels` (depth: list of mIoU). A seed counts
    when all parts of its way are scored.
    """
    table: dict[str, Any] = {}
    for way in ways:
        for seed in seeds:
            folders = sorted(p.parent for p in (out / way).glob("**/experiment.yaml"))
            files = [f / f"seed-{seed}.json" for f in folders]
            if not files or not all(f.is_file() for f in files):
                continue
            row = table.setdefault(
                way, {"seeds": [], "parameters": 0, "train_seconds": [], "knowledge": [], "datasets": {}}
            )
            scores = [json.loads(f.read_text(encoding="utf-8")) for f in files]
            row["seeds"].append(seed)
            row["parameters"] = sum(s["parameters"] for s in scores)
            row["train_seconds"].append(sum(s["train_seconds"] for s in scores))
            row["knowledge"].append(knowledge([d["concepts"] for s in scores for d in s["datasets"].values()]))
            for score in scores:
                for dataset, entry in score["datasets"].items():
                    cell = row["datasets"].setdefault(dataset, {"levels": {}} | {m: [] for m in METRICS})
                    for metric in METRICS:
                        cell[metric].append(entry.get(metric))  # scores of an older version lack the newest
                    for depth, level in entry["levels"].items():
                        cell["levels"].setdefault(depth, []).append(level["miou"])
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _text(values: Sequence[float | None]) -> str:
    """Percent, mean over seeds ± half of the range."""
    known = [100 * v for v in values if v is not None]
    if not known:
        return "n/a"
    return f"{np.mean(known):.1f}" + (f" ± {(max(known) - min(known)) / 2:.1f}" if len(known) > 1 else "")


def markdown(table: dict[str, Any]) -> str:
    """The table for people: one block per dataset, one row per way, and what hierarchical gains over each."""
    lines = []
    datasets = list(dict.fromkeys(d for row in table.values() for d in row["datasets"]))
    for dataset in datasets:
        depths = list(
            dict.fromkeys(k for row in table.values() for k in row["datasets"].get(dataset, {"levels": {}})["levels"])
        )
        heads = ["way", "seeds", "mIoU", "macc", "acc", "mIoU of the rarest third", "mIoU, claims counted",
                 "unlabelled, claimed",
                 *(f"mIoU at depth {d}" for d in depths)]  # fmt: skip
        lines += [f"### {dataset}", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        for way, row in table.items():
            if dataset in row["datasets"]:
                cell = row["datasets"][dataset]
                values = [_text(cell[m]) for m in METRICS] + [_text(cell["levels"].get(d, [])) for d in depths]
                lines.append(f"| {' | '.join([way, str(len(row['seeds'])), *values])} |")
        lines.append("")
    heads = ["way", "concepts with IoU of a half", "sum of their IoUs", "parameters, million", "training, minutes"]
    lines += ["### Concepts, size and time", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for way, row in table.items():
        half, total = (np.mean([k[key] for k in row["knowledge"]]) for key in ("half", "sum"))
        well = f"{half:.1f} of {row['knowledge'][0]['concepts']} | {total:.1f}"
        lines.append(f"| {way} | {well} | {row['parameters'] / 1e6:.2f} | {np.mean(row['train_seconds']) / 60:.1f} |")
    ours = table.get("hierarchical")
    if ours and len(table) > 1:
        lines += ["", "### What hierarchical gains, points of macc / mIoU", "", f"| over | {' | '.join(datasets)} |",
                  "|" + "---|" * (len(datasets) + 1)]  # fmt: skip
        for way, row in table.items():
            if way != "hierarchical":
                gains = [_gain(ours, row, d) for d in datasets]
                lines.append(f"| {way} | {' | '.join(gains)} |")
    return "\n".join(lines) + "\n"


def _gain(ours: dict[str, Any], other: dict[str, Any], dataset: str) -> str:
    pairs = [[_mean(row["datasets"].get(dataset, {}).get(m, [])) for row in (ours, other)] for m in ("macc", "miou")]
    return " / ".join("n/a" if a is None or b is None else f"{100 * (a - b):+.1f}" for a, b in pairs)


def write_csv(path: Path, table: dict[str, Any]) -> None:
    """One line per way, dataset, metric and seed."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("way", "dataset", "metric", "seed", "value"))
    for way, row in table.items():
        for dataset, cell in row["datasets"].items():
            for metric in METRICS:
                for seed, value in zip(row["seeds"], cell[metric], strict=True):
                    writer.writerow((way, dataset, metric, seed, "" if value is None else f"{value:.6f}"))
    write_text(path, buffer.getvalue())


def plot(path: Path, table: dict[str, Any]) -> None:
    """macc and mIoU of every way on every dataset: a bar is the mean over seeds, a dot one seed."""
    from matplotlib.figure import Figure

    datasets = list(dict.fromkeys(d for row in table.values() for d in row["datasets"]))
    figure = Figure(figsize=(3.2 * max(len(datasets), 2), 6), layout="constrained")
    axes = figure.subplots(2, len(datasets), squeeze=False, sharey="row")
    hatches = ("", "//", "..", "xx", "\\\\", "--", "++")  # told apart without colour
    for metric, line in zip(("macc", "miou"), axes, strict=True):
        for dataset, a in zip(datasets, line, strict=True):
            for i, (way, row) in enumerate(table.items()):
                values = [100 * v for v in row["datasets"].get(dataset, {}).get(metric, []) if v is not None]
                if values:
                    a.bar(
                        i,
                        np.mean(values),
                        color=f"C{i}",
                        alpha=0.7,
                        hatch=hatches[i % len(hatches)],
                        edgecolor="white",
                        label=way,
                    )
                    a.plot([i] * len(values), values, "k.", markersize=5)
            a.set_title(f"{dataset}: {'mean pixel accuracy' if metric == 'macc' else 'mIoU'}, %", fontsize=10)
            a.set_xticks(range(len(table)), list(table), rotation=60, ha="right", fontsize=8)
            a.spines[["top", "right"]].set_visible(False)
            a.grid(axis="y", alpha=0.3)
    with written(path) as temporary:
        figure.savefig(temporary, dpi=130)


def write_table(out: Path, experiment: Experiment, ways: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Write table.json, table.csv, table.md and table.png from what is scored so far."""
    table = collect(out, ways, seeds)
    write_json(out / "table.json", {"experiment": experiment.name, "facts": facts(), "ways": table})
    write_csv(out / "table.csv", table)
    write_text(out / "table.md", markdown(table))
    if table:
        plot(out / "table.png", table)
    return table


def rarest_third(entry: dict[str, Any]) -> float | None:
    """Mean IoU of the third of the classes with the fewest true pixels (at least one class)."""
    present = sorted((c["pixels"], c["iou"]) for c in entry["per_class"].values() if c["pixels"])
    return float(np.mean([iou for _, iou in present[: -(-len(present) // 3)]])) if present else None
