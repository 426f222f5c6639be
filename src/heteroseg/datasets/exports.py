"""What the readers of label tools' exports share: from annotated images to items with boxes and painted masks."""

from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path

from heteroseg.datasets.boxes import Row, attach
from heteroseg.datasets.class_names import ClassNames, parse_id
from heteroseg.datasets.paths import ImageFinder, items_of, stem_of, unlisted
from heteroseg.datasets.sample import Item, Listing

# place in the export; possible names of the image, the likeliest first; size as in Item, None where the rows may tell
# it; what was drawn, lowest first, None in another split
AnnotatedImage = tuple[str, tuple[str, ...], tuple[float, float] | None, Iterable[Row] | None]


def read_export(
    root: Path,
    split: str,
    images: str,
    path: Path,
    annotated: Iterable[AnnotatedImage],
    background: str | None,
    names: ClassNames,
    parts: bool = False,
    stems: Container[str] | None = None,
) -> Listing:
    """Items of the `images` (a pattern) that the export in `path` annotates (of those named in `stems`, if given).

    They have boxes, and masks where there are outlines, on the id `background`. The rows of `annotated` need no image
    and no size; `names` is what the export calls its ids. Images that it does not list are left out, and counted.
    """
    known = items_of(root, split, images, background=parse_id(background, "background"))
    item_of, finder = {item.name: item for item in known}, ImageFinder(root, known)
    rows: list[Row] = []
    items: dict[str, Item] = {}
    listed: set[str] = set()
    for where, files, size, marks in annotated:
        try:
            name = finder.resolve(*files) or ""
        except LookupError as error:
            if marks is not None:
                rows.append(Row(where, fault=f"{error.args[0]}; complete the export with its images"))
            continue
        listed.add(name)
        if marks is not None and (stems is None or stem_of(name) in stems):
            items[name] = replace(item_of[name], mask=path, box_file=path, size=size, parts=parts)
            for row in marks:
                in_pixels = row.outline is not None and row.outline.run_length is not None
                rows.append(row._replace(image=name, size=size or row.size, parts=parts and not in_pixels))
    listing = known.then(attach([items[name] for name in sorted(items)], rows, paints=True))
    listing.notes += unlisted([name for name in item_of if stems is None or stem_of(name) in stems], listed, path)
    return names.told(listing)
