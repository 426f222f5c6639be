"""How long each stage of a prediction takes: read, normalise, network, decode, write.

What counts as a frame (`ms`, `fps`) is the work from a uint8 image in memory to the label map of native ids at full
size: normalise, network and decode. Reading the image file and writing the label file are shown beside it.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from heteroseg.datasets import read_image
from heteroseg.datasets.encoding import write_image, write_pixels
from heteroseg.decisions.exact import Logits, decode
from heteroseg.decisions.plan import Plan
from heteroseg.errors import HeterosegError, require_count, require_one_of
from heteroseg.export.export import ENDINGS, Precision, export
from heteroseg.export.random_model import mixed_cells, scenes
from heteroseg.model.branched import logits_of
from heteroseg.model.exported import ExportedNetwork, prepare
from heteroseg.model.model import Model, load
from heteroseg.provenance import facts

Runtime = Literal["torch", "openvino", "onnx"]
COUNTED = ("normalise", "network", "decode")
WARM = 5  # runs before those that count


def in_runtime(model: Model, runtime: Runtime, precision: Precision, size: tuple[int, int], folder: Path) -> Model:
    """The same model in another runtime, exported into `folder`; int8 is calibrated with drawn scenes of `size`."""
    require_one_of("runtime", runtime, get_args(Runtime))
    if isinstance(model.network, ExportedNetwork):
        if model.network.kind != runtime:
            raise HeterosegError(f"{model.network.path}: is a file for {model.network.kind}, found --runtime {runtime}")
        return model
    if runtime == "torch":
        if precision != "fp32":
            raise HeterosegError(f"precision {precision} needs --runtime openvino or onnx; torch runs fp32 here")
        return model
    path = folder / f"network{ENDINGS[runtime]}"
    export(model, path, runtime, precision, scenes(16, size) if precision == "int8" else ())
    return load(path)


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Milliseconds of each run, after a warm-up."""
    times = []
    for _ in range(WARM + repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return times[WARM:]


def spread(times: Sequence[float]) -> dict[str, float]:
    return dict(zip(("median", "p10", "p90", "min"), np.quantile(times, [0.5, 0.1, 0.9, 0]).tolist(), strict=True))


def frame(model: Model, image: np.ndarray, plan: Plan) -> tuple[dict[str, float], Logits, np.ndarray]:
    """One frame, from pixels to labels in memory: milliseconds of each stage, the logits and the label map."""
    marks = [time.perf_counter()]
    size = (image.shape[0], image.shape[1])
    if isinstance(model.network, ExportedNetwork):
        ready = prepare(image, model.network)  # the graph does the rest
        marks.append(time.perf_counter())
        logits = model.network.logits(ready)
    else:
        pixels = model.network.prepare(torch.from_numpy(image)[None].permute(0, 3, 1, 2))
        marks.append(time.perf_counter())
        (logits,) = logits_of(model.network, pixels)
    marks.append(time.perf_counter())
    ids, _ = decode(logits, model.network.covers(*size), size, plan)
    marks.append(time.perf_counter())
    spans = [1e3 * (b - a) for a, b in pairwise(marks)]
    return dict(zip(COUNTED, spans, strict=True)), logits, ids


@torch.inference_mode()
def bench(model: Model, image: np.ndarray, labels: str, threads: int = 2, repeats: int = 50) -> dict[str, Any]:
    """Time frames of one image (H, W, 3) uint8; the dictionary is what `--json` writes.

    Frames follow each other as in a video; reading the image from a JPEG file and writing its labels are timed apart.
    """
    require_count("threads", threads)
    require_count("repeats", repeats)
    network, plan, before = model.network, model.plan(labels, ids=True), torch.get_num_threads()
    if isinstance(network, ExportedNetwork):
        network.threads = threads
        runtime, precision = network.kind, network.metadata["precision"]
    else:
        network.eval()
        runtime, precision = "torch", "fp32"
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.jpg", Path(folder) / "ids.png"
            write_image(source, image)
            reads, frames = timed(lambda: read_image(source), repeats), []
            for _ in range(WARM + repeats):
                stages, logits, ids = frame(model, image, plan)
                frames.append(stages)
            writes = timed(lambda: write_pixels(target, ids), repeats)
    finally:
        torch.set_num_threads(before)
    frames = frames[WARM:]
    counted = {name: [stages[name] for stages in frames] for name in COUNTED}
    times = {"frame": [sum(stages.values()) for stages in frames], "read": reads} | counted | {"write": writes}
    spreads = {name: spread(values) for name, values in times.items()}
    medians = {name: values["median"] for name, values in spreads.items()}
    ms = medians.pop("frame")
    return {
        "fps": 1e3 / ms,
        "ms": ms,
        "size": list(image.shape[:2]),
        "stages_ms": medians,
        "counted": list(COUNTED),
        "spread_ms": spreads,
        "fps_with_files": 1e3 / (ms + medians["read"] + medians["write"]),
        "runtime": runtime,
        "precision": precision,
        "threads": threads,
        "repeats": repeats,
        "facts": facts(),
        "classes": len(model.taxonomy.leaves),
        "logits": list(logits.shape),
        "label_space": labels,
        "head": "dense" if isinstance(logits, Tensor) else "lazy",
        "decision": model.decision,
        "labels_found": len(np.unique(ids)),
        "mixed_cells": mixed_cells(logits, model),
    }
