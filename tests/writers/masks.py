"""Writers of published layouts of masks."""

import base64
from pathlib import Path

import numpy as np

from heteroseg.datasets.boxes import COLUMNS
from heteroseg.datasets.encoding import write_ids, write_image
from heteroseg.datasets.formats.a2d2 import INSTANCES, RGB
from heteroseg.datasets.formats.idd import NAMES
from heteroseg.datasets.formats.nuimages import IDS, OBJECTS, TABLES
from heteroseg.datasets.sample import Sample
from heteroseg.datasets.shapes import rle_encode
from heteroseg.errors import HeterosegError
from heteroseg.files import write_json, write_text
from heteroseg.scenes.layouts import mask_of
from tests.writers.pixels import bars, write_colors, write_dense, write_split

LABEL_COLORS = """64 128 64 Animal;192 0 128 Archway;0 128 192 Bicyclist;0 128 64 Bridge;128 0 0 Building;64 0 128 Car;
64 0 192 CartLuggagePram;192 128 64 Child;192 192 128 Column_Pole;64 64 128 Fence;128 0 192 LaneMkgsDriv;
192 0 64 LaneMkgsNonDriv;128 128 64 Misc_Text;192 0 192 MotorcycleScooter;128 64 64 OtherMoving;64 192 128 ParkingBlock;
64 64 0 Pedestrian;128 64 128 Road;128 128 192 RoadShoulder;0 0 192 Sidewalk;192 128 128 SignSymbol;128 128 128 Sky;
64 128 192 SUVPickupTruck;0 0 64 TrafficCone;0 64 64 TrafficLight;192 64 128 Train;128 128 0 Tree;192 128 192 Truck_Bus;
64 0 64 Tunnel;192 192 0 VegetationMisc;0 0 0 Void;64 192 0 Wall""".replace("\n", "").split(";")


def write_camvid(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write PNG images, masks in the official 32 colours, SPLIT.txt and label_colors.txt; ids above 31 raise."""
    root = Path(root)
    lines = [line.strip().split(maxsplit=3) for line in LABEL_COLORS]
    palette = np.array([line[:3] for line in lines]).astype(np.uint8)
    for sample in samples:
        write_image(root / f"701_StillsRaw_full/{sample.name}.png", sample.image)
        write_colors(root / f"LabeledApproved_full/{sample.name}_L.png", mask_of(sample), palette)
    write_text(root / "label_colors.txt", "".join(f"{r} {g} {b}\t{name}\n" for r, g, b, name in lines))
    write_split(root, split, [sample.name for sample in samples])


def write_camvid_segnet(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write SPLIT/NAME.png, SPLITannot/NAME.png and SPLIT.txt, whose paths are relative to `root`."""
    root, lines = Path(root), []
    for sample in samples:
        image, mask = f"{split}/{sample.name}.png", f"{split}annot/{sample.name}.png"
        write_image(root / image, sample.image)
        write_ids(root / mask, mask_of(sample))
        lines.append(f"{image} {mask}")
    write_split(root, split, lines)


def write_idd(root: Path | str, split: str, samples: list[Sample], labels: str = "labelIds") -> None:
    """Write samples named DRIVE/FRAME, images as PNG; ids above 255 make the mask 16 bits.

    With `labels` "polygons" every row of pixels of one id becomes a polygon.
    """
    images, masks = "leftImg8bit/{split}/{name}_leftImg8bit.png", "gtFine/{split}/{name}_gtFine_"
    if labels != "polygons":
        write_dense(root, split, samples, images, masks + labels + ".png")
        return
    for sample in samples:
        write_image(Path(root, images.format(split=split, name=sample.name)), sample.image)
        path = Path(root, masks.format(split=split, name=sample.name) + "polygons.json")
        write_polygons(path, mask_of(sample), NAMES)


def write_idd_lite(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write samples named DRIVE/FRAME, images as JPEG; ids above 255 make the mask 16 bits."""
    write_dense(root, split, samples, "leftImg8bit/{split}/{name}_image.jpg", "gtFine/{split}/{name}_label.png")


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
    if wild := [p for p in (images, masks, boxes) if p and "*" in p]:
        raise HeterosegError(f"expected a pattern without wildcards to write to, found {wild[0]!r}; write it out")
    for sample in samples:
        write_image(root / images.format(split=split, name=sample.name), sample.image)
        if masks is not None:
            write_ids(root / masks.format(split=split, name=sample.name), mask_of(sample))
    if boxes is not None:
        path = root / boxes.format(split=split)
        write = _write_csv if path.suffix == ".csv" else _write_coco
        write(path, [images.format(split=split, name=sample.name) for sample in samples], samples)


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


def write_a2d2(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write samples named SESSION/CAM/FILE (with _camera_ in FILE), and the images' names to SPLIT.txt."""
    for sample in samples:
        session, camera, file = sample.name.split("/")
        image = Path(root, session, "camera", camera, f"{file}.png")
        write_image(image, sample.image)
        label = Path(root, session, "label", camera, f"{file.replace('_camera_', '_label_')}.png")
        write_colors(label, mask_of(sample), RGB[np.cumsum(INSTANCES) - 1])
    write_split(root, split, [sample.name for sample in samples])


def write_nuimages(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write samples/NAME.jpg for names CAM_*/FILE, and the tables; ids that nuImages does not have raise KeyError."""
    categories = {i: {"token": f"category{i}", "name": name} for name, i in IDS.items()}
    tables: dict[str, list[dict]] = {name: [] for name in TABLES} | {"category": list(categories.values())}
    for sample in samples:
        mask, image = mask_of(sample), f"samples/{sample.name}.jpg"
        write_image(Path(root, image), sample.image)
        tables["sample_data"].append({"token": f"data {sample.name}", "filename": image, "is_key_frame": True})
        tables["sample"].append({"token": f"sample {sample.name}", "key_camera_token": f"data {sample.name}"})
        for label in np.unique(mask[mask > 0]).tolist():
            counts = base64.b64encode(rle_encode(mask == label).counts).decode()
            note = {
                "token": f"{sample.name} {label}",
                "sample_data_token": f"data {sample.name}",
                "category_token": categories[label]["token"],
                "mask": {"size": list(mask.shape), "counts": counts},
            }
            tables["surface_ann" if label > len(OBJECTS.split(";")) else "object_ann"].append(note)
    for name, entries in tables.items():
        write_json(Path(root, f"v1.0-{split}", f"{name}.json"), entries)


def write_coco_panoptic(root: Path | str, split: str, samples: list[Sample], background: int = -1) -> None:
    """Write PNG images, the json and its PNGs; each id of a mask is a segment, but for `background`."""
    path = Path(root, "annotations", f"panoptic_{split}.json")
    images, notes = [], []
    for i, sample in enumerate(samples):
        mask = mask_of(sample)
        numbers = np.where(mask == background, 0, 1000 * (mask + 1) + 7)
        found = np.unique(mask[mask != background]).tolist()
        write_image(Path(root, split, f"{sample.name}.png"), sample.image)
        pixels = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], -1).astype(np.uint8)
        write_image(path.with_suffix("") / f"{sample.name}.png", pixels)
        images.append({"id": i, "file_name": f"{sample.name}.png"})
        parts = [{"id": 1000 * (label + 1) + 7, "category_id": label} for label in found]
        notes.append({"image_id": i, "file_name": f"{sample.name}.png", "segments_info": parts})
    write_json(path, {"images": images, "annotations": notes})


def write_polygons(path: Path, mask: np.ndarray, names: list[str]) -> None:
    """Write a (H, W) mask as the json that `read_polygons` reads; an id without a name raises HeterosegError."""
    if mask.max(initial=0) >= len(names):
        raise HeterosegError(f"{path}: expected ids from 0 to {len(names) - 1}, found {mask.max()}; they have no name")
    objects = [  # polygons are filled up to and with their corners
        {"label": names[i], "polygon": [[x1, y], [x2 - 1, y], [x2 - 1, y]]} for i, x1, x2, y in bars(mask)
    ]
    write_json(path, {"imgHeight": mask.shape[0], "imgWidth": mask.shape[1], "objects": objects})
