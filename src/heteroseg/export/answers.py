"""Graphs that end in answers, for programs that have nothing of heteroseg: images in, ids or probabilities out."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heteroseg.decisions.reference import CERTAIN, assumed_children, leaf_probs
from heteroseg.errors import HeterosegError, require_one_of
from heteroseg.export.export import OTHERS, TRACED, Format, Graph, build_errors, converted, place, require_new, write
from heteroseg.labels.space import LabelSpace
from heteroseg.model.model import Model
from heteroseg.networks.network import Network

Output = Literal["labels", "probabilities"]


class Answers(nn.Module):
    """(B, H, W, 3) uint8 images to (B, H, W) int32 ids of a label space, or (B, H, W, L) float32 probabilities.

    H and W are multiples of the network's. The answers are those of `decisions.reference`, up to rounding.
    """

    covered: Tensor
    ids: Tensor

    def __init__(self, model: Model, space: LabelSpace, output: Output):
        super().__init__()
        network, self.space, self.output, self.rule = model.torch_network, space, output, model.decision
        self.logits_of, self.shrink, self.shrunk = Graph(network, network.body), network.shrink, network.shrunk
        self.register_buffer("covered", torch.from_numpy(space.shown_table).float()[:, :, None, None])
        self.register_buffer("ids", torch.tensor([*space.ids.tolist(), space.outside], dtype=torch.int32))

    def forward(self, images: Tensor) -> Tensor:
        size, x = images.shape[1:3], images
        if self.shrink != (1, 1):
            x = F.interpolate(x.permute(0, 3, 1, 2).float(), self.shrunk(*size), mode="bilinear")
            x = (x + 0.5).floor().permute(0, 2, 3, 1)
        logits = F.interpolate(self.logits_of(x).permute(0, 3, 1, 2), size, mode="bilinear")
        if self.output == "labels" and self.rule == "path":
            return self._down(logits)
        probs = leaf_probs(self._assumed(logits), self.space.taxonomy)
        labels, total = F.conv2d(probs, self.covered), probs.sum(1)
        if self.output == "probabilities":
            return labels.permute(0, 2, 3, 1)
        void = self.space.taxonomy.void
        whole = total if void else torch.ones_like(total)
        fits = (labels.sum(1) >= 0.5 * whole) & (whole >= CERTAIN)
        return self.ids[torch.where(fits, labels.argmax(1), len(self.space.labels))]

    def _assumed(self, logits: Tensor) -> Tensor:
        """Logits by which what the label space takes for granted has probability 1, given its parent."""
        tree = self.space.taxonomy
        parts = list(logits.split([c.stop - c.start for c in tree.classifiers], 1))
        for parent, child in assumed_children(self.space).items():
            if (owner := tree.classifier_of[parent]) >= 0:
                sure = torch.full((parts[owner].shape[1],), -1e30)
                sure[tree.channel_of[child] - tree.classifiers[owner].start] = 0
                parts[owner] = parts[owner] * 0 + sure[:, None, None]
        return torch.cat(parts, 1)

    def _down(self, logits: Tensor) -> Tensor:
        """(B, H, W) ids by the path rule: every node that is reached hands on to the child that is decided."""
        space, tree = self.space, self.space.taxonomy
        reached = {0: torch.ones_like(logits[:, 0], dtype=torch.bool)}
        ids, assumed = torch.full_like(logits[:, 0], space.outside, dtype=torch.int32), assumed_children(space)
        for n in sorted(range(len(tree)), key=tree.depths.__getitem__):
            if n not in reached:  # below one that stops, or beside one that is taken for granted
                continue
            if space.stops[n] or not tree.children[n]:
                if space.by_node[n] >= 0:
                    ids = torch.where(reached[n], self.ids[int(space.by_node[n])], ids)
            elif n in assumed or len(tree.children[n]) == 1:
                reached[assumed.get(n, tree.children[n][0])] = reached[n]
            else:
                c = tree.classifiers[tree.classifier_of[n]]
                best = logits[:, c.start : c.stop].argmax(1)
                reached |= {child: reached[n] & (best == i) for i, child in enumerate(c.children)}
        return ids


def _run(file: Path, images: np.ndarray) -> np.ndarray:
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return session.run(None, {"images": images})[0]
    import openvino

    return openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([images])[0]


def export_answers(
    model: Model, out: Path, kind: Format, output: Output, space: LabelSpace, size: tuple[int, int] | None = None
) -> None:
    """Write `out` (.onnx, or .xml with .bin beside it), whose graph ends in answers in a label space.

    Under the key `heteroseg` lie as JSON the labels (id, name, colour) and what the sides of an image must be multiples
    of. `size` (H, W) is that of all images. What is written is tried, or HeterosegError is raised.
    """
    require_one_of("output", output, get_args(Output))
    if not isinstance(model.network, Network):
        raise HeterosegError("only a MODEL folder can be exported, found a network that is exported already")
    require_new(out, kind)
    answers, network = Answers(model, space, output).eval(), model.torch_network
    labels = [{"id": label.id, "name": label.name, "color": label.color} for label in space.labels]
    facts = {"output": output, "label_space": space.name, "labels": labels, "outside": space.outside}
    rng, sides = np.random.default_rng(0), [network.covers(*at) for at in ([size] if size else [TRACED, *OTHERS])]
    tried = [rng.integers(0, 256, (1, *at, 3), np.uint8) for at in sides]
    with TemporaryDirectory() as folder, torch.inference_mode(), build_errors(kind):
        trial = Path(folder, f"network{out.suffix}")
        graph = converted(answers, torch.from_numpy(tried[0]), trial, [output])
        write(graph, trial, json.dumps(facts | {"multiple": network.multiple}))
        for images in tried:
            far = np.abs(_run(trial, images) - answers(torch.from_numpy(images)).numpy())
            if (far > 0.01).mean() > 0.001:
                raise HeterosegError("this network was not exported, its file gives other answers; use --output logits")
        place(trial, out)
