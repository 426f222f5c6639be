"""Encoding: images and masks into files."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from heteroseg.errors import HeterosegError
from heteroseg.writing import write_bytes


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB; the suffix decides the format (JPEG at quality 95)."""
    write_pixels(path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def write_ids(path: Path, mask: np.ndarray, bits: int = 8) -> None:
    """Write (H, W) integer ids as a grey PNG of at least `bits` bits, 16 where an id needs it."""
    highest = highest_id(path, mask, 65535)
    write_pixels(path, mask.astype(np.uint8 if highest < 256 and bits == 8 else np.uint16))


def highest_id(path: Path, mask: np.ndarray, most: int) -> int:
    """The highest id of a mask; ids below 0 or above `most` raise HeterosegError, which names the file `path`."""
    low, top = (int(mask.min()), int(mask.max())) if mask.size else (0, 0)
    if low < 0 or top > most:
        raise HeterosegError(f"{path}: expected ids from 0 to {most}, found {low} to {top}; this format stores no more")
    return top


def write_pixels(path: Path, pixels: np.ndarray, options: Sequence[int] = ()) -> None:
    """Write (H, W) or (H, W, 3) BGR pixels, uint8 or uint16, as the suffix says; never half a file.

    OpenCV only encodes: its own writing takes a full disk for a success, and crashes on paths that are not UTF-8.
    """
    try:
        done, data = cv2.imencode(path.suffix, pixels, options)
    except cv2.error:
        done = False
    if not done:
        raise HeterosegError(f"{path}: cannot be written as an image; check the suffix")
    write_bytes(path, data.tobytes())
