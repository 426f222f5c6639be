"""What a scene shows: each function draws one kind of thing, picture and concepts together."""

from itertools import pairwise

import cv2
import numpy as np

from heteroseg.scenes.canvas import Board, Canvas, Rng, jitter, pick
from heteroseg.scenes.look import BLACK, BLUE, BODIES, CIRCLE, GLASS, GREY, PAINTS, SHAPES, SKIN, STEEL, WALLS, Color


def draw_sky(c: Canvas, rng: Rng) -> None:
    """A gradient with soft clouds, and woods or roofs along the horizon."""
    w, h = c.w // 4, c.h // 4
    sky = np.linspace(0, c.h / c.horizon, h)[:, None, None].clip(0, 1) ** 0.8 * (np.subtract(c.light.low, c.light.top))
    waves = [rng.normal(0, 0.5**i, (4 * 2**i, 3 * 2**i)) for i in (1, 2, 3)]
    cloud = np.sum([cv2.resize(wave, (w, h), interpolation=cv2.INTER_CUBIC) for wave in waves], 0)
    cover = np.clip(cloud * 2.2 + rng.uniform(-0.6, 0.4), 0, 0.85)[..., None]
    sky = (sky + c.light.top) * (1 - cover) + np.asarray(c.light.clouds) * cover
    c.image[:] = cv2.resize(sky.clip(0, 255).astype(np.uint8), (c.w, c.h))
    for level in (0.05, 0.025):
        far = cv2.resize(rng.uniform(0, 1, (1, 24)), (c.w, 1), interpolation=cv2.INTER_CUBIC)[0]
        ridge = np.stack([np.arange(c.w), c.horizon - c.h * level * (0.5 + far)], 1)
        outline = np.concatenate([ridge, [(c.w, c.h), (0, c.h)]])
        c.fill(outline, (70, 100, 80), "vegetation", c.light.sight * 16 * level)


def draw_wall(c: Canvas, rng: Rng, start, along, height: float, color: Color) -> None:
    """A wall with rows of windows; `start` and `along` are world vectors on the ground."""
    start, along, up = np.asarray(start), np.asarray(along), np.array([0, 1.0, 0])
    corners = np.array([(0, 0), (1, 0), (1, height), (0, height)])
    rect = lambda box: start + box[..., :1] * along + box[..., 1:] * up  # noqa: E731
    c.face(rect(corners), color, "building")
    c.face(rect(corners * (1, 0.06)), np.asarray(color) * 0.7, "building")
    cols, rows = max(1, int(np.linalg.norm(along) / 2.8)), max(1, int(height / 3))
    x, y = np.meshgrid((np.arange(cols) + 0.5) / cols, (np.arange(rows) + 0.45) * height / rows)
    middles = np.stack([x.ravel(), y.ravel()], 1)[:, None]
    frame = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (0.26 / cols, 0.8)
    glass = rng.random(len(middles)) < c.light.lit
    if start[2] < 40:
        c.face(rect(middles + frame * 1.25), np.asarray(color) * 0.6 + 90, None)
    c.face(rect(middles + frame)[~glass], jitter(rng, GLASS, 8), None)
    c.face(rect(middles + frame)[glass], (255, 214, 130), None)


def draw_building(c: Canvas, rng: Rng, x: float, side: int, z0: float, z1: float, height: float) -> None:
    """A house beside the street: the wall along it, the end that we see, and windows."""
    color = jitter(rng, pick(rng, WALLS), 8)
    roof, peak = jitter(rng, pick(rng, ((120, 60, 50), (85, 80, 85), (100, 75, 60)))), rng.uniform(1.5, 4)
    depth = side * rng.uniform(8, 13)
    sunny = 1.0 if c.sun != side else 0.72
    if height < 11:
        ridge = (x + depth / 2, height + peak)
        c.face([(x, height, z0), (x, height, z1), (*ridge, z1), (*ridge, z0)], roof * sunny, "building")
        c.face([(x, height, z0), (x + depth, height, z0), (*ridge, z0)], color * 0.8, "building")
    draw_wall(c, rng, (x, 0, z0), (depth, 0, 0), height, color * 0.82)
    draw_wall(c, rng, (x, 0, z0), (0, 0, z1 - z0), height, color * sunny)


def draw_tree(c: Canvas, rng: Rng, x: float, z: float, size: float) -> None:
    """A crown of overlapping leaves, darker below; small sizes are bushes."""
    board, green = Board(c, x, z), jitter(rng, (72, 112, 48), 12)
    board.shadow(0, size * 0.5)
    if size > 2:
        board.line([(0, 0), (0.1, size * 0.5)], size * 0.06, (84, 64, 48), "vegetation")
    middle = (0, size * (0.68 if size > 2 else 0.32))
    blobs = rng.normal(0, 0.15, (22 if z < 40 else 12, 2)).clip(-0.24, 0.24) * size + middle
    for i, (bx, by) in enumerate(sorted(blobs.tolist(), key=lambda p: p[1] + rng.normal(0, size * 0.1))):
        board.disc(bx, max(by, size * 0.12), size * rng.uniform(0.1, 0.18), green * (0.65 + 0.025 * i), "vegetation")


def draw_vehicle(c: Canvas, rng: Rng, kind: str, x: float, z: float, oncoming: bool) -> None:
    """A body of two boxes (a car's upper one is set in), the end that we see and the side that faces us."""
    paint = jitter(rng, pick(rng, PAINTS), 10)
    w, low, top, length = BODIES[kind]
    inset, roof = (0.17, (0.75, 3.0)) if kind == "car" else (0.02, (0.02, length))
    end, side = Board(c, x, z), x - w * np.sign(x)
    Board(c, x, z + length / 2).shadow(0, length / 2 if kind == "car" else length / 3)
    ends = [(side, 0.25), (side, low)]
    c.face([(s, y, z) for s, y in ends] + [(s, y, z + length) for s, y in ends[::-1]], paint * 0.72, kind)
    inner = side + inset * np.sign(x)
    cabin = np.array([(side, low, z), (side, low, z + length), (inner, top, z + roof[1]), (inner, top, z + roof[0])])
    c.face(cabin, paint * 0.66, kind)
    if kind != "truck":
        middle = cabin.mean(0) + (0, 0.05 if kind == "car" else 0.25, 0)
        panes = np.linspace(-0.42, 0.42, 3 if kind == "car" else 6)
        for a, b in pairwise(panes):
            part = np.array([cabin[0] + (cabin[1] - cabin[0]) * (0.5 + t) for t in (a + 0.02, b - 0.02)])
            upper = np.array([cabin[3] + (cabin[2] - cabin[3]) * (0.5 + t) for t in (b - 0.02, a + 0.02)])
            pane = np.concatenate([part, upper])
            c.face(pane + (middle - pane) * (0, 0.3, 0), GLASS, kind)
    for at, r, color in ((0.2, 0.36, BLACK), (0.2, 0.2, STEEL), (0.8, 0.36, BLACK), (0.8, 0.2, STEEL)):
        c.face(CIRCLE[:, [2, 1, 0]] * r + (side, 0.36, z + length * at), color, kind)
    draw_end(end, kind, paint, inset, oncoming)


def draw_end(end: Board, kind: str, paint: np.ndarray, inset: float, front: bool) -> None:
    """The back of a vehicle, or its front if it comes towards us."""
    w, low, top, _ = BODIES[kind]
    rect = lambda x0, y0, x1, y1, color: end.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color, kind)  # noqa: E731
    for s in (-1, 1):
        rect(s * w * 0.95, 0, s * w * 0.65, 0.4, BLACK)
    v = w - inset
    end.poly([(-w, low), (w, low), (v, top), (-v, top)], paint * 0.92, kind)
    if front or kind != "truck":
        sill, head = {"car": (low + 0.06, top - 0.09), "bus": (1.4, top - 0.5), "truck": (1.3, 2.3)}[kind]
        end.poly([(-v, sill), (v, sill), (v * 0.9, head), (-v * 0.9, head)], GLASS, kind)
        end.poly([(-v * 0.7, sill), (-v * 0.2, sill), (0, head), (-v * 0.5, head)], (96, 112, 126), kind)
    else:
        end.line([(0, low), (0, top)], 0.05, paint * 0.7, kind)
    rect(-w, 0.28, w, low, paint)
    rect(-w, 0.25, w, 0.42, paint * 0.45)
    rect(-0.26, 0.45, 0.26, 0.57, (235, 235, 225))
    for s in (-1, 1):
        rect(s * w * 0.97, 0.62, s * w * 0.66, 0.8, (255, 248, 215) if front else (215, 20, 25))
    if kind == "bus" and front:
        rect(-w * 0.7, top - 0.4, w * 0.7, top - 0.12, (240, 170, 40))


def draw_person(c: Canvas, rng: Rng, x: float, z: float) -> None:
    board, size, step = Board(c, x, z, pick(rng, (-1, 1))), rng.uniform(0.9, 1.08), rng.uniform(0.05, 0.28)
    shirt, skin = jitter(rng, pick(rng, PAINTS), 12), jitter(rng, SKIN, 12)
    trousers = jitter(rng, pick(rng, (BLUE, BLACK, (120, 105, 85))), 12)
    board.shadow(0, 0.4)
    at = lambda *points: np.array(points) * size  # noqa: E731
    for s, dark in ((-1, 0.8), (1, 1.0)):
        board.line(at((0, 0.85), (s * step * 0.6, 0.45), (s * step, 0.06)), 0.17 * size, trousers * dark, "person")
        board.line(at((s * step, 0.05), (s * step + 0.1, 0.05)), 0.1, BLACK, "person")
        arm = at((s * 0.19, 1.35), (s * 0.24, 1.08), (s * 0.2 + 0.1, 0.85))
        board.line(arm, 0.1 * size, shirt * 0.85 * dark, "person")
    board.poly(at((-0.19, 0.8), (0.19, 0.8), (0.23, 1.38), (0.1, 1.47), (-0.1, 1.47), (-0.23, 1.38)), shirt, "person")
    board.disc(0, 1.62 * size, 0.135 * size, skin, "person")
    board.disc(-0.02, 1.67 * size, 0.125 * size, jitter(rng, pick(rng, ((50, 35, 25), (150, 110, 60))), 8), "person")


def draw_bike(c: Canvas, rng: Rng, kind: str, x: float, z: float, rider: bool) -> None:
    """A bicycle or motorcycle from the side, with or without its rider."""
    board, paint, motor = Board(c, x, z, pick(rng, (-1, 1))), jitter(rng, pick(rng, PAINTS), 10), kind == "motorcycle"
    board.shadow(0, 0.9)
    reach, r, tyre = (0.68, 0.33, 0.15) if motor else (0.55, 0.36, 0.06)
    ring = np.array([*SHAPES["disc"], SHAPES["disc"][0]]) * r
    for s in (-reach, reach):
        board.disc(s, r, r, (70, 72, 75) if motor else None, kind)
        board.line(ring + (s, r), tyre, BLACK, kind)
    frame = np.array([(-reach, r), (-0.15, 0.8), (0.4, 0.85), (0, 0.35), (-0.15, 0.8)])
    if motor:
        board.poly([(-0.75, 0.75), (-0.2, 0.4), (0.4, 0.4), (0.5, 0.85), (0.15, 0.98), (-0.3, 0.78)], paint, kind)
        board.line([(-0.8, 0.4), (0.1, 0.35)], 0.1, STEEL, kind)
    else:
        board.poly(frame[1:4], None, kind)
        board.line(frame, 0.07, paint, kind)
    board.line([(reach, r), (0.42, 0.95), (0.3, 1.06)], 0.08, STEEL if motor else paint, kind)
    if rider:
        draw_rider(board, rng, "motorcyclist" if motor else "bicyclist")


def draw_rider(board: Board, rng: Rng, kind: str) -> None:
    """Who sits on a bicycle or motorcycle; `kind` is the concept."""
    motor = kind == "motorcyclist"
    shirt = jitter(rng, pick(rng, ((40, 42, 50), (120, 30, 30)) if motor else PAINTS), 10)
    trousers = jitter(rng, (45, 50, 70), 8)
    for knee, foot in (((0.3, 0.75), (0.05, 0.2)), ((0.25, 0.6), (0.1, 0.4))):
        board.line([(-0.18, 0.9), knee, foot], 0.16, trousers, kind)
    board.poly([(-0.3, 0.85), (-0.02, 0.85), (0.28, 1.35), (0.15, 1.5), (-0.05, 1.45)], shirt, kind)
    board.line([(0.15, 1.38), (0.2, 1.12), (0.36, 1.06)], 0.11, shirt * 0.8, kind)
    board.disc(0.24, 1.6, 0.13, SKIN, kind)
    helmet = jitter(rng, pick(rng, PAINTS))
    board.disc(0.22, 1.64, 0.17 if motor else 0.13, helmet, kind)
    if motor:
        board.line([(0.26, 1.62), (0.4, 1.62)], 0.1, GLASS, kind)


def draw_lamp(c: Canvas, rng: Rng, x: float, z: float, inwards: int) -> None:
    board, height = Board(c, x, z, inwards), rng.uniform(5, 7.5)
    board.line([(0, 0), (0, height), (0.25, height + 0.35)], 0.14, GREY, "pole")
    board.line([(0.2, height + 0.35), (1.3, height + 0.5)], 0.1, GREY, "street light")
    glow = (255, 236, 180) if c.light.lit > 0.3 else (205, 208, 205)
    head = np.array([(0.9, 0.36), (2.0, 0.4), (1.9, 0.66), (0.9, 0.6)]) + (0, height)
    board.poly(head, glow, "street light")


def draw_traffic_light(c: Canvas, rng: Rng, x: float, z: float) -> None:
    board, on = Board(c, x, z), rng.integers(3)
    board.line([(0, 0), (0, 3.2)], 0.12, GREY, "pole")
    board.poly([(-0.27, 2.15), (0.27, 2.15), (0.27, 3.65), (-0.27, 3.65)], BLACK, "traffic light")
    for i, color in enumerate(((30, 230, 120), (255, 190, 30), (250, 40, 35))):
        board.disc(0, 2.45 + 0.45 * i, 0.19, np.asarray(color) * (1 if i == on else 0.25), "traffic light")
