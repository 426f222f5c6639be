"""The canvas that scenes are drawn on: it takes metres, and draws the picture and its concepts together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np

from heteroseg.scenes.look import CIRCLE, INDEX, Color

Rng = np.random.Generator


@dataclass
class Scene:
    """`image` (H, W, 3) uint8 RGB; `concepts` (H, W) int32 into CONCEPTS; `boxes` (N, 4) float32 x1, y1, x2, y2
    (exclusive) of the front signs that can be seen, `box_names` their types."""

    image: np.ndarray
    concepts: np.ndarray
    boxes: np.ndarray
    box_names: list[str]


class Canvas:
    """Camera, picture and concepts. World: x right, y up from the street, z ahead, in metres, the camera at x = 0."""

    def __init__(self, rng: Rng, size: tuple[int, int], light: SimpleNamespace):
        self.light = light
        self.h, self.w = 2 * size[0], 2 * size[1]
        self.focal, self.eye = self.w * rng.uniform(0.74, 0.88), rng.uniform(1.4, 1.9)
        self.centre, self.horizon = self.w * rng.uniform(0.42, 0.58), self.h * rng.uniform(0.42, 0.54)
        self.bend, self.sun = rng.uniform(-0.001, 0.001), rng.choice([-1, 1])
        self.near = 0.95 * self.focal * self.eye / (self.h - self.horizon)
        self.image = np.zeros((self.h, self.w, 3), np.uint8)
        self.concepts = np.zeros((self.h, self.w), np.uint8)
        self.signs: list[tuple[str, np.ndarray]] = []

    def project(self, points) -> np.ndarray:
        """(..., 3) metres to (..., 2) pixels; the street bends up to 100 m ahead and runs straight from there."""
        points = np.asarray(points, np.float64)
        z = points[..., 2]
        scale, far = self.focal / z, np.minimum(z, 100)
        pixels = points[..., :2] * (1, -1) * scale[..., None]
        pixels[..., 0] += self.centre + self.bend * scale * far * (2 * z - far)
        pixels[..., 1] += self.horizon + self.eye * scale
        return np.minimum(np.maximum(pixels, -9 * self.w), 9 * self.w)

    def tint(self, color: Color, z: float) -> list[float]:
        """A colour as it looks through `z` metres of haze."""
        clear = math.exp(-z / self.light.sight)
        pairs = zip(np.asarray(color).tolist(), self.light.low, strict=True)  # plain numbers are faster here
        return [min(max(a * clear + b * (1 - clear), 0.0), 255.0) for a, b in pairs]

    def fill(self, pixels: np.ndarray, color: Color | None, concept: str | None, z: float = 0) -> None:
        """Fill polygons (N, points, 2) or (points, 2). No colour: concept only; no concept: picture only."""
        fixed = np.round(pixels * 16).astype(np.int32)
        self.draw(cv2.fillPoly, (list(fixed) if fixed.ndim == 3 else [fixed],), color, concept, z)

    def draw(self, call, shape: tuple, color: Color | None, concept: str | None, z: float, *width: int) -> None:
        """Draw a shape, in sixteenths of a pixel, with a function of OpenCV: the picture smooth, concepts sharp."""
        if color is not None:
            call(self.image, *shape, self.tint(color, z), *width, cv2.LINE_AA, 4)
        if concept is not None:
            call(self.concepts, *shape, [INDEX[concept]], *width, cv2.LINE_8, 4)

    def face(self, points, color: Color | None, concept: str | None) -> None:
        """Fill a polygon of points in the world, or several (N, points, 3)."""
        points = np.asarray(points, np.float64)
        if points.size:
            self.fill(self.project(points), color, concept, float(points[..., 2].min()))

    def strip(self, x0: float, x1: float, z0: float, z1: float, color: Color | None, concept: str | None) -> None:
        """A piece of the ground, following the bend."""
        near = max(z0, self.near)
        count = 2 if z1 < 1.5 * near else 14
        z = (near * (z1 / near) ** np.linspace(0, 1, count)).tolist()
        ground = [(x0, 0, at) for at in z] + [(x1, 0, at) for at in z[::-1]]
        self.fill(self.project(ground), color, concept, z0)

    def shade(self, points, strength: float) -> None:
        """Darken a polygon of the ground."""
        pixels = np.round(self.project(points)).astype(np.int32)
        x, y = np.clip(pixels.min(0), 0, (self.w, self.h))
        x2, y2 = np.clip(pixels.max(0) + 1, 0, (self.w, self.h))
        if x < x2 and y < y2:
            part = self.image[y:y2, x:x2]
            cover = np.full(part.shape, 255, np.uint8)
            cv2.fillPoly(cover, [pixels - (x, y)], [255 * strength] * 3, cv2.LINE_AA)
            part[:] = cv2.multiply(part, cover, scale=1 / 255)


class Board:
    """An upright plane that faces the camera at (x, z); its own x and y are metres from the foot."""

    def __init__(self, canvas: Canvas, x: float, z: float, flip: int = 1):
        self.canvas, self.x, self.z = canvas, x, z
        self.foot, self.scale = canvas.project((x, 0, z)), np.array((flip, -1)) * (canvas.focal / z)

    def pixels(self, points) -> np.ndarray:
        """(..., 2) metres on the board to (..., 2) pixels."""
        return np.asarray(points, np.float64) * self.scale + self.foot

    def poly(self, points, color: Color | None, concept: str | None) -> None:
        """Fill a polygon, (points, 2) metres on the board."""
        self.canvas.fill(self.pixels(points), color, concept, self.z)

    def disc(self, x: float, y: float, r: float, color: Color | None, concept: str | None) -> None:
        """Fill a disc of radius `r` metres around (x, y)."""
        center, radius = np.round(self.pixels((x, y)) * 16).astype(int).tolist(), round(abs(r * self.scale[0]) * 16)
        self.canvas.draw(cv2.circle, (center, radius), color, concept, self.z, -1)

    def line(self, points, width: float, color: Color, concept: str | None) -> None:
        """Draw a line through points, `width` metres wide and at least a pixel."""
        fixed = [np.round(self.pixels(points) * 16).astype(np.int32)]
        wide = max(1, round(width * self.canvas.focal / self.z))
        self.canvas.draw(cv2.polylines, (fixed, False), color, concept, self.z, wide)

    def shadow(self, x: float, width: float) -> None:
        """Darken the ground under a thing that is `width` metres wide, `x` metres from the foot."""
        self.canvas.shade(CIRCLE[:, [0, 2, 1]] * (width, 0, width * 0.4) + (self.x + x, 0, self.z), 0.62)


def jitter(rng: Rng, color: Color, spread: float = 14) -> np.ndarray:
    """(3,) a colour at random around `color`: each channel, and all of them together."""
    return np.asarray(color, np.float64) + rng.normal(0, spread * 0.6, 3) + rng.normal(0, spread)


def pick(rng: Rng, options: Sequence):
    """One of the options at random."""
    return options[int(rng.integers(len(options)))]
