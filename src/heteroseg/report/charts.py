"""Charts as SVG inside a page, drawn by matplotlib, in the page's colours and told apart without colour."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

CURVE_POINTS = 300
DASHES = ("-", (0, (5, 3)), (0, (1.5, 2)), (0, (6, 2, 1.5, 2)))
COLORS = ("#2f6fc4", "#c2410c", "#2f855a", "#7c3aed")
GRID = "#dfe3e8"
STEPS = (1, 2, 5, 10)  # between ticks, times a power of ten
IN_PAGE = {"#000000": "currentColor", GRID: "var(--line)"} | {c: f"var(--c{i})" for i, c in enumerate(COLORS)}


@dataclass(frozen=True)
class Line:
    """A named curve; steps and values (N,) float, finite."""

    name: str
    steps: np.ndarray
    values: np.ndarray


def thinned(name: str, points: Sequence[tuple[float, float]]) -> Line | None:
    """A curve of means over at most CURVE_POINTS stretches, without NaN and infinities; None if nothing is left."""
    finite = sorted(p for p in points if np.isfinite(p[1]))
    if not finite:
        return None
    stretches = np.array_split(np.array(finite), min(len(finite), CURVE_POINTS))
    means = np.array([s.mean(0) for s in stretches])
    return Line(name, means[:, 0], means[:, 1])


def _in_page(attribute: re.Match[str]) -> str:
    """An attribute with numbers to a hundredth of a point, the page's font, and colours of the page."""
    text = re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])
    text = re.sub(r"font-family: [^;]*; ", "", text)
    for color, replacement in IN_PAGE.items():
        text = text.replace(color, replacement)
    return text


def inline_svg(figure: Figure, description: str) -> Markup:
    """The figure as an SVG element for an HTML page, with `description` for people who do not see it.

    Text stays text, colours of IN_PAGE become those of the page, and the ids differ from those of charts with another
    description.
    """
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


def line_chart(title: str, lines: Sequence[Line], log: bool = False, percent: bool = False) -> Markup:
    """Curves over training steps; `log` is heeded where all values are positive. Last values stand in the legend."""
    values = np.concatenate([line.values for line in lines])
    last = [_number(float(line.values[-1]), percent) for line in lines]
    with rc_context({"text.parse_math": False, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(4.4, 2.6), layout="constrained")
        axes = figure.subplots()
        for i, line in enumerate(lines):
            style: dict[str, Any] = {
                "color": COLORS[i % len(COLORS)],
                "linestyle": DASHES[i % len(DASHES)],
                "linewidth": 1.2,
            }
            marker = "o" if len(line.steps) < 12 else ""
            axes.plot(line.steps, line.values, marker=marker, markersize=3, label=f"{line.name}  {last[i]}", **style)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_xlabel("step", loc="right")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        wide = values.min() > 0 and values.max() > 5 * values.min()
        if log and (values > 0).all():
            axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if log and wide else MaxNLocator(5, steps=STEPS))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: _number(value, percent))
        figure.legend(loc="outside lower left", ncols=2, frameon=False, borderpad=0, handlelength=3)
    told = (f"{line.name}, last value {number}" for line, number in zip(lines, last, strict=True))
    return inline_svg(figure, f"{title}: {'; '.join(told)}")
