"""What the option `skip_faulty` leaves out beyond what the readers see: what the heads of image files show."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from heteroseg.datasets.boxes import outside
from heteroseg.datasets.decoding import lies_upright, strays
from heteroseg.datasets.image_files import View, open_file, view
from heteroseg.datasets.sample import UNKNOWN, Item, Listing, Shape
from heteroseg.datasets.shapes import read_polygons
from heteroseg.errors import HeterosegError


def without_faulty(listing: Listing) -> Listing:
    """The items with their faulty boxes and shapes as unknown ground, without those whose files do not fit together.

    Only the heads of images and masks are read, and the jsons of polygons. What is left out is told in the faults.
    """
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(_sound, listing))
    items = [item for item, _ in results if item is not None]
    return listing.then(Listing(items, faults=[fault for _, faults in results for fault in faults]))


def _sound(item: Item) -> tuple[Item | None, list[str]]:
    """An item without its faults, None where nothing of it can be believed, and these faults."""
    faults: list[str] = []
    try:
        if item.polygon_ids is not None and item.mask is not None:
            size, shapes, faults = read_polygons(item.mask, item.polygon_ids)
            item = replace(item, shapes=tuple(shapes), size=size) if faults else replace(item, size=size)
        width, height = _size_of(item)
    except HeterosegError as error:
        return None, list(error.faults)
    places, fault = strays(item, width, height)
    faults += [fault] * bool(places)
    ids = item.box_ids.copy()
    ids[places] = UNKNOWN
    item = replace(item, box_ids=ids)
    if item.polygon_ids is None:
        item, more = _without_far_shapes(item, width, height)
        faults += more
    return item, faults


def _size_of(item: Item) -> tuple[int, int]:
    """Width and height of an item's image, as it is trained; a mask of another size raises HeterosegError."""
    drawn = item.shapes is not None or item.polygon_ids is not None
    masks = [path for path in (item.scoring_mask, None if drawn else item.mask) if path is not None]
    stated = [(_head(path).size(True), path) for path in masks]
    seen = _head(item.image)
    return seen.size(lies_upright(item, seen, [*stated, (item.size, item.mask if drawn else item.box_file)]))


def _head(path: Path) -> View:
    with open_file(path) as file:
        return view(file, path)


def _without_far_shapes(item: Item, width: int, height: int) -> tuple[Item, list[str]]:
    """An item whose shapes that stand out of the image are boxes of unknown ground, and the faults of these shapes."""
    scale = (width, height) if item.parts else (1, 1)

    def is_far(shape: Shape) -> bool:
        return shape.id >= 0 and outside(shape.scaled(scale).extent, width, height)

    far = [shape for shape in item.shapes or () if is_far(shape)]
    if not far:
        return item, []
    extents = np.array([shape.extent for shape in far], np.float32)
    told = f"{item.mask}: {item.image.name}: expected shapes inside the image of {width}x{height}, found"
    near = tuple(shape for shape in item.shapes or () if not is_far(shape))
    boxes, ids = np.concatenate([item.boxes, extents]), np.append(item.box_ids, [UNKNOWN] * len(far))
    return replace(item, shapes=near, boxes=boxes, box_ids=ids), [f"{told} {e.tolist()}" for e in extents]
