"""nuImages: v1.0-SPLIT/*.json beside samples/CAM_*/*.jpg. Splits: train, val, test (no annotation) and mini.

The key frame of every sample is an image. Surfaces are painted as they stand and objects over them in the order of
their tokens, as in nuScenes' development kit, whose ids are used: 0 unlabelled, 1-23 the objects in alphabetical order,
24 driveable surface, 31 ego vehicle. Objects without a mask stay unlabelled.
"""

import base64
from pathlib import Path
from typing import Any

from heteroseg.datasets.boxes import NO_BOX, NO_OUTLINE, Row, attach
from heteroseg.datasets.coco_json import coco_outline
from heteroseg.datasets.paths import SHOWN, below, require_file, require_folder
from heteroseg.datasets.records import by_id, lists_of
from heteroseg.datasets.sample import Item, Listing, Shape
from heteroseg.errors import raise_faults
from heteroseg.files import read_json

OBJECTS = """animal;human.pedestrian.adult;human.pedestrian.child;human.pedestrian.construction_worker;
human.pedestrian.personal_mobility;human.pedestrian.police_officer;human.pedestrian.stroller;human.pedestrian.wheelchair;
movable_object.barrier;movable_object.debris;movable_object.pushable_pullable;movable_object.trafficcone;
static_object.bicycle_rack;vehicle.bicycle;vehicle.bus.bendy;vehicle.bus.rigid;vehicle.car;vehicle.construction;
vehicle.emergency.ambulance;vehicle.emergency.police;vehicle.motorcycle;vehicle.trailer;vehicle.truck"""
SURFACES = {"flat.driveable_surface": 24, "vehicle.ego": 31}
IDS = {name: i for i, name in enumerate(OBJECTS.replace("\n", "").split(";"), 1)} | SURFACES
TABLES = ("category", "sample", "sample_data", "object_ann", "surface_ann")


def nuimages(root: Path, split: str) -> Listing:
    """Items named CAM_*/FILE; masks hold the ids of nuScenes' development kit."""
    folder = require_folder(root / f"v1.0-{split}")
    tables = {name: _table(folder / f"{name}.json") for name in TABLES}
    items, faults = {}, []
    for i, sample in enumerate(tables["sample"].values()):
        token = str(sample.get("key_camera_token"))
        where = f"{folder / 'sample.json'}: [{i}]"
        image = below(root, str(tables["sample_data"].get(token, {}).get("filename", "")), where)
        if not (image.is_file() and image.is_relative_to(root / "samples")):
            faults.append(f"{where}: expected the key image {image}, found no such file; complete the download")
            continue
        name = image.relative_to(root / "samples").with_suffix("").as_posix()
        items[token] = Item(name, image, folder / "object_ann.json", background=0)
    raise_faults(faults, SHOWN)
    rows = []
    for table in ("surface_ann", "object_ann"):
        notes = list(enumerate(tables[table].items()))
        notes = sorted(notes, key=lambda entry: entry[1][0]) if table == "object_ann" else notes
        for i, (_, note) in notes:
            token = str(note.get("sample_data_token"))
            if token in items and note.get("mask") is not None:
                category = str(tables["category"].get(str(note.get("category_token")), {}).get("name", "(none)"))
                where, raw = f"{folder / table}.json: [{i}]", f"category {category!r}, mask {note['mask']!r:.60}"
                outline = _outline(note["mask"])
                size = outline.run_length.window[2:] if outline.run_length else None
                rows.append(Row(where, items[token].name, NO_BOX, IDS.get(category), raw, size, outline))
    return attach(sorted(items.values(), key=lambda item: item.name), rows, paints=True)


def _table(path: Path) -> dict[str, dict]:
    """The entries by their tokens."""
    data = read_json(require_file(path, "table", "unpack nuImages' metadata here"))
    (entries,) = lists_of(path, {path.stem: data}, path.stem)
    return by_id(path, path.stem, [entry | {"id": entry.get("token")} for entry in entries])


def _outline(mask: Any) -> Shape:
    """COCO's packed run lengths, in base64."""
    mask = mask if isinstance(mask, dict) else {}
    try:
        counts = base64.b64decode(str(mask.get("counts")), validate=True).decode("ascii")
    except ValueError:
        return NO_OUTLINE
    return coco_outline({"size": mask.get("size"), "counts": counts}, None)
