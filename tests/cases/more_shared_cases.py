"""Troubles that people report: paths, Unicode, overlaps, links, forms of masks, odd annotation, label tools."""

import json
import shutil
import unicodedata
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.cases.drawing import (
    COLORS,
    HEIGHT,
    IDS,
    PALETTE,
    PARKS,
    SPLITS,
    TREE,
    WIDTH,
    experiment,
    pictures,
    save,
    scene,
    sign_in_the_sky,
    space,
    write,
)
from tests.cases.layouts import box_csv, coco, cvat, cvat_shape, label_studio, listed, masks
from tests.cases.shared_cases import code, rename

COMPOSED, APART = (unicodedata.normalize(form, "straße-münchen") for form in ("NFC", "NFD"))
NO_SPLIT = {"images": "images/{name}.jpg", "masks": "masks/{name}.png"}
WITHOUT_BACKGROUND = space("cars", {0: "car", 1: "sign"})
OCTAL = space("parks", {0: "nothing", "001": "sky", "002": "road", "010": "car", "011": "sign"})
TENS = np.array([0, 1, 2, 10, 11], np.uint8)
NORWAY = space("parks", {0: "nothing", 1: "sky", 2: "road", 3: "on", 4: "off"})
BILEVEL = space("s", {0: "background", 1: "thing"})


def link_loop(out: Path) -> None:
    for kind in ("images", "masks"):
        (out / f"data/{kind}/train/again").symlink_to(".")


def dangling_link(out: Path) -> None:
    (out / "data/images/train/gone.jpg").symlink_to("/nowhere/gone.jpg")
    shutil.copy(out / "data/masks/train/im0.png", out / "data/masks/train/gone.png")


def linked_val(out: Path) -> None:
    for kind in ("images", "masks"):
        shutil.rmtree(out / f"data/{kind}/val")
        (out / f"data/{kind}/val").symlink_to("train")


def without_file_name(data: dict) -> None:
    for entry in data["images"]:
        entry["path"] = entry.pop("file_name")


def float_image_id(note: dict) -> None:
    note["image_id"] = float(note["image_id"])


def mixed(out: Path, background: bool) -> None:
    """The car as an outline and the sign as a box."""

    def shapes(drawn):
        boxes = drawn.boxes
        return cvat_shape("polygon", "car", boxes["car"]) + cvat_shape("box", "sign", boxes["sign"])

    if background:
        cvat(out, draw=sign_in_the_sky, shapes=shapes)
    else:
        cvat(out, kind="box", draw=sign_in_the_sky, shapes=shapes, label_space=WITHOUT_BACKGROUND)


def one_polygon(text: str) -> str:
    """Boxes everywhere, and in the first image the car as a polygon."""
    box = (13, 21, 45, 37)
    assert cvat_shape("box", "car", box) in text
    return text.replace(cvat_shape("box", "car", box), cvat_shape("polygon", "car", box), 1)


def written_out(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def in_folders(name: str) -> dict[str, list[str]]:
    return {split: [name.format(i=i) for i in numbers] for split, numbers in SPLITS.items()}


def tif(**more) -> dict:
    return {"mask": "masks/{split}/im{i}.tif", "masks": "masks/{split}/{name}.tif"} | more


def jpeg_named_png(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path, format="JPEG", quality=95)


def indexed(path: Path, ids: np.ndarray) -> None:
    """A file with a palette; its indices are the ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    image.putpalette([0, 0, 0, 9, 9, 9, 50, 50, 50, 90, 90, 90, 200, 200, 200])
    image.save(path)


def twelve_bits(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 16)


def cut_off(out: Path) -> None:
    path = out / "data/masks/train/im1.png"
    path.write_bytes(path.read_bytes()[:-30])


def half_with_end(out: Path) -> None:
    path = out / "data/images/train/im1.jpg"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10] + b"\xff\xd9")


def crowd(data: dict) -> None:
    """A box around many cars and what is between them."""
    for image in data["images"]:
        entry = {"id": 900 + image["id"], "image_id": image["id"], "category_id": 3, "iscrowd": 1, "area": 900}
        runs = code(np.ones((HEIGHT, WIDTH), np.uint8), False)
        data["annotations"].append(entry | {"bbox": [0, 0, WIDTH, HEIGHT], "segmentation": runs})


def keyhole(box) -> list:
    """A ring with a bridge to its hole, as tools write holes."""
    x1, y1, x2, y2 = box[0], box[1], box[2] - 1, box[3] - 1
    hole = [x1 + 8, y1 + 4, x1 + 8, y2 - 4, x2 - 8, y2 - 4, x2 - 8, y1 + 4, x1 + 8, y1 + 4]
    return [[x1, y1, x2, y1, x2, y2, x1, y2, x1, y1, *hole]]


def no_width(note: dict) -> None:
    if note["id"] == 3:
        note["bbox"][2] = 0


def json_min(tasks: list[dict]) -> list[dict]:
    """Label Studio's other JSON: the labels stand beside the image."""
    stated = {"original_width": WIDTH, "original_height": HEIGHT}
    for task in tasks:
        task["image"] = task.pop("data")["image"]
        task["label"] = [mark["value"] | stated for mark in task.pop("annotations")[0]["result"]]
    return tasks


def empty_roads(out: Path) -> None:
    """Images that the json lists without annotations."""
    for split, i in (("train", 7), ("val", 17)):
        road = np.full((HEIGHT, WIDTH, 3), COLORS["road"], np.uint8)
        road[0, 0] = i  # so that they are two pictures
        save(out / f"data/{split}/im{i}.jpg", road)
        data = written_out(out / f"data/{split}.json")
        data["images"].append({"id": i, "file_name": f"im{i}.jpg", "width": WIDTH, "height": HEIGHT})
        write(out / f"data/{split}.json", json.dumps(data))


def two_entries(data: dict) -> None:
    """One file under two ids, each with annotations of its own."""
    data["images"] += [entry | {"id": entry["id"] + 500} for entry in data["images"]]
    for note in data["annotations"]:
        note["image_id"] += 500 * (note["category_id"] == IDS["sign"])


def labelme(out: Path, lists: tuple[list[str], list[str]] = (["sky", "road", "car", "sign"],) * 2) -> None:
    """NAME_json/img.png, label.png and label_names.txt; the lists are those of even and of odd images."""
    options = {"images": "{split}/{name}_json/img.png", "masks": "{split}/{name}_json/label.png"}
    experiment(out, "folder", options, PARKS)
    for split, i in pictures():
        folder, drawn = out / f"data/{split}/im{i}_json", scene(i)
        names = lists[i % 2]
        number = np.zeros(5, np.uint8)
        number[[IDS[name] for name in names]] = range(1, 5)
        save(folder / "img.png", drawn.image)
        indexed(folder / "label.png", number[drawn.ids])
        write(folder / "label_names.txt", "\n".join(["_background_", *names]) + "\n")


def norway(out: Path) -> None:
    masks(out, label_space=NORWAY)
    write(out / "tree.yaml", TREE.replace("[car, sign]", "[on, off]"))


def long_row(file: str, box, label: int) -> tuple:
    return (file, *box, label, "1 2 " * 40000)


SUBSETS = {"image": "images/{split}/{i}.jpg", "name": "{i}.jpg", "first": {"train": 0, "val": 10}}
PNG_IMAGES = {"image": "images/{split}/im{i}.png", "images": "images/{split}/{name}.png"}
CUT_OFF = "{}/train/im1.{}: expected an image, found a file that is cut off"
ANOTHER_MACHINE, EQUAL = "a path of another machine", "they are equal"

ROAD_FIRST = (["road", "sky", "car", "sign"],) * 2
ANEW = (["sky", "road", "car", "sign"], ["car", "sign", "sky", "road"])

CASES = {
    "control_labelme_of_one_list": ("right", "", labelme),
    "names_labelme_permuted": (
        "refused",
        "found 1 for 'road'",
        partial(labelme, lists=(["road", "sky", "car", "sign"],) * 2),
    ),
    "a0_control_mixed_cvat": ("right", "", partial(mixed, background=False)),
    "b09_path_backslash": ("refused", ANOTHER_MACHINE, partial(coco, kind="boxes", file="images\\im{i}.jpg")),
    "b09_path_windows_absolute": ("refused", ANOTHER_MACHINE, partial(coco, kind="boxes", file="C:\\me\\im{i}.jpg")),
    "b09_path_up_and_down": (
        "refused",
        ANOTHER_MACHINE,
        partial(coco, kind="boxes", file="..\\..\\media\\upload\\4\\im{i}.jpg"),
    ),
    "b09_path_url_quoted": (
        "refused",
        "im 0.jpg has its name",
        partial(coco, kind="boxes", file="im%20{i}.jpg", then=partial(rename, pattern="im*.jpg", old="im", new="im ")),
    ),
    "b09_no_file_name_key": ("refused", "expected a file_name", partial(coco, kind="boxes", change=without_file_name)),
    "b09_image_id_float": ("refused", "image_id 0.0", partial(coco, kind="boxes", note=float_image_id)),
    "b09_names_backslash": ("refused", ANOTHER_MACHINE, partial(listed, lines=in_folders("images\\im{i}.jpg"))),
    "b09_names_with_folders": ("refused", ANOTHER_MACHINE, partial(listed, lines=in_folders("images/im{i}.jpg"))),
    "b10_unicode_masks": (
        "refused",
        "another Unicode form",
        partial(masks, image=f"images/{{split}}/{APART}{{i}}.jpg", mask=f"masks/{{split}}/{COMPOSED}{{i}}.png"),
    ),
    "b10_unicode_coco": (
        "refused",
        "another Unicode form",
        partial(
            coco, kind="boxes", file=COMPOSED + "{i}.jpg", then=partial(rename, pattern="im*.jpg", old="im", new=APART)
        ),
    ),
    "b12_leak_lists": (
        "refused",
        "not trained on",
        partial(listed, lines={"train": ["im0", "im1", "im2", "im3", "im10"], "val": ["im10", "im11"]}),
    ),
    "b12_leak_no_split_in_pattern": (
        "refused",
        "not trained on",
        partial(masks, image="images/im{i}.jpg", mask="masks/im{i}.png", **NO_SPLIT),
    ),
    "b12_leak_linked_val": ("refused", "not trained on", partial(masks, then=linked_val)),
    "b13_link_loop": ("right", "", partial(masks, then=link_loop)),
    "b13_link_dangling": ("refused", "a link to nothing", partial(masks, then=dangling_link)),
    "b14_mask_rgb_of_palette": ("refused", "instead of colours", partial(masks, ids=lambda ids: PALETTE[ids])),
    "b14_mask_rgb_equal_channels": ("refused", EQUAL, partial(masks, ids=lambda ids: np.dstack([ids] * 3))),
    "b14_mask_rgba_equal_channels": (
        "refused",
        EQUAL,
        partial(masks, ids=lambda ids: np.dstack([ids, ids, ids, np.full_like(ids, 255)])),
    ),
    "b14_mask_grey_alpha": ("refused", EQUAL, partial(masks, ids=lambda ids: np.dstack([ids, np.full_like(ids, 255)]))),
    "b14_mask_jpeg_named_png": ("refused", "found a JPEG", partial(masks, put_mask=jpeg_named_png)),
    "b14_mask_instance_ids": (
        "refused",
        "found 1001, 2001",
        partial(masks, ids=lambda ids: ids.astype(np.uint16) * 1000 + 1),
    ),
    "b14_mask_float_tiff": ("refused", "float32", partial(masks, **tif(ids=lambda ids: ids.astype(np.float32)))),
    "b14_mask_bilevel_tiff": (
        "right",
        "",
        partial(masks, **tif(ids=lambda ids: ids >= 3, label_space=BILEVEL)),
    ),
    "b14_mask_palette_tiff": ("right", "", partial(masks, **tif(put_mask=indexed))),
    "b14_mask_all_ignored": ("refused", "expected a labelled pixel", partial(masks, ids=np.zeros_like)),
    "b14_mask_cut_off": (
        "refused",
        CUT_OFF.format("masks", "png"),
        partial(masks, then=cut_off),
    ),
    "b14_image_16bit_of_12": ("warning", "of which 12 are used", partial(masks, put=twelve_bits, **PNG_IMAGES)),
    "b15_crowd_box": ("right", "", partial(coco, kind="boxes", change=crowd)),
    "b15_hole_keyhole_polygon": ("right", "", partial(coco, shape=keyhole, order=("car",))),
    "b15_empty_annotations": (
        "refused",
        "expected a labelled pixel",
        partial(coco, background=None, change=lambda data: data["annotations"].clear()),
    ),
    "b15_box_zero_width": ("refused", "expected a box with an area", partial(coco, kind="boxes", note=no_width)),
    "b17_yaml_octal_ids": (
        "refused",
        "found 10, 11",
        partial(masks, label_space=OCTAL, ids=lambda ids: TENS[ids]),
    ),
    "b17_yaml_norway": ("refused", "found True", norway),
    "b18_labelme_per_image_ids": (
        "refused",
        "labelme numbers the classes of each image anew",
        partial(labelme, lists=ANEW),
    ),
    "b19_label_studio_json_min": ("refused", "JSON-MIN", partial(label_studio, change=json_min)),
    "b19_cvat_subsets_same_names": ("right", "", partial(cvat, **SUBSETS)),
    "b19_cvat_subsets_same_names_split_pattern": (
        "right",
        "",
        partial(cvat, **SUBSETS, images="images/{split}/{name}.*"),
    ),
    "b19_csv_long_column": ("right", "", partial(box_csv, header="image,x1,y1,x2,y2,class_id,rle", row=long_row)),
    "b19_json_listed_but_empty": ("right", "", partial(coco, then=empty_roads)),
    "b19_duplicate_image_entries": ("right", "", partial(coco, change=two_entries)),
    "b20_mixed_cvat_background": ("right", "", partial(mixed, background=True)),
    "b20_boxes_and_one_polygon": ("right", "", partial(cvat, kind="box", change=one_polygon)),
    "b21_jpeg_half_with_end_marker": (
        "refused",
        CUT_OFF.format("images", "jpg"),
        partial(masks, draw=partial(scene, width=320, height=240), then=half_with_end),
    ),
}
