"""GTSDB, the German traffic-sign detection benchmark: boxes of 43 sign types.

Images NNNNN.ppm (or .jpg, .png) in the root or in images/. gt.txt has `file;x1;y1;x2;y2;class` a line; as in the
official files x2 and y2 are INCLUSIVE, the last column and row of the sign, so that the boxes of an item end at x2 + 1,
y2 + 1. `file` is matched by its stem, so .ppm may have become .jpg. Box ids are 2000 + class.
Optional: SPLIT.txt with an image a line; gtFine/NNNNN_labelIds.png for scoring (16 bits: 0 unlabelled, 2000 + class).
"""

from collections.abc import Iterator
from pathlib import Path

from heteroseg.datasets.boxes import NO_BOX, Row, attach
from heteroseg.datasets.paths import find_files, lines_of, listed_names, require, stem_of
from heteroseg.datasets.records import integer, number
from heteroseg.datasets.sample import Item, Listing
from heteroseg.errors import HeterosegError

FIRST_ID = 2000
OFFICIAL = {"train": range(600), "val": range(600, 900), "test": range(600, 900)}


def _rows(path: Path, pixel: float) -> Iterator[Row]:
    for where, line in lines_of(path, "list of boxes", "copy gt.txt from the download"):
        fields = line.split(";")
        x1, y1, x2, y2 = map(number, fields[1:5]) if len(fields) == 6 else NO_BOX
        sign = integer(fields[-1])
        label = None if sign is None else FIRST_ID + sign
        yield Row(where, stem_of(fields[0]), (x1, y1, x2 + pixel, y2 + pixel), label, repr(line))


def gtsdb(root: Path, split: str, scale: str = "1") -> Listing:
    """Items named NNNNN, without a mask; an image without signs has no boxes.

    `scale` is the factor by which images and gt.txt were scaled (0.6): the last column of a sign is then that wide.
    Splits: SPLIT.txt where there is one, else train 00000-00599 and val or test 00600-00899.
    """
    pattern = "images/{name}.*" if (root / "images").is_dir() else "{name}.*"
    images = {name: path for name, path in find_files(root, pattern).items() if "/" not in name}
    pixel = number(scale)
    if not 0 < pixel <= 16:
        raise HeterosegError(f"gtsdb: expected the option 'scale' to be a factor such as \"0.6\", found {scale!r}")
    rows = list(_rows(root / "gt.txt", pixel))
    if (root / f"{split}.txt").is_file() or split not in OFFICIAL:
        names = listed_names(root / f"{split}.txt", stem_of)
    else:  # the official images that are there or have boxes
        known = {*images, *(row.image for row in rows)}
        names = sorted(name for name in known if name.isdecimal() and int(name) in OFFICIAL[split])
    files = require(names, images, "image", str(root / pattern))
    signs = find_files(root, "gtFine/{name}_labelIds.png") if (root / "gtFine").is_dir() else {}
    table = root / "gt.txt"
    return attach([Item(n, path, scoring_mask=signs.get(n), box_file=table) for n, path in files.items()], rows)
