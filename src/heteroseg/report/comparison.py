"""The page about a comparison of ways to train."""

from pathlib import Path
from typing import Any

from heteroseg.comparison.table import dataset_names, dataset_rows, mean, plot, sizes_and_times, spread_text
from heteroseg.files import write_text
from heteroseg.report.charts import inline_svg
from heteroseg.report.page import environment


def write_comparison(path: Path, title: str, table: dict[str, Any], experiment: str, facts: dict[str, str]) -> None:
    """Write the page. `table` is what heteroseg.comparison.table.collect returns, `experiment` YAML text."""
    datasets = []
    for name in dataset_names(table):
        titles, ways = dataset_rows(table, name)
        rows = [(way, seeds, [(mean(f), spread_text(f)) for f in figures]) for way, seeds, figures in ways]
        datasets.append({"name": name, "titles": titles, "rows": rows})
    page = environment().get_template("comparison.html").render(
        title=title, datasets=datasets, ways=sizes_and_times(table),
        chart=inline_svg(plot(table), "scores of all ways, as in the tables below") if table else "",
        experiment=experiment, facts=facts,
    )  # fmt: skip
    write_text(path, page)
