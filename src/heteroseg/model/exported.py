"""Exported networks in other runtimes: OpenVINO (.xml with .bin beside it) and ONNX Runtime (.onnx).

The graph maps (B, H, W, 3) uint8 RGB, padded and shrunk as the metadata say (`prepare`), to (B, h, w, C) float32
logits, or with a lazy head to (B, h, w, width) float32 features and keeps the head's weights in the metadata;
normalisation is inside. Sizes are free: an OpenVINO graph is compiled for each size as it comes, because a fixed size
runs faster, and once for any size when a fifth comes.
"""

import hashlib
import json
import threading
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from heteroseg.decisions.lazy_head import LazyLogits, unpack_head
from heteroseg.errors import HeterosegError
from heteroseg.networks.network import Geometry

FORMATS = {".xml": "openvino", ".onnx": "onnx"}
PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime", "nncf": "nncf"}
METADATA = "heteroseg"
SIZES = 4  # fixed sizes that are compiled before one for any size


def need(name: str) -> None:
    """Tell which extra brings a runtime that is missing."""
    if find_spec(PACKAGES[name]) is None:
        extra = "onnx" if name == "onnx" else "openvino"
        raise HeterosegError(f"{PACKAGES[name]} is not installed; pip install 'heteroseg[{extra}]'")


def prepare(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(H, W, 3) uint8 to (1, h, w, 3) uint8, as an exported graph takes it: `Network.prepare` before normalisation."""
    height, width = image.shape[:2]
    full = geometry.covers(height, width)
    if full != (height, width):
        border = (0, full[0] - height, 0, full[1] - width)
        image = cv2.copyMakeBorder(image, *border, cv2.BORDER_REPLICATE)
    size = geometry.shrunk(*full)
    if size != full:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR_EXACT)  # rounds as torch's means do
    return np.ascontiguousarray(image)[None]


class ExportedNetwork(Geometry):
    """A network in a file."""

    threads: int | None = None  # of the runtime; None: as many as torch has

    def __init__(self, path: Path):
        if not path.is_file():
            told = "expected an exported network, found no such file; `heteroseg export` writes one"
            raise HeterosegError(f"{path}: {told}")
        self.path, self.kind, self._turn = path, FORMATS[path.suffix], threading.Lock()
        need(self.kind)
        try:
            self.metadata: dict[str, Any] = json.loads(self._open())
        except Exception as error:  # onnxruntime's own errors share no other base
            known = isinstance(error, RuntimeError | ValueError | KeyError | OSError)
            if not known and type(error).__module__.partition(".")[0] != "onnxruntime":
                raise
            told = "expected a network that `heteroseg export` wrote, found another file; export the MODEL again"
            raise HeterosegError(f"{path}: {told}") from None
        self.multiple = int(self.metadata["multiple"])
        inner, outer = self.metadata.get("shrink", (1, 1))  # older files do it themselves
        self.shrink = (int(inner), int(outer))
        head = self.metadata.get("lazy_head")
        self._head = unpack_head(head) if head else None

    def _open(self) -> str:
        """Open the file; returns the metadata text."""
        self._compiled: dict[tuple[int, ...] | None, Any] = {}
        if self.kind == "onnx":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads or torch.get_num_threads()
            self._session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
            return self._session.get_modelmeta().custom_metadata_map[METADATA]
        import openvino

        self._core = openvino.Core()
        self._graph = self._core.read_model(self.path)
        return self._graph.get_rt_info(METADATA).value

    @property
    def lazy(self) -> bool:
        """Whether the graph ends at the features, so that `logits` leaves them lazy."""
        return self._head is not None

    def logits(self, images: np.ndarray) -> Tensor | LazyLogits:
        """(1, H, W, 3) uint8 from `prepare` to (1, C, h, w) float32 logits."""
        out = self.run(images)
        return LazyLogits(out, self._head) if self._head else out

    def run(self, images: np.ndarray) -> Tensor:
        """Prepared images (B, H, W, 3) uint8 to what the graph says: (B, C, h, w) float32, in channels-last order."""
        if self.kind == "onnx":
            out = self._session.run(None, {"images": images})[0]
        else:
            with self._turn:  # a request holds one answer; several would wait for the same cores
                out = self._request(images.shape).infer([images], share_inputs=True)[0].copy()
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def _request(self, shape: tuple[int, ...]):
        key = shape if shape in self._compiled or len(self._compiled) < SIZES else None
        if key not in self._compiled:
            graph = self._graph.clone()
            if key is not None:
                graph.reshape(list(key))
            threads = str(self.threads or torch.get_num_threads())
            hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
            if self.metadata["precision"] != "int8":  # what is left unquantised runs as the machine likes best
                hints["INFERENCE_PRECISION_HINT"] = "bf16" if self.metadata["precision"] == "bf16" else "f32"
            self._compiled[key] = self._core.compile_model(graph, "CPU", hints).create_infer_request()
        return self._compiled[key]

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with any byte of the file (and of its .bin)."""
        whole = hashlib.sha256(self.path.read_bytes())
        if self.kind == "openvino":
            whole.update(self.path.with_suffix(".bin").read_bytes())
        return whole.hexdigest()[:16]
