"""Writers of published layouts of boxes."""

from pathlib import Path

from heteroseg.datasets.encoding import write_image
from heteroseg.datasets.formats import gtsrb, open_images
from heteroseg.datasets.formats.gtsdb import FIRST_ID
from heteroseg.datasets.formats.mtsd import CORNERS
from heteroseg.datasets.sample import Sample
from heteroseg.errors import HeterosegError
from heteroseg.files import read_text, write_json, write_text
from tests.writers.pixels import write_split


def write_open_images(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write images, boxes, and class-descriptions-boxable.csv with the names `label 0`, `label 1` ... (9 of them)."""
    lines = [",".join(open_images.COLUMNS)]
    for sample in samples:
        height, width = sample.image.shape[:2]
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.box_ids.tolist(), strict=True):
            parts = ",".join(f"{v:.9f}" for v in (x1 / width, x2 / width, y1 / height, y2 / height))
            lines.append(f"{sample.name},/m/{label},{parts}")
        write_image(Path(root, split, f"{sample.name}.jpg"), sample.image)
    write_text(Path(root, f"{split}-annotations-bbox.csv"), "\n".join(lines) + "\n")
    write_text(Path(root, "class-descriptions-boxable.csv"), "".join(f"/m/{i},label {i}\n" for i in range(9)))


def write_mtsd(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write images, annotations with the labels `label 0`, `label 1` ..., the split, and classes.txt of the labels."""
    for sample in samples:
        height, width = sample.image.shape[:2]
        objects = [
            {"label": f"label {label}", "bbox": dict(zip(CORNERS, box, strict=True))}
            for box, label in zip(sample.boxes.tolist(), sample.box_ids.tolist(), strict=True)
        ]
        note = {"width": width, "height": height, "ispano": False, "objects": objects}
        write_image(Path(root, "images", f"{sample.name}.jpg"), sample.image)
        write_json(Path(root, "annotations", f"{sample.name}.json"), note)
    write_text(Path(root, "splits", f"{split}.txt"), "".join(f"{sample.name}\n" for sample in samples))


def write_gtsrb(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write images with one box each: names CCCCC/FILE to the training part, others to the test part; and SPLIT.txt."""
    for sample in samples:
        if len(sample.boxes) != 1 or sample.box_ids[0] < FIRST_ID:
            raise HeterosegError(f"sample {sample.name!r}: expected one box with an id from {FIRST_ID}, found others")
        folder, _, file = sample.name.rpartition("/")
        place = Path(root, gtsrb.TRAINING if folder else gtsrb.TEST, folder)
        table = place / (f"GT-{folder}.csv" if folder else gtsrb.TEST_TABLE)
        lines = read_text(table).splitlines() if table.is_file() else [";".join(gtsrb.COLUMNS)]
        lines = [line for line in lines if line.partition(";")[0] != f"{file}.ppm"]
        values = [sample.image.shape[1], sample.image.shape[0], *sample.boxes[0], sample.box_ids[0] - FIRST_ID]
        write_image(place / f"{file}.ppm", sample.image)
        write_text(table, "\n".join([*lines, f"{file}.ppm;" + ";".join(f"{v:g}" for v in values)]) + "\n")
    write_split(root, split, [sample.name for sample in samples])
