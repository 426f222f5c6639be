"""Masks from shapes: polygons and run lengths, painted one over the other."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from heteroseg.datasets.boxes import FAR, outside
from heteroseg.datasets.records import number
from heteroseg.datasets.sample import UNKNOWN, RunLength, Shape
from heteroseg.errors import HeterosegError
from heteroseg.files import read_json

CIRCLE = 64  # corners of an ellipse
FIFTHS = 5  # pycocotools rounds corners to a fifth of a pixel
PACKED = re.compile(rb"[0-o]*[0-O]")  # five bits a character; the last one of a number is below P


def paint(
    shapes: Iterable[Shape], ground: np.ndarray, scale: tuple[float, float] = (1, 1), rim: bool = False
) -> np.ndarray:
    """(H, W) int32 ids: the shapes in their order on `ground`, ids (H, W). `scale` multiplies x and y.

    Polygons are filled as COCO's own tools do (pycocotools): a square from 0 to 5 has 25 pixels. Of what
    a polygon covers nothing is known in its holes, and with `rim` next to it. Damaged run lengths, and shapes that
    stand out of the image raise ValueError.
    """
    canvas = np.array(ground, np.int32, order="F")  # as COCO's masks lie in memory
    height, width = canvas.shape
    for shape in shapes:
        shape = shape.scaled(scale)
        if shape.id >= 0 and outside(shape.extent, width, height):
            raise ValueError(f"expected a shape inside the image of {width}x{height}, found one at {shape.extent}")
        if shape.run_length is not None:
            x, y, w, h = shape.run_length.window
            part = canvas[y : y + h, x : x + w]
            part[rle_decode(shape.run_length)[: part.shape[0], : part.shape[1]]] = shape.id
        if shape.polygons:
            x, y, inside = _filled(shape.polygons, canvas.shape)
            part = canvas[y : y + inside.shape[0], x : x + inside.shape[1]]
            below = np.unique(part[inside == 1])  # what lies beside a shape stays
            part[_doubtful(inside, rim) & np.isin(part, below)] = UNKNOWN
            part[inside == 1] = shape.id
    return np.ascontiguousarray(canvas)


def _filled(polygons: Iterable[np.ndarray], size: tuple[int, ...]) -> tuple[int, int, np.ndarray]:
    """Polygons filled by pycocotools: x, y and uint8 ones of the part of an (H, W) image that they and a rim cover.

    A whole image takes it milliseconds. An edge that runs within 1e-13 of a pixel's border may fall on its other side:
    a pixel in some thousand polygons.
    """
    # pycocotools rounds corners to fifths of a pixel and then walks along each edge, so that far ones cost memory
    rings = [np.trunc(np.clip(ring, -FAR, FAR) * FIFTHS + 0.5) for ring in polygons]
    corners = np.concatenate(rings)
    x, y = np.maximum(corners.min(0) // FIFTHS - 1, 0).astype(int)
    x2, y2 = np.minimum(corners.max(0) // FIFTHS + 3, size[::-1]).astype(int)
    moved = [((ring - (ring < 0)) / FIFTHS - (x, y)).ravel() for ring in rings]  # it rounds towards 0 once more
    return x, y, coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(moved, y2 - y, x2 - x)))


def _doubtful(inside: np.ndarray, rim: bool) -> np.ndarray:
    """(H, W) bool: the holes of a filled polygon, (H, W) uint8, and with `rim` what is next to it."""
    contours = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    whole = cv2.drawContours(np.zeros_like(inside, order="C"), contours, -1, 1, cv2.FILLED)
    result: np.ndarray = (cv2.dilate(whole, np.ones((3, 3), np.uint8)) if rim else whole) == 1
    return result


def rle_encode(mask: np.ndarray, x: int = 0, y: int = 0) -> RunLength:
    """A boolean (H, W) mask, whose first pixel is at x, y of the image, as run lengths."""
    counts = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return RunLength(counts, (x, y, mask.shape[1], mask.shape[0]))


def rle_decode(code: RunLength) -> np.ndarray:
    """(height, width) bool of the window. Run lengths that are damaged or do not fill the window raise ValueError."""
    width, height = code.window[2:]
    if not PACKED.fullmatch(code.counts):
        raise ValueError(f"expected packed run lengths, found {code.counts!r:.60}")
    try:
        mask = coco_mask.decode({"size": [height, width], "counts": code.counts})
    except ValueError:  # they are too long
        raise ValueError(f"expected runs of {width * height} pixels, found more") from None
    try:  # what pycocotools gives is undefined where they are too short: then they also fit a smaller window
        coco_mask.decode({"size": [1, width * height - 1], "counts": code.counts})
    except ValueError:
        return mask == 1
    raise ValueError(f"expected runs of {width * height} pixels, found fewer")


def polygon(values: Any) -> np.ndarray | None:
    """(N, 2) float64 corners from x, y, x, y, ... or from pairs; None for fewer than three and for other things."""
    if not isinstance(values, list | tuple):
        return None
    paired = [isinstance(value, list | tuple) and len(value) == 2 for value in values]
    flat = [v for pair in values for v in pair] if all(paired) else values
    numbers = [number(v) for v in flat]
    if len(numbers) < 6 or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
        return None
    return np.array(numbers).reshape(-1, 2)


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """(CIRCLE, 2) float64 corners around the centre x, y."""
    angle = np.arange(CIRCLE) * (2 * np.pi / CIRCLE)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def turned(points: np.ndarray, degrees: float, around: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """A convex polygon (N, 2) turned clockwise on the screen around a point, and cut off where it leaves the image."""
    angle, (width, height) = math.radians(degrees), size
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    points = (points - around) @ turn + around
    if points.min() >= 0 and (points <= size).all():
        return points
    image = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    part = cv2.intersectConvexConvex(points.astype(np.float32), image.astype(np.float32))[1]
    return points if part is None else part.reshape(-1, 2).astype(np.float64)


def read_polygons(path: Path, ids: dict[str, int]) -> tuple[tuple[float, float], list[Shape], list[str]]:
    """(width, height), the shapes and the faults of a json of labelled polygons as Cityscapes and IDD have it.

    Objects that are marked as deleted are left out; LABELgroup counts as LABEL where it has no id of its own. Faults
    are labels without an id (-1 is none), whose polygons are unknown ground, and polygons of fewer than three corners.
    A json without the list raises HeterosegError.
    """
    data = read_json(path)
    objects = data.get("objects") if isinstance(data, dict) else None
    width, height = (number(data.get(key)) for key in ("imgWidth", "imgHeight")) if objects is not None else (0, 0)
    if not isinstance(objects, list) or not (width > 0 and height > 0):
        raise HeterosegError(f"{path}: expected imgWidth, imgHeight and a list of objects, found others; restore it")
    shapes, faults = [], []
    for i, entry in enumerate(objects):
        if not isinstance(entry, dict) or entry.get("deleted"):
            continue
        label, corners = str(entry.get("label")), entry.get("polygon")
        label_id = ids.get(label, ids.get(label.removesuffix("group"), -1))
        points = polygon(corners)
        if label_id < 0:
            faults.append(f"{path}: objects[{i}]: expected a label that the reader knows, found {label!r}; correct it")
        if points is None:
            faults.append(f"{path}: objects[{i}]: expected a polygon of three or more corners, found {corners!r:.60}")
        else:
            shapes.append(Shape(max(label_id, UNKNOWN), (points,)))
    return (width, height), shapes, faults


def draw_polygons(shapes: Iterable[Shape], ground: np.ndarray) -> np.ndarray:
    """(H, W) int32 ids: as `paint`, but filled as the label tools of Cityscapes and IDD do, and cut off at the edges.

    They draw with Pillow, for which the outline belongs to the polygon: a square from 0 to 5 has 36 pixels.
    """
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(np.ascontiguousarray(ground, np.int32))
    draw = ImageDraw.Draw(canvas)
    for shape in shapes:
        for corners in shape.polygons:
            draw.polygon([(x, y) for x, y in corners.tolist()], fill=shape.id)
    return np.array(canvas, np.int32)
