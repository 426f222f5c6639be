"""Any folder of images, with masks and boxes where path patterns say.

A pattern is relative to the root: `{split}` is the split, `{name}` the image's name (it may span folders), `*`
anything within a folder or file name, `**` any folders. Example: images "images/{split}/{name}.jpg", masks
"labels/{split}/{name}_mask.png", boxes "boxes_{split}.json". Most published datasets are such a folder;
docs/datasets.md has their patterns.
"""

from dataclasses import replace
from pathlib import Path

from heteroseg.datasets.boxes import attach, csv_rows
from heteroseg.datasets.class_names import parse_id
from heteroseg.datasets.coco_json import coco_rows
from heteroseg.datasets.paths import ImageFinder, expand, items_of, listed_names, matching, split_file
from heteroseg.datasets.sample import Item
from heteroseg.datasets.tags import with_tags
from heteroseg.errors import HeterosegError


def folder(
    root: Path,
    split: str,
    images: str,
    masks: str | None = None,
    boxes: str | None = None,
    polygons: str | None = None,
    names: str | None = None,
    background: str | None = None,
    tags: str | None = None,
) -> list[Item]:
    """Items by name. Masks hold ids (grey or palette PNGs, TIFFs); `boxes` is a COCO json or a CSV.

    `polygons` is a COCO json whose segmentations are painted to masks, on the id `background` (default: unknown).
    `names` is a text file with one of the images a line, where a split is a list and not a folder.
    `tags` is a CSV with the header `image,class_id`: labels that the image holds somewhere.

    COCO: images (id, file_name), annotations (image_id, bbox x y width height, category_id = native id). CSV: a header
    `image,x1,y1,x2,y2,class_id`, x2 and y2 exclusive. file_name and image are a path under the root or any tail of it
    that is not ambiguous; where the path in `boxes` has no `{split}`, boxes of other splits' images are left out.
    A bad pattern, a missing file and bad boxes (all of them at once) raise HeterosegError.
    """
    if masks is not None and polygons is not None:
        raise HeterosegError("folder: expected masks or polygons, found both; keep the one that is right")
    if boxes is not None and Path(boxes).suffix not in (".json", ".csv"):
        raise HeterosegError(f"boxes: expected a .json (COCO) or .csv file, found {boxes!r}; convert the file")
    listed = None if names is None else listed_names(root / expand(names, split))
    items = items_of(root, split, images, masks, listed, background=parse_id(background, "background"))
    for pattern, kind in ((polygons, "polygons"), (boxes, "boxes"), (tags, "tags")):
        if pattern is None:
            continue
        path = split_file(root, split, pattern, kind, f"file of {kind}", "check the pattern")
        others = []
        if names is not None or "{split}" not in pattern:
            others = [path for _, path in matching(root, expand(images, split if "{split}" in pattern else "*"))]
        resolve = ImageFinder(root, items, others).resolve
        if kind == "polygons":
            items = attach([replace(item, mask=path) for item in items], coco_rows(path, outlines=True), resolve, True)
        elif kind == "boxes":
            items = attach(items, csv_rows(path) if path.suffix == ".csv" else coco_rows(path), resolve)
        else:
            items = with_tags(items, path, ("image", "class_id"), resolve)
    return items
