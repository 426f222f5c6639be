"""Charts as SVG in the page's text colour: lines over steps, and a matrix of confusions. Told apart without colour."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

CURVE_POINTS = 300
WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 30  # room around the plot
DASHES = ("", "7 4", "2 3", "9 3 2 3")
CELL = 15


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


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """Three to seven round numbers from `low` to `high`."""
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
        if len(found) > 7:
            found = [10.0**d for d in decades if low <= 10.0**d <= high]
        if len(found) >= 2:
            return found
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 5)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _padded(values: np.ndarray, log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if log:
        return (low / 1.1, high * 1.1)
    margin = (high - low or abs(high) or 1.0) * 0.05
    return low - margin, high + margin


def line_chart(lines: Sequence[Line], log: bool = False, percent: bool = False) -> Markup:
    """Curves over training steps; `log` is heeded where all values are positive. Last values stand in the legend."""
    steps, values = (np.concatenate([getattr(line, key) for line in lines]) for key in ("steps", "values"))
    log = log and bool((values > 0).all())
    (x0, x1), (y0, y1) = _padded(steps, False), _padded(values, log)
    scale = math.log10 if log else float

    def x(step: float) -> float:
        return LEFT + (step - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (scale(value) - scale(y0)) / (scale(y1) - scale(y0)) * (HEIGHT - TOP - BOTTOM)

    def number(value: float) -> str:
        return f"{100 * value:.3g} %" if percent else f"{value:.3g}" if value < 1e4 else f"{value:,.0f}"

    parts = []
    for tick in _ticks(y0, y1, log):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text x="{LEFT - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>'
        )
    for tick in _ticks(x0, x1, False):
        if tick >= 0:
            parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:,.0f}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">step</text>')
    rows = []
    for i, line in enumerate(lines):
        dash = f' stroke-dasharray="{DASHES[i % len(DASHES)]}"' * bool(DASHES[i % len(DASHES)])
        points = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in zip(line.steps, line.values, strict=True))
        parts.append(f'<polyline class="c{i % 4}" points="{points}"{dash}/>')
        if len(line.steps) < 12:
            parts += [
                f'<circle class="c{i % 4}" cx="{x(s):.1f}" cy="{y(v):.1f}" r="3"/>'
                for s, v in zip(line.steps, line.values, strict=True)
            ]
        stroke = f'<line class="c{i % 4}" x1="0" x2="30" y1="3" y2="3"{dash}/>'
        swatch = f'<svg class="swatch" viewBox="0 0 30 6">{stroke}</svg>'
        rows.append(f"<li>{swatch}{escape(line.name)} <b>{number(float(line.values[-1]))}</b></li>")
    told = ", ".join(f"{line.name}: last value {number(float(line.values[-1]))}" for line in lines)
    return Markup(  # every name is escaped
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)}">'
        f"{''.join(parts)}</svg>"
        f'<ul class="key">{"".join(rows)}</ul>'
    )


def matrix_chart(names: Sequence[str], shares: np.ndarray, groups: Sequence[str], told: Sequence[str]) -> Markup:
    """Rows are true, columns predicted labels: `shares` (N, M) of each row from 0 to 1, M = N + 1 with outside last.

    A cell is as large as its share, so it reads without colour. `groups` (N,) names each row's branch of the tree; a
    line parts different ones. `told` (N + 1,) are the names of the columns.
    """
    room = 8 + 6.3 * min(max(map(len, told), default=0), 26)
    width, height = room + CELL * shares.shape[1] + 4, room + CELL * len(names) + 4
    parts = []

    def short(name: str) -> str:
        return escape(name if len(name) <= 26 else name[:25] + "…")

    for i, name in enumerate(names):
        middle = room + CELL * (i + 0.5)
        parts.append(f'<text x="{room - 5:.0f}" y="{middle + 4:.1f}" text-anchor="end">{short(name)}</text>')
        if i and groups[i] != groups[i - 1]:
            at = room + CELL * i
            parts.append(f'<path class="grid" d="M{room} {at}H{width - 4}M{at} {room}V{height - 4}"/>')
    for j, name in enumerate(told):
        middle = room + CELL * (j + 0.5)
        parts.append(f'<text transform="translate({middle + 4:.1f} {room - 5:.0f}) rotate(-90)">{short(name)}</text>')
    parts.append(f'<rect class="edge" x="{room}" y="{room}" width="{width - room - 4}" height="{height - room - 4}"/>')
    for i, j in np.argwhere(shares >= 0.005).tolist():
        side = max(2.0, (CELL - 1) * math.sqrt(shares[i, j]))
        x, y = room + CELL * (j + 0.5) - side / 2, room + CELL * (i + 0.5) - side / 2
        kind = "hit" if i == j else "miss"
        text = f"{100 * shares[i, j]:.1f} % of the pixels of {names[i]} are called {told[j]}"
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}">'
            f"<title>{escape(text)}</title></rect>"
        )
    return Markup(  # every name is escaped
        f'<svg class="matrix" viewBox="0 0 {width:.0f} {height:.0f}" style="width:{width:.0f}px" role="img" '
        f'aria-label="confusion matrix; the table above lists its largest entries">{"".join(parts)}</svg>'
    )
