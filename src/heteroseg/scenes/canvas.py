"""What scenes are drawn with: colours, signs, shapes and concepts, and the canvas that takes metres."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

Rng = np.random.Generator
Color = Sequence[float] | np.ndarray
BLACK, WHITE, GREY, STEEL = (25, 25, 28), (240, 240, 238), (90, 92, 95), (150, 154, 158)
RED, BLUE, YELLOW, GLASS, SKIN = (205, 25, 35), (25, 75, 175), (250, 200, 20), (52, 66, 80), (215, 165, 135)
PAINTS = ((190, 30, 35), (30, 70, 150), (225, 225, 225), (45, 48, 52), (150, 155, 160), (35, 105, 75), (220, 150, 30),
          (110, 30, 45), (90, 140, 180))  # fmt: skip
WALLS = ((196, 164, 132), (176, 106, 84), (214, 200, 170), (150, 152, 160), (205, 180, 120), (168, 130, 120),
         (188, 196, 200), (140, 90, 75))  # fmt: skip


class Sign(NamedTuple):
    """A sign's face: `rings` from the rim inwards (relative size, colour), and `text` in glyphs of `inks`."""

    shape: str
    rings: tuple[tuple[float, Color], ...]
    text: str = ""
    inks: tuple[Color, ...] = (BLACK,)
    size: tuple[float, float] = (0.34, 0.8)  # a glyph's width and height, in half sign widths
    stroke: float = 0.16


LIMIT, WARNING, ORDER = ((1.0, RED), (0.74, WHITE)), ((1.0, RED), (0.66, WHITE)), ((1.0, WHITE), (0.94, BLUE))
SIGNS = {
    "p_limit_30": Sign("disc", LIMIT, "30"),
    "p_limit_50": Sign("disc", LIMIT, "50"),
    "p_limit_80": Sign("disc", LIMIT, "80"),
    "p_no_overtaking": Sign("disc", LIMIT, "cc", (RED, BLACK), (0.4, 0.6)),
    "o_stop": Sign("octagon", ((1.0, WHITE), (0.92, RED)), "STOP", (WHITE,), (0.27, 0.62), 0.11),
    "o_give_away": Sign("triangle_down", WARNING),
    "o_priority_road": Sign("diamond", ((1.0, WHITE), (0.72, YELLOW))),
    "o_no_entry": Sign("disc", ((1.0, RED),), "-", (WHITE,), (1.1, 0.5), 0.32),
    "d_danger": Sign("triangle_up", WARNING, "!", stroke=0.2),
    "d_pedestrian_crossing": Sign("triangle_up", WARNING, "k", size=(0.5, 0.75)),
    "m_go_straight": Sign("disc", ORDER, "^", (WHITE,), (0.7, 1.1), 0.22),
    "m_keep_right": Sign("disc", ORDER, ">", (WHITE,), (0.9, 0.9), 0.22),
}
OTHER_SIGN = "traffic sign (front)"  # an inner node: a front sign that is none of the annotated types
OTHER_SIGNS = (
    Sign("square", ((1.0, WHITE), (0.92, BLUE)), "P", (WHITE,), (0.7, 1.2), 0.24),
    Sign("square", ((1.0, BLACK), (0.9, YELLOW)), "==", (BLACK,), (0.55, 0.5), 0.2),
    Sign("square", ((1.0, WHITE), (0.94, (30, 120, 70))), "^", (WHITE,), (0.8, 1.2), 0.2),
)
# Strokes on a grid of 5 x 7 points, "xy" each, so that no font and no OpenCV version changes a picture.
GLYPHS = {
    "0": "10 30 41 45 36 16 05 01 10", "O": "10 30 41 45 36 16 05 01 10", "3": "05 16 36 45 44 33 13 33 42 41 30 10 01",
    "5": "46 06 03 33 42 41 30 10 01", "8": "13 04 05 16 36 45 44 33 13 02 01 10 30 41 42 33",
    "S": "45 36 16 05 04 13 33 42 41 30 10 01", "T": "06 46 26 20", "P": "00 06 36 45 44 33 03",
    "-": "03 43", "=": "05 45/03 43/01 41", "!": "26 22/20 20", "^": "20 26 04 26 44", ">": "06 40 43 40 10",
    "c": "01 03 43 41 01/03 15 35 43/02 42", "k": "26 25/25 22 00/22 40/04 24 44",
}  # fmt: skip
SHAPES = {
    "triangle_up": ((-1, -0.87), (1, -0.87), (0, 0.87)), "triangle_down": ((-1, 0.87), (1, 0.87), (0, -0.87)),
    "diamond": ((0, 1), (1, 0), (0, -1), (-1, 0)), "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "octagon": tuple((np.cos(a) * 1.082, np.sin(a) * 1.082) for a in np.pi / 8 + np.arange(8) * np.pi / 4),
    "disc": tuple((np.cos(a), np.sin(a)) for a in np.arange(28) * np.pi / 14),
}  # fmt: skip
CIRCLE = np.pad(np.array(SHAPES["disc"]), ((0, 0), (0, 1)))  # in the plane of x and y
BODIES = {"car": (0.9, 0.92, 1.46, 4.2), "bus": (1.25, 1.2, 3.1, 11.0), "truck": (1.25, 1.1, 3.4, 8.0)}
CONCEPTS = (
    "sky", "terrain", "vegetation", "building", "sidewalk", "curb", "road", "parking", "manhole",
    "lane marking - general", "lane marking - crosswalk", "car", "truck", "bus", "person", "bicyclist", "motorcyclist",
    "bicycle", "motorcycle", "pole", "street light", "traffic light", "traffic sign (back)", OTHER_SIGN, *SIGNS,
)  # fmt: skip
INDEX = {name: i for i, name in enumerate(CONCEPTS)}
ROUGH = {"vegetation": 0.16, "terrain": 0.1, "road": 0.032, "sidewalk": 0.035, "building": 0.025, "sky": 0.008}
TEXTURE = np.array([ROUGH.get(name, 0.02) for name in CONCEPTS], np.float32)


@dataclass
class Scene:
    """`image` (H, W, 3) uint8 RGB; `concepts` (H, W) int32 into CONCEPTS; `boxes` (N, 4) float32 x1, y1, x2, y2
    (exclusive) of the front signs that can be seen, `box_names` their types."""

    image: np.ndarray
    concepts: np.ndarray
    boxes: np.ndarray
    box_names: list[str]


class Light(NamedTuple):
    """The light of a scene: colours of the sky above and at the horizon, and what they do to all others."""

    top: Color
    low: Color
    gain: Color
    clouds: Color
    shadow: float
    lit: float  # share of windows with light
    sight: float  # metres after which haze has taken 63 % of a colour


LIGHTS = (
    Light((70, 130, 210), (190, 215, 235), (1.05, 1.02, 0.97), (250, 250, 252), 0.6, 0.02, 260),
    Light((150, 158, 168), (205, 208, 210), (0.9, 0.93, 0.97), (190, 194, 200), 0.9, 0.1, 140),
    Light((70, 84, 140), (244, 188, 140), (0.9, 0.79, 0.8), (236, 160, 145), 0.8, 0.45, 180),
)


class Canvas:
    """Camera, picture and concepts. World: x right, y up from the street, z ahead, in metres, the camera at x = 0."""

    def __init__(self, rng: Rng, size: tuple[int, int], light: Light):
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
        polygons = list(fixed) if fixed.ndim == 3 else [fixed]
        if color is not None:
            cv2.fillPoly(self.image, polygons, self.tint(color, z), cv2.LINE_AA, 4)
        if concept is not None:
            cv2.fillPoly(self.concepts, polygons, [INDEX[concept]], cv2.LINE_8, 4)

    def face(self, points, color: Color | None, concept: str | None) -> None:
        """Fill a polygon of points in the world, or several (N, points, 3)."""
        points = np.asarray(points, np.float64)
        if points.size:
            self.fill(self.project(points), color, concept, float(points[..., 2].min()))

    def strip(self, x0: float, x1: float, z0: float, z1: float, color: Color | None, concept: str | None) -> None:
        """A piece of the ground, following the bend."""
        near = max(z0, self.near)
        count = 2 if z1 < 1.5 * near else 14
        ground = np.zeros((2 * count, 3))
        ground[:count, 0], ground[count:, 0] = x0, x1
        ground[:count, 2] = near * (z1 / near) ** np.linspace(0, 1, count)
        ground[count:, 2] = ground[count - 1 :: -1, 2]
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


@dataclass
class Board:
    """An upright plane that faces the camera at (x, z); its own x and y are metres from the foot."""

    canvas: Canvas
    x: float
    z: float
    flip: int = 1

    def __post_init__(self):
        scale = self.canvas.focal / self.z
        self.foot, self.scale = self.canvas.project((self.x, 0, self.z)), np.array((self.flip * scale, -scale))

    def pixels(self, points) -> np.ndarray:
        """(..., 2) metres on the board to (..., 2) pixels."""
        return np.asarray(points, np.float64) * self.scale + self.foot

    def poly(self, points, color: Color | None, concept: str | None) -> None:
        """Fill a polygon, (points, 2) metres on the board."""
        self.canvas.fill(self.pixels(points), color, concept, self.z)

    def disc(self, x: float, y: float, r: float, color: Color | None, concept: str | None) -> None:
        """Fill a disc of radius `r` metres around (x, y)."""
        center, radius = np.round(self.pixels((x, y)) * 16).astype(int).tolist(), round(abs(r * self.scale[0]) * 16)
        if color is not None:
            cv2.circle(self.canvas.image, center, radius, self.canvas.tint(color, self.z), -1, cv2.LINE_AA, 4)
        if concept is not None:
            cv2.circle(self.canvas.concepts, center, radius, [INDEX[concept]], -1, cv2.LINE_8, 4)

    def line(self, points, width: float, color: Color, concept: str | None) -> None:
        """Draw a line through points, `width` metres wide and at least a pixel."""
        fixed = [np.round(self.pixels(points) * 16).astype(np.int32)]
        wide = max(1, round(width * self.canvas.focal / self.z))
        cv2.polylines(self.canvas.image, fixed, False, self.canvas.tint(color, self.z), wide, cv2.LINE_AA, 4)
        if concept is not None:
            cv2.polylines(self.canvas.concepts, fixed, False, [INDEX[concept]], wide, cv2.LINE_8, 4)

    def shadow(self, x: float, width: float) -> None:
        """Darken the ground under a thing that is `width` metres wide, `x` metres from the foot."""
        self.canvas.shade(CIRCLE[:, [0, 2, 1]] * (width, 0, width * 0.4) + (self.x + x, 0, self.z), 0.62)


def jitter(rng: Rng, color: Color, spread: float = 14) -> np.ndarray:
    """(3,) a colour at random around `color`: each channel, and all of them together."""
    return np.asarray(color, np.float64) + rng.normal(0, spread * 0.6, 3) + rng.normal(0, spread)


def pick(rng: Rng, options: Sequence):
    """One of the options at random."""
    return options[int(rng.integers(len(options)))]
