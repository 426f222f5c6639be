"""The drawn pictures in the forms of datasets, each with an experiment that reads it.

Every writer takes the folder and, by name, what is to be different from a plain sound dataset; `then` is called with
the folder when all else is written.
"""

import json
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.cases.drawing import (
    HEIGHT,
    IDS,
    NUMBERS,
    PAINTED,
    PARKS,
    SPLITS,
    THINGS,
    TOOL_PAINTED,
    TOOL_THINGS,
    WIDTH,
    Box,
    Scene,
    experiment,
    pictures,
    save,
    scene,
    write,
)

Put = Callable[[Path, np.ndarray], None]
TOOL_IDS = {"car": 0, "sign": 1}


def nothing(_: Any) -> None:
    """Leave it as it is."""


def same(value: Any) -> Any:
    return value


def outline(box: Box) -> list[float]:
    """x, y, x, y, ... of a rectangle as label tools draw it: through its outermost pixels."""
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - 1, y1, x2 - 1, y2 - 1, x1, y2 - 1]


def parts(values: Iterable[float]) -> list[float]:
    """x, y, x, y, ... as parts of the picture's width and height."""
    return [value / (WIDTH, HEIGHT)[i % 2] for i, value in enumerate(values)]


def centred(box: Box) -> list[float]:
    """Centre and size of a box in pixels, as YOLO has them in parts."""
    x1, y1, x2, y2 = box
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def masks(
    out: Path,
    *,
    image: str = "images/{split}/im{i}.jpg",
    mask: str = "masks/{split}/im{i}.png",
    draw: Callable[[int], Scene] = scene,
    put: Put = save,
    put_mask: Put = save,
    ids: Callable[[np.ndarray], np.ndarray] = same,
    label_space: str = PARKS,
    then: Callable[[Path], Any] = nothing,
    **options: str,
) -> None:
    """Masks beside the images; `ids` makes what is written of the ids of a picture."""
    patterns = {"images": "images/{split}/{name}.jpg", "masks": "masks/{split}/{name}.png"}
    experiment(out, "folder", patterns | options, label_space)
    for split, i in pictures():
        drawn = draw(i)
        put(out / "data" / image.format(split=split, i=i), drawn.image)
        put_mask(out / "data" / mask.format(split=split, i=i), ids(drawn.ids))
    then(out)


def listed(
    out: Path,
    *,
    lines: Mapping[str, Iterable[str]] | None = None,
    end: str = "\n",
    code: str = "utf-8",
    image: str = "images/im{i}.jpg",
    mask: str = "masks/im{i}.png",
) -> None:
    """Masks in one folder; lists of images are the splits."""
    patterns = {"images": "images/{name}.jpg", "masks": "masks/{name}.png", "names": "{split}.txt"}
    masks(out, image=image, mask=mask, **patterns)
    for split, names in (lines or {s: [f"im{i}" for i in numbers] for s, numbers in SPLITS.items()}).items():
        write(out / f"data/{split}.txt", "".join(name + end for name in names), code)


def coco(
    out: Path,
    *,
    kind: str = "polygons",
    draw: Callable[[int], Scene] = scene,
    size: tuple[float, float] = (WIDTH, HEIGHT),
    scale: float = 1,
    shape: Callable[[Box], Any] = lambda box: [outline(box)],
    order: Iterable[str] = ("car", "sign"),
    file: str = "im{i}.jpg",
    unlisted: Container[int] = (),
    note: Callable[[dict], Any] = nothing,
    change: Callable[[dict], Any] = nothing,
    put: Put = save,
    code: str = "utf-8",
    then: Callable[[Path], Any] = nothing,
    **options: str | None,
) -> None:
    """COCO's instances; `kind` says whether polygons or boxes are read, `note` and `change` alter what is written."""
    given = {"images": "{split}/{name}.jpg", kind: "{split}.json"}
    given |= {"background": "0"} if kind == "polygons" else {}
    chosen = {key: value for key, value in (given | options).items() if value is not None}
    experiment(out, "folder", chosen, PAINTED if kind == "polygons" else THINGS)
    for split, numbers in SPLITS.items():
        data: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        data["categories"] = [{"id": IDS[label], "name": label} for label in ("car", "sign")]
        for i in numbers:
            drawn = draw(i)
            put(out / f"data/{split}/im{i}.jpg", drawn.image)
            if i in unlisted:
                continue
            data["images"].append({"id": i, "file_name": file.format(i=i), "width": size[0], "height": size[1]})
            for label in order:
                x1, y1, x2, y2 = box = tuple(v * scale for v in drawn.boxes[label])
                entry = {"id": len(data["annotations"]) + 1, "image_id": i, "category_id": IDS[label], "iscrowd": 0}
                entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "segmentation": shape(box)}
                note(entry)
                data["annotations"].append(entry)
        change(data)
        write(out / f"data/{split}.json", json.dumps(data, indent=1), code)
    then(out)


def yolo(
    out: Path,
    *,
    kind: str = "outlines",
    scale: Callable[[Iterable[float]], list[float]] = parts,
    line: Callable[[str], str] = same,
    label_file: Callable[[int], str] = "im{}.txt".format,
    put: Put = save,
    image: str = "images/{split}/im{i}.jpg",
    then: Callable[[Path], Any] = nothing,
    **options: str,
) -> None:
    """YOLO's label files, with "outlines" or "boxes"."""
    given = {"background": "9"} if kind == "outlines" else {}
    experiment(out, "yolo", given | options, TOOL_PAINTED if kind == "outlines" else TOOL_THINGS)
    for split, i in pictures():
        drawn = scene(i)
        put(out / "data" / image.format(split=split, i=i), drawn.image)
        values = {label: outline(box) if kind == "outlines" else centred(box) for label, box in drawn.boxes.items()}
        texts = [f"{TOOL_IDS[label]} {' '.join(f'{v:.6f}' for v in scale(xy))}" for label, xy in values.items()]
        write(out / f"data/labels/{split}/{label_file(i)}", "".join(line(text) + "\n" for text in texts))
    then(out)


def cvat_shape(tag: str, label: str, box: Box, height: int = 0) -> str:
    """A box or polygon of CVAT's XML."""
    x1, y1, x2, y2 = box
    place = f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
    if tag == "polygon":
        xy = outline(box)
        place = 'points="' + ";".join(f"{x},{y}" for x, y in zip(xy[::2], xy[1::2], strict=True)) + '"'
    return f'    <{tag} label="{label}" {place} z_order="{height}"/>\n'


def cvat(
    out: Path,
    *,
    kind: str = "polygon",
    draw: Callable[[int], Scene] = scene,
    shapes: Callable[[Scene], str] | None = None,
    labels: Iterable[str] = ("car", "sign"),
    image: str = "images/im{i}.jpg",
    name: str = "im{i}.jpg",
    first: Mapping[str, int] = {"train": 0, "val": 0},
    size: tuple[float, float] = (WIDTH, HEIGHT),
    put: Put = save,
    label_space: str | None = None,
    change: Callable[[str], str] = same,
    code: str = "utf-8",
    then: Callable[[Path], Any] = nothing,
    **options: str,
) -> None:
    """CVAT for images 1.1, of a project with subsets. The numbers in names count from `first` on."""
    given = {"background": "9"} if kind == "polygon" else {}
    experiment(out, "cvat", given | options, label_space or (TOOL_PAINTED if kind == "polygon" else TOOL_THINGS))
    names = "".join(f"<label><name>{label}</name></label>" for label in labels)
    text = f"<annotations>\n  <meta><job><labels>{names}</labels></job></meta>\n"
    for split, i in pictures():
        drawn, number = draw(i), i - first[split]
        put(out / "data" / image.format(split=split, i=number), drawn.image)
        marked = [cvat_shape(kind, label, box, k) for k, (label, box) in enumerate(drawn.boxes.items())]
        file = f'name="{name.format(split=split, i=number)}" subset="{split}"'
        text += f'  <image id="{i}" {file} width="{size[0]}" height="{size[1]}">\n'
        text += (shapes(drawn) if shapes else "".join(marked)) + "  </image>\n"
    write(out / "data/annotations.xml", change(text + "</annotations>\n"), code)
    then(out)


def label_studio(
    out: Path,
    *,
    size: tuple[float, float] = (WIDTH, HEIGHT),
    rotation: int = 0,
    scale: Callable[[Iterable[float]], list[float]] = lambda xy: [100 * v for v in parts(xy)],
    file: str = "/data/upload/1/0a1b2c3d-im{i}.jpg",
    classes: str = "car\nsign\n",
    code: str = "utf-8",
    label_space: str = TOOL_THINGS,
    put: Put = save,
    change: Callable[[list[dict]], Any] = same,
    then: Callable[[Path], Any] = nothing,
    **options: str,
) -> None:
    """Label Studio's JSON, with rectangles."""
    experiment(out, "label_studio", {"classes": "classes.txt"} | options, label_space)
    tasks = []
    for i in NUMBERS:
        drawn = scene(i)
        put(out / f"data/images/im{i}.jpg", drawn.image)
        stated = {"original_width": size[0], "original_height": size[1], "image_rotation": rotation}
        result = []
        for label, (x1, y1, x2, y2) in drawn.boxes.items():
            value = dict(zip(("x", "y", "width", "height"), scale((x1, y1, x2 - x1, y2 - y1)), strict=True))
            value |= {"rotation": 0, "rectanglelabels": [label]}
            result.append({"type": "rectanglelabels", **stated, "value": value})
        annotations = [{"was_cancelled": False, "result": result}]
        tasks.append({"id": i, "data": {"image": file.format(i=i)}, "annotations": annotations})
    write(out / "data/annotations.json", json.dumps(change(tasks), indent=1))
    write(out / "data/classes.txt", classes, code)
    for split, numbers in SPLITS.items():
        write(out / f"data/{split}.txt", "".join(f"im{i}\n" for i in numbers))
    then(out)


def box_csv(
    out: Path,
    *,
    header: str = "image,x1,y1,x2,y2,class_id",
    row: Callable[[str, Box, int], Iterable[Any]] = lambda file, box, label: (file, *box, label),
    comma: str = ",",
    end: str = "\r\n",
    code: str = "utf-8",
    name: str = "im{i}.jpg",
    then: Callable[[Path], Any] = nothing,
) -> None:
    """A CSV of boxes."""
    experiment(out, "folder", {"images": "{split}/{name}.jpg", "boxes": "{split}.csv"}, THINGS)
    for split, numbers in SPLITS.items():
        lines = [header.replace(",", comma)]
        for i in numbers:
            drawn = scene(i)
            save(out / f"data/{split}/{name.format(i=i)}", drawn.image)
            boxes = drawn.boxes.items()
            lines += [comma.join(map(str, row(name.format(i=i), box, IDS[label]))) for label, box in boxes]
        write(out / f"data/{split}.csv", end.join(lines) + end, code)
    then(out)
