"""Things of one dataset laid into images of all: what their labels mean is known in any label space."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from heteroseg.datasets import read_sample
from heteroseg.datasets.sample import Sample
from heteroseg.errors import HeterosegError, nearest, shortened
from heteroseg.experiment.sources import Source
from heteroseg.labels.space import LabelSpace
from heteroseg.supervision.targets import NOTHING, Target, draw_shape
from heteroseg.training.augment import change_color

SMALLEST = 6  # pixels of the shorter side of a thing that is laid into a crop
KEPT = 1024  # things that are kept decoded
SOFT = 0.6  # sigma in pixels of a thing's edge


class Thing(NamedTuple):
    """What a box or a mask shows of a thing: `pixels` (h, w, 3) uint8, where in them it is, `shape` (h, w) uint8, 0 or
    1."""

    pixels: np.ndarray
    shape: np.ndarray
    boxed: bool

    def sized(self, zoom: float) -> "Thing":
        height, width = self.shape.shape
        size = max(round(width * zoom), 1), max(round(height * zoom), 1)
        way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        pixels, shape = (cv2.resize(part, size, interpolation=way) for part in (self.pixels, self.shape))
        return Thing(pixels, shape, self.boxed)


def images_named(source: Source, images_of: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Of the training images of each native id those that `paste_of` names. A name of no label that occurs raises
    HeterosegError."""
    space, chosen = source.space, set[int]()
    for name in source.config.paste_of:
        ids = {label.id for label in space.named(name)}
        if not ids & images_of.keys():
            near = nearest(name, [*(label.name for label in space.labels), *space.taxonomy.names])
            told = f"expected labels that training images hold, or nodes above them, found {shortened(name)!r}"
            raise HeterosegError(f"datasets.{source.name}.paste_of: {told}{near}")
        chosen |= ids
    return {i: images for i, images in images_of.items() if i in chosen}


def thing_in(sample: Sample, space: LabelSpace, native_id: int, number: int) -> Thing:
    """What the box with this `number` among those of an id holds, in the shape of its label; where no box has the id,
    the largest connected part of the mask."""
    boxes = sample.boxes[sample.box_ids == native_id]
    if len(boxes):
        (x1, y1), (x2, y2) = np.floor(boxes[number, :2]).astype(int), np.ceil(boxes[number, 2:]).astype(int)
        shape = np.zeros((y2 - y1, x2 - x1), np.uint8)
        label = space.labels[int(space.indices_of(np.array(native_id)))]
        draw_shape(shape, boxes[number] - [x1, y1, x1, y1], label.shape, 1)
    else:
        _, parts, stats, _ = cv2.connectedComponentsWithStats(np.asarray(sample.mask == native_id, np.uint8))
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        x1, y1, width, height, _ = stats[largest]
        x2, y2 = x1 + width, y1 + height
        shape = np.asarray(parts[y1:y2, x1:x2] == largest, np.uint8)
    return Thing(sample.image[y1:y2, x1:x2].copy(), shape, bool(len(boxes)))


class Pasting:
    """Lays things of each source's `images` into crops (height, width); each process keeps some of them decoded."""

    def __init__(
        self,
        sources: Sequence[Source],
        images: Sequence[dict[int, np.ndarray]],
        offsets: Sequence[int],
        crop: tuple[int, int],
        color: float,
    ):
        self.sources, self.images, self.offsets, self.crop, self.color = sources, images, offsets, crop, color
        self.thing = lru_cache(KEPT)(self._thing)

    def _thing(self, owner: int, image: int, native_id: int, number: int) -> Thing:
        """A thing as it is in its photograph, but no larger than a crop."""
        source = self.sources[owner]
        thing = thing_in(read_sample(source.train[image]), source.space, native_id, number)
        return thing.sized(min(1.0, *(most / side for most, side in zip(self.crop, thing.shape.shape, strict=True))))

    def draw(self, owner: int, rng: np.random.Generator) -> tuple[Thing, int]:
        """A thing of a source, zoomed and coloured as its crops are, and its label's running number.

        All labels are equally likely.
        """
        source, images = self.sources[owner], self.images[owner]
        native_id = int(rng.choice(list(images)))
        image = int(rng.choice(images[native_id]))
        number = int(rng.integers(max((source.train[image].box_ids == native_id).sum(), 1)))
        zoom = float(np.exp(rng.uniform(*np.log(source.config.scale))))
        thing = self.thing(owner, image, native_id, number).sized(zoom)
        label = int(source.space.indices_of(np.array(native_id)))
        return thing._replace(pixels=change_color(thing.pixels, self.color, rng)), self.offsets[owner] + label

    def lay(self, view: Sample, target: Target, rng: np.random.Generator) -> None:
        """Lay things into a view's image and what it teaches, anywhere in its window, in place.

        A thing that was boxed is known as a box is, and one of a mask as a mask. Those that do not fit are left out.
        """
        x1, y1, x2, y2 = view.window or (0, 0, *target.mask.shape[::-1])
        for owner, source in enumerate(self.sources):
            for _ in range(int(source.config.paste + rng.random()) if self.images[owner] else 0):
                thing, label = self.draw(owner, rng)
                height, width = thing.shape.shape
                if min(height, width) < SMALLEST or height > y2 - y1 or width > x2 - x1:
                    continue
                y, x = int(rng.integers(y1, y2 - height + 1)), int(rng.integers(x1, x2 - width + 1))
                here, inside = (slice(y, y + height), slice(x, x + width)), thing.shape > 0
                soft = cv2.GaussianBlur(thing.shape.astype(np.float32), (0, 0), SOFT)[..., None]
                view.image[here] = np.rint(view.image[here] * (1 - soft) + thing.pixels * soft)
                known, other = (target.boxes, target.mask) if thing.boxed else (target.mask, target.boxes)
                known[here][inside], other[here][inside] = label, NOTHING
