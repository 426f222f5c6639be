"""Frames a second over backbones, runtimes and precisions, beside the naive decode and SegFormer-B0 as people run it.

python benchmarks/speed.py --networks speed --prepare            # writes the networks (minutes)
python benchmarks/speed.py --networks speed --json speed.json    # measures all in one run (about two minutes)

All networks have random weights and 107 leaves of streets-108. A naive frame is the same normalisation and network with
the decode that upsamples every logit. SegFormer-B0 as people run it: 107 plain logits in torch, F.interpolate to the
size of the image, argmax.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from naive import compare

from heteroseg.experiment.config import ModelConfig, presets
from heteroseg.export.bench import Runtime, bench, spread, timed
from heteroseg.export.export import ENDINGS, Precision, export
from heteroseg.export.random_model import random_model, scenes
from heteroseg.files import write_json
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model import exported
from heteroseg.model.model import Model, load
from heteroseg.networks.backbone import IMAGENET
from heteroseg.provenance import facts

RESNET18 = {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}
NETWORKS = {
    "fast (Lite0, image x 2/5)": presets()["fast"],
    "fast-hgnet (HGNetV2-B0)": presets()["fast-hgnet"],
    "Lite0": ModelConfig(backbone="lite0", pretrained=False, width=128, stride=4),
    "ResNet-18": ModelConfig(backbone="hf:resnet", backbone_options=RESNET18, width=64, stride=8),
    "SegFormer-B0": ModelConfig(backbone="hf-seg:segformer"),
}
WAYS: tuple[tuple[Runtime, Precision], ...] = (
    ("torch", "fp32"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)


def network_file(folder: Path, name: str, runtime: Runtime, precision: Precision) -> Path:
    return folder / f"{name.split()[0].lower()}-{precision}{ENDINGS[runtime]}"


def fresh(name: str, size: tuple[int, int]) -> Model:
    return random_model(NETWORKS[name], load_taxonomy("streets-108"), size)


def prepare(folder: Path, size: tuple[int, int]) -> None:
    """Export what is not in `folder` yet; int8 is calibrated with two scenes, as weights are random."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        for runtime, precision in WAYS:
            if runtime == "torch":
                continue
            path = network_file(folder, name, runtime, precision)
            if not path.exists():
                export(fresh(name, size), path, runtime, precision, scenes(2, size) if precision == "int8" else ())
                print(path, flush=True)


def as_people_run_it(size: tuple[int, int], repeats: int) -> dict[str, Any]:
    """SegFormer-B0 of transformers in torch, from a uint8 image to a label map of its size."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=107)).eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
    image = scenes(1, size)[0]

    def frame() -> np.ndarray:
        pixels = (torch.from_numpy(image)[None].permute(0, 3, 1, 2).float() - mean) / std
        logits = F.interpolate(network(pixel_values=pixels).logits, size, mode="bilinear", align_corners=False)
        return logits.argmax(1)[0].to(torch.uint8).numpy()

    with torch.inference_mode():
        times = timed(frame, repeats)
    return {"network": "SegFormer-B0 as people run it", "ms": statistics.median(times), "frame_ms": spread(times)}


def batches(model: Model, image: np.ndarray, count: int, repeats: int) -> dict[str, float]:
    """Images a second of the network alone on whole batches."""
    network = model.network
    if isinstance(network, exported.ExportedNetwork):
        ready = np.repeat(exported.prepare(image, network), count, axis=0)
        times = timed(lambda: network.outputs(ready), repeats)
    else:
        pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2).repeat(count, 1, 1, 1)
        with torch.inference_mode():
            times = timed(lambda: network(pixels), repeats)
    middle = statistics.median(times)
    return {"images": count, "network_ms": middle, "images_per_second": 1e3 * count / middle}


def row(result: dict[str, Any]) -> str:
    """A line of a Markdown table."""
    times = result["spread_ms"]["frame"]
    naive = result["ms"] - result["stages_ms"]["decode"] + result["naive_decode_ms"]
    return (
        f"| {result['network']} | {result['runtime']} {result['precision']} | {result['fps']:.1f} | {result['ms']:.1f} "
        f"({times['p10']:.1f} to {times['p90']:.1f}) | {result['stages_ms']['network']:.1f} | "
        f"{result['stages_ms']['decode']:.1f} | {naive:.0f} | {1e3 / naive:.1f} |"
        + (f" {result['batch']['images_per_second']:.1f} |" if "batch" in result else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, required=True, help="folder of the exported networks")
    parser.add_argument("--prepare", action="store_true", help="only write the networks that are missing")
    parser.add_argument("--height", type=int, default=520)
    parser.add_argument("--width", type=int, default=706)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=1, help="also time the network on batches of this many images")
    parser.add_argument("--json", type=Path, help="write all figures there")
    args = parser.parse_args()
    size = (args.height, args.width)
    image = scenes(1, size)[0]
    prepare(args.networks, size)
    if args.prepare:
        return
    torch.set_num_threads(args.threads)
    heads = [
        "network",
        "runtime",
        "frames a second",
        "frame, ms (10 to 90 %)",
        "network",
        "decode",
        "naive frame",
        "its fps",
    ]
    heads += [f"images a second in batches of {args.batch}"] if args.batch > 1 else []
    print(f"| {' | '.join(heads)} |")
    print("|" + "---|" * len(heads))
    rows = []
    for name in NETWORKS:
        for runtime, precision in WAYS:
            if runtime == "torch":
                model = fresh(name, size)
            else:
                model = load(network_file(args.networks, name, runtime, precision))
            result = bench(model, image, "leaves", args.threads, args.repeats)
            rows.append({"network": name} | result | compare(model, image, "leaves", args.threads))
            if args.batch > 1:
                rows[-1]["batch"] = batches(model, image, args.batch, args.repeats)
            print(row(rows[-1]), flush=True)
    people = as_people_run_it(size, args.repeats)
    times = people["frame_ms"]
    print(
        f"| {people['network']} | torch fp32 | | | | | {people['ms']:.0f} ({times['p10']:.0f} to {times['p90']:.0f}) | "
        f"{1e3 / people['ms']:.1f} |"
    )
    if args.json:
        write_json(args.json, {"facts": facts(), "rows": [*rows, people]})


if __name__ == "__main__":
    main()
