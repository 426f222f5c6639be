"""What the page and the endpoint show of a network's answer; nothing here knows of the web."""

import io
import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from heteroseg.app.bounds import Limits, Refused, check_effort
from heteroseg.app.frames import decoded_apart
from heteroseg.datasets.image_files import decode_image
from heteroseg.decisions.reference import leaf_probs, upsample_at
from heteroseg.errors import HeterosegError
from heteroseg.inference.video import write_video
from heteroseg.labels.space import LabelSpace, node_space
from heteroseg.labels.taxonomy import Color, Taxonomy
from heteroseg.model.answer_files import count_labels
from heteroseg.model.model import Model
from heteroseg.model.pictures import colorise, overlay
from heteroseg.model.prediction import Prediction
from heteroseg.model.promise import least_of

TREE = "tree"  # instead of the name of a label space: nodes, cut at any depth
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
BITS, TILE_WIDTH, TILE_LENGTH = 258, 322, 323  # tags of TIFF
SCAN, SCANS = b"\xff\xda", 200  # of progressive JPEG: each costs as much as the whole image
ALTERNATIVES = 3  # other children of a node that are told beside the one on the path
LEGEND = 24  # labels of a video that are named


class Few(io.BytesIO):
    """Bytes that are read in few steps: a header of a million parts would take minutes."""

    steps = 20_000

    def read(self, size: int | None = -1) -> bytes:
        self.steps -= 1
        if not self.steps:
            raise OSError("a header of too many parts")
        return super().read(size)


def image_size(body: bytes, limits: Limits) -> float:
    """The megapixels of an image by its header; what is no image or too large is refused before it is decoded."""
    try:
        with Image.open(Few(body), formats=FORMATS) as header:
            (width, height), tags = header.size, getattr(header, "tag_v2", {})
        tile = tags.get(TILE_WIDTH, 1) * tags.get(TILE_LENGTH, 1)
        deep = max(tags.get(BITS, (8,))) > 16 or (header.format == "JPEG" and body.count(SCAN) > SCANS)
    except Image.DecompressionBombError as error:  # hundreds of megapixels
        raise Refused(413, f"the image is too large, at most {limits.megapixels:g} megapixels are taken") from error
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, zlib.error):
        raise Refused(415, "expected an image (JPEG, PNG, WebP, BMP, TIFF, PPM), found something else") from None
    if max(width * height, tile) > limits.megapixels * 1e6:
        size = f"{width} x {height} pixels, at most {limits.megapixels:g} megapixels are taken"
        raise Refused(413, f"the image has {size}; send a smaller one")
    if deep:
        raise Refused(415, "the image has more than 16 bits for a value, or hundreds of scans; convert it to PNG")
    return width * height / 1e6


def open_image(body: bytes, limits: Limits) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an uploaded file, upright, as browsers show it."""
    image_size(body, limits)
    try:
        return decode_image(body, Path("image"))
    except HeterosegError:
        raise Refused(415, "the image is cut off or damaged, or of a kind that cannot be read") from None


def cut(nodes: np.ndarray, tree: Taxonomy, depth: int) -> np.ndarray:
    """(H, W) int64 decided nodes, each replaced by the one above it at `depth` (0 is the root); -1 stays."""
    table = [tree.path(n)[min(depth, tree.depths[n])] for n in range(len(tree))]
    return np.array([*table, -1])[nodes]


class View(BaseModel):
    """What is asked of an answer: a label space or TREE, and for nodes the depth and how sure they have to be."""

    labels: str = Field("leaves", description=f"a label space, or {TREE!r} for nodes")
    depth: int | None = Field(None, ge=0, description=f"with {TREE!r}: cut it here; 0 is the root")
    back_off: float = Field(0, ge=0, le=1, description=f"with {TREE!r}: stop at the deepest node of this probability")
    precision: float | None = Field(
        None, ge=0, le=1, description=f"with {TREE!r}: the deepest nodes that are right this often; 0: no promise"
    )


def label_indices(prediction: Prediction, view: View) -> tuple[np.ndarray, LabelSpace]:
    """(H, W) int64 indices into the labels of the space that comes with them, -1 outside."""
    model, tree = prediction.model, prediction.model.taxonomy
    prediction.between = check_effort
    space = space_named(model, view.labels)
    if view.labels == TREE:
        nodes = prediction.nodes(view.back_off or None, _promised(model, view))
        return nodes if view.depth is None else cut(nodes, tree, view.depth), space
    if view.depth is not None or view.back_off or view.precision:
        told = f"depth, back_off and precision go with labels={TREE}"
        raise Refused(422, f"{told}, found labels={view.labels}; leave them out")
    return prediction.label_indices(space), space


def _promised(model: Model, view: View) -> float | None:
    """The precision that is asked for; what the model cannot promise is refused."""
    if not view.precision:
        return None
    if view.back_off:
        raise Refused(422, "expected back_off or precision, found both; drop one")
    try:
        least_of(model, view.precision)
    except HeterosegError as error:
        raise Refused(422, str(error)) from None
    return view.precision


def spaces(model: Model) -> list[str]:
    """The names that a view may have; label space files of the server's disk are not among them."""
    return [TREE, *model.spaces, "leaves"]


def space_named(model: Model, name: str) -> LabelSpace:
    if name not in spaces(model):
        raise Refused(422, f"there is no label space {name!r}; there are {', '.join(spaces(model))}")
    return node_space(model.taxonomy, TREE) if name == TREE else model.space(name)


def recolored(space: LabelSpace, colors: Mapping[str, Color]) -> LabelSpace:
    """The space with the given colours, by name: of two models beside each other, equal names have equal colours."""
    labels = (b.model_copy(update={"color": colors.get(b.name, b.color)}) for b in space.labels)
    return replace(space, labels=tuple(labels))


class Step(BaseModel):
    """A node on the path of a pixel."""

    node: str
    probability: float
    instead: list[tuple[str, float]] = Field(description="the likeliest other children of its parent")


def path_at(prediction: Prediction, x: int, y: int) -> list[Step]:
    """The path down from the root along the likelier child, at column `x` and row `y` of the image."""
    height, width = prediction.size
    if not (0 <= x < width and 0 <= y < height):
        raise Refused(422, f"the pixel x {x}, y {y} is not in the image of {width} x {height} pixels")
    tree = prediction.model.taxonomy
    at = [prediction.logits.new_tensor([v]).long() for v in (y, x)]
    leaves = leaf_probs(upsample_at(prediction.logits, prediction.covers, *at), tree)[0, :, 0, 0].cpu().numpy()
    probs = [float(leaves[slice(*tree.spans[n])].sum()) for n in range(len(tree))]
    node, steps = 0, [Step(node=tree.names[0], probability=probs[0], instead=[])]
    while tree.children[node]:
        first, *rest = sorted(tree.children[node], key=lambda n: -probs[n])
        others = [(tree.names[n], probs[n]) for n in rest[:ALTERNATIVES]]
        steps.append(Step(node=tree.names[first], probability=probs[first], instead=others))
        node = first
    return steps


def film(
    model: Model, body: bytes, target: Path, view: View, space: LabelSpace, limits: Limits
) -> tuple[str, list[tuple[str, Color]]]:
    """Write a video with the answers laid over it to `target`, as far as `limits.seconds` go. It is WebM (VP8), which
    browsers play, in the colours of `space`.

    Returns a sentence about how far that was, and name and colour of the labels that fill most of it.
    """
    begin, frames, counts, told = time.monotonic(), 0, np.zeros(len(space.labels) + 1, np.int64), ""
    with decoded_apart(body, limits) as source:
        about = f" of about {source.total}" if source.total else ""
        with write_video(target, source.size, source.rate) as write:
            for frames, frame in enumerate(source.frames, 1):
                found = label_indices(model.predict(frame), view)[0]
                counts += count_labels(found, space)
                write(overlay(frame, colorise(found, space)))
                check_effort()
                if time.monotonic() - begin > limits.seconds:
                    told = f"the first {frames}{about} frames, all that {limits.seconds:g} seconds allow"
                    break
    ended = f"{frames}{about} frames, the rest cannot be decoded" if frames < source.total else f"{frames} frames"
    most = [i for i in np.argsort(-counts[:-1], kind="stable")[:LEGEND] if counts[i]]
    return told or ended, [(space.labels[i].name, space.labels[i].color) for i in most]
