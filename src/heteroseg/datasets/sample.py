"""The plain records that flow from readers to the network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")
LARGEST = 2**28  # pixels of an image or a mask, 16,384 x 16,384: what states more is not decoded
UNKNOWN = -1  # the id of pixels and boxes of which nothing is known
CROWD = -2  # the same for pixels of a crowd: things may be in it that were not marked, so silence means nothing there
no_ids = partial(np.zeros, 0, np.int64)


@dataclass(frozen=True)
class RunLength:
    """A mask of a part of the image: `counts` are its run lengths down the columns, 0 first, as COCO packs them.

    `window` is x, y, width, height in pixels.
    """

    counts: bytes
    window: tuple[int, int, int, int]


@dataclass(frozen=True)
class Shape:
    """A shape with an id: all `polygons` together, each (N, 2) float64 x, y in pixels or in parts of the image, and the
    ones of `run_length`."""

    id: int
    polygons: tuple[np.ndarray, ...] = ()
    run_length: RunLength | None = None

    def scaled(self, scale: tuple[float, float]) -> "Shape":
        """The shape with x and y of its polygons multiplied."""
        return replace(self, polygons=tuple(corners * scale for corners in self.polygons))

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 of the smallest box around a shape that is not empty."""
        corners = list(self.polygons)
        if self.run_length is not None:
            x, y, width, height = self.run_length.window
            corners.append(np.array([[x, y], [x + width, y + height]], np.float64))
        points = np.concatenate(corners)
        (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
        return x1, y1, x2, y2


@dataclass(frozen=True)
class Item:
    """One image of a dataset and where its annotation lies; nothing is decoded yet.

    `boxes` are (N, 4) float32 x1, y1, x2, y2 in pixels (x2 and y2 exclusive), `box_ids` (N,) int64 native ids.
    `scoring_mask` is a mask that may be used to score but not to train (GTSDB's shapes).
    `tags` (N,) int64 are ids of labels that the image holds somewhere.

    `mask` is the file that the mask comes from. It holds ids, unless one of these says otherwise:
    `palette`: colours; (colours, 4) int, R, G, B and the id, which may be -1 or -2 as below.
    `polygon_ids`: a json of labelled polygons, as Cityscapes has it; label -> id.
    `shapes`: painted in this order; the file only names their source.
    `background` is the id where no shape or box lies, -1 for unknown.

    `size`: width and height of the image that the annotation was made for, where it tells. `parts`: the coordinates of
    `boxes` and `shapes` are parts of the image, not pixels. `box_file` is the file that the boxes and tags come from.
    `upright`: turn the image as its EXIF orientation says, unless what the annotation was made for is the stored one.
    A box of the id -1 and a shape of the id -2 are unknown ground: a crowd.
    """

    name: str
    image: Path
    mask: Path | None = None
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    box_ids: np.ndarray = field(default_factory=no_ids)
    palette: np.ndarray | None = None
    scoring_mask: Path | None = None
    tags: np.ndarray = field(default_factory=no_ids)
    polygon_ids: dict[str, int] | None = None
    shapes: tuple[Shape, ...] | None = None
    background: int = -1
    size: tuple[float, float] | None = None
    parts: bool = False
    box_file: Path | None = None
    upright: bool = True


class Listing(list[Item]):
    """The items of a split, and what else its files tell.

    `names`: what they call their ids. `faults`: annotations that are wrong and stand in no item. `notes`: what was left
    out, and what looks odd; a sentence each.
    """

    def __init__(
        self,
        items: Iterable[Item] = (),
        names: Mapping[int, str] | None = None,
        faults: Iterable[str] = (),
        notes: Iterable[str] = (),
    ):
        super().__init__(items)
        self.names, self.faults, self.notes = dict(names or {}), list(faults), list(notes)

    def then(self, later: Iterable[Item]) -> "Listing":
        """The later items with what both listings tell."""
        told = later if isinstance(later, Listing) else Listing()
        return Listing(later, self.names | told.names, self.faults + told.faults, self.notes + told.notes)


@dataclass
class Sample:
    """A decoded item: `image` (H, W, 3) uint8 RGB, `mask` (H, W) int32 native ids or None, boxes and tags as in Item.

    In `mask` -1 is unknown, and -2 a crowd; shapes are drawn into it. `file` holds its ids and `box_file` those of the
    boxes; they are told where an id is wrong. `window` is x1, y1, x2, y2 of what the sample shows of a photograph; None
    is all of it. `notes` say how the image was read, where that is not plain.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray | None = None
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    box_ids: np.ndarray = field(default_factory=no_ids)
    tags: np.ndarray = field(default_factory=no_ids)
    file: Path | None = None
    box_file: Path | None = None
    window: tuple[int, int, int, int] | None = None
    notes: tuple[str, ...] = ()


def spread_evenly(entries: Sequence[T], count: int) -> list[T]:
    """Up to `count` of the entries, in their order, as far apart as possible; all of them if there are no more."""
    places = np.linspace(0, len(entries) - 1, min(count, len(entries))).round().astype(int)
    return [entries[i] for i in places]
