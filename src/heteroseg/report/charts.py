"""Charts as SVG inside a page, drawn by matplotlib, in the page's colours and told apart without colour."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVE_POINTS = 300
DASHES = ("-", (0, (5, 3)), (0, (1.5, 2)), (0, (6, 2, 1.5, 2)))
COLORS = ("#2f6fc4", "#c2410c", "#2f855a", "#7c3aed")
GRID = "#dfe3e8"
STEPS = (1, 2, 5, 10)  # between ticks, times a power of ten
IN_PAGE = {"#000000": "currentColor", GRID: "var(--line)"} | {c: f"var(--c{i})" for i, c in enumerate(COLORS)}


def thinned(points: Sequence[tuple[float, float]]) -> np.ndarray:
    """(N, 2) means over at most CURVE_POINTS stretches of (step, value) pairs, without NaN and infinities."""
    finite = np.array(sorted(p for p in points if np.isfinite(p[1]))).reshape(-1, 2)
    stretches = np.array_split(finite, max(min(len(finite), CURVE_POINTS), 1))
    return np.array([stretch.mean(0) for stretch in stretches]) if len(finite) else finite


def _in_page(attribute: re.Match[str]) -> str:
    """An attribute with numbers to a hundredth of a point, the page's font, and colours of the page."""
    text = re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])
    text = re.sub(r"font-family: [^;]*; ", "", text)
    for color, replacement in IN_PAGE.items():
        text = text.replace(color, replacement)
    return text


def inline_svg(figure: "Figure", description: str) -> Markup:
    """The figure as an SVG element for an HTML page, with `description` for people who do not see it.

    Text stays text, colours of IN_PAGE become those of the page, and the ids differ from those of charts with another
    description.
    """
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    svg = re.sub(r"\n\s*", "", file.getvalue())
    size = re.search(r'width="[^"]*" height="[^"]*" viewBox="[^"]*"', svg)
    body = svg.partition("</style></defs>")[2]  # before it stand namespaces and a style for all elements of the page
    body = re.sub(r' id="[\w.]+_\d+"', "", body)  # nothing refers to these, and every figure has the same
    body = re.sub(r'="[^"]*"', _in_page, body)
    assert size is not None
    return Markup(f'<svg class="chart" {size[0]} role="img" aria-label="{escape(description)}">{body}')


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.3g} %" if percent else f"{value:.3g}" if value < 1e4 else f"{value:,.0f}"


def line_chart(title: str, curves: Mapping[str, Sequence[tuple[float, float]]], percent: bool = False) -> Markup:
    """Curves of (step, value) by name, with the last values in the legend; '' where no value is finite.

    The axis is logarithmic where all values are positive and no `percent`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    lines = {name: line for name, points in curves.items() if len(line := thinned(points))}
    if not lines:
        return Markup()
    values = np.concatenate([line[:, 1] for line in lines.values()])
    labels = {name: _number(float(line[-1, 1]), percent) for name, line in lines.items()}
    with rc_context({"text.parse_math": False, "font.size": 8, "lines.linewidth": 1.2, "lines.markersize": 3}):
        figure = Figure(figsize=(4.4, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.set_prop_cycle(color=COLORS, linestyle=DASHES)
        for name, line in lines.items():
            axes.plot(*line.T, marker="o" if len(line) < 12 else "", label=f"{name}  {labels[name]}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_xlabel("step", loc="right")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        log = not percent and values.min() > 0
        if log:
            axes.set_yscale("log")
        wide = log and values.max() > 5 * values.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5, steps=STEPS))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: _number(value, percent))
        figure.legend(loc="outside lower left", ncols=2, frameon=False, borderpad=0, handlelength=3)
    told = "; ".join(f"{name}, last value {number}" for name, number in labels.items())
    return inline_svg(figure, f"{title}: {told}")
