"""Exported networks in other runtimes: OpenVINO (.xml with .bin beside it) and ONNX Runtime (.onnx).

The graph maps (B, H, W, 3) uint8 RGB, padded and shrunk as the metadata say (`prepare`), to (B, h, w, C) float32
logits, or with a lazy head to (B, h, w, width) float32 features and keeps the head's weights in the metadata, or before
branches to the logits, 0 for theirs, and in further outputs the maps that they read; normalisation is inside.
Sizes are free, unless the metadata name one: an OpenVINO graph is compiled for each size as it comes, because a fixed
size runs faster, and when a fifth comes for any size, once for small and once for large images.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from heteroseg.decisions.exact import Logits
from heteroseg.decisions.lazy_head import LazyLogits, unpack_head
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Side
from heteroseg.files import Document, Strict, require_regular
from heteroseg.model.branched import lazily, unpack_branches
from heteroseg.model.checking import PROBE
from heteroseg.model.graphs import open_onnx, open_openvino
from heteroseg.networks.branches import Branch
from heteroseg.networks.network import Geometry

Unpacked = TypeVar("Unpacked")
FORMATS = {".xml": "openvino", ".onnx": "onnx"}
PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime", "nncf": "nncf"}
METADATA = "heteroseg"
SEAL = re.compile(rb"checksum(?:\W|quot)+([0-9a-f]{64})")
UNSEALED = (b"heteroseg" * 8)[:64]  # stands in a file in the place of its checksum while that is worked out
FORMAT = 1  # of a MODEL's config.json and of the metadata
SIZES = 4  # fixed sizes that are compiled before one for any size
LARGE = 700_000  # pixels of images that others do not wait for


def need(name: str) -> None:
    """Tell which extra brings a runtime that is missing."""
    if find_spec(PACKAGES[name]) is None:
        extra = "onnx" if name == "onnx" else "openvino"
        raise HeterosegError(f"{PACKAGES[name]} is not installed; pip install 'heteroseg[{extra}]'")


def require_known(data: Any, where: Path) -> None:
    """Raise HeterosegError for what a newer heteroseg wrote, before its keys are judged."""
    number = data.get("format") if isinstance(data, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise HeterosegError(f"{where}: expected format {FORMAT}, found {number}; install a newer heteroseg")


class ExportFile(Strict):
    """The metadata of an exported file; `file`, `taxonomy` and `label_spaces` are as a MODEL has them."""

    format: Literal[1]
    precision: Literal["fp32", "bf16", "int8"]
    multiple: Side
    shrink: tuple[Side, Side] = Field((1, 1), description="older files do it themselves")
    size: tuple[Side, Side] | None = Field(None, description="height, width of padded images, where no other goes")
    lazy_head: dict[str, Any] | None = None
    branches: str | None = Field(None, description="their weights, where the graph ends with what they read")
    file: dict[str, Any]
    taxonomy: dict[str, Any]
    label_spaces: dict[str, Any]
    checksum: str | None = Field(None, description="SHA-256 of all bytes, with UNSEALED in its place")

    @model_validator(mode="after")
    def _sizes(self):
        inner, outer = self.shrink
        if inner > outer or self.multiple % outer:
            raise ValueError("expected shrink to be a part, whose pixels divide multiple")
        return self


def _weights_of(path: Path) -> list[Path]:
    """The files that belong to an exported one."""
    return [path.with_suffix(".bin")] if path.suffix == ".xml" else []


def seal(path: Path, weights: Sequence[Path]) -> None:
    """Put the checksum of an exported file, and of the files with its weights, in the place of UNSEALED."""
    data = path.read_bytes()
    path.write_bytes(data.replace(UNSEALED, _checksum(data, weights)))


def _checksum(data: bytes, weights: Sequence[Path]) -> bytes:
    whole = hashlib.sha256(data)
    for file in weights:
        whole.update(file.read_bytes())
    return whole.hexdigest().encode()


def _whole(path: Path) -> bytes:
    """The bytes of a file. HeterosegError where it is not what was sealed; those of an older heteroseg are not."""
    files = [path, *_weights_of(path)]
    if missing := [file.name for file in files if not file.exists()]:
        told = f"expected its weights beside it, found no {missing[0]}; put both files of the export together"
        raise HeterosegError(f"{path}: {told}")
    for file in files:
        require_regular(file)
    data = path.read_bytes()
    if (found := SEAL.search(data)) and _checksum(data.replace(found[1], UNSEALED), files[1:]) != found[1]:
        both = " and ".join(map(str, files))
        told = "expected what `heteroseg export` wrote, found another content"
        raise HeterosegError(f"{both}: {told}; fetch the files again, or export the MODEL again")
    return data


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


def _unpacked(path: Path, what: str, unpack: Callable[[], Unpacked]) -> Unpacked:
    try:
        return unpack()
    except (KeyError, TypeError, ValueError) as error:
        told = f"expected the weights of {what}, found others, {error!s:.80}"
        raise HeterosegError(f"{path}: {told}; export the MODEL again") from None


class ExportedNetwork(Geometry):
    threads: int | None = None  # of the runtime; None: as many as torch has
    between: Callable[[], object] | None = None  # is called while the graph runs, and may raise to stop it

    def __init__(self, path: Path):
        if not path.is_file():
            told = "expected an exported network, found no such file; `heteroseg export` writes one"
            raise HeterosegError(f"{path}: {told}")
        self.path, self.kind, self._turn = path, FORMATS[path.suffix], threading.Lock()
        need(self.kind)
        data = _whole(path)
        told = "expected a network that `heteroseg export` wrote, found"
        try:
            self.metadata = json.loads(self._open(data) or "null")
        except Exception as error:  # parsers and runtimes have errors of every kind for what strangers write
            reason = str(error).partition("\n")[0][:200] if isinstance(error, ValueError) else "another file"
            raise HeterosegError(f"{path}: {told} {reason}; export the MODEL again") from None
        if not isinstance(self.metadata, dict):
            raise HeterosegError(f"{path}: {told} another file; export the MODEL again")
        require_known(self.metadata, path)
        facts = Document(path, self.metadata).parse(ExportFile)
        self.precision, self.multiple, self.shrink = facts.precision, facts.multiple, facts.shrink
        self.size = facts.size
        self._head, self._packed = None, facts.branches
        if packed := facts.lazy_head:
            self._head = _unpacked(path, "a lazy head", lambda: unpack_head(packed))
        self._branches: dict[int, Branch] = {}

    def _open(self, data: bytes) -> str | None:
        """Open the file, whose bytes are `data`; returns the metadata text."""
        # by shape, or for all others by whether they are large
        self._compiled: dict[tuple[int, ...] | bool, Future] = {}
        self._turns: dict[tuple[int, ...] | bool, threading.Lock] = {}
        if self.kind == "onnx":
            self._session, text = open_onnx(data, self.threads or torch.get_num_threads())
        else:
            import openvino

            self._core = openvino.Core()
            self._graph, text = open_openvino(self._core, self.path)
        return text

    def require_fit(
        self, cuts: Sequence[int], stride: int | None, finer: int = 1, branched: Mapping[int, int] | None = None
    ) -> None:
        """Raise HeterosegError unless the graph, tried with an image, gives what a tree needs.

        `cuts` are where its classifiers begin and end in the logits, which have `finer` cells in `stride` pixels (None:
        in any number of pixels). `branched` are the classifiers with branches, and how many logits each has.
        """
        self._cuts = cuts
        if (packed := self._packed) is not None:
            self._branches = _unpacked(self.path, "branches", lambda: unpack_branches(packed, branched or {}))
        side = -(-PROBE // self.multiple) * self.multiple
        sides = self.size or (side, side + self.multiple)
        image = prepare(np.zeros((*sides, 3), np.uint8), self)
        try:
            found = self._probe(image)
        except Exception as error:  # as above
            reason = str(error).partition("\n")[0][:200]
            raise HeterosegError(f"{self.path}: the graph cannot be run, {reason}; export the MODEL again") from None
        channels = cuts[-1] if self._head is None else self._head.weight.shape[1]
        read = next(iter(self._branches.values())).narrow.in_features if self._branches else 0
        self._channels = [(0, *shape)[-1] for shape in found]
        same = self._head is None or self._head.cuts.tolist() == list(cuts)
        rows, columns = found[0][1:3] if len(found[0]) == 4 else (0, 0)
        steps = tuple(finer * pixels // stride for pixels in sides) if stride else (rows, columns)
        even = abs(rows * image.shape[2] - columns * image.shape[1]) <= max(image.shape)
        whole = all(len(shape) == 4 and shape[:3] == (1, *steps) for shape in found)
        fits = self._channels[0] == channels and sum(self._channels[1:]) == read
        if not (same and whole and fits and rows and columns and even):
            told = f"expected {channels} numbers for each cell of {stride or 'some'} pixels, as its tree needs"
            shape = f"the shape {found if read else found[0]} for an image of {sides[0]}x{sides[1]}"
            raise HeterosegError(f"{self.path}: {told}, found {shape}; export the MODEL again")

    def _probe(self, image: np.ndarray) -> list[tuple[int, ...]]:
        """The shapes of what the graph gives for a prepared image."""
        if self.kind == "onnx":
            found = self._session.run(None, {"images": image})
            if not all(np.isfinite(out).all() for out in found):
                raise ValueError("it gives numbers that are not finite")
            return [tuple(out.shape) for out in found]
        graph = self._graph.clone()
        graph.reshape(list(image.shape))  # compiling takes long
        return [tuple(out.shape) for out in graph.outputs]

    @property
    def lazy(self) -> bool:
        """Whether the graph ends before logits that are worked out where they are needed."""
        return self._head is not None or bool(self._branches)

    def logits(self, images: np.ndarray) -> Logits:
        """(1, H, W, 3) uint8 from `prepare` to (1, C, h, w) float32 logits."""
        found = self.outputs(images)
        if self._branches:
            return lazily(found, self._cuts, self._branches)
        return LazyLogits(found[0], self._head) if self._head else found[0]

    def outputs(self, images: np.ndarray) -> list[Tensor]:
        """Prepared images (B, H, W, 3) uint8 to what the graph says: (B, C, h, w) float32 maps, in channels-last order.

        Images of another size than that of a graph for one size raise HeterosegError.
        """
        if self.size and images.shape[1:3] != self.shrunk(*self.size):
            inner, outer = self.shrink
            found = "x".join(str(side * outer // inner) for side in images.shape[1:3])
            told = f"was exported for images of {self.size[0]}x{self.size[1]}, up to {self.multiple - 1} fewer a side"
            raise HeterosegError(f"{self.path}: {told}, found {found}; export the MODEL for that size")
        maps = (self._run_onnx if self.kind == "onnx" else self._run_openvino)(images)
        for out, channels in zip(maps, self._channels, strict=True):
            if out.ndim != 4 or out.shape[3] != channels:
                told = f"expected {channels} numbers for each cell, found the shape {out.shape}"
                raise HeterosegError(f"{self.path}: {told}; export the MODEL again")
        return [torch.from_numpy(out).permute(0, 3, 1, 2) for out in maps]

    def _run_onnx(self, images: np.ndarray) -> list[np.ndarray]:
        from onnxruntime import RunOptions

        options = RunOptions()
        ended = partial(setattr, options, "terminate", True)
        return self._stoppable(lambda: self._session.run(None, {"images": images}, options), ended)

    def _run_openvino(self, images: np.ndarray) -> list[np.ndarray]:
        with self._turn:
            known = images.shape in self._turns or len(self._turns) < SIZES
            key = images.shape if known else images.shape[1] * images.shape[2] > LARGE
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:  # a request holds one answer; several would wait for the same cores
            request = self._request(key, images.shape if known else None)
            found = self._stoppable(lambda: request.infer([images], share_inputs=True), request.cancel)
        return [found[i] for i in range(len(self._channels))]

    def _stoppable(self, work: Callable[[], Any], end: Callable[[], object]) -> Any:
        """What `work` gives. Where `between` raises, `end` stops it; it runs in a thread of its own for that."""
        if self.between is None:
            return work()
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(work)
            try:
                self._wait_for(done)
            except BaseException:
                end()
                raise
            return done.result()

    def _wait_for(self, done: Future) -> None:
        while not done.done():  # which Ctrl-C ends
            if self.between:
                self.between()
            wait([done], 0.1)

    def _request(self, key: tuple[int, ...] | bool, shape: tuple[int, ...] | None) -> Any:
        """What `_compile` gives. Nothing ends it: whoever stops waiting leaves it to the next who asks."""
        if key not in self._compiled:
            thread = ThreadPoolExecutor(1)
            self._compiled[key] = thread.submit(self._compile, shape)
            thread.shutdown(wait=False)
        done = self._compiled[key]
        self._wait_for(done)
        if done.exception():
            del self._compiled[key]
        return done.result()

    def _compile(self, shape: tuple[int, ...] | None) -> Any:
        """A request of OpenVINO for images of one shape, or of any."""
        graph = self._graph.clone()
        if shape:
            graph.reshape(list(shape))
        threads = str(self.threads or torch.get_num_threads())
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        if self.precision != "int8":  # what is left unquantised runs as the machine likes best
            hints["INFERENCE_PRECISION_HINT"] = "bf16" if self.precision == "bf16" else "f32"
        return self._core.compile_model(graph, "CPU", hints).create_infer_request()

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with any byte of the file (and of its .bin)."""
        return _checksum(self.path.read_bytes(), _weights_of(self.path)).decode()[:16]
