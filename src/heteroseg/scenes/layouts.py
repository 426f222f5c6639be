"""Writes drawn samples as the three datasets of the demo store them; the readers of the same names read them back."""

from pathlib import Path

import numpy as np
from PIL import Image

from heteroseg.datasets.encoding import highest_id, write_ids, write_image
from heteroseg.datasets.formats.gtsdb import FIRST_ID
from heteroseg.datasets.sample import Sample
from heteroseg.errors import HeterosegError
from heteroseg.files import write_text
from heteroseg.writing import written


def mask_of(sample: Sample) -> np.ndarray:
    """The (H, W) int32 mask of a sample; a sample without one raises HeterosegError."""
    if sample.mask is None:
        raise HeterosegError(f"sample {sample.name!r}: expected a mask, found none; this layout stores one per image")
    return sample.mask


def write_cityscapes(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write samples named CITY/NAME; ids above 255 make the mask 16 bits."""
    for sample in samples:
        write_image(Path(root, f"leftImg8bit/{split}/{sample.name}_leftImg8bit.png"), sample.image)
        write_ids(Path(root, f"gtFine/{split}/{sample.name}_gtFine_labelIds.png"), mask_of(sample))


def write_vistas(root: Path | str, split: str, samples: list[Sample], version: str = "v1.2") -> None:
    """Write JPEG images and 8-bit palette PNGs, whose colours mean nothing; ids above 255 raise HeterosegError."""
    for sample in samples:
        write_image(Path(root, split, "images", f"{sample.name}.jpg"), sample.image)
        mask, path = mask_of(sample), Path(root, split, version, "labels", f"{sample.name}.png")
        highest_id(path, mask, 255)
        picture = Image.frombytes("P", mask.shape[::-1], mask.astype(np.uint8).tobytes())
        picture.putpalette((np.arange(256)[:, None] * [37, 91, 151] % 256).astype(np.uint8).tobytes())
        with written(path) as part:
            picture.save(part, format="png")


def write_gtsdb(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write images/NAME.ppm, SPLIT.txt and masks for scoring, and add lines to gt.txt (boxes rounded)."""
    root, lines = Path(root), []
    for sample in samples:
        write_image(root / "images" / f"{sample.name}.ppm", sample.image)
        for (x1, y1, x2, y2), label in zip(np.round(sample.boxes).astype(int), sample.box_ids, strict=True):
            if label < FIRST_ID:
                raise HeterosegError(f"sample {sample.name!r}: expected box ids from {FIRST_ID}, found {label}")
            lines.append(f"{sample.name}.ppm;{x1};{y1};{x2 - 1};{y2 - 1};{label - FIRST_ID}\n")
        if sample.mask is not None:
            write_ids(root / "gtFine" / f"{sample.name}_labelIds.png", sample.mask, bits=16)
    write_text(root / f"{split}.txt", "".join(f"{name}\n" for name in sorted(sample.name for sample in samples)))
    with (root / "gt.txt").open("a", encoding="utf-8") as file:
        file.writelines(lines)
