"""Neighbours of the shared cases: suffixes, encodings, paths, overlaps, links, forms of files, damage."""

import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.cases.drawing import PARKS, save, space, write
from tests.cases.layouts import box_csv, coco, cvat, label_studio, listed, masks, yolo
from tests.cases.more_shared_cases import ANOTHER_MACHINE, APART, COMPOSED, in_folders, indexed
from tests.cases.neighbour_cases import beside
from tests.cases.shared_cases import array, rename

ANY = {"images": "images/{split}/{name}.*", "masks": "masks/{split}/{name}.*"}


def pictures_as(suffix: str, put=save):
    """The pictures in files that end so, found by a pattern that leaves the end open."""
    return partial(masks, image="images/{split}/im{i}" + suffix, put=put, **ANY)


def masks_as(suffix: str, put_mask=save, **more):
    return partial(masks, mask="masks/{split}/im{i}" + suffix, put_mask=put_mask, **ANY | more)


def as_mode(path: Path, image: np.ndarray, mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exact = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
    Image.fromarray(image).convert(mode).save(path, **exact)


def lossless(path: Path, pixels: np.ndarray) -> None:
    save(path, pixels, lossless=True)


def grey_palette(path: Path, ids: np.ndarray) -> None:
    """A BMP whose palette is grey: 0 is black, 4 is white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    image.putpalette([v for grey in (0, 64, 128, 192, 255) for v in (grey,) * 3])
    image.save(path)


def changed(name: str, change):
    """The bytes of a file are others."""

    def then(out: Path) -> None:
        path = out / "data" / name
        path.write_bytes(change(path.read_bytes()))

    return then


def two_datasets(out: Path, root: str, train: str, val: str, label_space: str = "space.yaml") -> None:
    """One more dataset, `theirs`, beside a sound one."""
    masks(out)
    text = (out / "experiment.yaml").read_text()
    start = text.index("  mine:")
    theirs = text[start : text.index("model:")].replace("mine:", "theirs:").replace("root: data", f"root: {root}")
    theirs = theirs.replace("space.yaml", label_space) + f"    train: {train}\n    val: {val}\n"
    write(out / "experiment.yaml", text.replace("model:", theirs + "model:", 1))


def copied(out: Path) -> None:
    """Another dataset has the same pictures under other names, its val where ours are trained on."""
    for split, source in (("train", "val"), ("val", "train")):
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            for path in sorted((out / f"data/{kind}/{source}").glob(f"*.{suffix}")):
                copy = out / f"copies/{kind}/{split}/copy_of_{path.name}"
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)


def copies(out: Path) -> None:
    two_datasets(out, "copies", "train", "val")
    copied(out)


def two_spaces_of_a_name(out: Path) -> None:
    two_datasets(out, "copies", "train", "null", "other.yaml")
    write(out / "other.yaml", PARKS.replace("name: car, nodes: car", "name: car, nodes: object"))


def linked_files(out: Path) -> None:
    """Every image is a link into a pool."""
    for path in sorted((out / "data/images").rglob("*.jpg")):
        target = out / "pool" / path.name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        path.symlink_to(os.path.relpath(target, path.parent))


def two_links(out: Path) -> None:
    """Two folders of train are links to one; both hold pictures of their own names."""
    for kind in ("images", "masks"):
        folder = out / f"data/{kind}/train"
        folder.rename(out / f"{kind}_pool")
        folder.mkdir()
        for name in ("first", "second"):
            (folder / name).symlink_to(out / f"{kind}_pool")


def linked_copy(out: Path) -> None:
    """A picture of val is a link to one of train under another name."""
    (out / "data/images/val/im11.jpg").unlink()
    (out / "data/images/val/im11.jpg").symlink_to("../train/im0.jpg")
    shutil.copy(out / "data/masks/train/im0.png", out / "data/masks/val/im11.png")


def hard_link(out: Path) -> None:
    (out / "data/images/val/im11.jpg").unlink()
    os.link(out / "data/images/train/im0.jpg", out / "data/images/val/im11.jpg")
    shutil.copy(out / "data/masks/train/im0.png", out / "data/masks/val/im11.png")


def circle(out: Path) -> None:
    path = out / "data/images/train/im0.jpg"
    path.unlink()
    path.symlink_to("im0.jpg")


def fields(key: str, value) -> dict:
    def note(entry: dict) -> None:
        entry[key] = value(entry[key])

    return {"note": note}


def points(text: str) -> str:
    return text.replace("  </image>", '    <points label="car" points="1,1;2,2"/>\n  </image>', 1)


def tracks(text: str) -> str:
    return text.replace("</annotations>", '<track id="0" label="car"></track></annotations>')


def spare_road(ids: np.ndarray) -> np.ndarray:
    return np.where(ids == 2, 0, ids).astype(np.uint8)


def composed_row(file: str, box, label: int) -> tuple:
    return (COMPOSED + file.removeprefix(APART), *box, label)


def half_composed(number: int) -> str:
    return f"{COMPOSED if number % 2 else APART}{number}.txt"


def cut(data: bytes) -> bytes:
    return data[:-99]


def pointer(data: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


DAMAGED, TRAINED = "cut off or damaged", "not trained on"
NONE_MATCHES, UNICODE = "none of the 4 images there matches", "another Unicode form"
BILEVEL = space("s", {0: "background", 1: "thing"})

SUFFIXES = {
    "suffix_jfif": ("right", "", pictures_as(".jfif")),
    "suffix_jpeg_and_jpg": ("refused", NONE_MATCHES, partial(masks, image="images/{split}/im{i}.jpeg")),
    "suffix_mixed_case": ("right", "", pictures_as(".Jpg")),
    "suffix_mixed_case_masks": ("right", "", masks_as(".PnG")),
    "suffix_tif": ("right", "", masks_as(".TIFF")),
    "suffix_gif_masks_in_an_open_pattern": ("refused", "im0.gif", masks_as(".gif")),
    "suffix_npy_masks_in_an_open_pattern": ("refused", "im0.npy", masks_as(".npy", array)),
    "suffix_gif_images": ("refused", "im0.gif", pictures_as(".gif")),
    "suffix_masks_of_another_pattern": ("refused", NONE_MATCHES, partial(masks, masks="masks/{split}/{name}_id.png")),
    "suffix_images_beside_the_pattern": ("right", "", partial(masks, then=beside("notes/readme.txt", "x"))),
}
TEXTS = {
    "text_coco_utf16": ("refused", "UTF-8", partial(coco, code="utf-16")),
    "text_cvat_latin1": ("refused", "UTF-8", partial(cvat, code="latin-1", image="images/ä{i}.jpg", name="ä{i}.jpg")),
    "text_label_studio_classes_utf16": ("refused", "UTF-8", partial(label_studio, code="utf-16")),
    "text_list_utf16": ("refused", "UTF-8", partial(listed, code="utf-16")),
    "text_list_of_a_mac": ("right", "", partial(listed, end="\r")),
    "text_list_of_two_columns": ("refused", "two columns", partial(listed, lines=in_folders("im{i}.jpg im{i}.png"))),
    "text_list_twice": (
        "refused",
        "found 'im0' again",
        partial(listed, lines={"train": ["im0", "im0"], "val": ["im10"]}),
    ),
    "text_csv_tabs": ("refused", "tabs", partial(box_csv, comma="\t")),
    "text_csv_short_line": (
        "refused",
        "four finite numbers",
        partial(box_csv, row=lambda file, box, label: (file, box[0])),
    ),
    "text_csv_old_mac": ("right", "", partial(box_csv, end="\r")),
    "text_csv_header_in_capitals": (
        "refused",
        "found no class_id",
        partial(box_csv, header="image,x1,y1,x2,y2,ClassId"),
    ),
    "text_yolo_crlf": ("right", "", partial(yolo, line="{}\r".format)),
    "text_yolo_empty_files": (
        "refused",
        "expected a labelled pixel",
        partial(yolo, background=None, line=lambda text: ""),
    ),
}
PATHS = {
    "path_longer": ("refused", ANOTHER_MACHINE, partial(coco, file="/home/me/data/train/im{i}.jpg")),
    "path_drive_letter_csv": ("refused", ANOTHER_MACHINE, partial(box_csv, row=lambda f, b, n: ("D:\\x\\" + f, *b, n))),
    "path_cvat": ("refused", ANOTHER_MACHINE, partial(cvat, name="C:\\frames\\im{i}.jpg")),
    "path_label_studio_longer": ("right", "", partial(label_studio, file="/data/local-files/?d=photos/im{i}.jpg")),
    "path_in_a_list": ("refused", ANOTHER_MACHINE, partial(listed, lines=in_folders("D:\\data\\im{i}.jpg"))),
    "unicode_list": (
        "refused",
        UNICODE,
        partial(
            listed,
            image=f"images/{APART}{{i}}.jpg",
            mask=f"masks/{APART}{{i}}.png",
            lines=in_folders(COMPOSED + "{i}"),
        ),
    ),
    "unicode_csv": ("refused", UNICODE, partial(box_csv, name=APART + "{i}.jpg", row=composed_row)),
    "unicode_cvat": ("refused", UNICODE, partial(cvat, image=f"images/{APART}{{i}}.jpg", name=COMPOSED + "{i}.jpg")),
    "unicode_label_studio": (
        "refused",
        UNICODE,
        partial(label_studio, file=COMPOSED + "{i}.jpg", then=partial(rename, pattern="im*.jpg", old="im", new=APART)),
    ),
    "unicode_yolo": (
        "refused",
        UNICODE,
        partial(yolo, image=f"images/{{split}}/{APART}{{i}}.jpg", label_file=half_composed),
    ),
}
OVERLAPS = {
    "overlap_of_two_datasets": ("refused", TRAINED, partial(two_datasets, root="data", train="val", val="null")),
    "overlap_of_copies": ("refused", TRAINED, copies),
    "overlap_of_a_link": ("refused", TRAINED, partial(masks, then=linked_copy)),
    "overlap_of_a_hard_link": ("refused", TRAINED, partial(masks, then=hard_link)),
    "links_to_files": ("right", "", partial(masks, then=linked_files)),
    "links_to_one_folder": ("right", "", partial(masks, then=two_links)),
    "link_to_itself": ("refused", "a link to nothing", partial(masks, then=circle)),
    "space_named_as_a_path": (
        "refused",
        "expected a plain name",
        partial(masks, label_space=PARKS.replace("parks", "../p")),
    ),
    "spaces_of_one_name": ("refused", "a name of its own", two_spaces_of_a_name),
}
FORMS = {
    "image_grey_alpha": ("warning", "", pictures_as(".png", partial(as_mode, mode="LA"))),
    "image_alpha": ("right", "", pictures_as(".png", partial(as_mode, mode="RGBA"))),
    "image_palette": ("right", "", pictures_as(".png", partial(as_mode, mode="P"))),
    "image_cmyk": ("right", "", pictures_as(".jpg", partial(as_mode, mode="CMYK"))),
    "image_bmp": ("right", "", pictures_as(".bmp")),
    "image_tiff": ("right", "", pictures_as(".tif")),
    "image_webp": ("right", "", pictures_as(".webp", lossless)),
    "image_ppm": ("right", "", pictures_as(".ppm")),
    "mask_16_bits": ("right", "", masks_as(".png", ids=lambda ids: ids.astype(np.uint16))),
    "mask_32_bits": ("right", "", masks_as(".tif", ids=lambda ids: ids.astype(np.int32))),
    "mask_palette": ("right", "", masks_as(".png", indexed)),
    "mask_bmp": ("right", "", masks_as(".bmp")),
    "mask_bmp_palette": ("right", "", masks_as(".bmp", indexed)),
    "mask_bmp_grey_palette": ("right", "", masks_as(".bmp", grey_palette)),
    "mask_1_bit_png": ("right", "", masks_as(".png", ids=lambda ids: ids >= 3, label_space=BILEVEL)),
    "mask_1_bit_bmp": ("right", "", masks_as(".bmp", ids=lambda ids: ids >= 3, label_space=BILEVEL)),
    "mask_pgm": ("right", "", masks_as(".pgm")),
    "mask_webp": ("refused", "one channel", masks_as(".webp", lossless)),
    "mask_mostly_ignored": ("warning", "are ignored", partial(masks, ids=spare_road)),
}
DAMAGE = {
    "damage_lfs_pointer": (
        "refused",
        "git-lfs",
        partial(masks, then=changed("images/train/im0.jpg", pointer)),
    ),
    "damage_lfs_pointer_of_a_mask": (
        "refused",
        "git-lfs",
        partial(masks, then=changed("masks/val/im10.png", pointer)),
    ),
    "damage_page": (
        "refused",
        "a web page",
        partial(masks, then=changed("images/train/im0.jpg", lambda data: b"<html>")),
    ),
    "damage_empty": ("refused", "an empty file", partial(masks, then=changed("masks/train/im0.png", lambda data: b""))),
    "damage_half_jpeg": (
        "refused",
        DAMAGED,
        partial(masks, then=changed("images/train/im0.jpg", cut)),
    ),
    "damage_half_bmp": (
        "refused",
        DAMAGED,
        partial(masks_as(".bmp"), then=changed("masks/train/im0.bmp", cut)),
    ),
    "damage_half_tiff": (
        "refused",
        DAMAGED,
        partial(masks_as(".tif"), then=changed("masks/train/im0.tif", cut)),
    ),
    "damage_half_palette": (
        "refused",
        DAMAGED,
        partial(masks_as(".png", indexed), then=changed("masks/train/im0.png", cut)),
    ),
    "damage_behind_the_end": (
        "right",
        "",
        partial(masks, then=changed("images/train/im0.jpg", lambda data: data + bytes(99))),
    ),
}
ODD = {
    "odd_text_numbers": ("right", "", partial(coco, kind="boxes", **fields("bbox", lambda box: [str(v) for v in box]))),
    "odd_nan": (
        "refused",
        "finite",
        partial(coco, kind="boxes", **fields("bbox", lambda box: [float("nan"), *box[1:]])),
    ),
    "odd_five_numbers": ("refused", "finite", partial(coco, kind="boxes", **fields("bbox", lambda box: [*box, 30]))),
    "odd_two_corners": ("refused", "three corners", partial(coco, shape=lambda box: [[*box]])),
    "odd_category": ("refused", "class id", partial(coco, **fields("category_id", lambda value: None))),
    "odd_unknown_category": ("refused", "found 7", partial(coco, **fields("category_id", lambda value: 7))),
    "odd_cvat_points": ("refused", "found a points", partial(cvat, change=points)),
    "odd_cvat_video": ("refused", "CVAT for images", partial(cvat, change=tracks)),
    "odd_label_studio_turned": ("refused", "turned by 90", partial(label_studio, rotation=90)),
    "odd_skipped": (
        "warning",
        "skip_faulty",
        partial(coco, kind="boxes", skip_faulty="true", **fields("category_id", {3: 3}.get)),
    ),
}
CASES = SUFFIXES | TEXTS | PATHS | OVERLAPS | FORMS | DAMAGE | ODD
