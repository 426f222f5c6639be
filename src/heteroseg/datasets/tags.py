"""Tag files: labels that an image holds somewhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from heteroseg.datasets.boxes import CORRECT
from heteroseg.datasets.paths import Found, by_group
from heteroseg.datasets.records import csv_records, integer
from heteroseg.datasets.sample import Item, Listing


def with_tags(
    items: list[Item],
    path: Path,
    columns: tuple[str, str],
    resolve: Callable[[str], str | None],
    id_of: Callable[[str], int | None] = integer,
    present: tuple[str, ...] = (),
) -> Listing:
    """Items with the tags of a CSV whose `columns` name the image and the label; other columns are left alone.

    `resolve` is as in `boxes.attach`; `id_of` gives a label's id, None where it is none, -1 where it is of no use. Rows
    with 0 in a column of `present` say that the label is not there, and are passed over. Faulty rows are told apart.
    """
    tags: dict[str | None, set[int]] = {item.name: set() for item in items}
    faults: list[Found] = []
    for where, (image, label, *rest) in csv_records(path, columns, optional=present):
        if "0" in rest or "0.0" in rest:
            continue
        try:
            name = resolve(image or "")
        except LookupError as error:
            faults.append((where, image or "", str(error.args[0])))
            continue
        number = id_of(label or "")
        if name in tags and number is None:
            faults.append((where, image or "", f"expected a label, found {label or ''!r}"))
        elif name in tags and number is not None:
            tags[name].add(number)
    tagged = (replace(item, tags=np.array(sorted(tags[item.name] - {-1}), np.int64)) for item in items)
    return Listing(tagged, faults=by_group(faults, CORRECT))
