"""A trained network as one ONNX file or an OpenVINO pair, with all that prediction needs inside."""

import json
import logging
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from heteroseg.datasets import read_sample
from heteroseg.datasets.paths import IMAGE_SUFFIXES
from heteroseg.datasets.sample import Item, spread_evenly
from heteroseg.decisions.lazy_head import pack_head, pays
from heteroseg.errors import HeterosegError, require_one_of
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.inference.files import jobs_of
from heteroseg.model.branched import pack_branches, weights_of
from heteroseg.model.exported import FORMATS, METADATA, UNSEALED, ExportedNetwork, need, prepare, seal
from heteroseg.model.model import Model, load, model_file
from heteroseg.networks.branches import Branches
from heteroseg.networks.heads import Body, fused_head
from heteroseg.networks.network import Network
from heteroseg.writing import require_absent, require_own, rewritten, written

Format = Literal["onnx", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
Head = Literal["auto", "dense", "lazy"]
TRACED, OTHERS = (128, 192), ((160, 352), (290, 75))  # sizes with which a graph is made and tried
FAR = {"fp32": 0.01, "bf16": 1e6, "int8": 1e6}  # deviations of its logits that a file may be off
ENDINGS = {kind: ending for ending, kind in FORMATS.items()}


class Graph(nn.Module):
    """What is exported: prepared images (B, H, W, 3) uint8 to (B, h, w, C) float32 logits, or what `body` ends with,
    which may be several such maps."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network, body: nn.Module):
        super().__init__()
        self.body = body
        # (pixel - mean) / std as one multiplication and one addition
        self.register_buffer("scale", 1 / network.std)
        self.register_buffer("shift", -network.mean / network.std)

    def forward(self, images: Tensor) -> Any:
        found = self.body(images.permute(0, 3, 1, 2).float() * self.scale + self.shift)
        if isinstance(found, Tensor):
            return found.permute(0, 2, 3, 1)
        return tuple(one.permute(0, 2, 3, 1) for one in found)


class BeforeBranches(nn.Module):
    """A body without its branches: the other logits, and the maps that the branches read."""

    def __init__(self, body: Body):
        super().__init__()
        self.body, self.layer = body, body.head.in_one()

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.body.before_branches(images, self.layer)


def _branches(model: Model) -> Branches | None:
    """The branches that a file may leave to be worked out where they are needed."""
    body = model.torch_network.body
    return body.head.branches if isinstance(body, Body) and body.lazy else None


def choose_head(model: Model, head: Head = "auto") -> Head:
    """`auto` becomes lazy where that pays, and before branches. A lazy head must have branches or be one 1x1
    convolution: HeterosegError if it is not."""
    if not isinstance(model.network, Network):
        raise HeterosegError("only a MODEL folder can be exported, found a network that is exported already")
    fused = fused_head(model.network.body) is not None
    branches = _branches(model) is not None
    if head == "lazy" and not (fused or branches):
        told = "needs a head that is one 1x1 convolution, found adapters, upsampling or another network's head"
        raise HeterosegError(f"head lazy {told}; take dense")
    require_one_of("head", head, get_args(Head))
    if head != "auto":
        return head
    cuts = [0, *(c.stop for c in model.taxonomy.classifiers)]
    return "lazy" if branches or (fused and pays(cuts)) else "dense"


def describe(model: Model, precision: Precision, head: Head, size: tuple[int, int] | None) -> str:
    """The metadata of a file: configuration, taxonomy, label spaces and perhaps the weights of a lazy head, as JSON."""
    network, facts = model.torch_network, dict[str, Any]()
    if head == "lazy" and (branches := _branches(model)):
        facts["branches"] = pack_branches(branches)
    elif head == "lazy":
        conv = fused_head(network.body)
        assert conv is not None
        facts["lazy_head"] = pack_head(*weights_of(conv), [0, *(c.stop for c in model.taxonomy.classifiers)])
    facts |= {"format": 1, "precision": precision, "multiple": network.multiple, "shrink": network.shrink}
    facts["checksum"] = UNSEALED.decode()
    facts["size"] = size and network.covers(*size)
    facts["file"] = model_file(model).model_dump(mode="json")
    facts["taxonomy"] = model.taxonomy.to_file().model_dump(mode="json")
    facts["label_spaces"] = {name: space.file.model_dump(mode="json") for name, space in model.spaces.items()}
    return json.dumps(facts)


def export(
    model: Model,
    out: Path,
    kind: Format,
    precision: Precision = "fp32",
    images: Sequence[np.ndarray] = (),
    head: Head = "auto",
    size: tuple[int, int] | None = None,
) -> None:
    """Write `out` (.onnx, or .xml with .bin beside it); for `head` see `choose_head`.

    `images` (H, W, 3) uint8 calibrate int8 (NNCF's post-training quantisation, mixed preset); bf16 is a hint that the
    CPU computes so, which only OpenVINO has. `size` (H, W) is that of all images, padded; without it, any size goes.
    What is written answers as the network does, or HeterosegError is raised: some networks go for one size alone.
    """
    head, out = choose_head(model, head), Path(out)
    require_one_of("precision", precision, get_args(Precision))
    if kind == "onnx" and precision == "bf16":
        raise HeterosegError("precision bf16 is for openvino, ONNX Runtime has none on CPUs; take fp32 or int8")
    if precision == "int8" and not images:
        raise HeterosegError("precision int8 needs images to calibrate with; name them with --calibrate")
    require_new(out, kind)
    if precision == "int8":
        need("nncf")
    network, body = model.torch_network, model.torch_network.body
    if head == "lazy" and isinstance(body, Body):
        body = BeforeBranches(body) if _branches(model) else nn.Sequential(*list(body)[:-1])
    graph = Graph(network, body).eval()
    tokens = any(isinstance(module, nn.Linear) for module in body.modules())
    ready = [prepare(image, network) for image in images] if precision == "int8" else []
    example = torch.from_numpy(prepare(np.zeros((*(size or TRACED), 3), np.uint8), network))
    noise = np.random.default_rng(0).integers(0, 256, (*TRACED, 3), np.uint8)
    tried = {(h, w): prepare(cv2.resize(noise, (w, h)), network) for h, w in ([size] if size else OTHERS)}
    with TemporaryDirectory() as folder, torch.inference_mode():
        trial = Path(folder, f"network{out.suffix}")
        with build_errors(kind):
            made_of = converted(graph, example, trial, _outputs(graph, example, head))
        for made in dict.fromkeys(("fp32", precision)):  # sizes go wrong in the graph, whatever it computes with
            with build_errors(kind):
                finished = _quantised(made_of, ready, kind, tokens) if made == "int8" else made_of
                write(finished, trial, describe(model, made, head, size))
            if wrong := next((at for at in tried if not _is_same(graph, trial, tried[at], FAR[made])), None):
                what = "use the MODEL itself" if size else "export it for the size of your images (--size HxW)"
                told = f"its file goes wrong for an image of {wrong[0]}x{wrong[1]}"
                raise HeterosegError(f"this network was not exported, {told}; {what}")
        place(trial, out)


def require_new(out: Path, kind: Format) -> None:
    """Raise HeterosegError unless `out` can be written as a file of this format here."""
    require_one_of("format", kind, get_args(Format))
    if out.suffix != ENDINGS[kind]:
        raise HeterosegError(f"{out}: a file of format {kind} ends in {ENDINGS[kind]}; choose another --out")
    require_absent(out)
    if kind == "openvino":
        require_own(out.with_suffix(".bin"))
    need(kind)


@contextmanager
def build_errors(kind: Format) -> Iterator[None]:
    """What a runtime cannot express becomes one sentence."""
    before = logging.root.manager.disable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every shape that it follows
            logging.disable(logging.WARNING)
            yield
    except (HeterosegError, OSError, MemoryError):
        raise
    except Exception as error:  # of torch, ONNX, OpenVINO and NNCF, which share no base
        summary = re.search(r"^-- (.+)", str(error), re.M)  # OpenVINO begins with lines of its code
        reason = (summary[1] if summary else str(error).partition("\n")[0])[:200]
        other = next(other for other in ENDINGS if other != kind)
        raise HeterosegError(f"{kind} cannot express this network, {reason}; try {other}, or use the MODEL") from None
    finally:
        logging.disable(before)


def _outputs(graph: Graph, example: Tensor, head: Head) -> list[str]:
    """The names of what a graph gives."""
    if isinstance(found := graph(example), Tensor):
        return ["features" if head == "lazy" else "logits"]
    return ["logits", *(f"map {i}" for i in range(1, len(found)))]


def _is_same(graph: Graph, trial: Path, image: np.ndarray, far: float) -> bool:
    """Whether the file gives what the graph gives for a prepared image, `far` deviations apart at most."""
    try:
        due, made = graph(torch.from_numpy(image)), load(trial).network
        assert isinstance(made, ExportedNetwork)
        wanted = torch.cat([due] if isinstance(due, Tensor) else [*due], 3).permute(0, 3, 1, 2)
        found = torch.cat(made.outputs(image), 1)
        close = far * (wanted - wanted.mean()).norm() + 1e-4 * wanted.norm() + 1e-6
        return found.shape == wanted.shape and bool((found - wanted).norm() <= close)
    except Exception:  # runtimes have errors of every kind
        return False


def place(trial: Path, out: Path) -> None:
    """Put a finished file, and that of its weights, where they were asked for; the weights first."""
    weights = trial.with_suffix(".bin")
    with written(out, out.suffix) as temporary, ExitStack() as both:
        if weights.exists():
            copyfile(weights, both.enter_context(rewritten(out.with_suffix(".bin"), ".bin")))
        copyfile(trial, temporary)


def calibration_images(source: str, count: int, overrides: Sequence[str] = ()) -> list[np.ndarray]:
    """Up to `count` images to calibrate with: from a folder, or from the training parts of an EXPERIMENT in turn."""
    if source.endswith((".yaml", ".yml")):
        sources = open_sources(*load_experiment(source, overrides), splits=("train",))
        items = [item for row in zip_longest(*(s.train for s in sources)) for item in row if item is not None]
    else:
        files = [job.source for job in jobs_of(Path(source), Path("nowhere"))]
        items = [Item(path.stem, path) for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not items:
        raise HeterosegError(f"{source}: expected images to calibrate with, found none")
    return [read_sample(item).image for item in spread_evenly(items, count)]


def compare(before: Model, after: Model, experiment: str, limit: int | None = None) -> str:
    """Scores of a model and of its exported self on the val parts of an EXPERIMENT, and the time for an image."""
    sources = open_sources(*load_experiment(experiment), splits=("val",))
    rows = ["dataset          mIoU before   after   loss"]
    spent, scores = [], []
    for model in (before, after):
        start = time.perf_counter()
        scores.append(evaluate(model, sources, limit)["datasets"])
        spent.append((time.perf_counter() - start) / sum(entry["images"] for entry in scores[-1].values()))
    for name, entry in scores[0].items():
        old, new = 100 * entry["miou"], 100 * scores[1][name]["miou"]
        rows.append(f"{name:<16}{old:>12.2f}{new:>8.2f}{old - new:>7.2f}")
    first = f"{1e3 * spent[0]:.0f} ms an image before (torch, {torch.get_num_threads()} threads)"
    return "\n".join([*rows, f"{first}, {1e3 * spent[1]:.0f} ms after, reading and scoring included"])


def converted(graph: nn.Module, example: Tensor, trial: Path, names: Sequence[str]) -> Any:
    """OpenVINO's (.xml) or ONNX's own form of a graph, which may lie in `trial`; `names` are those of its outputs."""
    if trial.suffix == ".xml":
        import openvino

        return openvino.convert_model(graph, example_input=example, input=[("images", [-1, -1, -1, 3])])
    import onnx

    free = {name: {0: "batch", 1: "rows", 2: "columns"} for name in names}
    free["images"] = {0: "batch", 1: "height", 2: "width"}
    how: dict[str, Any] = {"input_names": ["images"], "output_names": [*names], "dynamic_axes": free, "dynamo": False}
    torch._C._jit_onnx_log = lambda *_: None  # which prints the graph of each export that fails
    torch.onnx.export(graph, (example,), str(trial), opset_version=17, **how)
    return onnx.load(trial)


def _quantised(network: Any, images: Sequence[np.ndarray], kind: Format, tokens: bool) -> Any:
    """The same in int8. Of `tokens` NNCF takes the number for channels: one range for all of an activation does not."""
    import nncf
    from nncf.quantization.advanced_parameters import QuantizationParameters

    data = nncf.Dataset(images, (lambda image: {"images": image}) if kind == "onnx" else None)
    ranges = QuantizationParameters(per_channel=False) if tokens else None
    how = nncf.AdvancedQuantizationParameters(activations_quantization_params=ranges)
    mixed = nncf.QuantizationPreset.MIXED
    return nncf.quantize(network, data, preset=mixed, subset_size=len(images), advanced_parameters=how)


def write(network: Any, out: Path, text: str) -> None:
    """Write what `converted` gives with its metadata, sealed; OpenVINO's has its weights beside it."""
    if out.suffix == ".xml":
        import openvino

        network.set_rt_info(text, METADATA)
        with written(out, ".xml") as temporary, written(out.with_suffix(".bin"), ".bin") as weights:
            openvino.serialize(network, temporary, weights)
            seal(temporary, [weights])
        return
    import onnx

    onnx.helper.set_model_props(network, {METADATA: text})
    with written(out) as temporary:
        onnx.save(network, temporary)
        seal(temporary, [])
