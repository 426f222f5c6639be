"""Accuracy against speed: networks trained alike on the real data, as int8 files.

python benchmarks/front.py --out DIR --prepare [--only A,B] [key=value ...]   # trains, exports and scores (hours)
python benchmarks/front.py --out DIR                                         # times all in one run, front.md and .png

Every network is trained on `experiments/real.yaml`, scored on its val parts in torch, exported as OpenVINO int8
(calibrated on 32 training images) and scored again, by the rule `marginal`; then it is timed as `heteroseg bench` does,
with both rules, on a val image scaled to 520x706. What lies in DIR is kept, so a call goes on where the last one was
stopped. Only EfficientNet-Lite0 starts from ImageNet weights, which a package carries; HGNetV2-B0 starts from nothing.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

from heteroseg.datasets import read_image
from heteroseg.decisions.reference import Rule
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import ModelConfig, load_experiment, presets
from heteroseg.experiment.sources import open_sources
from heteroseg.export.bench import bench
from heteroseg.export.export import calibration_images, export
from heteroseg.files import write_json, write_text, written
from heteroseg.model.model import load
from heteroseg.provenance import facts
from heteroseg.training.loop import train

REAL = Path(__file__).parents[1] / "experiments" / "real.yaml"
LITE0 = ModelConfig(backbone="lite0", pretrained=True, width=128)
NETWORKS = {
    "Lite0, stride 4, width 128": LITE0.model_copy(update={"stride": 4}),
    "Lite0, stride 8": LITE0.model_copy(update={"stride": 8, "width": 64}),
    "Lite0, image x 2/3, stride 6": LITE0.model_copy(update={"scale": 0.6667, "stride": 6, "width": 64}),
    "Lite0, image x 1/2, stride 8": LITE0.model_copy(update={"scale": 0.5, "stride": 8, "width": 64}),
    "Lite0, image x 1/2, stride 8, width 128": LITE0.model_copy(update={"scale": 0.5, "stride": 8}),
    "Lite0, image x 4/9, stride 9, width 128": LITE0.model_copy(update={"scale": 0.4444, "stride": 9}),
    "Lite0, image x 2/5, stride 10, width 128": presets()["fast"].model_copy(update={"pretrained": True}),
    "Lite0, image x 1/3, stride 12, width 128": LITE0.model_copy(update={"scale": 0.3333, "stride": 12}),
    "HGNetV2-B0, stride 8": presets()["fast-hgnet"],
}
METRICS = ("miou", "macc", "strict_miou")
RULES: tuple[Rule, ...] = ("path", "marginal")


def folder_of(out: Path, name: str) -> Path:
    return out / "".join(c if c.isalnum() else "-" for c in name.lower())


def scores(model, sources) -> dict[str, Any]:
    datasets = evaluate(model, sources)["datasets"]
    return {dataset: {m: entry[m] for m in METRICS} for dataset, entry in datasets.items()}


def prepare(out: Path, name: str, overrides: Sequence[str]) -> None:
    folder = folder_of(out, name)
    experiment, home = load_experiment(REAL, overrides)
    stride, train_config = NETWORKS[name].stride, experiment.train
    crop = tuple(c // stride * stride for c in train_config.crop)  # whole cells, so 190 of 192 at stride 10
    experiment = experiment.model_copy(
        update={"model": NETWORKS[name], "train": train_config.model_copy(update={"crop": crop})}
    )
    sources = open_sources(experiment, home, splits=("val",))
    run, file, told = folder / "run", folder / "int8.xml", folder / "scores.json"
    if not (run / "best").exists():
        blind = {d: c.model_copy(update={"val": None}) for d, c in experiment.datasets.items()}  # scored below
        train(experiment.model_copy(update={"datasets": blind}), home, run, resume=(run / "state.pt").exists())
    model = load(run / "last")
    if not file.exists():
        export(model, file, "openvino", "int8", calibration_images(str(REAL), 32))
    if not told.exists():
        write_json(told, {"fp32": scores(model, sources), "int8": scores(load(file), sources), "facts": facts()})


def measure(out: Path, name: str, repeats: int, image: Path) -> dict[str, Any]:
    folder = folder_of(out, name)
    model = load(folder / "int8.xml")
    picture, timing = cv2.resize(read_image(image), (706, 520), interpolation=cv2.INTER_AREA), {}
    for rule in RULES:
        model.decision = rule
        timing[rule] = bench(model, picture, "leaves", 2, repeats)
    return {"network": name, "timing": timing} | json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def table(rows: Sequence[dict[str, Any]]) -> str:
    datasets = list(rows[0]["fp32"])
    scored = [f"{d}: mIoU fp32, int8" for d in datasets]
    heads = ["network", "frame, ms: path, marginal", "frames a second", *scored, "mean of int8"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        pairs = [" ".join(f"{100 * row[p][d]['miou']:.1f}" for p in ("fp32", "int8")) for d in datasets]
        times = [" ".join(f"{row['timing'][rule][k]:.1f}" for rule in RULES) for k in ("ms", "fps")]
        cells = [row["network"], *times, *pairs, f"{100 * mean(row, 'int8'):.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def mean(row: dict[str, Any], precision: str) -> float:
    """Mean over datasets of mIoU; where claims on unlabelled pixels can be counted (boxes), they are."""
    entries = [e["miou"] if e["strict_miou"] is None else e["strict_miou"] for e in row[precision].values()]
    return sum(entries) / len(entries)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for row, marker in zip(rows, "osD^vP*X<", strict=False):
        time = row["timing"]["path"]
        spread = time["spread_ms"]["frame"]
        x, y = time["ms"], 100 * mean(row, "int8")
        axes.errorbar([x], [y], xerr=[[x - spread["p10"]], [spread["p90"] - x]], marker=marker, label=row["network"])
    axes.set(xlabel="ms a frame of 520x706, int8, rule path, 2 threads", ylabel="mean of mIoU over the datasets, %")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with written(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--prepare", action="store_true", help="only train, export and score what is missing")
    p.add_argument("--only", help="numbers of networks, as 0,3")
    p.add_argument("--repeats", type=int, default=30)
    p.add_argument("overrides", nargs="*", metavar="key=value")
    args = p.parse_args()
    names = list(NETWORKS)
    names = [names[int(i)] for i in args.only.split(",")] if args.only else names
    if args.prepare:
        for name in names:
            prepare(args.out, name, args.overrides)
        return
    torch.set_num_threads(2)
    ready = [name for name in names if (folder_of(args.out, name) / "scores.json").exists()]
    experiment, home = load_experiment(REAL, args.overrides)
    photo = open_sources(experiment, home, splits=("val",))[0].val[0].image
    rows = [measure(args.out, name, args.repeats, photo) for name in ready]
    write_json(args.out / "front.json", rows)
    write_text(args.out / "front.md", table(rows))
    draw(rows, args.out / "front.png")
    print(table(rows))


if __name__ == "__main__":
    main()
