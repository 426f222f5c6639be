"""The page about a comparison of ways to train."""

from pathlib import Path
from typing import Any

from heteroseg.comparison.table import (
    dataset_names,
    dataset_rows,
    mean,
    plot,
    sizes_and_times,
    spread_text,
    unseen_verdict,
)
from heteroseg.report.charts import inline_svg
from heteroseg.report.page import write_page


def write_comparison(path: Path, title: str, table: dict[str, Any], experiment: str, facts: dict[str, str]) -> None:
    """Write the page. `table` is what heteroseg.comparison.table.collect returns, `experiment` YAML text."""
    chart = inline_svg(plot(table), "scores of all ways, as in the tables below") if table else ""
    datasets = {name: dataset_rows(table, name) for name in dataset_names(table)}
    texts = {"title": title, "experiment": experiment, "facts": facts, "chart": chart}
    sizes = {"ways": sizes_and_times(table), "unseen": unseen_verdict(table)}
    write_page(path, "comparison.html", datasets=datasets, mean=mean, spread_text=spread_text, **sizes, **texts)
