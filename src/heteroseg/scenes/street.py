"""What stands where: a street is laid out, filled from far to near, and photographed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from heteroseg.scenes import things
from heteroseg.scenes.canvas import Canvas, Rng, Scene, jitter, pick
from heteroseg.scenes.look import CIRCLE, INDEX, LIGHTS, OTHER_SIGN, SIGNS, TEXTURE
from heteroseg.scenes.signs import draw_signs


@dataclass
class Street:
    """Where things stand across the street; metres from the camera."""

    middle: float
    half: float
    walk: float
    garden: tuple[float, float]  # between sidewalk and houses, left and right
    parking: tuple[float, float]

    def edge(self, side: int, beyond: float = 0) -> float:
        """`beyond` metres outside the road's edge (parking included)."""
        return self.middle + side * (self.half + self.parking[side > 0] + beyond)


def lay_street(rng: Rng) -> Street:
    """A street of random widths; the camera stands on its right lane."""
    half = rng.uniform(3.2, 5.2)
    low = pick(rng, (0, 0, 3))
    garden = (low + rng.uniform(0, 3), low + rng.uniform(0, 3))
    parking = tuple(2.3 * (rng.random() < 0.3) for _ in range(2))
    return Street(-half / 2 + rng.uniform(-0.4, 0.6), half, rng.uniform(1.8, 3.2), garden, parking)  # type: ignore[arg-type]


def draw_ground(c: Canvas, rng: Rng, s: Street) -> None:
    """Terrain, sidewalks, curbs, parking, road and what lies on it."""
    asphalt, pave = jitter(rng, (98, 98, 102), 7), jitter(rng, (160, 152, 146), 7)
    c.strip(-300, 300, 0, 500, jitter(rng, (108, 134, 66), 10), "terrain")
    c.strip(s.edge(-1, s.walk), s.edge(1, s.walk), 0, 500, pave, "sidewalk")
    for joint in np.arange(c.near, 16, 1.5):
        c.strip(s.edge(-1, s.walk), s.edge(1, s.walk), joint, joint + 0.06, pave * 0.9, None)
    c.strip(s.edge(-1, 0.22), s.edge(1, 0.22), 0, 500, pave * 1.2, "curb")
    c.strip(s.edge(-1), s.edge(1), 0, 500, asphalt * 0.9, "parking")
    c.strip(s.middle - s.half, s.middle + s.half, 0, 500, asphalt, "road")
    for _ in range(rng.integers(0, 4)):  # patches of newer asphalt
        x, z = s.middle + rng.uniform(-0.8, 0.5) * s.half, rng.uniform(4, 30)
        c.strip(x, x + rng.uniform(0.7, 1.6), z, z + rng.uniform(2, 8), asphalt * rng.uniform(0.8, 0.93), None)
    draw_markings(c, rng, s)
    if rng.random() < 0.5:
        at = (s.middle + rng.uniform(-0.6, 0.6) * s.half, 0, rng.uniform(6, 14))
        for r, shade in ((0.5, 0.55), (0.4, 0.75)):
            c.face(CIRCLE[:, [0, 2, 1]] * r + at, asphalt * shade, "manhole")


def draw_markings(c: Canvas, rng: Rng, s: Street) -> None:
    """The middle line, the lines at the edges, parking bays and perhaps a crosswalk."""
    white = np.array((228, 228, 222)) * rng.uniform(0.85, 1)
    crossing = rng.uniform(7, 22) if rng.random() < 0.4 else 999
    start, gap = rng.uniform(3, 8), pick(rng, (3.0, 4.5, 0.0))
    for z in np.arange(start, 120, 3 + gap):
        if not crossing - 4 < z < crossing + 4:
            c.strip(s.middle - 0.08, s.middle + 0.08, z, z + 3, white, "lane marking - general")
    for side, place in ((-1, s.parking[0]), (1, s.parking[1])):
        x = s.middle + side * (s.half - 0.3 * (not place))
        if place or rng.random() < 0.5:
            c.strip(x - 0.07, x + 0.07, 0, 200, white, "lane marking - general")
        for z in np.arange(start, 60, 5.5) if place else ():
            c.strip(x, x + side * place, z, z + 0.12, white, "lane marking - general")
    if crossing < 900:
        for x in np.arange(s.middle - s.half + 0.4, s.middle + s.half - 0.5, 1.0):
            c.strip(x, x + 0.5, crossing, crossing + 3, white, "lane marking - crosswalk")


def draw_houses(c: Canvas, rng: Rng, s: Street) -> None:
    """Rows of houses, far ones first; then the shadow of the row on the sun's side."""
    dense, tall = rng.choice([0.35, 0.75, 1.0]), rng.uniform(5, 13)
    for side in (-1, 1):
        z, row = rng.uniform(3, 14), []
        while z < 110:
            end = z + rng.uniform(8, 16)
            if rng.random() < dense:
                row.append((z, end, tall * rng.uniform(0.75, 1.6)))
            z = end + rng.uniform(0.5, 8) * (rng.random() > dense * 0.7)
        for z0, z1, height in row[::-1]:
            things.draw_building(c, rng, s.edge(side, s.walk + s.garden[side > 0]), side, max(z0, 2), z1, height)
            if side == c.sun:
                x, reach = s.edge(side, s.walk + s.garden[side > 0]), min(height * 0.55, 2 * s.half)
                z0 = max(z0, c.near)
                points = [(x, 0, z0), (x, 0, z1), (x - side * reach, 0, z1 + 2), (x - side * reach, 0, z0 + 2)]
                c.shade(points, c.light.shadow)


Job = tuple[float, Callable[[], None]]  # how far away, and what draws it


def plan_traffic(c: Canvas, rng: Rng, s: Street) -> Iterator[Job]:
    """Vehicles on both lanes, parked cars, and people on two wheels."""
    for lane in (-1, 1):
        z = rng.uniform(7, 26)
        while z < 65:
            kind = pick(rng, ("car", "car", "car", "truck", "bus"))
            x = s.middle + lane * s.half * rng.uniform(0.45, 0.58)
            if kind == "car" or z > 13:
                yield z, partial(things.draw_vehicle, c, rng, kind, x, z, lane < 0)
            z += rng.uniform(14, 45)
        for z in np.arange(rng.uniform(6, 12), 50, 5.5) if s.parking[lane > 0] else ():
            if rng.random() < 0.6:
                yield z, partial(things.draw_vehicle, c, rng, "car", s.edge(lane, -1.1), z, lane < 0)
    for kind in ("bicycle", "motorcycle"):
        for _ in range(rng.integers(0, 3)):
            z, riding = rng.uniform(7, 20), rng.random() < 0.75
            x = s.middle + rng.uniform(-0.9, 0.9) * s.half if riding else s.edge(pick(rng, (-1, 1)), 1)
            yield z, partial(things.draw_bike, c, rng, kind, x, z, riding)


def plan_roadside(c: Canvas, rng: Rng, s: Street) -> Iterator[Job]:
    """Lamps, trees, people on the sidewalk and perhaps on the road, traffic lights."""
    for side in (-1, 1):
        for z in np.arange(rng.uniform(8, 20), 75, rng.uniform(14, 24)) if rng.random() < 0.7 else ():
            yield z, partial(things.draw_lamp, c, rng, s.edge(side, 0.6), z, -side)
        for _ in range(rng.integers(1, 9)):
            z, room = rng.uniform(10, 70), s.garden[side > 0]
            size = rng.uniform(3.5, 7) if room > 1.5 else rng.uniform(0.8, 1.6)
            yield z, partial(things.draw_tree, c, rng, s.edge(side, s.walk + room * 0.5), z, size)
        for _ in range(rng.integers(0, 4)):
            z = rng.uniform(6.5, 26)
            yield z, partial(things.draw_person, c, rng, s.edge(side, rng.uniform(0.6, s.walk)), z)
        if rng.random() < 0.35:
            z = rng.uniform(9, 24)
            yield z, partial(things.draw_traffic_light, c, rng, s.edge(side, 0.5), z)
    if rng.random() < 0.35:
        z = rng.uniform(8, 20)
        yield z, partial(things.draw_person, c, rng, s.middle + rng.uniform(-1, 1) * s.half, z)


def plan_signs(c: Canvas, rng: Rng, s: Street, many: bool) -> Iterator[Job]:
    """Signs on poles, some of them two to a pole, and backs of signs on the other side."""
    names = list(SIGNS)
    count = rng.integers(3, 6) if many else rng.integers(1, 4)
    for z in np.linspace(6.5, 14 if many else 20, count) + rng.uniform(0, 2 if many else 4, count):
        side = 1 if z < 10 or rng.random() < 0.6 else -1
        stack = [pick(rng, names) for _ in range(1 + (rng.random() < 0.3))]
        if rng.random() < 0.2:
            stack[0] = OTHER_SIGN
        yield z, partial(draw_signs, c, rng, s.edge(side, rng.uniform(0.4, 0.9)), z, stack)
    for _ in range(rng.integers(0, 3)):
        z = rng.uniform(9, 20)
        yield z, partial(draw_signs, c, rng, s.edge(-1, 0.5), z, ["traffic sign (back)"])


def expose(c: Canvas, rng: Rng, concepts: np.ndarray) -> np.ndarray:
    """What the camera makes of it: texture, light, a little blur, noise and JPEG."""
    h, w = concepts.shape
    image = cv2.resize(c.image, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32)
    grain = rng.standard_normal((h, w), np.float32) * 0.4
    for step, part in ((2, 0.6), (5, 0.5)):
        coarse = rng.standard_normal((h // step + 1, w // step + 1), np.float32) * part
        grain += cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
    image *= (1 + grain * TEXTURE[concepts])[..., None]
    image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.2, 0.55)).astype(np.float32, copy=False)
    image += rng.standard_normal((h, w, 3), np.float32) * np.float32(rng.uniform(1, 4))
    cast = np.asarray(c.light.gain) * rng.normal(1, 0.03, 3) * rng.uniform(0.88, 1.1)
    curve = (np.arange(256)[:, None] / 255 * cast).clip(0, 1) ** rng.uniform(0.85, 1.15) * 255
    shot = cv2.LUT(image.clip(0, 255).astype(np.uint8), curve.round().astype(np.uint8)[None])
    _, raw = cv2.imencode(".jpg", shot, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 97))])
    return np.asarray(cv2.imdecode(raw, cv2.IMREAD_COLOR), np.uint8)  # red and blue change places twice


def find_boxes(c: Canvas, concepts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Boxes of the signs that are at least 6 pixels large and mostly in sight, around what is seen of them."""
    boxes, names = [], []
    for name, outline in c.signs:
        (x, y), (x2, y2) = np.floor(outline.min(0) / 2).astype(int) - 1, np.ceil(outline.max(0) / 2).astype(int) + 1
        x, y = max(x, 0), max(y, 0)
        rows, cols = np.nonzero(concepts[y:y2, x:x2] == INDEX[name])
        if len(rows) < 0.6 * cv2.contourArea(outline.astype(np.float32)) / 4 or min(np.ptp(rows), np.ptp(cols)) < 5:
            continue
        boxes.append((x + cols.min(), y + rows.min(), x + cols.max() + 1, y + rows.max() + 1))
        names.append(name)
    return np.array(boxes, np.float32).reshape(-1, 4), names


def draw_scene(rng: Rng, size: tuple[int, int] = (192, 384), many_signs: bool = False) -> Scene:
    """Draw a street; the same generator state gives the same scene."""
    c = Canvas(rng, size, LIGHTS[rng.choice(3, p=(0.55, 0.25, 0.2))])
    street = lay_street(rng)
    things.draw_sky(c, rng)
    draw_ground(c, rng, street)
    draw_houses(c, rng, street)
    jobs = [*plan_traffic(c, rng, street), *plan_roadside(c, rng, street), *plan_signs(c, rng, street, many_signs)]
    for _, draw in sorted(jobs, key=lambda job: -job[0]):
        draw()
    concepts = np.ascontiguousarray(c.concepts[1::2, 1::2]).astype(np.int32)
    boxes, names = find_boxes(c, concepts)
    return Scene(expose(c, rng, concepts), concepts, boxes, names)
