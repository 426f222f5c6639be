"""`heteroseg.decode_logits` beside upsample and argmax: SegFormer-B0 of transformers as people run it, all in one run.

python benchmarks/decode.py --json decode.json           # a quarter of an hour on two cores
python benchmarks/decode.py --runtime onnx --json onnx.json   # the same network in ONNX Runtime
python benchmarks/decode.py --tiny                       # to try it

Frames count from uint8 images in memory to label maps of their size. Both ways follow each other in turn, first the
one, then the other, so that a machine whose speed changes slows both; a ratio is the median of the rounds' ratios. The
network has random weights. Its classes get constants so that a share of `random_model.MIXED` of its cells is mixed, as
in networks that were trained for a short time; noise, of which every cell is mixed, is timed too. Where upsampled
logits would take more than MOST bytes, they are upsampled an image at a time, which favours that way.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from heteroseg import decode_logits
from heteroseg.export.random_model import MIXED, scenes
from heteroseg.files import write_json
from heteroseg.networks.backbone import IMAGENET
from heteroseg.provenance import facts

MOST = 2**31
Way = Callable[[np.ndarray], tuple[float, float]]  # images (B, H, W, 3) to seconds of network and decode


def naive(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample and argmax, (B, C, h, w) to (B, H, W)."""
    large = logits.shape[:2].numel() * size[0] * size[1] * 4 > MOST
    parts = logits.split(1) if large else [logits]
    return torch.cat([F.interpolate(z, size, mode="bilinear", align_corners=False).argmax(1) for z in parts])


def mixed_cells(logits: Tensor) -> float:
    """Share of cells whose four corners are not of one class."""
    at = logits.argmax(1)
    same = [at[:, :-1, :-1] == corner for corner in (at[:, 1:, :-1], at[:, :-1, 1:], at[:, 1:, 1:])]
    return 1 - float(torch.stack(same).all(0).float().mean())


def ready(images: np.ndarray) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - mean) / std


def segformer(classes: int, images: np.ndarray) -> torch.nn.Module:
    """SegFormer-B0, whose logits have deviation 4 and as many mixed cells as trained networks'."""
    torch.manual_seed(0)
    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=classes)).eval()
    logits, last = network(pixel_values=ready(images[:1])).logits, network.decode_head.classifier
    mean, factor = logits.mean((0, 2, 3)), 4 / logits.std((0, 2, 3)).clamp(min=1e-6)
    scaled, constants = (logits - mean[:, None, None]) * factor[:, None, None], torch.randn(classes)
    low, high = 0.0, 64.0
    for _ in range(8):
        middle = (low + high) / 2
        enough = mixed_cells(scaled + middle * constants[:, None, None]) > MIXED
        low, high = (middle, high) if enough else (low, middle)
    last.weight.mul_(factor[:, None, None, None])
    last.bias.copy_((last.bias - mean) * factor + high * constants)
    return network


def in_runtime(network: torch.nn.Module, runtime: str, images: np.ndarray, threads: int) -> Callable[[Tensor], Tensor]:
    """The network from normalised images to logits."""
    if runtime == "torch":
        return lambda pixels: network(pixel_values=pixels).logits
    import onnxruntime

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, pixels: Tensor) -> Tensor:
            return self.network(pixel_values=pixels).logits

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        free = {"pixels": {0: "batch"}, "logits": {0: "batch"}}
        names: dict[str, Any] = {"input_names": ["pixels"], "output_names": ["logits"], "dynamic_axes": free}
        torch.onnx.export(Plain(), (ready(images[:2]),), str(path), dynamo=False, **names)
        session = onnxruntime.InferenceSession(path.read_bytes(), options)
    return lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0])


def in_turn(ways: list[Callable[[], list[float]]], rounds: int) -> np.ndarray:
    """(rounds, ways, stages) seconds, after a warm-up; who begins changes."""
    for way in ways:
        way()
    times = np.empty((rounds, len(ways), len(ways[0]())))
    for number in range(rounds):
        for at in range(len(ways))[:: 1 if number % 2 else -1]:
            times[number, at] = ways[at]()
    return times


def frame(network: Callable[[Tensor], Tensor], decode: Callable, images: np.ndarray) -> list[float]:
    """Seconds of normalisation and network, and of the decode."""
    marks = [time.perf_counter()]
    logits = network(ready(images))
    marks.append(time.perf_counter())
    decode(logits, images.shape[1:3])
    return [marks[1] - marks[0], time.perf_counter() - marks[1]]


def decode_alone(decode: Callable, logits: Tensor, size: tuple[int, int], **how: Any) -> list[float]:
    start = time.perf_counter()
    decode(logits, size, **how)
    return [time.perf_counter() - start]


def measured(times: np.ndarray) -> dict[str, float]:
    """Medians in ms of frames and decodes, both ways, and the medians of the rounds' ratios."""
    whole, decode = times.sum(2), times[:, :, -1]
    result = {}
    for name, spent in (("frame", whole), ("decode", decode)):
        result |= {f"naive_{name}_ms": 1e3 * np.median(spent[:, 0]), f"{name}_ms": 1e3 * np.median(spent[:, 1])}
        result[f"{name}_times"] = statistics.median((spent[:, 0] / spent[:, 1]).tolist())
    return {name: float(value) for name, value in result.items()}


def doubtful(logits: Tensor, size: tuple[int, int], min_probability: float) -> Tensor:
    """What `naive` becomes with a least probability."""
    shares, labels = F.interpolate(logits, size, mode="bilinear", align_corners=False).softmax(1).max(1)
    return torch.where(shares < min_probability, -1, labels)


def alone(
    kind: str, logits: Tensor, size: tuple[int, int], rounds: int, other: Callable = naive, **how: Any
) -> dict[str, Any]:
    """A row for the decode alone."""
    ways = [lambda: decode_alone(other, logits, size, **how), lambda: decode_alone(decode_logits, logits, size, **how)]
    agree = float((other(logits, size, **how) == decode_logits(logits, size, **how)).float().mean())
    facts_of_it = {"what": kind, "classes": logits.shape[1], "batch": len(logits), "mixed_cells": mixed_cells(logits)}
    return facts_of_it | measured(in_turn(ways, rounds)) | {"agree": agree}


def show(row: dict[str, Any]) -> None:
    whole = "frame_ms" in row and row["what"] == "frame"
    cells = (
        [f"{row[k]:.0f}" for k in ("naive_frame_ms", "frame_ms")] + [f"{row['frame_times']:.2f}"]
        if whole
        else ["", "", ""]
    )
    cells += [f"{row[k]:.1f}" for k in ("naive_decode_ms", "decode_ms")] + [f"{row['decode_times']:.1f}"]
    print(
        f"| {row['what']} | {row['classes']} | {row['batch']} | {row['mixed_cells']:.0%} | {' | '.join(cells)} |",
        flush=True,
    )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=("torch", "onnx"), default="torch")
    parser.add_argument("--classes", type=int, nargs="+", default=(19, 150, 1000))
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="small images, one round, few classes")
    parser.add_argument("--json", type=Path, help="write all figures there")
    args = parser.parse_args()
    size, rounds = ((64, 96), 1) if args.tiny else (tuple(args.size), args.rounds)
    torch.set_num_threads(args.threads)
    images, rows, load = np.stack(scenes(8, size)), [], os.getloadavg()
    print("| what | classes | images | mixed cells | naive frame | ours | times | naive decode | ours | times |")
    print("|" + "---|" * 10)
    for classes in (5,) if args.tiny else args.classes:
        network = segformer(classes, images)
        run = in_runtime(network, args.runtime, images, args.threads)
        for batch in (1, 8):
            part = images[:batch]
            ways = [lambda d=d, part=part, run=run: frame(run, d, part) for d in (naive, decode_logits)]
            logits = run(ready(part))
            row = {"what": "frame", "classes": classes, "batch": batch, "mixed_cells": mixed_cells(logits)}
            agree = float((naive(logits, size) == decode_logits(logits, size)).float().mean())
            rows.append(row | measured(in_turn(ways, rounds if batch == 1 else -(-rounds // 3))) | {"agree": agree})
            show(rows[-1])
        rows.append(alone("with a least probability of 0.5", logits[:1], size, rounds, doubtful, min_probability=0.5))
        show(rows[-1])
        rows.append(alone("noise", 4 * torch.randn(logits[:1].shape), size, rounds))
        show(rows[-1])
    agree = min(row["agree"] for row in rows)
    print(f"load {load[0]:.1f} before, {os.getloadavg()[0]:.1f} after; pixels that agree: {agree:.6f} or more")
    if args.json:
        write_json(args.json, {"facts": facts(), "load": [load, os.getloadavg()], "rows": rows})


if __name__ == "__main__":
    main()
