"""Boxes as masks: rectangles (coarse) and the shapes that the labels fill of them (fine), as 16-bit PNGs of native ids.

The format is that of GTSDB's released per-pixel masks: NAME_labelIds.png, 0 unlabelled, 2000 + class.
OUT/label_space.yaml says what the ids mean.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heteroseg.curation.new_dataset import Log, items_by_path, job_of, require_places, with_unlabelled, write_space
from heteroseg.datasets import read_annotation
from heteroseg.datasets.encoding import write_ids
from heteroseg.datasets.sample import Item, Sample
from heteroseg.errors import HeterosegError, counted
from heteroseg.experiment.sources import Source
from heteroseg.labels.space import BoxShape, LabelSpace
from heteroseg.supervision.targets import paint_boxes, to_label_indices
from heteroseg.writing import filling


def box_masks(sample: Sample, space: LabelSpace) -> dict[str, np.ndarray]:
    """The `coarse` and `fine` mask of one image, (H, W) native ids, `space.outside` where no box is."""
    labels = to_label_indices(sample.box_ids, space, str(sample.box_file or sample.name))
    size = (sample.image.shape[0], sample.image.shape[1])
    own: list[BoxShape] = [space.labels[label].shape for label in labels]
    shapes: dict[str, list[BoxShape]] = {"coarse": ["rectangle"] * len(labels), "fine": own}
    return {kind: space.native_ids(paint_boxes(sample.boxes, s, labels, size)) for kind, s in shapes.items()}


def write_box_masks(source: Source, out: Path, log: Log) -> None:
    """Write OUT/gtCoarse and OUT/gtFine/NAME_labelIds.png for every image of the dataset; nothing is overwritten.

    Where train and val have images of one name it is SPLIT/NAME.
    """
    items, space = [*source.train, *source.val], with_unlabelled(source.space)
    if not any(len(item.boxes) for item in items):
        raise HeterosegError(f"datasets.{source.name}: has no boxes, so there are no masks to draw from them")
    folders = {"coarse": out / "gtCoarse", "fine": out / "gtFine"}
    by_name = {item.name: item for item in items}
    named = list(by_name.items()) if len(by_name) == len(items) else items_by_path(source)
    require_places(out, [name for name, _ in named])
    with filling(out, job_of("masks draw", [source]), ("gtCoarse", "gtFine", "label_space.yaml", "taxonomy.yaml")):
        for name, item in named:
            for kind, mask in box_masks(read_annotation(item), space).items():
                write_ids(folders[kind] / f"{name}_labelIds.png", mask, bits=16)
        write_space(out, space)
    drawn = f"{counted(len(items), 'image')}, {counted(sum(len(item.boxes) for item in items), 'box')}"
    log(f"{drawn}: {folders['coarse']}, {folders['fine']}")


def agreement(items: Sequence[Item], space: LabelSpace) -> dict[str, tuple[float, int]]:
    """IoU and number of boxes by label name: fine masks drawn from boxes against the dataset's masks for scoring.

    Counted are, for each label, the images that have boxes of it. Raises HeterosegError if there are no such masks.
    """
    counts = {label.id: np.zeros(3, np.int64) for label in space.labels if label.leaves}
    for item in items:
        if item.scoring_mask is None or not len(item.boxes):
            continue
        sample = read_annotation(item, scoring=True)
        given, drawn = np.asarray(sample.mask), box_masks(sample, space)["fine"]
        for number in counts.keys() & set(item.box_ids.tolist()):
            a, b = given == number, drawn == number
            counts[number] += ((a & b).sum(), (a | b).sum(), (item.box_ids == number).sum())
    totals = {label.name: counts[label.id].tolist() for label in space.labels if label.leaves}
    result = {name: (both / either, boxes) for name, (both, either, boxes) in totals.items() if either}
    if not result:
        raise HeterosegError(f"label space {space.name!r}: there are no masks for scoring to compare the boxes with")
    return result
