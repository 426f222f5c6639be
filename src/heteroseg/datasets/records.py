"""Records from CSV and JSON files, with the place of each fault; numbers and ids as they stand there."""

import csv
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from heteroseg.errors import HeterosegError
from heteroseg.files import require_regular

LONGEST = 1 << 26  # characters of a line or a field; Python's own limit is short for run lengths
COMMAS = {";": "semicolons", "\t": "tabs", ",": "commas"}


def number(value: Any) -> float:
    """`value` as a float, NaN where it is none."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def integer(value: Any) -> int | None:
    """An id from 0 to 2**31 - 1 from an int or its digits; None for anything else (3.0 and True are none)."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,10}\s*", value):
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**31 else None


def csv_lines(path: Path, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """(`file:line`, fields) of each line that is not blank, read as it is asked for: a file may have millions of lines.

    A file that is no CSV in UTF-8, such as one with a quote that does not end, the same twice in the first line, and
    more fields in another line raise HeterosegError.
    """
    first: list[str] = []
    try:
        csv.field_size_limit(LONGEST)
        with require_regular(path, sys.maxsize).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(_lines(file), delimiter=delimiter, skipinitialspace=True, strict=True)
            for fields in reader:
                if not any(map(str.strip, fields)):
                    continue
                where, first = f"{path}:{reader.line_num}", first or fields
                if fields is first and (twice := [name for name in fields if name and fields.count(name) > 1]):
                    raise HeterosegError(f"{where}: expected each column once, found {twice[0]} twice; remove one")
                if any(fields[len(first) :]):
                    told = f"expected {len(first)} columns as in the first line, found {len(fields)}"
                    raise HeterosegError(f"{where}: {told}; put a value with {delimiter!r} in quotes")
                yield where, fields
    except OSError as error:
        raise HeterosegError(f"{path}: cannot be read, {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise HeterosegError(f"{path}: expected a CSV file in UTF-8, found other bytes; save it as UTF-8") from None
    except csv.Error as error:
        raise HeterosegError(f"{path}: expected a CSV file, found {error}; export it again") from None


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(LONGEST):
        if len(line) == LONGEST:
            raise csv.Error(f"a line of more than {LONGEST} characters")
        yield line


def csv_records(
    path: Path, columns: tuple[str, ...], delimiter: str = ",", optional: tuple[str, ...] = ()
) -> Iterator[tuple[str, list[str | None]]]:
    """(`file:line`, values of `columns` and of `optional`) of each line; None where a line or the file has no more.

    The file has a header; other columns are left alone. A missing column raises HeterosegError.
    """
    lines = csv_lines(path, delimiter)
    _, header = next(lines, ("", []))
    if missing := [c for c in columns if c not in header]:
        other = next((name for comma, name in COMMAS.items() if len(header) == 1 and comma in header[0]), None)
        hint = f"they stand apart by {other}, put {delimiter!r} there" if other else "write them there"
        told = f"expected the columns {f'{delimiter} '.join(columns)}, found no {missing[0]}"
        raise HeterosegError(f"{path}:1: {told}; {hint}")
    places = [header.index(c) if c in header else len(header) for c in (*columns, *optional)]
    for where, fields in lines:
        yield where, [fields[i] if i < len(fields) else None for i in places]


def lists_of(path: Path, data: Any, *keys: str) -> list[list[dict]]:
    """The lists of objects under `keys` of what the json at `path` holds; anything else raises HeterosegError."""
    for key in keys:
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise HeterosegError(f"{path}: expected a list of objects under {key!r}, found none; take another file")
    return [data[key] for key in keys]


def by_id(path: Path, key: str, entries: list[dict]) -> dict[str, dict]:
    """Objects by their `id` as text; one that stands twice raises HeterosegError."""
    objects: dict[str, dict] = {}
    for i, entry in enumerate(entries):
        if entry.get("id") is None or objects.setdefault(str(entry["id"]), entry) is not entry:
            found = "none" if entry.get("id") is None else f"{entry['id']!r:.60} again"
            raise HeterosegError(f"{path}: {key}[{i}]: expected an id of its own, found {found}")
    return objects
