"""What is refused tells why: one line for each kind of fault and image, the file that is wrong, and what to do."""

import json
from functools import partial
from pathlib import Path

from tests.cases.drawing import THINGS, write
from tests.cases.layouts import box_csv, coco, cvat, label_studio, masks, yolo
from tests.cases.neighbour_cases import panoptic
from tests.cases.odd_file_cases import fields


def many(data: dict) -> None:
    """Seven boxes without a width in one image."""
    for k in range(7):
        data["annotations"].append(data["annotations"][0] | {"id": 900 + k, "bbox": [1, 1, 0, 5]})


def no_width_at_all(note: dict) -> None:
    note["bbox"][2] = 0


def masks_and_boxes(out: Path, change) -> None:
    """Masks with boxes beside them; the boxes are wrong."""
    masks(out, boxes="{split}.json")
    for split in ("train", "val"):
        i = 0 if split == "train" else 10
        note = {"image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}
        data = {"images": [{"id": 1, "file_name": f"im{i}.jpg"}], "annotations": [note]}
        change(data)
        write(out / f"data/{split}.json", json.dumps(data))


def unknown_id(data: dict) -> None:
    data["annotations"][0]["category_id"] = 77


def far(data: dict) -> None:
    data["annotations"][0]["bbox"] = [1, 1, 500, 5]


def exchanged(out: Path) -> None:
    """Label Studio's export is a COCO json."""
    label_studio(out)
    write(out / "data/annotations.json", json.dumps({"images": [], "annotations": [], "categories": []}))


def tasks_for_coco(out: Path) -> None:
    coco(out)
    write(out / "data/train.json", json.dumps([{"id": 1, "data": {"image": "im0.jpg"}, "annotations": []}]))


def pascal(text: str) -> str:
    return "<annotation><filename>im0.jpg</filename></annotation>"


def other_subsets(text: str) -> str:
    return text.replace('subset="train"', 'subset="Training"').replace('subset="val"', 'subset="Validation"')


def without_file_names(data: dict) -> None:
    for image in data["images"]:
        del image["file_name"]


def tags_of_another_machine(out: Path) -> None:
    coco(out, kind="boxes", tags="{split}.csv")
    write(out / "space.yaml", THINGS.replace("gate: root", "gate: object"))
    for split in ("train", "val"):
        write(out / f"data/{split}.csv", f"image,class_id\nD:\\x\\im{0 if split == 'train' else 10}.jpg,3\n")


def label_folder(out: Path) -> None:
    yolo(out)
    (out / "data/labels").rename(out / "data/annotations")


def by_name(line: str) -> str:
    return "car" + line[1:]


def archive(out: Path) -> None:
    masks(out)
    (out / "data").rename(out / "kept")
    (out / "data").write_bytes(b"PK\3\4")


CASES = {
    "reason_many_of_one_kind": (
        "refused",
        "train.json: annotations[8]: expected a box with an area",
        partial(coco, kind="boxes", change=many),
    ),
    "reason_count": (
        "refused",
        "annotations[9], annotations[10] and 4 more places",
        partial(coco, kind="boxes", change=many),
    ),
    "reason_many_images": (
        "refused",
        "like the last, in ",
        partial(coco, kind="boxes", note=no_width_at_all),
    ),
    "reason_box_file": ("refused", "train.json: ", partial(masks_and_boxes, change=far)),
    "reason_box_file_of_an_id": ("refused", "train.json: ", partial(masks_and_boxes, change=unknown_id)),
    "reason_coco_for_label_studio": ("refused", "a list of tasks", exchanged),
    "reason_label_studio_for_coco": ("refused", "'images'", tasks_for_coco),
    "reason_pascal_for_cvat": ("refused", "CVAT for images", partial(cvat, change=pascal)),
    "reason_cvat_subsets": ("refused", "Training, Validation", partial(cvat, change=other_subsets)),
    "reason_panoptic_without_file_name": ("refused", "file_name", partial(panoptic, change=without_file_names)),
    "reason_tags_of_another_machine": ("refused", "a path of another machine", tags_of_another_machine),
    "reason_label_folder": ("refused", "data/labels", label_folder),
    "reason_archive": ("refused", "unpack it", archive),
    "reason_no_csv_column": ("refused", "found no class_id", partial(box_csv, header="image,x1,y1,x2,y2,label")),
    "reason_yolo_class_name": ("refused", "class id", partial(yolo, line=by_name)),
    "reason_text_for_a_number": (
        "refused",
        "finite",
        partial(coco, kind="boxes", **fields("bbox", str)),
    ),
}
