"""Neighbours of the shared cases: turned photographs in every form, sizes, units, names, what nobody annotated."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.cases.drawing import HEIGHT, IDS, PAINTED, PARKS, SPLITS, WIDTH, experiment, pictures, save, scene, write
from tests.cases.layouts import box_csv, coco, cvat, label_studio, masks, nothing, outline, parts, yolo
from tests.cases.shared_cases import OTHERS, READ_UPRIGHT, code, enlarge, run_lengths
from tests.writers.pixels import turned

FORMS = {
    "masks": masks,
    "coco_polygons": coco,
    "coco_boxes": partial(coco, kind="boxes"),
    "coco_run_lengths": run_lengths,
    "yolo_outlines": yolo,
    "yolo_boxes": partial(yolo, kind="boxes"),
    "cvat_polygons": cvat,
    "cvat_boxes": partial(cvat, kind="box"),
    "label_studio": label_studio,
}
EXIF = {
    f"exif_{n}_{form}": ("right", READ_UPRIGHT, partial(make, put=partial(turned, orientation=n)))
    for form, make in FORMS.items()
    for n in range(2, 9)
}


def transposed(path: Path, ids: np.ndarray) -> None:
    """A mask as a photograph of EXIF orientation 5 is stored."""
    save(path, ids.T)


def panoptic(out: Path, change=nothing, unlisted=()) -> None:
    """COCO's panoptic form; a segment's number is 1000 times its category."""
    experiment(out, "coco_panoptic", {"segments": "{split}.json", "masks": "{split}_segments"}, PARKS)
    for split, numbers in SPLITS.items():
        names = [{"id": i, "name": label} for label, i in IDS.items() if i]
        data: dict[str, Any] = {"images": [], "annotations": [], "categories": names}
        for i in numbers:
            drawn = scene(i)
            save(out / f"data/{split}/im{i}.jpg", drawn.image)
            numbered = drawn.ids.astype(np.int32) * 1000
            colors = np.stack([numbered >> shift & 255 for shift in (0, 8, 16)], -1)
            save(out / f"data/{split}_segments/im{i}.png", colors.astype(np.uint8))
            if i not in unlisted:
                segments = [{"id": 1000 * k, "category_id": k} for k in range(1, 5)]
                data["images"].append({"id": i, "file_name": f"im{i}.jpg", "width": WIDTH, "height": HEIGHT})
                data["annotations"].append({"image_id": i, "file_name": f"im{i}.png", "segments_info": segments})
        change(data)
        write(out / f"data/{split}.json", json.dumps(data))


IDD = {"sky": "sky", "road": "road", "car": "car", "sign": "traffic sign"}
IDD_SPACE = "name: idd-few\ntaxonomy: tree.yaml\nlabels:\n" + "".join(
    f"  - {{id: {i}, name: {IDD[n]}, nodes: {n}}}\n" for i, n in ((33, "sky"), (0, "road"), (12, "car"), (24, "sign"))
)


def idd(out: Path, size: tuple[int, int] = (WIDTH, HEIGHT), put=save) -> None:
    """Polygons as IDD has them: their outline belongs to them."""
    experiment(out, "idd", {"labels": "polygons"}, IDD_SPACE)
    for split, i in pictures():
        drawn = scene(i)
        put(out / f"data/leftImg8bit/{split}/a/im{i}_leftImg8bit.jpg", drawn.image)
        boxes = {"sky": (0, 0, WIDTH, HEIGHT // 2), "road": (0, HEIGHT // 2, WIDTH, HEIGHT), **drawn.boxes}
        objects = [{"label": IDD[n], "polygon": np.reshape(outline(b), (-1, 2)).tolist()} for n, b in boxes.items()]
        data = {"imgWidth": size[0], "imgHeight": size[1], "objects": objects}
        write(out / f"data/gtFine/{split}/a/im{i}_gtFine_polygons.json", json.dumps(data))


def no_size(data: dict) -> None:
    for image in data["images"]:
        del image["width"], image["height"]


def stretched(path: Path, image: np.ndarray) -> None:
    """Another download, twice as wide as what was annotated."""
    save(path, np.repeat(image, 2, axis=1))


def off_by_one(data: dict) -> None:
    for entry in data["annotations"]:
        entry["category_id"] -= 1
    data["categories"] = [{"id": 2, "name": "car"}, {"id": 3, "name": "sign"}]


def nearly_one_name(out: Path) -> None:
    """The sign is called Car., with a full stop."""
    write(out / "space.yaml", PAINTED.replace("name: sign", "name: Car."))


def sky_and_road(data: dict) -> None:
    data["categories"] = [{"id": 1, "name": "road"}, {"id": 2, "name": "sky"}]


def called(*names: str):
    def change(data: dict) -> None:
        data["categories"] = [{"id": i, "name": name} for i, name in enumerate(names, 3)]

    return change


def beside(name: str, text: str, encoding: str = "utf-8"):
    """A file in the dataset's folder."""
    return lambda out: write(out / "data" / name, text, encoding)


def jpg_txt(number: int) -> str:
    return f"im{number}.jpg.txt" if number % 2 else f"im{number}.txt"


def one_more(name: str):
    """A picture that no annotation knows."""
    return lambda out: save(out / "data" / name, scene(7).image)


def without(*names: str):
    """Take files away."""

    def then(out: Path) -> None:
        for name in names:
            (out / "data" / name).unlink()

    return then


def percent(values) -> list[float]:
    return [100 * v for v in parts(values)]


def large_pixels(values) -> list[float]:
    """Pixels of a photograph ten times as large."""
    return [10 * v for v in values]


def no_annotation(tasks: list[dict]) -> list[dict]:
    for task in tasks[:2]:
        task["annotations"] = []
    return tasks


def upper(tasks: list[dict]) -> list[dict]:
    """The car is a Car."""
    for task in tasks:
        task["annotations"][0]["result"][0]["value"]["rectanglelabels"] = ["Car"]
    return tasks


def as_crowd(value: Any, shape) -> Any:
    """A crowd around the sign, whose outline is `shape(box)`; it is known to be no single car."""

    def change(data: dict) -> None:
        signs = [note for note in data["annotations"] if note["category_id"] == IDS["sign"]]
        for k, sign in enumerate(signs):
            x, y, width, height = sign["bbox"]
            box = (x - 6, y - 6, x + width + 6, y + height + 6)
            box = tuple(int(v) for v in np.clip(box, 0, (WIDTH, HEIGHT) * 2))
            entry = {"id": 900 + k, "iscrowd": value, "category_id": IDS["car"], "segmentation": shape(box)}
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            data["annotations"].append(sign | entry | {"bbox": bbox, "area": 0})

    return change


def run_length_of(box) -> dict:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return code(mask, False)


def boxes_only_for_signs(note: dict) -> None:
    """An export with outlines for cars and boxes for signs."""
    if note["category_id"] == IDS["sign"]:
        note["segmentation"] = []


NOBODY, ONE_SIZE = "nobody annotated", "annotation of one size"

SIZES = {
    "size_masks": ("refused", ONE_SIZE, partial(masks, put=stretched)),
    "size_cvat": ("refused", ONE_SIZE, partial(cvat, size=(128, 96))),
    "size_cvat_boxes": ("refused", ONE_SIZE, partial(cvat, kind="box", put=stretched)),
    "size_label_studio_proportions": ("refused", ONE_SIZE, partial(label_studio, put=stretched)),
    "size_idd_polygons": ("refused", ONE_SIZE, partial(idd, size=(128, 96))),
    "size_run_lengths_of_no_size": ("refused", ONE_SIZE, partial(run_lengths, change=no_size, then=enlarge)),
    "size_polygons_of_no_size": ("refused", "inside the image", partial(coco, change=no_size, scale=2)),
    "size_boxes_of_no_size": ("refused", "inside the image", partial(coco, kind="boxes", change=no_size, scale=2)),
    "size_stored_masks": ("right", "", partial(masks, put=partial(turned, orientation=5), put_mask=transposed)),
    "size_turned_masks": ("refused", "EXIF orientation", partial(masks, put_mask=partial(turned, orientation=3))),
    "control_idd_polygons": ("right", "", idd),
    "control_idd_polygons_turned": ("right", READ_UPRIGHT, partial(idd, put=partial(turned, orientation=8))),
    "control_panoptic": ("right", "", panoptic),
    "control_upright_false": ("right", "", partial(masks, upright="false")),
}
UNITS = {
    "units_csv_parts": (
        "refused",
        "parts of the image",
        partial(box_csv, row=lambda file, box, label: (file, *parts(box), label)),
    ),
    "units_yolo_percent": ("refused", "from 0 to 1", partial(yolo, scale=percent)),
    "units_label_studio_pixels": ("refused", "looks like pixels", partial(label_studio, scale=large_pixels)),
    "units_label_studio_parts": ("refused", "hundredth", partial(label_studio, scale=parts)),
    "units_yolo_keypoints": (
        "refused",
        "kpt_shape",
        partial(yolo, kind="boxes", line="{} 0.3 0.5 0.4 0.6".format, then=beside("data.yaml", "kpt_shape: [2, 2]\n")),
    ),
    "units_yolo_confidence": ("refused", "5 numbers", partial(yolo, kind="boxes", line="{} 0.9".format)),
}
UNLISTED = {
    "unlisted_coco_boxes": ("warning", NOBODY, partial(coco, kind="boxes", unlisted=(3,))),
    "unlisted_cvat": (
        "warning",
        NOBODY,
        partial(cvat, then=one_more("images/x.jpg")),
    ),
    "unlisted_label_studio": ("warning", NOBODY, partial(label_studio, change=no_annotation)),
    "unlisted_panoptic": ("warning", NOBODY, partial(panoptic, unlisted=(2,))),
    "unlisted_csv": (
        "warning",
        "without objects",
        partial(box_csv, then=one_more("train/x.jpg")),
    ),
    "unlisted_yolo": ("warning", "no label file", partial(yolo, kind="boxes", then=without("labels/train/im1.txt"))),
    "unlisted_yolo_jpg_txt": (
        "refused",
        "did you mean 'im1.txt'",
        partial(yolo, label_file=jpg_txt),
    ),
    "unlisted_masks": ("warning", "without an image", partial(masks, then=without("images/train/im1.jpg"))),
    "unlisted_images": ("refused", "masks/train/im1.png", partial(masks, then=without("masks/train/im1.png"))),
}
NAMES = {
    "names_that_differ_in_a_sign": ("right", "", partial(coco, change=called("car", "Car."), then=nearly_one_name)),
    "names_coco_off_by_one": ("refused", "found 3 for 'sign'", partial(coco, change=off_by_one)),
    "names_coco_case": ("right", "", partial(coco, change=called("Car", "SIGN "))),
    "names_coco_language": ("warning", "name ids differently", partial(coco, change=called("Auto", "Schild"))),
    "names_panoptic_permuted": (
        "refused",
        "found 1 for 'road'",
        partial(panoptic, change=sky_and_road),
    ),
    "names_cvat_permuted": ("refused", "found 0 for 'sign'", partial(cvat, labels=("sign", "car"))),
    "names_label_studio_permuted": ("refused", "found 0 for 'sign'", partial(label_studio, classes="sign\ncar")),
    "names_label_studio_case": ("refused", "did you mean 'car'", partial(label_studio, change=upper)),
    "names_label_studio_near_miss": (
        "warning",
        "the class is 'car'",
        partial(label_studio, change=upper, others="9", label_space=OTHERS),
    ),
    "names_yolo_classes_txt": (
        "refused",
        "found 0 for 'sign'",
        partial(yolo, then=beside("classes.txt", "sign\ncar")),
    ),
    "names_yolo_dict": (
        "refused",
        "found 0 for 'sign'",
        partial(yolo, then=beside("a.yml", "names: {0: sign, 1: car}")),
    ),
    "names_yolo_marked": ("right", "", partial(yolo, then=beside("data.yaml", "names: [Car, Sign]\r\n", "utf-8-sig"))),
}
CROWDS = {
    "crowd_run_lengths": ("right", "", partial(coco, change=as_crowd(1, run_length_of))),
    "crowd_polygons": ("right", "", partial(coco, change=as_crowd(True, lambda box: [outline(box)]))),
    "crowd_as_text": ("right", "", partial(coco, change=as_crowd("1", lambda box: [outline(box)]))),
    "crowd_boxes": ("right", "", partial(coco, kind="boxes", change=as_crowd(1, run_length_of))),
    "mixed_coco": ("right", "", partial(coco, note=boxes_only_for_signs)),
    "mixed_coco_without_background": ("right", "", partial(coco, background=None, note=boxes_only_for_signs)),
}
CASES = EXIF | SIZES | UNITS | UNLISTED | NAMES | CROWDS
