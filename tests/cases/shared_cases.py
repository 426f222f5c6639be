"""Troubles that people report: turned photographs, sizes, names against ids, suffixes, encodings, units."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.cases.drawing import THINGS, TOOL_THINGS, save, write
from tests.cases.layouts import box_csv, coco, cvat, label_studio, listed, masks, outline, parts, same, yolo
from tests.writers.pixels import turned

portrait, half_turned = partial(turned, orientation=6), partial(turned, orientation=3)


def enlarge(out: Path) -> None:
    """The images come from another download, twice as large as what was annotated."""
    for path in (out / "data").rglob("*.jpg"):
        image = Image.open(path)
        save(path, np.asarray(image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)))


def rename(out: Path, pattern: str, old: str, new: str) -> None:
    for path in sorted((out / "data").rglob(pattern)):
        path.rename(path.with_name(path.name.replace(old, new)))


def array(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, ids)


def some_uppercase(out: Path) -> None:
    for name in ("train/im2", "train/im3", "val/im11"):
        rename(out / "data/images", f"{name}.jpg", ".jpg", ".JPG")


def code(mask: np.ndarray, swapped: bool) -> dict:
    """COCO's run lengths, not packed: down the columns, 0 first."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=flat[-1])).tolist()
    runs = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape[::-1] if swapped else mask.shape), "counts": runs}


def run_lengths(out: Path, factor: int = 1, swapped: bool = False, **more) -> None:
    def shape(box):
        mask = np.zeros((48 * factor, 64 * factor), np.uint8)
        mask[box[1] : box[3], box[0] : box[2]] = 1
        return code(mask, swapped)

    coco(out, shape=shape, size=(64 * factor, 48 * factor), scale=factor, **more)


def other_order(data: dict) -> None:
    """The car has the sign's id and the sign the car's, in names and annotations."""
    for entry in data["annotations"]:
        entry["category_id"] = 7 - entry["category_id"]
    data["categories"] = [{"id": 4, "name": "car"}, {"id": 3, "name": "sign"}]


def other_order_in_val(data: dict) -> None:
    if data["images"][0]["id"] >= 10:
        other_order(data)


def normalised(note: dict) -> None:
    note["bbox"] = parts(note["bbox"])


def corners(note: dict) -> None:
    x, y, width, height = note["bbox"]
    note["bbox"] = [x, y, x + width, y + height]


def area(value: float | None, note: dict) -> None:
    note["area"] = value


def no_area(note: dict) -> None:
    del note["area"]


def with_mark(out: Path) -> None:
    for path in out.glob("*.yaml"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


def tags(out: Path) -> None:
    coco(out, kind="boxes", tags="{split}.csv")
    write(out / "space.yaml", THINGS.replace("gate: root", "gate: object"))
    write(out / "data/train.csv", "image,class_id,note\nim0.jpg,3,Straße\nim1.jpg,4,café\n", "latin-1")
    write(out / "data/val.csv", "image,class_id\nim10.jpg,3\n")


def linked_root(out: Path) -> None:
    (out / "data").rename(out / "elsewhere")
    (out / "data").symlink_to("elsewhere")


def pose(line: str) -> str:
    return line + " 0.3 0.5 2 0.4 0.6 2 0.5 0.6 1"


OTHERS = TOOL_THINGS + "  - {id: 9, name: other, ignore: true}\n"
READ_UPRIGHT = "turned upright"
OTHER_SIZE = "annotation of one size"

CASES = {
    "a0_control_masks": ("right", "", masks),
    "a0_control_polygons": ("right", "", coco),
    "a0_control_boxes": ("right", "", partial(coco, kind="boxes")),
    "a0_control_cvat": ("right", "", cvat),
    "a0_control_yolo": ("right", "", yolo),
    "a0_control_label_studio": ("right", "", label_studio),
    "a0_control_cvat_boxes": ("right", "", partial(cvat, kind="box")),
    "a0_control_label_studio_other_size": ("right", "", partial(label_studio, then=enlarge)),
    "a0_control_yolo_other_size": ("right", "", partial(yolo, then=enlarge)),
    "a0_control_csv_bom_crlf": ("right", "", partial(box_csv, code="utf-8-sig")),
    "a0_control_linked_root": ("right", "", partial(masks, then=linked_root)),
    "a0_control_spaces_and_signs": (
        "right",
        "",
        partial(masks, image="images/{split}/a b ({i}) [x] #1 街.jpg", mask="masks/{split}/a b ({i}) [x] #1 街.png"),
    ),
    "b01_exif_masks_portrait": ("right", READ_UPRIGHT, partial(masks, put=portrait)),
    "b01_exif_masks_180": ("right", READ_UPRIGHT, partial(masks, put=half_turned)),
    "b01_exif_coco_polygons": ("right", READ_UPRIGHT, partial(coco, put=portrait)),
    "b01_exif_coco_boxes": ("right", READ_UPRIGHT, partial(coco, kind="boxes", put=portrait)),
    "b01_exif_yolo": ("right", READ_UPRIGHT, partial(yolo, put=portrait)),
    "b01_exif_cvat_polygons": ("right", READ_UPRIGHT, partial(cvat, put=portrait)),
    "b02_size_coco_polygons": ("refused", OTHER_SIZE, partial(coco, size=(96, 72), scale=1.5)),
    "b02_size_coco_boxes": ("refused", OTHER_SIZE, partial(coco, kind="boxes", size=(96, 72), scale=1.5)),
    "b02_size_coco_rle": ("refused", OTHER_SIZE, partial(run_lengths, factor=2)),
    "b02_size_rle_swapped": ("refused", "they are swapped", partial(run_lengths, swapped=True)),
    "b02_size_coco_boxes_small": ("refused", OTHER_SIZE, partial(coco, kind="boxes", then=enlarge)),
    "b02_size_coco_polygons_small": ("refused", OTHER_SIZE, partial(coco, then=enlarge)),
    "b02_size_json_swapped_but_right_polygons": ("refused", "64x48 and 48x64", partial(coco, size=(48, 64))),
    "b03_area_missing": ("right", "", partial(coco, order=("sign", "car"), note=no_area)),
    "b03_area_zero": ("right", "", partial(coco, order=("sign", "car"), note=partial(area, 0))),
    "b03_area_null": ("right", "", partial(coco, order=("sign", "car"), note=partial(area, None))),
    "b04_names_coco_other_order": ("refused", "found 4 for 'car'", partial(coco, change=other_order)),
    "b04_names_coco_val_differs": ("refused", "found 4 for 'car'", partial(coco, change=other_order_in_val)),
    "b04_names_yolo_data_yaml": (
        "refused",
        "found 0 for 'sign'",
        partial(yolo, then=lambda out: write(out / "data/data.yaml", "nc: 2\nnames: [sign, car]\n")),
    ),
    "b05_unlisted_coco_background": ("warning", "nobody annotated", partial(coco, unlisted=(2, 3, 11))),
    "b05_yolo_label_file_of_another_name": (
        "refused",
        "did you mean 'im1.txt'",
        partial(yolo, label_file=lambda i: f"im{i}.txt" if i in (0, 10) else f"im{i}.TXT"),
    ),
    "b05_yolo_label_file_misspelt": (
        "refused",
        "did you mean 'im1.txt'",
        partial(yolo, label_file=lambda i: f"im{i}.txt" if i in (0, 10) else f"img{i}.txt"),
    ),
    "b06_some_uppercase_jpg": ("right", "", partial(masks, then=some_uppercase)),
    "b06_all_uppercase_jpg": ("right", "", partial(masks, image="images/{split}/im{i}.JPG")),
    "b06_masks_gif": (
        "refused",
        ".gif'; convert them to PNG",
        partial(masks, mask="masks/{split}/im{i}.gif", masks="masks/{split}/{name}.gif"),
    ),
    "b06_masks_npy": (
        "refused",
        ".npy'; convert them to PNG",
        partial(masks, mask="masks/{split}/im{i}.npy", masks="masks/{split}/{name}.npy", put_mask=array),
    ),
    "b06_masks_uppercase_png": ("right", "", partial(masks, mask="masks/{split}/im{i}.PNG")),
    "b07_bom_coco_json": ("right", "", partial(coco, kind="boxes", code="utf-8-sig")),
    "b07_bom_classes_with_others": (
        "right",
        "",
        partial(label_studio, classes="car\r\nsign\r\n", code="utf-8-sig", others="9", label_space=OTHERS),
    ),
    "b07_bom_classes": ("right", "", partial(label_studio, classes="car\r\nsign\r\n", code="utf-8-sig")),
    "b07_bom_names_list": ("right", "", partial(listed, end="\r\n", code="utf-8-sig")),
    "b07_bom_cvat_xml": ("right", "", partial(cvat, code="utf-8-sig")),
    "b07_bom_yaml_crlf": ("right", "", partial(masks, then=with_mark)),
    "b07_csv_semicolons": ("refused", "semicolons", partial(box_csv, comma=";")),
    "b07_csv_utf16": ("refused", "UTF-8", partial(box_csv, code="utf-16")),
    "b07_csv_latin1_names": ("refused", "UTF-8", partial(box_csv, code="latin-1", name="straße{i}.jpg")),
    "b07_csv_float_class_ids": (
        "refused",
        "whole, non-negative class id",
        partial(box_csv, row=lambda file, box, label: (file, *box, f"{label}.0")),
    ),
    "b07_csv_unquoted_comma_name": ("refused", "expected 6 columns", partial(box_csv, name="a,b{i}.jpg")),
    "b07_tags_latin1": ("refused", "UTF-8", tags),
    "b08_units_yolo_seg_pixels": ("refused", "looks like pixels", partial(yolo, scale=same)),
    "b08_units_yolo_box_pixels": ("refused", "looks like pixels", partial(yolo, kind="boxes", scale=same)),
    "b08_units_yolo_pose": ("refused", "13 numbers", partial(yolo, kind="boxes", line=pose)),
    "b08_units_yolo_seg_conf": ("refused", "9 numbers", partial(yolo, line="{} 0.91".format)),
    "b08_units_coco_polygons_parts": (
        "refused",
        "parts of the image",
        partial(coco, shape=lambda box: [parts(outline(box))]),
    ),
    "b08_units_coco_boxes_parts": ("refused", "parts of the image", partial(coco, kind="boxes", note=normalised)),
    "b08_units_coco_xyxy": ("refused", "as x y width height", partial(coco, kind="boxes", note=corners)),
    "b08_units_csv_xywh": (
        "refused",
        "as image,x1,y1,x2,y2",
        partial(box_csv, row=lambda file, b, label: (file, b[0], b[1], b[2] - b[0], b[3] - b[1], label)),
    ),
}
