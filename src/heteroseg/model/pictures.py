"""Label maps as pictures: colours, overlays, error maps, and legends drawn into the image.

Pictures are (H, W, 3) uint8 RGB.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Color

OUTSIDE_COLOR: Color = (22, 22, 22)
"""A very dark grey for -1: outside the label space in a prediction, not labelled in a truth, void in nodes."""
ERROR_COLORS: dict[str, Color] = {
    "right": (70, 115, 85),
    "wrong": (226, 43, 43),
    "outside": (255, 165, 0),
    "unlabelled": (0, 0, 0),
}

Entry = tuple[str, Color, float]
"""A line of a legend: name, colour, share of the picture from 0 to 1."""


def colorise(label_indices: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H, W) int indices into `space.labels` to (H, W, 3) uint8; -1 is the dark grey OUTSIDE_COLOR."""
    colors = [*(label.color for label in space.labels), OUTSIDE_COLOR]
    return np.array(colors, np.uint8)[label_indices]  # -1 is the last row


def overlay(image: np.ndarray, colors: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Lay colours (H, W, 3) uint8 over an image of the same shape and type; `alpha` 1 shows the colours alone."""
    return cv2.addWeighted(image, 1 - alpha, colors, alpha, 0)


def entries(label_indices: np.ndarray, space: LabelSpace) -> list[Entry]:
    """Legend of a colorised map (H, W) int: the labels present, the largest first."""
    named = [*((label.name, label.color) for label in space.labels), ("outside", OUTSIDE_COLOR)]
    shares = np.roll(np.bincount(label_indices.ravel() + 1, minlength=len(named)), -1) / max(label_indices.size, 1)
    lines = [(*name, float(share)) for name, share in zip(named, shares, strict=True) if share > 0]
    return sorted(lines, key=lambda entry: -entry[2])


def share_text(share: float) -> str:
    """A share from 0 to 1 as text: '12 %', '1.2 %', '<0.1 %'."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{100 * share:.{1 if 0 < share < 0.1 else 0}f} %"


_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PAPER, _INK = (250, 250, 250), (25, 25, 25)


def _fit(text: str, tail: str, scale: float, room: int) -> tuple[str, int]:
    """`text` + `tail` cut to `room` pixels, and its width; letters that cv2 cannot draw become '?'."""
    text = text.encode("ascii", "replace").decode()
    for ending in (tail, ""):
        for end in range(len(text), 0, -1):
            whole = text[:end] + ("..." if end < len(text) else "") + ending
            width = cv2.getTextSize(whole, _FONT, scale, 1)[0][0]
            if width <= room:
                return whole, width
    return "", 0


def legend(image_width: int, entries: Sequence[Entry]) -> np.ndarray:
    """A strip (h, image_width, 3) uint8 to put under an image: colour boxes with names and shares.

    It has as many rows as it needs; names too long for the width are cut, no entries give a strip of height 0.
    """
    scale = float(np.clip(image_width / 2000, 0.4, 1.2))
    line = round(scale * 34)
    box, gap = round(line * 0.55), round(line * 0.4)
    texts = [_fit(name, f"  {share_text(share)}", scale, image_width - box - 3 * gap) for name, _, share in entries]
    cell = box + 3 * gap + max((width for _, width in texts), default=0)
    columns = max((image_width - gap) // cell, 1)
    rows = -(-len(texts) // columns)
    strip = np.full((rows * line + (2 * gap if rows else 0), image_width, 3), _PAPER, np.uint8)
    for i, ((text, _), (_, color, _)) in enumerate(zip(texts, entries, strict=True)):
        x, y = gap + i % columns * ((image_width - gap) // columns), gap + i // columns * line + (line - box) // 2
        cv2.rectangle(strip, (x, y), (x + box, y + box), color, cv2.FILLED)
        cv2.rectangle(strip, (x, y), (x + box, y + box), _INK, 1)
        cv2.putText(strip, text, (x + box + gap, y + round(box * 0.92)), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return strip


def picture(image: np.ndarray, label_indices: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H + legend, W, 3) uint8: the image under its label colours, and below it the names of what was found."""
    painted = overlay(image, colorise(label_indices, space))
    return np.concatenate([painted, legend(painted.shape[1], entries(label_indices, space))])


CONTEXT = 0.25  # shown around a region, in sizes of it
OUTLINE: Color = (255, 60, 220)


def cut_out(image: np.ndarray, region: np.ndarray, window: Sequence[int], wide: int, tall: int) -> np.ndarray:
    """A region with some of its surroundings, outlined, as large as fits into `tall` x `wide` pixels: (h, w, 3) uint8.

    `region` (H, W) bool, `window` its x, y, width and height in pixels.
    """
    x, y, w, h = window
    side = round(max(w, h) * (1 + 2 * CONTEXT)) + 2
    left, top = max(x + w // 2 - side // 2, 0), max(y + h // 2 - side // 2, 0)
    cut, inside = (a[top : top + side, left : left + side] for a in (image, region.astype(np.uint8)))
    scale = min(wide / cut.shape[1], tall / cut.shape[0])
    shown = (max(round(cut.shape[1] * scale), 1), max(round(cut.shape[0] * scale), 1))
    picture = cv2.resize(cut, shown, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    grown = cv2.resize(inside, shown, interpolation=cv2.INTER_NEAREST)
    outline = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(picture, outline, -1, OUTLINE, 1)
    return picture
