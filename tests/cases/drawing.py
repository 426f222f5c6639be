"""Small pictures whose colours tell what is what, and the YAML that goes with them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48
COLORS = {"sky": (40, 120, 230), "road": (110, 110, 110), "car": (210, 30, 30), "sign": (240, 220, 30)}
IDS = {"nothing": 0, "sky": 1, "road": 2, "car": 3, "sign": 4}
PALETTE = np.array([(0, 0, 0), *COLORS.values()], np.uint8)
SPLITS = {"train": (0, 1, 2, 3), "val": (10, 11)}
NUMBERS = [number for numbers in SPLITS.values() for number in numbers]

Box = tuple[int, int, int, int]  # x1, y1, x2, y2; x2 and y2 exclusive

TREE = "name: mine\ntree:\n  root: [sky, road, object]\n  object: [car, sign]\n"
HEAD = "name: {}\ntaxonomy: tree.yaml\n{}labels:\n"
LABEL = "  - {{id: {}, name: {}, {}}}\n"
AROUND = "around_boxes: {excludes: object}\n"


def space(name: str, labels: Mapping[int, str], more: str = "") -> str:
    """A label space: id -> label, which is the name of a node; "nothing" is ignored, "background" is sky or road."""
    nodes = {"nothing": "ignore: true", "background": "nodes: [sky, road]", "thing": "nodes: [car, sign]"}
    return HEAD.format(name, more) + "".join(
        LABEL.format(i, label, nodes.get(label, f"nodes: {label}")) for i, label in labels.items()
    )


PARKS = space("parks", {i: label for label, i in IDS.items()})
PAINTED = space("painted", {0: "background", 3: "car", 4: "sign"})
THINGS = space("things", {3: "car", 4: "sign"}, "gate: root\n" + AROUND)
TOOL_PAINTED = space("painted", {9: "background", 0: "car", 1: "sign"})
TOOL_THINGS = space("things", {0: "car", 1: "sign"}, "gate: root\n" + AROUND)


class Scene(NamedTuple):
    """(H, W, 3) uint8 RGB, (H, W) uint8 ids of `IDS`, and the boxes of the car and the sign."""

    image: np.ndarray
    ids: np.ndarray
    boxes: dict[str, Box]


def scene(number: int, width: int = WIDTH, height: int = HEIGHT) -> Scene:
    """A sky over a road, and a red car with a yellow sign in front of it."""
    rng = np.random.default_rng(number)
    x, y = int(rng.integers(2, width // 4)), int(rng.integers(height // 3, height // 2))
    car = (x, y, x + width // 2, y + height // 3)
    left, top = x + width // 8, y + height // 12
    return painted({"car": car, "sign": (left, top, left + width // 8, top + height // 8)}, width, height)


def sign_in_the_sky(number: int) -> Scene:
    """A car without a sign in front of it, and a sign elsewhere.

    The shared set of these cases leaves the car's own sign in the picture and annotates it as car, so that no labels
    can be right there.
    """
    return painted({"car": scene(number).boxes["car"], "sign": (48, 2, 60, 10)})


def painted(boxes: dict[str, Box], width: int = WIDTH, height: int = HEIGHT) -> Scene:
    """The scene of these boxes, the later ones on top."""
    ids = np.full((height, width), IDS["sky"], np.uint8)
    ids[height // 2 :] = IDS["road"]
    for label, (x1, y1, x2, y2) in boxes.items():
        ids[y1:y2, x1:x2] = IDS[label]
    return Scene(PALETTE[ids], ids, boxes)


def pictures() -> Iterator[tuple[str, int]]:
    """(split, number) of each picture."""
    return ((split, number) for split, numbers in SPLITS.items() for number in numbers)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    """Write pixels with Pillow; a JPEG as exact as it can be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exact = {"quality": 95, "subsampling": 0} if path.suffix.lower() in (".jpg", ".jpeg", ".jfif") else {}
    Image.fromarray(pixels).save(path, **exact, **options)


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    """Write text with its line ends as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def experiment(out: Path, reader: str, options: Mapping[str, str], label_space: str, tree: str = TREE) -> None:
    """Write OUT/experiment.yaml with one dataset, `mine`, in OUT/data."""
    write(out / "tree.yaml", tree)
    write(out / "space.yaml", label_space)
    write(
        out / "experiment.yaml",
        f"name: case\ntaxonomy: tree.yaml\ndatasets:\n  mine:\n    root: data\n    reader: {reader}\n"
        f"    label_space: space.yaml\n    options: {json.dumps(options)}\n"
        "model: {backbone: lite0, pretrained: false, width: 16}\nloss: {gate: open}\n"
        "train: {steps: 3, batch: 2, crop: [64, 64], workers: 0, save_every: 3, log_every: 1}\n",
    )
