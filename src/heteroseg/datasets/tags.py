"""Tag files: labels that an image holds somewhere."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from heteroseg.datasets.boxes import MOST, integer
from heteroseg.datasets.paths import tell
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError


def tagged(
    items: list[Item],
    path: Path,
    columns: tuple[str, str],
    resolve: Callable[[str], str | None],
    meant: Callable[[str], int | None] = integer,
    present: str | None = None,
) -> list[Item]:
    """Items with the tags of a CSV whose `columns` name the image and the label; other columns are left alone.

    `resolve` is as in `boxes.attach`, `meant` gives a label's id, None where it is none. With `present`, rows that
    have 0 in that column say that the label is absent, and are passed over. All faults are told at once.
    """
    mine: dict[str, set[int]] = {item.name: set() for item in items}
    faults = []
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, skipinitialspace=True)
        if missing := [c for c in columns if c not in (reader.fieldnames or ())]:
            raise HeterosegError(f"{path}:1: expected the columns {', '.join(columns)}, found no {missing[0]}")
        for record in reader:
            if present is not None and record.get(present) in ("0", "0.0"):
                continue
            image, label = (record[c] or "" for c in columns)
            try:
                name = resolve(image)
            except LookupError as error:
                faults.append(f"{path}:{reader.line_num}: {error.args[0]}; correct or remove it")
                continue
            if name in mine:
                number = meant(label)
                if number is None:
                    faults.append(f"{path}:{reader.line_num}: expected a label, found {label!r}; correct or remove it")
                else:
                    mine[name].add(number)
    tell(faults, MOST)
    return [replace(item, tags=np.array(sorted(mine[item.name]), np.int64)) for item in items]
