"""Traffic signs: their faces, and poles that carry some."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from heteroseg.scenes.canvas import Board, Canvas, Rng, pick
from heteroseg.scenes.look import GLYPHS, OTHER_SIGN, OTHER_SIGNS, SHAPES, SIGNS, STEEL


def draw_glyphs(board: Board, sign: SimpleNamespace, y: float, r: float, concept: str) -> None:
    """The text of a sign in strokes; the sign's centre is `y` metres up, its half width `r` metres."""
    width, height = sign.size
    for i, glyph in enumerate(sign.text):
        left = (i - len(sign.text) / 2 + 0.5) * width * 1.28
        for stroke in GLYPHS[glyph].split("/"):
            grid = np.array([(int(p[0]) / 4 - 0.5, int(p[1]) / 6 - 0.5) for p in stroke.split()])
            points = (grid * (width, height) + (left, -0.22 if sign.shape == "triangle_up" else 0)) * r + (0, y)
            board.line(points, sign.stroke * r, sign.inks[i % len(sign.inks)], concept)


def draw_signs(c: Canvas, rng: Rng, x: float, z: float, names: Sequence[str]) -> None:
    """One pole with signs one above the other; the name of a back is its concept."""
    board, r = Board(c, x, z), rng.uniform(0.4, 0.52)
    bottom = rng.uniform(1.7, 2.1)
    board.shadow(0, 0.3)
    board.line([(0, 0), (0, bottom + r * 2.1 * len(names))], 0.09, STEEL, "pole")
    for i, name in enumerate(names):
        y = bottom + r * (1 + 2.1 * i)
        if name == "traffic sign (back)":
            outline = np.array(SHAPES[pick(rng, list(SHAPES))]) * r + (0, y)
            board.poly(outline, (150, 152, 156), name)
            board.poly((outline - (0, y)) * 0.86 + (0, y), (124, 126, 132), name)
            board.line([(0, 0), (0, y + r * 0.7)], 0.08, (170, 174, 178), None)
            continue
        sign, fade = SIGNS.get(name) or pick(rng, OTHER_SIGNS), rng.uniform(0.85, 1.0)
        shape = np.array(SHAPES[sign.shape])
        middle = shape.mean(0)
        for size, color in sign.rings:
            board.poly(((shape - middle) * size + middle) * r + (0, y), np.asarray(color) * fade, name)
        draw_glyphs(board, sign, y, r, name)
        if name != OTHER_SIGN:
            c.signs.append((name, board.pixels(shape * r + (0, y))))
