"""What the readers of label tools' exports share: from annotated images to items with boxes and painted masks."""

from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from heteroseg.datasets.boxes import NO_BOX, Row, attach
from heteroseg.datasets.paths import ImageFinder, stem_of
from heteroseg.datasets.sample import Item


class AnnotatedImage(NamedTuple):
    """An image as an export has it: `files` are its possible names, the likeliest first; `size` as in Item.

    `marks` are what was drawn, the lowest first, each with its place behind `where`.
    """

    where: str
    files: tuple[str, ...]
    size: tuple[float, float]
    marks: list[tuple[str, Any]]


def read_export(
    images: list[Item],
    root: Path,
    path: Path,
    annotated: Iterable[AnnotatedImage],
    read: Callable[[Row, Any], Row],
    background: int,
    stems: Container[str] | None = None,
) -> list[Item]:
    """Items of the images that the export in `path` annotates (of those named in `stems`, where it is given).

    They have boxes, and masks where there are outlines. `read` fills a mark into a row, which has the place, the image
    and its size. All faults are told in one HeterosegError.
    """
    known = {item.name: item for item in images}
    finder = ImageFinder(root, images)
    rows: list[Row] = []
    items: dict[str, Item] = {}
    for image in annotated:
        try:
            name = _find(finder, image.files)
        except LookupError as error:
            fault = f"{error.args[0]}; complete the export with its images"
            rows.append(Row(image.where, "", NO_BOX, None, "", fault=fault))
            continue
        if stems is None or stem_of(name) in stems:
            items[name] = replace(known[name], mask=path, size=image.size, background=background)
            for place, mark in image.marks:
                rows.append(read(Row(image.where + place, name, NO_BOX, None, "", image.size), mark))
    painted = any(row.outline is not None for row in rows)
    return attach([items[name] for name in sorted(items)], rows, painted=painted)


def _find(finder: ImageFinder, files: tuple[str, ...]) -> str:
    """The first name that is an image; where none is, what the finder says of the likeliest is raised (LookupError)."""
    for file in files:
        try:
            return finder.resolve(file) or ""
        except LookupError:
            continue
    return finder.resolve(files[0]) or ""
