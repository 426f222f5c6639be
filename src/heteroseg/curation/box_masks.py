"""Boxes as masks: rectangles (coarse) and the shapes that the labels fill of them (fine), as 16-bit PNGs of native ids.

The format is that of GTSDB's released per-pixel masks: NAME_labelIds.png, 0 unlabelled, 2000 + class.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heteroseg.curation.new_dataset import Log
from heteroseg.datasets import read_mask, read_sample
from heteroseg.datasets.encoding import write_ids
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source
from heteroseg.files import require_absent
from heteroseg.labels.space import BoxShape, LabelSpace
from heteroseg.supervision.targets import paint_boxes, to_label_indices


def box_masks(item: Item, space: LabelSpace) -> dict[str, np.ndarray]:
    """The `coarse` and `fine` mask of one image, (H, W) native ids, `space.outside` where no box is."""
    sample = read_sample(item)
    labels = to_label_indices(sample.box_ids, space, str(item.image))
    size = (sample.image.shape[0], sample.image.shape[1])
    own: list[BoxShape] = [space.labels[label].shape for label in labels]
    shapes: dict[str, list[BoxShape]] = {"coarse": ["rectangle"] * len(labels), "fine": own}
    return {kind: space.native_ids(paint_boxes(sample.boxes, s, labels, size)) for kind, s in shapes.items()}


def write_box_masks(source: Source, out: Path, log: Log) -> None:
    """Write OUT/gtCoarse and OUT/gtFine/NAME_labelIds.png for every image of the dataset; nothing is overwritten."""
    items = [*source.train, *source.val]
    if not any(len(item.boxes) for item in items):
        raise HeterosegError(f"datasets.{source.name}: has no boxes, so there are no masks to draw from them")
    folders = {"coarse": out / "gtCoarse", "fine": out / "gtFine"}
    for folder in folders.values():
        require_absent(folder)
    for item in items:
        for kind, mask in box_masks(item, source.space).items():
            write_ids(folders[kind] / f"{item.name}_labelIds.png", mask, bits=16)
    log(f"{len(items)} images, {sum(len(item.boxes) for item in items)} boxes: {folders['coarse']}, {folders['fine']}")


def agreement(items: Sequence[Item], space: LabelSpace) -> dict[str, tuple[float, int]]:
    """IoU and number of boxes by label name: fine masks drawn from boxes against the dataset's masks for scoring.

    Counted are, for each label, the images that have boxes of it. Raises HeterosegError if there are no such masks.
    """
    counts = {label.id: np.zeros(3, np.int64) for label in space.labels if label.leaves}
    for item in items:
        if item.scoring_mask is None or not len(item.boxes):
            continue
        given, drawn = read_mask(item.scoring_mask), box_masks(item, space)["fine"]
        for number in counts.keys() & set(item.box_ids.tolist()):
            a, b = given == number, drawn == number
            counts[number] += ((a & b).sum(), (a | b).sum(), (item.box_ids == number).sum())
    totals = {label.name: counts[label.id].tolist() for label in space.labels if label.leaves}
    result = {name: (both / either, boxes) for name, (both, either, boxes) in totals.items() if either}
    if not result:
        raise HeterosegError(f"label space {space.name!r}: there are no masks for scoring to compare the boxes with")
    return result
