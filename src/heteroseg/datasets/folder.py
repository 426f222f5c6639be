"""Any folder of images, with masks and boxes where path patterns say.

A pattern is relative to the root: `{split}` is the split, `{name}` the image's name (it may span folders), `*` anything
within a folder or file name, `**` any folders. Example: images "images/{split}/{name}.jpg", masks
"labels/{split}/{name}_mask.png", boxes "boxes_{split}.json".
"""

from pathlib import Path, PurePosixPath

from heteroseg.datasets.boxes import COLUMNS, Row, attach, coco_rows, csv_rows
from heteroseg.datasets.listing import IMAGE_SUFFIXES, absent, check_pattern, fill, matching, paired
from heteroseg.datasets.writing import mask_of, write_ids, write_image
from heteroseg.errors import HeterosegError
from heteroseg.files import write_json, write_text
from heteroseg.structures import Item, Sample


def folder(root: Path | str, split: str, images: str, masks: str | None = None, boxes: str | None = None) -> list[Item]:
    """Items by name. Masks hold ids (grey or palette PNGs, TIFFs); `boxes` is a COCO json or a CSV.

    COCO: images (id, file_name), annotations (image_id, bbox x y width height, category_id = native id). CSV: a header
    `image,x1,y1,x2,y2,class_id`, x2 and y2 exclusive. file_name and image are a path under the root or any tail of it
    that is not ambiguous; where the path in `boxes` has no `{split}`, boxes of other splits' images are left out.
    A bad pattern, a missing file and bad boxes (all of them at once) raise HeterosegError.
    """
    root = Path(root)
    _check(images, masks, boxes)
    items = paired(root, split, images, masks)
    if boxes is None:
        return items
    path = root / fill(boxes, split)
    if not path.is_file():
        absent(path, "file of boxes", "check the pattern `boxes`")
    others = [] if "{split}" in boxes else [path for _, path in matching(root, fill(images, "*"))]
    return attach(items, _rows(path), _Images(root, items, others).resolve)


def _check(images: str, masks: str | None, boxes: str | None) -> None:
    for pattern, what in ((images, "images"), (masks, "masks")):
        if pattern is not None:
            check_pattern(pattern, what)
    if boxes is not None:
        check_pattern(boxes, "boxes", ("split",))
        if Path(boxes).suffix not in (".json", ".csv"):
            raise HeterosegError(f"boxes: expected a .json (COCO) or .csv file, found {boxes!r}; convert the file")


def _rows(path: Path) -> list[Row]:
    return csv_rows(path) if path.suffix == ".csv" else coco_rows(path)


class _Images:
    """Finds the image that a box file means by its path, a tail of it or its name, each without the suffix."""

    def __init__(self, root: Path, items: list[Item], others: list[Path]):
        self.root = root
        self.names = {item.image: item.name for item in items}
        self.paths: dict[str, set[Path]] = {}
        for path in {*self.names, *others}:
            parts = path.relative_to(root).with_suffix("").parts
            tails = {"/".join(parts[i:]) for i in range(len(parts))}
            for key in tails | {self.names.get(path, path.stem)}:
                self.paths.setdefault(key, set()).add(path)

    def resolve(self, image: str) -> str | None:
        """The item's name, None for another split's image; LookupError where no image or several are meant."""
        asked = PurePosixPath(image)
        key = str(asked.with_suffix("") if asked.suffix.lower() in IMAGE_SUFFIXES else asked)
        found = sorted(self.paths.get(key, ()))
        if not found:
            raise LookupError(f"expected an image under {self.root}, found none like {image!r}")
        if len(found) > 1:
            raise LookupError(
                f"expected one image, found {found[0]} and {found[1]} for {image!r}, so write more of the path"
            )
        return self.names.get(found[0])


def write_folder(
    root: Path | str,
    split: str,
    samples: list[Sample],
    images: str = "images/{split}/{name}.png",
    masks: str | None = "masks/{split}/{name}.png",
    boxes: str | None = None,
) -> None:
    """Write images, masks (where `masks` is given) and a COCO json or CSV (where `boxes` is); no wildcards."""
    root = Path(root)
    _check(images, masks, boxes)
    if wild := [p for p in (images, masks, boxes) if p and "*" in p]:
        raise HeterosegError(f"expected a pattern without wildcards to write to, found {wild[0]!r}; write it out")
    for sample in samples:
        write_image(root / fill(images, split, sample.name), sample.image)
        if masks is not None:
            write_ids(root / fill(masks, split, sample.name), mask_of(sample))
    if boxes is not None:
        path = root / fill(boxes, split)
        write = _write_csv if path.suffix == ".csv" else _write_coco
        write(path, [fill(images, split, sample.name) for sample in samples], samples)


def _write_csv(path: Path, files: list[str], samples: list[Sample]) -> None:
    lines = [",".join(COLUMNS)]
    for file, sample in zip(files, samples, strict=True):
        for box, label in zip(sample.boxes, sample.box_ids, strict=True):
            lines.append(",".join([file, *(f"{v:.9g}" for v in box), str(int(label))]))
    write_text(path, "\n".join(lines) + "\n")


def _write_coco(path: Path, files: list[str], samples: list[Sample]) -> None:
    images: list[dict] = []
    notes: list[dict] = []
    for i, (file, sample) in enumerate(zip(files, samples, strict=True)):
        height, width = sample.image.shape[:2]
        images.append({"id": i, "file_name": file, "width": width, "height": height})
        for box, label in zip(sample.boxes.tolist(), sample.box_ids.tolist(), strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            notes.append({"id": len(notes), "image_id": i, "category_id": label, "bbox": bbox, "iscrowd": 0})
    labels = sorted({note["category_id"] for note in notes})
    categories = [{"id": label, "name": str(label)} for label in labels]
    write_json(path, {"images": images, "annotations": notes, "categories": categories})
