"""One HTML page about a run: scores, example pictures, curves, the tree and the facts. It opens from disk, alone."""

import base64
import io
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from heteroseg import pictures
from heteroseg.data import Source
from heteroseg.datasets import read_sample
from heteroseg.evaluation import in_taxonomy_of, truth
from heteroseg.files import write_text
from heteroseg.labelspace import LabelSpace
from heteroseg.model import Model
from heteroseg.taxonomy import Color, Taxonomy

Row = tuple[Any, str, Any]  # step, name, value: a line of log.csv, numbers or their text
Colors = dict[str, Color]

PICTURE_WIDTH = 640  # larger pictures are shrunk in the page
CLOSE_UP_BELOW = 0.02  # pictures with a smaller labelled part are cut to it
CURVE_POINTS = 400
LEAST_SHARE = 0.001  # smaller parts are not listed in the legends of the page


@dataclass(frozen=True)
class Example:
    """One image and what the network says about it.

    `image` (H, W, 3) uint8 RGB; `truth` and `predicted` (H, W) int positions in `space.labels`, -1 unlabelled and
    outside; `nodes` (H, W) int decided nodes of the taxonomy, -1 void.
    """

    dataset: str
    name: str
    image: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    nodes: np.ndarray
    space: LabelSpace


def collect_examples(model: Model, sources: Sequence[Source], per_dataset: int = 3) -> list[Example]:
    """Read and predict a few annotated val images, spread evenly over each dataset."""
    result = []
    for source in sources:
        annotated = [i for i in source.val if i.mask or len(i.boxes)]
        items = annotated or source.val
        space = in_taxonomy_of(model, source.space)
        places = np.linspace(0, len(items) - 1, min(per_dataset, len(items))).round().astype(int)
        for item in (items[i] for i in places):
            sample = read_sample(item, scoring=True)
            sample.name = str(item.scoring_mask or item.mask or item.image)
            said = model.predict(sample.image)
            expected = truth(sample, space)
            result.append(
                Example(source.name, item.name, sample.image, expected, said.positions(space), said.nodes(), space)
            )
    return result


def close_up(example: Example) -> Example:
    """Cut an example to its largest labelled part where only a little is labelled (a sign), else leave it whole."""
    known = example.truth >= 0
    height, width = known.shape
    if not 0 < known.mean() < CLOSE_UP_BELOW:
        return example
    _, _, parts, _ = cv2.connectedComponentsWithStats(known.astype(np.uint8))
    x, y, w, h, _ = parts[1 + parts[1:, cv2.CC_STAT_AREA].argmax()].tolist()
    zoom = min(max(5 * w / width, 5 * h / height, 0.2), 1.0)
    tall, wide = round(height * zoom), round(width * zoom)
    top = min(max(y + h // 2 - tall // 2, 0), height - tall)
    left = min(max(x + w // 2 - wide // 2, 0), width - wide)
    cut = {key: getattr(example, key)[top : top + tall, left : left + wide]
           for key in ("image", "truth", "predicted", "nodes")}
    return replace(example, **cut)


def data_uri(image: np.ndarray, photo: bool = False) -> str:
    """(H, W, 3) uint8 RGB as a data: address, at most PICTURE_WIDTH wide: JPEG for photos, PNG for label colours."""
    height, width = image.shape[:2]
    if width > PICTURE_WIDTH:
        size = PICTURE_WIDTH, max(round(height * PICTURE_WIDTH / width), 1)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if photo else cv2.INTER_NEAREST)
    suffix, options = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 85]) if photo else (".png", [cv2.IMWRITE_PNG_COMPRESSION, 9])
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


def _rgb(color: Color | None) -> str | None:
    return color and "#{:02x}{:02x}{:02x}".format(*color)


def _legend(columns: Sequence[Sequence[pictures.Entry]]) -> dict[str, Any]:
    """Legend of one or more maps in the same colours: each name with its share in each of them."""
    shares: dict[tuple[str, Color], list[float]] = defaultdict(lambda: [0.0] * len(columns))
    for i, entries in enumerate(columns):
        for name, color, share in entries:
            shares[name, color][i] += share
    ordered = sorted(shares.items(), key=lambda pair: -max(pair[1]))
    lines = [
        {"name": name, "color": _rgb(color), "shares": list(map(pictures.share_text, values))}
        for (name, color), values in ordered if max(values) >= LEAST_SHARE
    ]
    return {"lines": lines, "more": len(ordered) - len(lines)}


def _example_view(whole: Example, taxonomy: Taxonomy) -> dict[str, Any]:
    """What the template shows of an example: five pictures and the legends of their colours."""
    e = close_up(whole)
    scored = np.append(e.space.evaluated, False)[e.truth]
    expected = np.where(scored, e.truth, -1)  # labels that are not evaluated are neither right nor wrong
    nothing = "no label / outside"
    labels = _legend([pictures.entries(m, e.space, nothing) for m in (e.truth, e.predicted)])
    nodes = _legend([pictures.node_entries(e.nodes, taxonomy)])
    errors = _legend([pictures.error_entries(expected, e.predicted)])
    maps = [
        ("image", e.image, True),
        ("truth", pictures.colorise(e.truth, e.space), False),
        (f"prediction in {e.space.name}", pictures.colorise(e.predicted, e.space), False),
        ("finest decision", pictures.colorise_nodes(e.nodes, taxonomy), False),
        ("errors", pictures.error_map(expected, e.predicted), False),
    ]
    (height, width), (tall, wide) = whole.truth.shape, e.truth.shape
    return {
        "name": e.name, "labels": labels, "nodes": nodes, "errors": errors,
        "size": f"{width} × {height}" + (f", a close-up of {wide} × {tall} is shown" if e is not whole else ""),
        "pictures": [{"title": title, "uri": data_uri(image, photo), "photo": photo} for title, image, photo in maps],
    }


def _class_rows(table: dict[str, Any], colors: Colors) -> list[dict[str, Any]]:
    return [{"name": name, "color": _rgb(colors.get(name)), **values} for name, values in table["per_class"].items()]


def _parts(decided: dict[str, Any]) -> list[dict[str, Any]]:
    """Right, wrong and outside as shares of all labelled pixels."""
    total = decided["right"] + decided["wrong"] + decided["outside"]
    return [
        {"name": n, "color": _rgb(pictures.ERROR_COLORS[n]), "share": decided[n] / total if total else None}
        for n in ("right", "wrong", "outside")
    ]


def _dataset_view(name: str, entry: dict[str, Any], examples: Sequence[Example], taxonomy: Taxonomy) -> dict[str, Any]:
    """What the template shows of a dataset; `entry` is its part of the evaluation."""
    mine = [e for e in examples if e.dataset == name]
    of_nodes: Colors = dict(zip(taxonomy.names, taxonomy.colors, strict=True))
    of_labels = {label.name: label.color for e in mine for label in e.space.labels}
    grouped = of_nodes | {f"{label} (label)": color for label, color in of_labels.items()}
    return {
        "name": name, "space": entry["label_space"], "images": entry["images"],
        "miou": entry["miou"], "macc": entry["macc"], "acc": entry["acc"], "rows": _class_rows(entry, of_labels),
        "claimed": entry["unlabelled"]["claimed"] / (entry["unlabelled"]["pixels"] or 1),
        "parts": _parts(entry["decided"]), "right_of_inside": entry["decided"]["right_of_inside"],
        "levels": [
            {"depth": depth, "miou": table["miou"], "acc": table["acc"], "rows": _class_rows(table, grouped)}
            for depth, table in entry.get("levels", {}).items()
        ],
        "examples": [_example_view(e, taxonomy) for e in mine],
    }


def _tree_view(taxonomy: Taxonomy, examples: Sequence[Example], node: int = 0) -> dict[str, Any]:
    """A node with its children, and the datasets that have a label of exactly this node or of a union with it."""
    spaces = {e.dataset: e.space for e in examples}
    known: dict[int, list[str]] = defaultdict(list)
    for dataset, space in spaces.items():
        for covered in sorted({n for label in space.labels for n in taxonomy.cover(label.leaves)}):
            known[covered].append(dataset)

    def view(n: int) -> dict[str, Any]:
        return {"name": taxonomy.names[n], "color": _rgb(taxonomy.colors[n]), "datasets": known[n],
                "children": [view(child) for child in taxonomy.children[n]]}

    return view(node)


def _series(log: Sequence[Row]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values of every name in a log, thinned to means over CURVE_POINTS stretches; no NaN or infinity."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for step, name, value in log:
        if np.isfinite(float(value)):
            points[name].append((float(step), float(value)))
    result = {}
    for name, pairs in points.items():
        stretches = np.array_split(np.array(sorted(pairs)), min(len(pairs), CURVE_POINTS))
        means = np.array([s.mean(0) for s in stretches])
        result[name] = means[:, 0], means[:, 1]
    return result


def _panels(series: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[tuple[str, list[str]]]:
    """Titles of the plots and the names drawn in each."""
    total = [n for n in series if n == "loss"]
    scores = [n for n in series if n.endswith("/miou")]
    terms = [n for n in series if n not in (*total, *scores, "lr")]
    panels = [("loss", total), ("loss per classifier", terms), ("mIoU while training", scores)]
    return [(title, names) for title, names in panels if names]


def _plot(axes: Any, names: Sequence[str], series: dict[str, tuple[np.ndarray, np.ndarray]], log_scale: bool) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for i, name in enumerate(names):
        steps, values = series[name]
        line = ("-", "--", ":", "-.")[i % 4]  # told apart without colour
        marker = "" if len(steps) > 1 else "o"
        look: dict[str, Any] = {"color": f"C{i % 10}", "linestyle": line, "marker": marker, "linewidth": 1.3}
        axes.plot(steps, values, label=f"{name}: {values[-1]:.3g}", **look)
    if log_scale and all((series[name][1] > 0).all() for name in names):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": min(len(names), 2)}
    axes.legend(fontsize=9, framealpha=0, title="name: last value", title_fontsize=9, **below)


def curves(log: Sequence[Row]) -> Markup:
    """The loss, total and per classifier, and scores over steps: an SVG element in the page's text colour.

    Empty without a log.
    """
    import matplotlib
    from matplotlib.figure import Figure

    series = _series(log)
    panels = _panels(series)
    if not panels:
        return Markup("")
    ink = "#123456"  # becomes the page's text colour
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    rc: Any = dict.fromkeys(inked, ink)
    rc |= {"svg.fonttype": "none", "svg.hashsalt": "heteroseg", "text.parse_math": False, "font.size": 10}
    with matplotlib.rc_context(rc):
        figure = Figure(figsize=(5 * len(panels), 5), layout="constrained")
        for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _plot(axes, names, series, log_scale="loss" in title)
            axes.set(title=title, xlabel="step")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], count=1, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg, count=2)
    return Markup(svg.replace(ink, "currentColor").replace("xlink:href", "href"))


def percent(value: float | None) -> str:
    """0.613 to '61.3 %', None to 'n/a'."""
    return "n/a" if value is None else f"{100 * value:.1f} %"


def write_report(
    path: Path, title: str, evaluation: dict[str, Any], examples: list[Example], log: Sequence[Row], taxonomy: Taxonomy,
    experiment_json: str, facts: dict[str, str],
) -> None:
    """Write the page. `evaluation` is what heteroseg.evaluation.evaluate returns, `log` the rows of log.csv."""
    environment = Environment(
        loader=PackageLoader("heteroseg"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    datasets = [_dataset_view(name, entry, examples, taxonomy) for name, entry in evaluation["datasets"].items()]
    page = environment.get_template("report.html").render(
        title=title, datasets=datasets, taxonomy=taxonomy, tree=_tree_view(taxonomy, examples), curves=curves(log),
        experiment=experiment_json, facts=facts,
        unlabelled=_rgb(pictures.OUTSIDE), outside=any((d["parts"][2]["share"] or 0) > 0 for d in datasets),
    )
    write_text(path, page)
