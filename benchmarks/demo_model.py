"""Make the network of `heteroseg demo --quick`: train on drawn scenes, keep int8 weights, write the MODEL and its card.

    python benchmarks/demo_model.py --work /tmp/demo-model [train.steps=600 ...]

Takes about a second a step on two cores; also as `make demo-model`. What is written takes the place of
src/heteroseg/models/demo; --resume goes on with a training that was stopped.
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from heteroseg import load, load_experiment, train
from heteroseg.files import SPECS, read_json, write_json
from heteroseg.model.checking import SCALE, WEIGHTS, checksums
from heteroseg.model.model import SHIPPED
from heteroseg.scenes import generate
from heteroseg.writing import written

RECIPE = ["model.width=64", "train.steps=600", "train.ema=0.99", "train.save_every=50"]


def as_int8(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convolutions as int8 with a scale for each output channel, all else as it is."""
    kept = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 4:
            scale = tensor.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) / 127
            kept[name], kept[name + SCALE] = (tensor / scale).round().to(torch.int8), scale
        else:
            kept[name] = tensor
    return kept


def ship(run: Path, out: Path) -> None:
    """Write the last network of a RUN as a MODEL with its card and int8 weights."""
    model = load(run / "last")
    model.name = "demo"
    shutil.rmtree(out, ignore_errors=True)
    model.save_pretrained(out, "apache-2.0")
    with written(out / WEIGHTS) as part:
        save_file(as_int8(load_file(out / WEIGHTS)), part)
    config = read_json(out / "config.json")
    write_json(out / "config.json", config | {"checksums": checksums(out, model.spaces, config)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes and RUN")
    parser.add_argument("--images", type=int, default=300, help="train images of each dataset")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    if not args.resume:
        generate(args.work / "data", args.images, max(1, args.images // 20))
        shutil.copy(SPECS / "experiments" / "demo.yaml", args.work / "experiment.yaml")
    experiment, folder = load_experiment(args.work / "experiment.yaml", [*RECIPE, *args.overrides])
    train(experiment, folder, args.work / "run", args.resume)
    ship(args.work / "run", args.out)
