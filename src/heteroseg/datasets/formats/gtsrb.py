"""GTSRB, the German traffic-sign recognition benchmark: an image for each sign, with the box of the sign in it.

Final_Training/Images/CCCCC/*.ppm with GT-CCCCC.csv, and Final_Test/Images/*.ppm with GT-final_test.csv there or in a
folder above. A line is `Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId`, x2 and y2 exclusive. Box ids are
2000 + class, as in GTSDB, so that both share a label space. Splits: SPLIT.txt with a name a line where there is one,
else train, and val or test for the test images.
"""

from collections.abc import Iterator
from pathlib import Path

from heteroseg.datasets.boxes import Row, attach
from heteroseg.datasets.formats.gtsdb import FIRST_ID
from heteroseg.datasets.paths import find_files, listed_names, raise_missing, require, require_file
from heteroseg.datasets.records import csv_records, integer, number
from heteroseg.datasets.sample import Item, Listing
from heteroseg.errors import HeterosegError

TRAINING, TEST = "Final_Training/Images", "Final_Test/Images"
TEST_TABLE = "GT-final_test.csv"
COLUMNS = ("Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")


def gtsrb(root: Path, split: str) -> Listing:
    """Items named CCCCC/TTTTT_NNNNN (training) and NNNNN (test), one box each, without masks."""
    listed = listed_names(root / f"{split}.txt") if (root / f"{split}.txt").is_file() else None
    if listed is None and split not in ("train", "val", "test"):
        raise_missing(root / f"{split}.txt", "list of images", "name the split train, val or test, or write its list")
    files: dict[str, Path] = {}
    tables: dict[str, Path] = {}
    if listed is not None or split == "train":
        files |= find_files(root, TRAINING + "/{name}.*")
        classes = sorted(f.name for f in (root / TRAINING).iterdir() if f.is_dir())
        tables |= {f"{c}/": root / TRAINING / c / f"GT-{c}.csv" for c in classes}
    if split != "train" and (listed is None or (root / TEST).is_dir()):
        files |= find_files(root, TEST + "/{name}.*")
        folders = (root / TEST, root / "Final_Test", root)
        table = next((f / TEST_TABLE for f in folders if (f / TEST_TABLE).is_file()), root / TEST / TEST_TABLE)
        tables[""] = require_file(table, "table of signs", "unpack GTSRB_Final_Test_GT.zip here")
    if listed is not None:
        files = require(listed, files, "image", str(root / "Final_*/Images/{name}.ppm"))
    rows = [row for folder, path in tables.items() for row in _rows(path, folder)]
    with_row = {row.image for row in rows}
    if missing := [name for name in files if name not in with_row]:
        raise HeterosegError(f"{files[missing[0]]}: expected a line in a GT-*.csv, found none; complete the download")
    return attach([Item(name, path) for name, path in files.items()], rows)


def _rows(path: Path, folder: str) -> Iterator[Row]:
    require_file(path, "table of signs", "complete the download")
    for where, values in csv_records(path, COLUMNS, ";"):
        width, height, x1, y1, x2, y2 = map(number, values[1:7])
        sign, raw = integer(values[7]), ";".join(map(str, values))
        label = None if sign is None else FIRST_ID + sign
        yield Row(where, folder + Path(values[0] or "").stem, (x1, y1, x2, y2), label, raw, (width, height))
