"""Writes drawn samples as the three datasets of the demo store them; the readers of the same names read them back."""

from pathlib import Path

import numpy as np

from heteroseg.datasets.encoding import highest_id, write_ids, write_image
from heteroseg.datasets.formats.gtsdb import FIRST_ID
from heteroseg.datasets.paths import stem_of
from heteroseg.datasets.sample import Sample
from heteroseg.errors import HeterosegError
from heteroseg.files import read_text, write_text


def mask_of(sample: Sample) -> np.ndarray:
    """The (H, W) int32 mask of a sample; a sample without one raises HeterosegError."""
    if sample.mask is None:
        raise HeterosegError(f"sample {sample.name!r}: expected a mask, found none; this layout stores one per image")
    return sample.mask


def write_split(root: Path | str, split: str, lines: list[str]) -> None:
    """Write `root/SPLIT.txt`."""
    write_text(Path(root, f"{split}.txt"), "".join(f"{line}\n" for line in lines))


def write_cityscapes(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write samples named CITY/NAME; ids above 255 make the mask 16 bits."""
    for sample in samples:
        write_image(Path(root, f"leftImg8bit/{split}/{sample.name}_leftImg8bit.png"), sample.image)
        write_ids(Path(root, f"gtFine/{split}/{sample.name}_gtFine_labelIds.png"), mask_of(sample))


def write_vistas(root: Path | str, split: str, samples: list[Sample], version: str = "v1.2") -> None:
    """Write JPEG images and palette PNGs; ids above 255 raise HeterosegError."""
    for sample in samples:
        write_image(Path(root, split, "images", f"{sample.name}.jpg"), sample.image)
        _write_palette_png(Path(root, split, version, "labels", f"{sample.name}.png"), mask_of(sample))


def _write_palette_png(path: Path, mask: np.ndarray) -> None:
    """Write (H, W) ids below 256 as an 8-bit palette PNG, whose colours mean nothing."""
    from PIL import Image

    highest_id(path, mask, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", mask.shape[::-1], mask.astype(np.uint8).tobytes())
    image.putpalette((np.arange(256)[:, None] * [37, 91, 151] % 256).astype(np.uint8).tobytes())
    image.save(path)


def write_gtsdb(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write images/NAME.ppm, SPLIT.txt, gt.txt (rounded; other images' lines stay) and masks for scoring."""
    root = Path(root)
    names = {sample.name for sample in samples}
    path = root / "gt.txt"
    old = read_text(path).splitlines() if path.is_file() else []
    lines = [line for line in old if stem_of(line.split(";")[0]) not in names]
    for sample in samples:
        write_image(root / "images" / f"{sample.name}.ppm", sample.image)
        lines += [_gtsdb_line(sample, box, int(i)) for box, i in zip(sample.boxes, sample.box_ids, strict=True)]
        if sample.mask is not None:
            write_ids(root / "gtFine" / f"{sample.name}_labelIds.png", sample.mask, bits=16)
    write_text(path, "".join(f"{line}\n" for line in lines))
    write_split(root, split, sorted(names))


def _gtsdb_line(sample: Sample, box: np.ndarray, label: int) -> str:
    if label < FIRST_ID:
        raise HeterosegError(f"sample {sample.name!r}: expected box ids from {FIRST_ID}, found {label}")
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    return f"{sample.name}.ppm;{x1};{y1};{x2 - 1};{y2 - 1};{label - FIRST_ID}"
