"""What the readers of label tools' exports share: from annotated images to items with boxes and painted masks."""

from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path

from heteroseg.datasets.boxes import Row, attach
from heteroseg.datasets.class_names import parse_id
from heteroseg.datasets.paths import ImageFinder, items_of, stem_of
from heteroseg.datasets.sample import Item

# place in the export; possible names of the image, the likeliest first; size as in Item; what was drawn, lowest first
AnnotatedImage = tuple[str, tuple[str, ...], tuple[float, float], Iterable[Row]]


def read_export(
    root: Path,
    split: str,
    images: str,
    path: Path,
    annotated: Iterable[AnnotatedImage],
    background: str | None,
    stems: Container[str] | None = None,
) -> list[Item]:
    """Items of the `images` (a pattern) that the export in `path` annotates (of those named in `stems`, if given).

    They have boxes, and masks where there are outlines, on the id `background`. The rows of `annotated` need no image
    and no size. All faults are told in one HeterosegError.
    """
    known = items_of(root, split, images, background=parse_id(background, "background"))
    item_of, finder = {item.name: item for item in known}, ImageFinder(root, known)
    rows: list[Row] = []
    items: dict[str, Item] = {}
    for where, files, size, marks in annotated:
        try:
            name = finder.resolve(*files) or ""
        except LookupError as error:
            rows.append(Row(where, fault=f"{error.args[0]}; complete the export with its images"))
            continue
        if stems is None or stem_of(name) in stems:
            items[name] = replace(item_of[name], mask=path, size=size)
            rows += [row._replace(image=name, size=size) for row in marks]
    painted = any(row.outline is not None for row in rows)
    return attach([items[name] for name in sorted(items)], rows, painted=painted)
