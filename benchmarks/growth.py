"""Frame time and memory as classes and pixels grow: generated taxonomies, the fast preset with random weights.

python benchmarks/growth.py --networks growth --prepare              # writes the networks (minutes)
python benchmarks/growth.py --networks growth --json growth.json     # measures (under two minutes), draws growth.png
python benchmarks/growth.py --networks growth --turns 6              # 108 classes against 2,000 in the same minute
python benchmarks/growth.py --networks growth --turns 6 --decision marginal --torch   # not exported, the other rule

Every taxonomy has leaves of one depth and classifiers of about equal size. With depth 1 there is one classifier, whose
logits are needed everywhere, so there is nothing to be lazy about. Memory is the peak of the process above what it held
before the network was opened.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from heteroseg.decisions.reference import RULES, Rule
from heteroseg.experiment.config import presets
from heteroseg.export.bench import COUNTED, frame, spread
from heteroseg.export.export import Head, Precision, export
from heteroseg.export.random_model import random_model, scenes
from heteroseg.files import write_json
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy
from heteroseg.model.exported import ExportedNetwork
from heteroseg.model.model import Model, load
from heteroseg.provenance import facts
from heteroseg.writing import written

CLASSES, DEPTHS, FRAME = (20, 108, 500, 2000), (1, 2, 3), (520, 706)
SIZES = ((433, 578), (612, 817), (866, 1155), (1225, 1633), (1732, 2310), (2449, 3266))  # 0.25 to 8 megapixels


def grown(leaves: int, depth: int) -> Taxonomy:
    """A tree of `leaves` leaves at `depth`, whose classifiers have about leaves ** (1 / depth) children."""
    tree: dict[str, list[str]] = {}

    def share(name: str, count: int, below: int) -> None:
        parts = count if below == 1 else round(count ** (1 / below))
        tree[name] = [f"{'n' if name == 'root' else name}_{i}" for i in range(parts)]
        for i, child in enumerate(tree[name]):
            if below > 1:
                share(child, (i + 1) * count // parts - i * count // parts, below - 1)

    share("root", leaves, depth)
    return build_taxonomy(TaxonomyFile(name=f"grown-{leaves}-{depth}", tree=tree))


def network_file(folder: Path, classes: int, depth: int, head: Head, precision: Precision) -> Path:
    return folder / f"{classes}-{depth}-{head}-{precision}.xml"


def heads(depth: int) -> tuple[Head, ...]:
    return ("dense",) if depth == 1 else ("dense", "lazy")


def prepare(
    folder: Path, precision: Precision, sizes: Sequence[int] = CLASSES, depths: Sequence[int] = (2, 3, 1)
) -> None:
    """Export every network that is not in `folder` yet; int8 is calibrated with two scenes, as weights are random."""
    folder.mkdir(parents=True, exist_ok=True)
    images = scenes(2, FRAME) if precision == "int8" else []
    for depth in depths:
        for classes in sizes[::-1]:
            missing = [h for h in heads(depth) if not network_file(folder, classes, depth, h, precision).exists()]
            if missing:
                model = random_model(presets()["fast"], grown(classes, depth), FRAME)
            for head in missing:
                path = network_file(folder, classes, depth, head, precision)
                export(model, path, "openvino", precision, images, head)
                print(path, flush=True)


def _memory(key: str) -> float:
    """MiB of this process from Linux: VmRSS (now) or VmHWM (the peak since `_forget_peak`)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def opened(path: Path, threads: int, decision: Rule) -> Model:
    model = replace(load(path), decision=decision)
    assert isinstance(model.network, ExportedNetwork)
    model.network.threads = threads
    return model


def frames(model: Model, size: tuple[int, int]) -> Callable[[], dict[str, float]]:
    """What works out a frame of one scene and tells the milliseconds of the stages."""
    plan, image = model.plan("leaves", ids=True), scenes(1, size)[0]
    return lambda: frame(model, image, plan)[0]


@torch.inference_mode()
def in_turn(models: Sequence[Model], depth: int, rounds: int) -> list[str]:
    """Frames of 108 classes and of 2,000 in turn, so that both see the same machine: a line a round."""
    networks, lines = [frames(model, FRAME) for model in models], []
    for _ in range(rounds + 1):
        stages = [[network() for network in networks] for _ in range(40)]
        times = [[sum(each.values()) for each in row] for row in stages]
        few, many = (statistics.median(column) for column in zip(*times, strict=True))
        decodes = " and ".join(f"{statistics.median(row[i]['decode'] for row in stages):.1f}" for i in (0, 1))
        told = f"108 classes {few:.1f} ms, 2,000 {many:.1f} ms, {100 * (many / few - 1):+.0f} %"
        lines.append(f"depth {depth}: {told} (decode {decodes})")
    return lines[1:]  # the first round warms up


def measure(path: Path, size: tuple[int, int], seconds: float, threads: int, decision: Rule) -> dict:
    """Frames of one scene for `seconds` or more, and the peak of memory above what the process held before."""
    gc.collect()
    held = _memory("VmRSS")
    _forget_peak()
    model = opened(path, threads, decision)
    next_frame = frames(model, size)
    for _ in range(2):
        next_frame()
    shown: list[dict[str, float]] = []
    start = time.perf_counter()
    while len(shown) < 5 or time.perf_counter() - start < seconds:
        shown.append(next_frame())
    assert isinstance(model.network, ExportedNetwork)
    return {
        "classes": len(model.taxonomy.leaves),
        "depth": max(model.taxonomy.depths),
        "head": "lazy" if model.network.lazy else "dense",
        "size": list(size),
        "frames": len(shown),
        "frame_ms": spread([sum(stages.values()) for stages in shown]),
        "stages_ms": {name: spread([stages[name] for stages in shown])["median"] for name in COUNTED},
        "memory_mib": _memory("VmHWM") - held,
    }


def _rows(points: Iterable[dict]) -> str:
    lines = [f"{'classes':>7} {'depth':>5} head  {'size':>9} {'ms':>7} {'p10':>7} {'p90':>7} {'decode':>7} {'MiB':>6}"]
    for row in points:
        size, times = "x".join(map(str, row["size"])), row["frame_ms"]
        lines.append(
            f"{row['classes']:>7} {row['depth']:>5} {row['head']:<5} {size:>9} {times['median']:>7.1f} "
            f"{times['p10']:>7.1f} {times['p90']:>7.1f} {row['stages_ms']['decode']:>7.1f} {row['memory_mib']:>6.0f}"
        )
    return "\n".join(lines)


def draw(points: Sequence[dict], out: Path) -> None:
    """Two plots side by side: milliseconds by classes, and by megapixels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    colors = dict(zip(DEPTHS, ("tab:gray", "tab:blue", "tab:orange"), strict=True))
    for depth in DEPTHS:
        for head, style in zip(heads(depth), (":", "-"), strict=False):
            rows = [r for r in points if (r["depth"], r["head"], tuple(r["size"])) == (depth, head, FRAME)]
            times = [r["frame_ms"] for r in rows]
            error = [[t["median"] - t["p10"] for t in times], [t["p90"] - t["median"] for t in times]]
            left.errorbar(
                [r["classes"] for r in rows],
                [t["median"] for t in times],
                error,
                label=f"depth {depth}, {head}",
                color=colors[depth],
                linestyle=style,
                marker=".",
            )
    left.set(xscale="log", ylim=(0, None), xlabel="classes", ylabel="ms a frame", title="520x706")
    left.set_xticks(CLASSES, [f"{n}" for n in CLASSES])
    left.minorticks_off()
    left.legend(fontsize=7)
    for head, style in (("dense", ":"), ("lazy", "-")):
        rows = [r for r in points if r["head"] == head and tuple(r["size"]) != FRAME]
        pixels = [r["size"][0] * r["size"][1] / 1e6 for r in rows]
        right.plot(pixels, [r["frame_ms"]["median"] for r in rows], f"k{style}", marker=".", label=head)
    right.set(xlabel="megapixels", ylim=(0, None), title="108 classes, depth 2")
    right.legend(fontsize=7)
    with written(out) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    pyplot.close(figure)


def _pair(args: argparse.Namespace, depth: int) -> list[Model]:
    """108 classes and 2,000, exported with a dense and a lazy head, or as PyTorch has them."""
    if args.torch:
        models = [random_model(presets()["fast"], grown(n, depth), FRAME) for n in (108, 2000)]
        for model in models:
            model.torch_network.eval()
        return [replace(model, decision=args.decision) for model in models]
    heads_of: dict[int, Head] = {108: "dense", 2000: "lazy"}
    files = [network_file(args.networks, n, depth, h, args.precision) for n, h in heads_of.items()]
    return [opened(path, args.threads, args.decision) for path in files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, required=True, help="folder of the exported networks")
    parser.add_argument("--prepare", action="store_true", help="only write the networks that are missing")
    parser.add_argument("--precision", default="int8", choices=["fp32", "bf16", "int8"])
    parser.add_argument("--seconds", type=float, default=1.0, help="of frames for each point")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--json", type=Path, help="figures, and a plot beside them; what is in it is not measured again"
    )
    parser.add_argument("--turns", type=int, metavar="N", help="only compare 108 classes with 2,000 in turn, N times")
    parser.add_argument("--decision", default="path", choices=RULES)
    parser.add_argument("--torch", action="store_true", help="with --turns: networks that are not exported")
    args = parser.parse_args()
    if args.turns and not args.torch:
        prepare(args.networks, args.precision, (108, 2000), (2, 3))
    elif not args.turns:
        prepare(args.networks, args.precision)
    if args.prepare:
        return
    torch.set_num_threads(args.threads)
    for depth in (2, 3) if args.turns else ():
        print("\n".join(in_turn(_pair(args, depth), depth, args.turns)), flush=True)
    if args.turns:
        return
    points = [(n, d, head, FRAME) for n in CLASSES for d in DEPTHS for head in heads(d)]
    points += [(108, 2, head, size) for size in SIZES for head in heads(2)]
    known = json.loads(args.json.read_text())["points"] if args.json and args.json.exists() else []
    done = {(r["classes"], r["depth"], r["head"], tuple(r["size"])) for r in known}
    measure(
        network_file(args.networks, 20, 1, "dense", args.precision), FRAME, 0, args.threads, args.decision
    )  # warm-up
    for classes, depth, head, size in points:
        if (classes, depth, head, size) not in done:
            path = network_file(args.networks, classes, depth, head, args.precision)
            known.append(measure(path, size, args.seconds, args.threads, args.decision))
            if args.json:
                write_json(
                    args.json,
                    {"precision": args.precision, "decision": args.decision, "facts": facts(), "points": known},
                )
    print(_rows(known))
    if args.json:
        draw(known, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
