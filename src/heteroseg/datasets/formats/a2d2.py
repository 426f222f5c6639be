"""A2D2 (Audi), semantic part: SESSION/camera/CAM/*_camera_*.png and SESSION/label/CAM/*_label_*.png in colours.

There is no official split: SPLIT.txt beside the sessions has a session (or an image's name) a line; the split `all` is
everything. Ids are the 38 classes of the published class_list.json in its order; its 55 colours tell instances apart
too (Car 1 to Car 4), which are one class here.
"""

from pathlib import Path

import numpy as np

from heteroseg.datasets.paths import find_files, lines_of, with_masks
from heteroseg.datasets.sample import Item
from heteroseg.errors import raise_faults

COLORS = """
ff0000 c80000 960000 800000 b65906 963204 5a1e01 5a1e1e cc99ff bd499b ef59bf ff8000 c88000 968000 00ff00 00c800
009600 0080ff 1e1c9e 3c1c64 00ffff 1edcdc 3c9dc7 ffff00 ffffc8 e96400 6e6e00 808000 ffc125 400040 b97a57 000064
8b636c d23273 ff0080 fff68f 960096 ccff99 eea2ad 212cb1 b432b4 ff46b9 eee9bf 93fdc2 9696c8 b496c8 48d1cc c87dd2
9f79ee 8000ff ff00ff 87ceff f1e6ff 60458f 352e52
"""
INSTANCES = [4, 4, 3, 3, 3, 3, 3, 2] + 30 * [1]  # colours of each class, in the order of the list
RGB = np.array([list(bytes.fromhex(color)) for color in COLORS.split()], np.int32)
PALETTE = np.column_stack([RGB, np.repeat(np.arange(38), INSTANCES)])


def a2d2(root: Path, split: str, camera: str = "*") -> list[Item]:
    """Items named SESSION/CAM/FILE; `camera` takes one of them only, as cam_front_center."""
    files = find_files(root, f"*/camera/{camera}/{{name}}.*")
    named = {"/".join((*p.relative_to(root).parts[:-1:2], name)): p for name, p in files.items()}
    items = [Item(name, path, palette=PALETTE) for name, path in sorted(named.items())]
    if split != "all":
        items = _listed(root / f"{split}.txt", items)
    return with_masks(items, _label, "label image")


def _listed(path: Path, items: list[Item]) -> list[Item]:
    lines = {line.removesuffix(".png"): where for where, line in lines_of(path)}
    keys = {item.name: {item.name, item.name.partition("/")[0], item.image.stem} for item in items}
    known = set().union(*keys.values())
    unknown = ((line, at) for line, at in lines.items() if line not in known)
    hint = "correct the line or unpack the session"
    raise_faults(f"{at}: expected a session or an image of it, found no {line!r}; {hint}" for line, at in unknown)
    return [item for item in items if keys[item.name] & set(lines)]


def _label(item: Item) -> Path:
    file = item.image.name.replace("_camera_", "_label_")
    return item.image.parents[2] / "label" / item.image.parent.name / Path(file).with_suffix(".png")
