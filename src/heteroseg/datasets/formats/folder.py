"""Any folder of images, with masks and boxes where path patterns say.

A pattern is relative to the root: `{split}` is the split, `{name}` the image's name (it may span folders), `*`
anything within a folder or file name, `**` any folders. Example: images "images/{split}/{name}.jpg", masks
"labels/{split}/{name}_mask.png", boxes "boxes_{split}.json". Most published datasets are such a folder;
docs/datasets.md has their patterns.
"""

from dataclasses import replace
from pathlib import Path

from heteroseg.datasets.boxes import attach, csv_rows, without_boxes
from heteroseg.datasets.class_names import parse_id
from heteroseg.datasets.coco_json import with_coco
from heteroseg.datasets.paths import ImageFinder, expand, items_of, listed_names, matching, split_file
from heteroseg.datasets.sample import Item, Listing
from heteroseg.datasets.tags import with_tags
from heteroseg.errors import HeterosegError
from heteroseg.files import read_text


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
) -> Listing:
    """Items by name. Masks hold ids (grey or palette PNGs, TIFFs); `boxes` is a COCO json or a CSV.

    `polygons` is a COCO json whose segmentations are painted to masks, on the id `background` (default: unknown); an
    annotation without one stays a box. Images that no json lists are left out, and counted.
    `names` is a text file with one of the images a line, where a split is a list and not a folder.
    `tags` is a CSV with the header `image,class_id`: labels that the image holds somewhere.

    COCO: images (id, file_name), annotations (image_id, bbox x y width height, category_id = native id). CSV: a header
    `image,x1,y1,x2,y2,class_id`, x2 and y2 exclusive. file_name and image are a path under the root or any tail of it
    that is not ambiguous; where the path in `boxes` has no `{split}`, boxes of other splits' images are left out.
    """
    if masks is not None and polygons is not None:
        raise HeterosegError("folder: expected masks or polygons, found both; keep the one that is right")
    if boxes is not None and Path(boxes).suffix not in (".json", ".csv"):
        raise HeterosegError(f"boxes: expected a .json (COCO) or .csv file, found {boxes!r}; convert the file")
    listed = None if names is None else listed_names(root / expand(names, split))
    listing = items_of(root, split, images, masks, listed, background=parse_id(background, "background"))
    for pattern, kind in ((polygons, "polygons"), (boxes, "boxes"), (tags, "tags")):
        if pattern is None or (kind == "boxes" and boxes == polygons):
            continue  # the one file of both is read once: what has a shape is painted, what has none is a box
        path = split_file(root, split, pattern, kind, f"file of {kind}", "check the pattern")
        others = []
        if names is not None or "{split}" not in pattern:
            masks_there = {path for _, path in matching(root, expand(masks, "*"))} if masks else set()
            found = matching(root, expand(images, split if "{split}" in pattern else "*"))
            others = [path for _, path in found if path not in masks_there]
        resolve = ImageFinder(root, listing, others).resolve
        if kind == "tags":
            listing = listing.then(with_tags(listing, path, ("image", "class_id"), resolve))
        elif path.suffix == ".csv":
            items = [replace(item, box_file=path) for item in listing]
            listing = listing.then(attach(items, csv_rows(path), resolve))
            listing.notes += without_boxes(listing, path)
        else:
            listing = listing.then(with_coco(listing, path, resolve, kind == "polygons"))
    return listing.then(Listing(listing, _labelme_names(listing)))


def _labelme_names(items: list[Item]) -> dict[int, str]:
    """Names of the ids where masks are labelme's label.png; HeterosegError where each image numbers its own classes."""
    lists = [item.mask.with_name("label_names.txt") for item in items if item.mask and item.mask.name == "label.png"]
    texts = {read_text(path): path for path in lists if path.is_file()}
    if len(texts) > 1:
        first, second = list(texts.values())[:2]
        told = f"expected the classes of {first}, found others; labelme numbers the classes of each image anew"
        raise HeterosegError(f"{second}: {told}, so export the whole dataset with one list (labelme2voc --labels)")
    return dict(enumerate("".join(texts).splitlines()))
