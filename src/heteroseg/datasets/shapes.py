"""Masks from shapes: polygons and run-length codes, painted one over the other."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heteroseg.datasets.boxes import Shape, number, read_json
from heteroseg.datasets.paths import tell
from heteroseg.datasets.sample import Region, Runs
from heteroseg.errors import HeterosegError

DIGIT, MORE, SIGN = 0x1F, 0x20, 0x10  # of a character of COCO's packed counts
FIRST = 48  # the character that stands for 0
CIRCLE = 64  # corners of an ellipse


def paint(regions: Iterable[Region], size: tuple[int, int], background: int, scale: tuple[float, float]) -> np.ndarray:
    """(H, W) int32 ids: the regions in their order on `background`. `size` is H, W; `scale` multiplies x and y.

    Polygons are filled as in the label tools of Cityscapes and IDD (Pillow, the outline belongs to the shape).
    Damaged runs raise ValueError.
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("I", size[::-1], background)
    draw = ImageDraw.Draw(canvas)
    for region in regions:
        for corners in region.polygons:
            points = [(x, y) for x, y in (corners * np.array(scale, np.float32)).tolist()]
            draw.polygon(points, fill=region.id)
        if region.runs is not None:
            x, y = region.runs.window[:2]
            canvas.paste(region.id, (x, y), Image.fromarray(decode(region.runs)))
    return np.array(canvas, np.int32)


def decode(runs: Runs) -> np.ndarray:
    """(height, width) bool of the window. Runs that do not fill it raise ValueError."""
    width, height = runs.window[2:]
    counts = unpack(runs.counts) if isinstance(runs.counts, str) else runs.counts
    if min(counts, default=0) < 0 or sum(counts) != width * height:
        raise ValueError(f"expected runs of {width * height} pixels, found {sum(counts)}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T.copy() if runs.by_column else flat.reshape(height, width)


def encode(mask: np.ndarray, by_column: bool = False) -> tuple[int, ...]:
    """The run lengths of a boolean (H, W) mask, 0 first."""
    flat = mask.ravel(order="F" if by_column else "C")
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=~flat[-1] if flat.size else True))
    return tuple(np.diff(edges, prepend=0).tolist())


def pack(counts: Sequence[int]) -> str:
    """Run lengths as COCO's text: from the fourth on the difference to the one two before, five bits a character."""
    text = ""
    for i, count in enumerate(counts):
        value = count - (counts[i - 2] if i > 2 else 0)
        more = True
        while more:
            digit, value = value & DIGIT, value >> 5
            more = value != (-1 if digit & SIGN else 0)
            text += chr((digit | MORE if more else digit) + FIRST)
    return text


def unpack(text: str) -> tuple[int, ...]:
    """The run lengths in COCO's text (the inverse of `pack`). A text that is cut off raises ValueError."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - FIRST
        if not 0 <= digit < 2 * MORE:
            raise ValueError(f"expected packed run lengths, found the character {character!r}")
        value |= (digit & DIGIT) << shift
        shift += 5
        if not digit & MORE:
            value -= (digit & SIGN and 1) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("expected packed run lengths, found a text that is cut off")
    return tuple(counts)


def polygon(values: Any) -> np.ndarray | None:
    """(N, 2) float32 corners from x, y, x, y, ... or from pairs; None for fewer than three and for other things."""
    if not isinstance(values, list | tuple):
        return None
    flat = [v for pair in values for v in pair] if values and isinstance(values[0], list | tuple) else values
    numbers = [number(v) for v in flat]
    if len(numbers) < 6 or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
        return None
    return np.array(numbers, np.float32).reshape(-1, 2)


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """(CIRCLE, 2) float32 corners around the centre x, y."""
    angle = np.arange(CIRCLE) * (2 * np.pi / CIRCLE)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1).astype(np.float32)


def turned(points: np.ndarray, degrees: float, around: tuple[float, float]) -> np.ndarray:
    """(N, 2) points turned clockwise on the screen around a point."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return ((points - around) @ turn + around).astype(np.float32)


def coco_shape(value: Any, size: tuple[float, float] | None) -> Shape | None:
    """A COCO `segmentation`: polygons, or an object with size (height, width) and counts; None for anything else."""
    if isinstance(value, list):
        rings = [polygon(ring) for ring in value]
        return (tuple(r for r in rings if r is not None), None) if rings and all(r is not None for r in rings) else None
    if not isinstance(value, dict):
        return None
    extent, counts = value.get("size"), value.get("counts")
    if not (isinstance(extent, list) and len(extent) == 2 and all(type(v) is int and v > 0 for v in extent)):
        return None
    if size is not None and (extent[1], extent[0]) != size:
        return None
    if isinstance(counts, list) and all(type(c) is int for c in counts):
        counts = tuple(counts)
    if not isinstance(counts, str | tuple):
        return None
    return (), Runs(counts, (0, 0, extent[1], extent[0]), by_column=True)


def read_polygons(path: Path, ids: dict[str, int]) -> tuple[tuple[float, float], tuple[Region, ...]]:
    """(width, height) and the regions of a json of labelled polygons as Cityscapes and IDD have it.

    Objects that are marked as deleted are left out; LABELgroup counts as LABEL where it has no id of its own. A label
    without an id (-1 is none) and a polygon of fewer than three corners raise HeterosegError, all of them at once.
    """
    data = read_json(path)
    objects = data.get("objects") if isinstance(data, dict) else None
    width, height = (number(data.get(key)) for key in ("imgWidth", "imgHeight")) if objects is not None else (0, 0)
    if not isinstance(objects, list) or not (width > 0 and height > 0):
        raise HeterosegError(f"{path}: expected imgWidth, imgHeight and a list of objects, found others; restore it")
    regions, faults = [], []
    for i, entry in enumerate(objects):
        if not isinstance(entry, dict) or entry.get("deleted"):
            continue
        label, corners = str(entry.get("label")), entry.get("polygon")
        found = ids.get(label, ids.get(label.removesuffix("group"), -1))
        points = polygon(corners)
        if found < 0:
            faults.append(f"{path}: objects[{i}]: expected a label that the reader knows, found {label!r}; correct it")
        elif points is None:
            faults.append(f"{path}: objects[{i}]: expected a polygon of three or more corners, found {corners!r:.60}")
        else:
            regions.append(Region(found, (points,)))
    tell(faults)
    return (width, height), tuple(regions)
