"""What the writers share: pixels into files and bytes, and masks as shapes."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from heteroseg.datasets.encoding import highest_id, write_ids, write_image
from heteroseg.datasets.sample import Sample
from heteroseg.files import write_text
from heteroseg.scenes.layouts import mask_of


def write_split(root: Path | str, split: str, lines: list[str]) -> None:
    """Write `root/SPLIT.txt`."""
    write_text(Path(root, f"{split}.txt"), "".join(f"{line}\n" for line in lines))


def write_colors(path: Path, mask: np.ndarray, palette: np.ndarray) -> None:
    """Write (H, W) ids as an RGB PNG of the colours `palette[id]`."""
    highest_id(path, mask, len(palette) - 1)
    write_image(path, palette.astype(np.uint8)[mask])


def write_dense(root: Path | str, split: str, samples: list[Sample], images: str, masks: str) -> None:
    """Write images and grey id masks to the files that two patterns with `{split}` and `{name}` give."""
    for sample in samples:
        write_image(Path(root, images.format(split=split, name=sample.name)), sample.image)
        write_ids(Path(root, masks.format(split=split, name=sample.name)), mask_of(sample))


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    """The bytes of an image file: (H, W, 3) uint8 RGB, or (H, W) ids."""
    return cv2.imencode(suffix, pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def bars(mask: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """(id, x1, x2, y) of the runs of equal ids in each row of a (H, W) mask; x2 is exclusive."""
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(row, prepend=row[0] - 1, append=row[-1] - 1))
        for start, stop in pairwise(edges.tolist()):
            yield int(row[start]), start, stop, y


def turned(path: Path, image: np.ndarray, orientation: int) -> None:
    """Write an image so that a viewer that heeds EXIF shows it upright; Pillow's names of turns are of another hand."""
    turn = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    turn |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = Image.fromarray(image).transpose(Image.Transpose[turn[orientation]])
    path.parent.mkdir(parents=True, exist_ok=True)
    exact = {"quality": 100, "subsampling": 0} if path.suffix.lower() in (".jpg", ".jpeg", ".jfif") else {}
    stored.save(path, exif=exif, **exact)
