"""Random views of a sample that keep image, mask and boxes together. No class is known here."""

import cmath
import math
from dataclasses import replace

import cv2
import numpy as np

from heteroseg.datasets.sample import UNKNOWN, Sample, no_ids
from heteroseg.experiment.config import AugmentConfig

UNLABELLED = -1  # where a crop reaches over the image's edge

Point = tuple[float, float]


def point_of(sample: Sample, native_id: int, rng: np.random.Generator) -> Point | None:
    """A random x, y of an id in a sample: the centre of one of its boxes, else one of its pixels; None if absent."""
    boxes = sample.boxes[sample.box_ids == native_id]
    if len(boxes):
        return _centre_of_one(boxes, rng)
    places = np.flatnonzero(sample.mask == native_id) if sample.mask is not None else no_ids()
    if not len(places):
        return None
    y, x = divmod(int(places[rng.integers(len(places))]), sample.image.shape[1])
    return x + 0.5, y + 0.5


def _centre_of_one(boxes: np.ndarray, rng: np.random.Generator) -> Point:
    x1, y1, x2, y2 = boxes[rng.integers(len(boxes))]
    return float(x1 + x2) / 2, float(y1 + y2) / 2


def _window(
    sample: Sample, zoom: float, crop: tuple[int, int], focus: float, near: Point | None, rng: np.random.Generator
):
    """The rectangle of the source (x, y, width, height, pixels) that becomes the crop, and the point it is for."""
    height, width = sample.image.shape[:2]
    h, w = crop[0] / zoom, crop[1] / zoom
    centre = near  # stays inside the crop, anywhere
    boxes = sample.boxes[sample.box_ids != UNKNOWN]
    if centre is None and len(boxes) and rng.random() < focus:
        centre = _centre_of_one(boxes, rng)

    def place(full: float, part: float, at: float | None) -> float:
        if part >= full:
            return rng.uniform(full - part, 0)
        if at is None:
            return rng.uniform(0, full - part)
        low, high = max(0.0, at - 0.95 * part), min(full - part, at - 0.05 * part)
        return rng.uniform(low, high) if low < high else min(max(at - part / 2, 0.0), full - part)

    return (place(width, w, centre and centre[0]), place(height, h, centre and centre[1]), w, h), centre


def _to_turn(
    window: tuple[float, float, float, float], centre: Point | None, crop: tuple[int, int], degrees: float
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The window, and (height, width) of its view, in whose middle the crop lies when it is turned around `centre`."""
    angle = math.radians(degrees)
    along, across = math.cos(angle), abs(math.sin(angle))
    (x, y, w, h), (rows, columns) = window, crop
    sides = math.ceil(rows * along + columns * across), math.ceil(columns * along + rows * across)
    middle = complex(x + w / 2, y + h / 2)
    still = middle if centre is None else complex(*centre)
    middle = still + (middle - still) * cmath.rect(1, angle)
    w, h = w * sides[1] / columns, h * sides[0] / rows
    return (middle.real - w / 2, middle.imag - h / 2, w, h), sides


def turned(array: np.ndarray, degrees: float, size: tuple[int, int]) -> np.ndarray:
    """The middle, `size` (height, width), of an image (H, W, 3) or of labels (H, W) when it is turned; beyond, -1."""
    turn = cmath.rect(1, math.radians(degrees))
    middle = complex(array.shape[1] - 1, array.shape[0] - 1) / 2
    start = middle - turn * complex(size[1] - 1, size[0] - 1) / 2
    matrix = np.array([[turn.real, -turn.imag, start.real], [turn.imag, turn.real, start.imag]])
    kind, border = (cv2.INTER_LINEAR, cv2.BORDER_REPLICATE) if array.ndim == 3 else (cv2.INTER_NEAREST, 0)
    return cv2.warpAffine(
        array, matrix, size[::-1], flags=kind | cv2.WARP_INVERSE_MAP, borderMode=border, borderValue=UNLABELLED
    )


def crop_resize(
    sample: Sample, window: tuple[float, float, float, float], size: tuple[int, int], flip: bool = False
) -> Sample:
    """Cut a rectangle (x, y, width, height in source pixels) out of a sample, resize it and perhaps mirror it.

    Parts of the window outside the image are black and unlabelled (-1). Boxes keep their full extent, also where it
    reaches out of the crop, so that shapes drawn in them stay true; boxes wholly outside are dropped.
    """
    height, width = sample.image.shape[:2]
    x0, y0 = round(window[0]), round(window[1])
    x1, y1 = max(round(window[0] + window[2]), x0 + 1), max(round(window[1] + window[3]), y0 + 1)
    sx, sy = size[1] / (x1 - x0), size[0] / (y1 - y0)
    inner = (slice(max(y0, 0), max(min(y1, height), 0)), slice(max(x0, 0), max(min(x1, width), 0)))
    pads = (max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0))

    def cut(array: np.ndarray, interpolation: int, fill: int) -> np.ndarray:
        part = array[inner]
        if any(pads):
            part = cv2.copyMakeBorder(np.ascontiguousarray(part), *pads, cv2.BORDER_CONSTANT, value=(fill,) * 4)
        return cv2.resize(part, (size[1], size[0]), interpolation=interpolation)

    shrink = sx < 1 and sy < 1
    image = cut(sample.image, cv2.INTER_AREA if shrink else cv2.INTER_LINEAR, 0)
    mask = None
    if sample.mask is not None:
        parts = sample.mask.astype(np.int32, copy=False)[..., None].view(np.uint8)  # an id as a pixel of four bytes
        mask = cut(parts, cv2.INTER_NEAREST_EXACT, 255).view(np.int32)[..., 0]  # four times 255 is UNLABELLED
    boxes = (sample.boxes - np.array([x0, y0, x0, y0], np.float32)) * np.array([sx, sy, sx, sy], np.float32)
    if flip:
        image, mask = image[:, ::-1], None if mask is None else mask[:, ::-1]
        boxes[:, [0, 2]] = size[1] - boxes[:, [2, 0]]
    left, top, right, bottom = sample.window or (0, 0, width, height)
    (left, right), (top, bottom) = (
        _shown(left - x0, right - x0, x1 - x0, size[1]),
        _shown(top - y0, bottom - y0, y1 - y0, size[0]),
    )
    if flip:
        left, right = size[1] - right, size[1] - left
    seen = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < size[1]) & (boxes[:, 1] < size[0])
    image, boxes, box_ids = np.ascontiguousarray(image), boxes[seen], sample.box_ids[seen]
    return replace(sample, image=image, mask=mask, boxes=boxes, box_ids=box_ids, window=(left, top, right, bottom))


def _shown(first: int, end: int, length: int, size: int) -> tuple[int, int]:
    """Where `first` to `end` of `length` pixels lie after a resize to `size`, as masks are resized."""
    line = np.zeros((1, length), np.uint8)
    line[0, max(first, 0) : max(end, 0)] = 1
    places = np.flatnonzero(cv2.resize(line, (size, 1), interpolation=cv2.INTER_NEAREST_EXACT))
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


def change_color(image: np.ndarray, chance: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation, hue and blur, each with the given chance; (H, W, 3) uint8 to the same."""
    use = rng.random(5) < chance
    contrast, brightness = rng.uniform(0.75, 1.3), rng.uniform(-24, 24)
    saturation, hue, sigma = rng.uniform(0.7, 1.3), rng.integers(-6, 7), rng.uniform(0.3, 1.0)
    if use[0] or use[1]:
        alpha = contrast if use[0] else 1.0
        beta = (brightness if use[1] else 0.0) + 128 * (1 - alpha)
        image = cv2.convertScaleAbs(np.clip(image * np.float32(alpha) + np.float32(beta), 0, 255))
    if use[2] or use[3]:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        if use[2]:
            hsv[..., 1] = cv2.convertScaleAbs(hsv[..., 1], alpha=saturation)
        if use[3]:
            hsv[..., 0] = (hsv[..., 0].astype(np.int16) + hue) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if use[4]:
        image = cv2.GaussianBlur(image, (3, 3), sigma)
    return image


def degrade(image: np.ndarray, how: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Light, fog, blur, noise and JPEG, in the order in which a camera meets them; (H, W, 3) uint8 to the same."""

    def drawn(low: float, high: float) -> float:
        return rng.uniform(low, high) if low < high and rng.random() < how.chance else 0.0

    if light := drawn(-math.log(how.gamma), math.log(how.gamma)):
        image = cv2.LUT(image, np.rint(255 * (np.arange(256) / 255) ** math.exp(light)).astype(np.uint8))
    if fog := drawn(0, how.fog):
        image = cv2.convertScaleAbs(image, alpha=1 - fog, beta=fog * rng.uniform(160, 255))
    if sigma := drawn(0, how.blur):
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if noise := drawn(0, how.noise):
        grains = noise * rng.standard_normal(image.shape, np.float32)
        image = np.clip(np.rint(image + grains), 0, 255).astype(np.uint8)
    if quality := round(drawn(how.jpeg, 100)):
        packed = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))[..., ::-1]
    return image


def augment(
    sample: Sample,
    crop: tuple[int, int],
    rng: np.random.Generator,
    *,
    scale: tuple[float, float],
    flip: float,
    focus: float,
    color: float,
    near: Point | None = None,
    degrees: float = 0.0,
) -> Sample:
    """A random view of `crop` (height, width) pixels: zoom, place, mirror, colour; options as in DatasetConfig.

    With `near` the view holds that point of the sample. With `degrees` it is so much larger that `turned` finds all of
    the crop in it: shapes are drawn into boxes before they turn.
    """
    zoom = float(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1]))))
    window, centre = _window(sample, zoom, crop, focus, near, rng)
    mirrored = bool(rng.random() < flip)
    if degrees:
        window, crop = _to_turn(window, centre, crop, -degrees if mirrored else degrees)
    view = crop_resize(sample, window, crop, flip=mirrored)
    view.image = change_color(view.image, color, rng)
    return view
