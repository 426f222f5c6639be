"""The page about a comparison of ways to train."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heteroseg.files import write_text
from heteroseg.report.page import environment

METRICS = ("miou", "macc", "acc", "rare_miou", "strict_miou", "claimed")


def _cell(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean over the seeds that have a value, and as text in percent with half of the range."""
    known = [v for v in values if v is not None]
    if not known:
        return {"mean": None, "text": "n/a"}
    spread = f" ± {50 * (max(known) - min(known)):.1f}" if len(known) > 1 else ""
    return {"mean": float(np.mean(known)), "text": f"{100 * np.mean(known):.1f}{spread}"}


def write_comparison(path: Path, title: str, table: dict[str, Any], experiment: str, facts: dict[str, str]) -> None:
    """Write the page. `table` is what heteroseg.comparison.table.collect returns, `experiment` YAML text."""
    datasets = []
    for name in dict.fromkeys(d for row in table.values() for d in row["datasets"]):
        known = {way: row for way, row in table.items() if name in row["datasets"]}
        depths = list(dict.fromkeys(k for row in known.values() for k in row["datasets"][name]["levels"]))
        rows = []
        for way, row in known.items():
            cell = row["datasets"][name]
            values = [cell[m] for m in METRICS] + [cell["levels"].get(d, []) for d in depths]
            dots = [v for v in cell["miou"] if v is not None]
            rows.append({"way": way, "seeds": len(row["seeds"]), "cells": list(map(_cell, values)), "dots": dots})
        datasets.append({"name": name, "rows": rows, "depths": [f"mIoU at depth {d}" for d in depths]})
    ways = [
        {"name": way, "parameters": row["parameters"] / 1e6, "minutes": float(np.mean(row["train_seconds"])) / 60}
        for way, row in table.items()
    ]
    page = (
        environment()
        .get_template("comparison.html")
        .render(title=title, datasets=datasets, ways=ways, experiment=experiment, facts=facts)
    )
    write_text(path, page)
