"""How long each stage of a prediction takes: read, normalise, network, decode, write.

What counts as a frame (`ms`, `fps`) is the work from a uint8 image in memory to the label map of native ids at full
size: normalise, network and decode. Reading the image file and writing the label file are shown beside it.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from heteroseg.datasets import read_image
from heteroseg.datasets.encoding import write_pixels
from heteroseg.decisions.exact import decode, dense
from heteroseg.decisions.lazy_head import LazyLogits
from heteroseg.decisions.plan import Plan
from heteroseg.decisions.reference import label_map
from heteroseg.errors import HeterosegError
from heteroseg.export.export import Format, Precision, export
from heteroseg.export.random_model import mixed_cells, scenes
from heteroseg.model.exported import FORMATS, ExportedNetwork
from heteroseg.model.model import Model, load
from heteroseg.provenance import facts

Runtime = Literal["torch", "openvino", "onnx"]
COUNTED = ("normalise", "network", "decode")
NAIVE_MOST = 2**30  # logits that the naive decode may upsample; beyond, it is left out


@dataclass(frozen=True)
class Settings:
    """`size` (H, W); `image`, scaled to it, takes the place of a drawn scene (answers that change often take longer to
    decode); `naive` also times the decode that upsamples every logit, where they fit into 4 GiB.
    """

    size: tuple[int, int] = (520, 706)
    threads: int = 2
    repeats: int = 50
    batch: int = 1
    naive: bool = True
    image: Path | None = None


def in_runtime(
    model: Model,
    runtime: Runtime,
    precision: Precision,
    images: Sequence[np.ndarray],
    threads: int,
    folder: Path,
) -> Model:
    """The same model in another runtime, exported into `folder`; calibrated with `images` for int8."""
    if isinstance(model.network, ExportedNetwork):
        if model.network.kind != runtime:
            raise HeterosegError(f"{model.network.path}: is a file for {model.network.kind}, found --runtime {runtime}")
        path = model.network.path
    elif runtime == "torch":
        if precision != "fp32":
            raise HeterosegError(f"precision {precision} needs --runtime openvino or onnx; torch runs fp32 here")
        return model
    else:
        path = folder / f"network{next(e for e, kind in FORMATS.items() if kind == runtime)}"
        kind: Format = runtime
        export(model, path, kind, precision, images if precision == "int8" else ())
    result = load(path)
    assert isinstance(result.network, ExportedNetwork)
    result.network.threads = threads
    return result


def naive_decode(logits: Tensor, covers: tuple[int, int], size: tuple[int, int], plan: Plan) -> np.ndarray:
    """As it is usually done: upsample every logit, one argmax for each classifier, a table; or sums of softmaxes."""
    full = F.interpolate(logits, covers, mode="bilinear", align_corners=False)[:, :, : size[0], : size[1]]
    if plan.rule == "marginal" and plan.space is not None:
        return plan.answer[label_map(full, plan.space, "marginal")[0].numpy()]
    code = torch.full((1, *size), plan.walk.first)
    after = torch.from_numpy(plan.walk.after).long()
    for node in plan.order.tolist():
        low, high = int(plan.walk.begin[node]), int(plan.walk.end[node])
        code = torch.where(code == node, after[low + full[:, low:high].argmax(1)], code)
    return plan.answer[code[0].numpy()]


def timed(work: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    """Milliseconds of each run, after a warm-up, and the last result."""
    times, result = [], None
    for _ in range(min(5, repeats)):
        work()
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(1e3 * (time.perf_counter() - start))
    return times, result


def spread(times: Sequence[float]) -> dict[str, float]:
    ranks = np.quantile(times, [0.1, 0.9])
    return {"median": statistics.median(times), "p10": float(ranks[0]), "p90": float(ranks[1]), "min": min(times)}


def frame(model: Model, image: np.ndarray, plan: Plan) -> tuple[dict[str, float], Tensor | LazyLogits, np.ndarray]:
    """One frame, from pixels to labels in memory: milliseconds of each stage, the logits and the label map."""
    marks = [time.perf_counter()]
    size = (image.shape[0], image.shape[1])
    if isinstance(model.network, ExportedNetwork):
        ready = model.network.prepare(image)  # the graph does the rest
        marks.append(time.perf_counter())
        logits = model.network.logits(ready)
    else:
        pixels = model.network.prepare(torch.from_numpy(image)[None].permute(0, 3, 1, 2))
        marks.append(time.perf_counter())
        logits = model.network.body(pixels).float()
    marks.append(time.perf_counter())
    ids = decode(logits, model.network.covers(*size), size, plan)
    marks.append(time.perf_counter())
    spans = [1e3 * (b - a) for a, b in pairwise(marks)]
    return dict(zip(COUNTED, spans, strict=True)), logits, ids


@torch.inference_mode()
def bench(model: Model, labels: str, settings: Settings) -> dict[str, Any]:
    """Time frames of one image of `settings.size`; the dictionary is what `--json` writes.

    Frames follow each other as in a video; reading the image from a JPEG file and writing its labels are timed apart.
    """
    if settings.image is None:
        picture = scenes(1, settings.size)[0]
    else:
        picture = cv2.resize(read_image(settings.image), settings.size[::-1], interpolation=cv2.INTER_AREA)
    if not isinstance(model.network, ExportedNetwork):
        model.network.eval()
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    plan = model.plan(labels, ids=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.jpg", Path(folder) / "ids.png"
            cv2.imwrite(str(source), picture[..., ::-1])
            reads, _ = timed(lambda: read_image(source), settings.repeats)
            for _ in range(5):
                frame(model, picture, plan)
            frames = []
            for _ in range(settings.repeats):
                stages, logits, ids = frame(model, picture, plan)
                frames.append(stages)
            writes, _ = timed(lambda: write_pixels(target, ids), settings.repeats)
        covers = model.network.covers(*settings.size)
        result = _report(model, frames, reads, writes, settings)
        result |= {"classes": len(model.taxonomy.leaves), "logits": list(logits.shape), "label_space": labels}
        result["head"] = "lazy" if isinstance(logits, LazyLogits) else "dense"
        result |= {
            "decision": model.decision,
            "labels_found": len(np.unique(ids)),
            "mixed_cells": mixed_cells(logits, model),
        }
        if settings.naive and logits.shape[1] * settings.size[0] * settings.size[1] <= NAIVE_MOST:
            known = dense(logits) if isinstance(logits, LazyLogits) else logits
            times, naive = timed(lambda: naive_decode(known, covers, settings.size, plan), 5)
            result["naive_decode_ms"] = statistics.median(times)
            result["naive_agreement"] = float((naive == ids).mean())  # its interpolation rounds in another order
        if settings.batch > 1:
            result["batch"] = _batch(model, settings)
    finally:
        torch.set_num_threads(before)
    return result


def _report(
    model: Model, frames: Sequence[dict[str, float]], reads: list[float], writes: list[float], settings: Settings
) -> dict[str, Any]:
    whole = [sum(stages.values()) for stages in frames]
    times = {"read": reads} | {name: [stages[name] for stages in frames] for name in COUNTED} | {"write": writes}
    stages = {name: statistics.median(values) for name, values in times.items()}
    network = model.network
    runtime, precision = (
        (network.kind, network.metadata["precision"]) if isinstance(network, ExportedNetwork) else ("torch", "fp32")
    )
    middle = statistics.median(whole)
    return {
        "fps": 1e3 / middle,
        "ms": middle,
        "size": list(settings.size),
        "stages_ms": stages,
        "counted": list(COUNTED),
        "spread_ms": {"frame": spread(whole)} | {name: spread(values) for name, values in times.items()},
        "fps_with_files": 1e3 / (middle + stages["read"] + stages["write"]),
        "runtime": runtime,
        "precision": precision,
        "threads": settings.threads,
        "repeats": settings.repeats,
        "facts": facts(),
    }


def _batch(model: Model, settings: Settings) -> dict[str, float]:
    """Images per second of the network alone on whole batches."""
    image = scenes(1, settings.size)[0]
    network = model.network
    if isinstance(network, ExportedNetwork):
        ready = np.repeat(network.prepare(image), settings.batch, axis=0)
        times, _ = timed(lambda: network.run(ready), max(3, settings.repeats // settings.batch))
    else:
        pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2).repeat(settings.batch, 1, 1, 1)
        times, _ = timed(lambda: network(pixels), max(3, settings.repeats // settings.batch))
    middle = statistics.median(times)
    return {"images": settings.batch, "network_ms": middle, "images_per_second": 1e3 * settings.batch / middle}


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    lines = [
        f"{result['fps']:.1f} fps, {result['ms']:.1f} ms a frame of {result['size'][0]}x{result['size'][1]} "
        f"({' + '.join(result['counted'])}), {result['classes']} classes, {result['runtime']} {result['precision']}, "
        f"{result['head']} head, {result['threads']} threads",
        f"{'stage':<12}{'median ms':>10}{'p10':>8}{'p90':>8}{'min':>8}",
    ]
    for name, spread in result["spread_ms"].items():
        lines.append(
            f"{name:<12}{spread['median']:>10.2f}{spread['p10']:>8.2f}{spread['p90']:>8.2f}{spread['min']:>8.2f}"
        )
    if "naive_decode_ms" in result:
        ratio = result["naive_decode_ms"] / result["stages_ms"]["decode"]
        lines.append(f"naive decode {result['naive_decode_ms']:.0f} ms, {ratio:.0f} times as long")
    if "batch" in result:
        batch = result["batch"]
        lines.append(f"batches of {batch['images']}: {batch['images_per_second']:.1f} images per second (network)")
    lines.append(
        ", ".join(f"{k} {v}" for k, v in result["facts"].items() if k in ("date", "commit", "machine", "torch"))
    )
    return "\n".join(lines)
