"""What all writers share: encoding images and masks, and filling in path patterns."""

from pathlib import Path

import cv2
import numpy as np

from heteroseg.datasets.paths import fill
from heteroseg.datasets.sample import Sample
from heteroseg.errors import HeterosegError
from heteroseg.files import write_text


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB; the suffix decides the format (JPEG at quality 95)."""
    _write(path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def write_ids(path: Path, mask: np.ndarray, bits: int = 8) -> None:
    """Write (H, W) integer ids as a grey PNG of at least `bits` bits, 16 where an id needs it."""
    top = _top(path, mask, 65535)
    _write(path, mask.astype(np.uint8 if top < 256 and bits == 8 else np.uint16))


def write_colors(path: Path, mask: np.ndarray, palette: np.ndarray) -> None:
    """Write (H, W) ids as an RGB PNG of the colours `palette[id]`."""
    _top(path, mask, len(palette) - 1)
    write_image(path, palette.astype(np.uint8)[mask])


def write_palette_png(path: Path, mask: np.ndarray) -> None:
    """Write (H, W) ids below 256 as an 8-bit palette PNG, whose colours mean nothing."""
    from PIL import Image

    _top(path, mask, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", mask.shape[::-1], mask.astype(np.uint8).tobytes())
    image.putpalette((np.arange(256)[:, None] * [37, 91, 151] % 256).astype(np.uint8).tobytes())
    image.save(path)


def mask_of(sample: Sample) -> np.ndarray:
    if sample.mask is None:
        raise HeterosegError(f"sample {sample.name!r}: expected a mask, found none; this layout stores one per image")
    return sample.mask


def write_dense(root: Path | str, split: str, samples: list[Sample], images: str, masks: str) -> None:
    """Write images and grey id masks to the files that two patterns with `{split}` and `{name}` give."""
    for sample in samples:
        write_image(Path(root, fill(images, split, sample.name)), sample.image)
        write_ids(Path(root, fill(masks, split, sample.name)), mask_of(sample))


def write_split(root: Path | str, split: str, lines: list[str]) -> None:
    """Write `root/SPLIT.txt`."""
    write_text(Path(root, f"{split}.txt"), "".join(f"{line}\n" for line in lines))


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    """The bytes of an image file: (H, W, 3) uint8 RGB, or (H, W) ids."""
    return cv2.imencode(suffix, pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def _top(path: Path, mask: np.ndarray, most: int) -> int:
    low, top = (int(mask.min()), int(mask.max())) if mask.size else (0, 0)
    if low < 0 or top > most:
        raise HeterosegError(f"{path}: expected ids from 0 to {most}, found {low} to {top}; this format stores no more")
    return top


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parameters = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        done = cv2.imwrite(str(path), pixels, parameters)
    except cv2.error:
        done = False
    if not done:
        raise HeterosegError(f"{path}: cannot be written as an image; check the suffix and the free space")
