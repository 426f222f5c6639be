"""The plain records that flow from readers to the network."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


def no_boxes() -> np.ndarray:
    return np.zeros((0, 4), np.float32)


def no_ids() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Item:
    """One image of a dataset and where its annotation lies; nothing is decoded yet.

    `boxes` are (N, 4) float32 x1, y1, x2, y2 in pixels (x2 and y2 exclusive), `box_ids` (N,) int64 native ids.
    `palette` is (ids, 3) uint8 for masks that store colours instead of ids: row = id.
    `scoring_mask` is a mask that may be used to score but not to train (GTSDB's shapes).
    `polygons` are (K, 2) float32 corners x, y with `polygon_ids` (N,) int64; `tags` (N,) int64 are ids of labels that
    the image holds somewhere. An item may have any of them together.
    """

    name: str
    image: Path
    mask: Path | None = None
    boxes: np.ndarray = field(default_factory=no_boxes)
    box_ids: np.ndarray = field(default_factory=no_ids)
    palette: np.ndarray | None = None
    scoring_mask: Path | None = None
    polygons: tuple[np.ndarray, ...] = ()
    polygon_ids: np.ndarray = field(default_factory=no_ids)
    tags: np.ndarray = field(default_factory=no_ids)


@dataclass
class Sample:
    """A decoded item: `image` (H, W, 3) uint8 RGB, `mask` (H, W) int32 native ids or None, boxes and tags as in Item.

    In `mask` -1 is unknown; polygons are drawn into it.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray | None = None
    boxes: np.ndarray = field(default_factory=no_boxes)
    box_ids: np.ndarray = field(default_factory=no_ids)
    tags: np.ndarray = field(default_factory=no_ids)
