"""COCO's panoptic format, which WildDash 2, Vistas and Cityscapes' own tools write too.

A json has images (id, file_name) and annotations (image_id, file_name, segments_info with id and category_id); a PNG
has the number of a segment as a colour, R + 256 G + 65536 B. COCO: train2017/NAME.jpg,
annotations/panoptic_train2017.json and annotations/panoptic_train2017/NAME.png. COCO's instances and COCO-Stuff's maps
are read by `folder`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from heteroseg.datasets.class_names import parse_id
from heteroseg.datasets.coco_json import is_crowd, read_coco
from heteroseg.datasets.paths import (
    Found,
    below,
    by_group,
    expand,
    items_of,
    listed_names,
    split_file,
    stem_of,
    unlisted,
)
from heteroseg.datasets.records import integer
from heteroseg.datasets.sample import CROWD, Listing


def coco_panoptic(
    root: Path,
    split: str,
    images: str = "{split}/{name}.*",
    segments: str = "annotations/panoptic_{split}.json",
    masks: str | None = None,
    names: str | None = None,
    background: str | None = None,
) -> Listing:
    """Items by name; masks hold category ids, and `background` (default: unknown) where there is no segment. Crowds are
    unknown, and images without segments are left out, and counted.

    `segments` is the json; the PNGs lie in `masks`, by default in a folder of the json's name. `names` is a text file
    with one of the images a line, where a split is a list.
    """
    path = split_file(root, split, segments, "segments", "list of segments", "download it, or set `segments`")
    folder = path.with_suffix("") if masks is None else root / expand(masks, split)
    entries, notes, categories = read_coco(path)
    wanted = None if names is None else set(listed_names(root / expand(names, split)))
    known, outside = {i.name: i for i in items_of(root, split, images)}, parse_id(background, "background")
    items, noted, faults = {}, set(), list[Found]()
    for i, note in enumerate(notes):
        entry = entries.get(str(note.get("image_id")), {})
        name = stem_of(str(entry.get("file_name", f"(image_id {note.get('image_id')!r})")))
        if wanted is not None and name not in wanted:
            continue
        where = f"{path}: annotations[{i}]"
        mask = below(folder, str(note.get("file_name")), where)
        noted.add(name)
        palette = _palette(note.get("segments_info"), outside)
        if name not in known:
            faults.append((where, "", f"expected the image of each annotation under {root}, found none for {name!r}"))
        elif not mask.is_file():
            faults.append((str(mask), "", f"expected the segments of each image, found no such file for {name!r}"))
        elif palette is None:
            faults.append((where, name, "expected segments_info with id and category_id, found others"))
        else:
            items[name] = replace(known[name], mask=mask, palette=palette)
    told = by_group(faults, "complete the download, or set the option skip_faulty")
    listing = Listing((items[name] for name in sorted(items)), categories, told)
    there = [name for name in known if wanted is None or name in wanted]
    listing.notes += unlisted(there, noted, path)
    return listing


def _palette(entries: object, background: int) -> np.ndarray | None:
    """A palette for `Item`: a segment's number as R + 256 G + 65536 B is its category id, -2 for a crowd; 0 is the
    background. None where an entry has no number that is a colour, or no category.
    """
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        return None
    pairs = [(integer(e.get("id")), CROWD if is_crowd(e) else integer(e.get("category_id"))) for e in entries]
    if any(number is None or number >= 1 << 24 or category is None for number, category in pairs):
        return None
    numbers, ids = np.array([*pairs, (0, background)], np.int32).T  # the last row counts where 0 is a segment too
    return np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16 & 255, ids], 1)
