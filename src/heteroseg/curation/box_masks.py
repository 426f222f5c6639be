"""Boxes as masks: rectangles (coarse) and the shapes that the labels fill of them (fine), as 16-bit PNGs of native ids.

The format is that of GTSDB's released per-pixel masks: NAME_labelIds.png, 0 unlabelled, 2000 + class.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heteroseg.curation.new_dataset import write_mask
from heteroseg.datasets import read_mask, read_sample
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source
from heteroseg.labels.space import LabelSpace
from heteroseg.supervision.targets import rasterise, to_label_indices


def box_masks(item: Item, space: LabelSpace) -> dict[str, np.ndarray]:
    """The `coarse` and `fine` mask of one image, (H, W) native ids, `space.outside` where no box is."""
    sample = read_sample(item)
    labels = to_label_indices(sample.box_ids, space, str(item.image))
    plain = replace(space, labels=tuple(replace(label, shape="rectangle") for label in space.labels))
    size = (sample.image.shape[0], sample.image.shape[1])
    drawn = {kind: rasterise(sample.boxes, labels, s, size) for kind, s in (("coarse", plain), ("fine", space))}
    return {kind: space.native_ids(m) for kind, m in drawn.items()}


def write_box_masks(source: Source, out: Path, log: Callable[[str], None] = lambda _: None) -> None:
    """OUT/gtCoarse and OUT/gtFine/NAME_labelIds.png for every image of the dataset's splits; nothing is overwritten."""
    items = [*source.train, *source.val]
    if not any(len(item.boxes) for item in items):
        raise HeterosegError(f"datasets.{source.name}: has no boxes, so there are no masks to draw from them")
    folders = {"coarse": out / "gtCoarse", "fine": out / "gtFine"}
    for folder in folders.values():
        if folder.exists():
            raise HeterosegError(f"{folder}: stands there already; choose another --out, or take it away")
    for item in items:
        for kind, mask in box_masks(item, source.space).items():
            write_mask(folders[kind] / f"{item.name}_labelIds.png", mask)
    log(f"{len(items)} images, {sum(len(item.boxes) for item in items)} boxes: {folders['coarse']}, {folders['fine']}")


def agreement(items: Sequence[Item], space: LabelSpace) -> dict[str, tuple[float, int]]:
    """IoU and number of boxes of each label: fine masks drawn here against the dataset's masks for scoring."""
    counts = {label.id: np.zeros(3, np.int64) for label in space.labels if label.leaves}
    for item in items:
        if item.scoring_mask is None or not len(item.boxes):
            continue
        given, drawn = read_mask(item.scoring_mask), box_masks(item, space)["fine"]
        for number in np.unique(item.box_ids).tolist():
            if number in counts:
                a, b = given == number, drawn == number
                counts[number] += (int((a & b).sum()), int((a | b).sum()), int((item.box_ids == number).sum()))
    names = {label.id: label.name for label in space.labels}
    result = {names[i]: (int(c[0]) / int(c[1]), int(c[2])) for i, c in counts.items() if c[1]}
    if not result:
        raise HeterosegError(f"label space {space.name!r}: there are no masks for scoring to compare the boxes with")
    return result


def agreement_table(found: dict[str, tuple[float, int]]) -> str:
    """One line a label, the worst first, and the mean."""
    width = max(map(len, found))
    rows = sorted(found.items(), key=lambda pair: pair[1][0])
    lines = [f"{name:<{width}}  IoU {iou:.3f}  {boxes:5d} boxes" for name, (iou, boxes) in rows]
    good = sum(iou >= 0.95 for iou, _ in found.values())
    mean = float(np.mean([iou for iou, _ in found.values()]))
    return "\n".join([*lines, f"mean IoU {mean:.3f}; {good} of {len(found)} labels reach 0.95"])
