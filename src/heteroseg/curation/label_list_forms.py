"""The forms in which lists of labels are published, each read to rows: dicts of what is told of a label.

Keys are in small letters; `id` and `name` stand there only where the list names them.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heteroseg.datasets.records import csv_lines
from heteroseg.errors import HeterosegError, nearest
from heteroseg.files import read_json, read_text, read_yaml

Rows = list[dict[str, Any]]
FORMS = "a .py, .json, .csv, .tsv, .txt, .names or .yaml list of labels"
CITYSCAPES = ["name", "id", "trainId", "category", "catId", "hasInstances", "ignoreInEval", "color"]
LISTS = ("id2label", "labels", "categories", "names", "classes")  # what a list is called in JSON and YAML
WHOLE = re.compile(r"\s*-?[0-9]+\s*")
BEHIND = re.compile(r".*[\s:,;=|]-?[0-9]+")
LINES = [  # of text: CVAT's labelmap.txt, CamVid's label_colors.txt, and a number before each name
    re.compile(r"(?P<name>[^:]+):(?P<r>\d+),(?P<g>\d+),(?P<b>\d+):[^:]*:[^:]*"),
    re.compile(r"(?:(?P<id>\d+)[\s,:;]+)?(?P<r>\d+)[\s,;]+(?P<g>\d+)[\s,;]+(?P<b>\d+)[\s,;]+(?P<name>[^\d\s].*)"),
    re.compile(r"(?P<id>-?\d+)(?:\s*[:,;=|]\s*|\s+-\s+|[.)]?\s+)(?P<name>\S.*)"),
]


def read_rows(path: Path, table: str | None) -> tuple[Rows, bool]:
    """The rows of a list, and whether the place of a row is its id where none is told, as in YOLO's data.yaml.

    `table` names one list of a JSON file. What is none of `FORMS` raises HeterosegError.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        found = suffix or "(none)"
        raise HeterosegError(f"{path}: expected {FORMS}, found the suffix {found!r}; convert or rename it")
    if table is not None and suffix != ".json":
        raise HeterosegError(f"{path}: --table names a part of a .json file, found {suffix}; leave it out")
    rows = _json_rows(path, table) if table is not None else READERS[suffix](path)
    rows = [{str(key).strip().lower(): value for key, value in row.items()} for row in rows]
    yolo = suffix in (".yaml", ".yml") and all(row.keys() == {"name"} for row in rows)
    return rows, yolo or any("r" in row for row in rows)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, or the text of one."""
    return type(value) is int or (isinstance(value, str) and WHOLE.fullmatch(value) is not None)


def _csv_rows(path: Path) -> Rows:
    """Lines under a header; commas, semicolons or tabs are between the fields, whichever the header has most of."""
    delimiter = max(",;\t", key=read_text(path).partition("\n")[0].count)
    lines = [[value.strip() for value in line] for _, line in csv_lines(path, delimiter)]
    header = lines[0] if lines else []
    if [name.lower() for name in header] == ["pixel value", "class"]:  # Roboflow's _classes.csv
        header = ["id", "name"]
    return [{key: value for key, value in zip(header, line, strict=False) if key} for line in lines[1:]]


def _yaml_rows(path: Path) -> Rows:
    data = read_yaml(path).data
    rows = _table_rows(data) or []
    count = data.get("nc", len(rows)) if isinstance(data, dict) else len(rows)
    if count != len(rows):
        raise HeterosegError(f"{path}: expected as many names as nc says, found nc {count!r} and {len(rows)} names")
    return rows


def _table_rows(data: Any) -> Rows | None:
    """The rows of one list in JSON or YAML, None if it is none."""
    if not isinstance(data, dict):
        return _list_rows(data)
    fields = data.get("fields")
    for key in LISTS:
        rows = data.get(key)
        if isinstance(fields, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
            return [dict(zip(map(str, fields), row, strict=False)) for row in rows]
        if found := _list_rows(rows):
            return found
    return _list_rows(data)


def _list_rows(data: Any) -> Rows | None:
    """The rows of a list of dicts or of names, or of a dict from ids to names or dicts, or from names to ids."""
    if isinstance(data, list) and data:
        if all(isinstance(row, dict) for row in data):
            return [_without_number_of_cvat(row) for row in data]
        return [{"name": row} for row in data] if any(isinstance(row, str) for row in data) else None
    if not isinstance(data, dict) or not data:
        return None
    if all(map(is_whole, data)) and not any(isinstance(value, list) for value in data.values()):
        return [{"id": key, **(row if isinstance(row, dict) else {"name": row})} for key, row in data.items()]
    named = all(isinstance(key, str) and type(value) is int for key, value in data.items())
    return [{"name": key, "id": value} for key, value in data.items()] if named else None


def _without_number_of_cvat(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the number that a label has in CVAT's database, which is in no file."""
    own = isinstance(row.get("attributes"), list)
    return {("id in CVAT" if own and key == "id" else key): value for key, value in row.items()}


def _json_rows(path: Path, table: str | None = None) -> Rows:
    data = read_json(path)
    lists = {str(k): rows for k, v in data.items() if (rows := _table_rows(v))} if isinstance(data, dict) else {}
    if table is not None:
        if table not in lists:
            has = ", ".join(lists) or "none"
            raise HeterosegError(f"{path}: no list of labels {table!r}{nearest(table, lists)}; the lists are: {has}")
        return lists[table]
    if rows := _table_rows(data):
        return rows
    if len(lists) > 1:
        raise HeterosegError(f"{path}: expected one list of labels, found {', '.join(lists)}; choose with --table")
    return next(iter(lists.values()), [])


def _text_rows(path: Path) -> Rows:
    """The lines of a text file, all in one of the forms in `LINES`, else a name a line."""
    numbered = enumerate(map(str.strip, read_text(path).splitlines()), 1)
    lines = {number: line for number, line in numbered if line and not line.startswith("#")}
    hint = "write all in one form, or a CSV file with the columns id and name"
    for form in LINES:
        found = {number: match.groupdict() for number, line in lines.items() if (match := form.fullmatch(line))}
        other = next((number for number in lines if number not in found), None)
        if not found:
            continue
        if other is None:
            told = [{key: value for key, value in row.items() if value is not None} for row in found.values()]
            if len({"id" in row for row in told}) > 1:
                raise HeterosegError(f"{path}: expected an id in each line or in none, found lines of both; {hint}")
            return [{**row, "name": row["name"].strip("'\", ")} for row in told]
        first = lines[next(iter(found))]
        raise HeterosegError(f"{path}:{other}: expected a line like {first!r:.60}, found {lines[other]!r:.60}; {hint}")
    if len(lines) > 1 and all(map(BEHIND.fullmatch, lines.values())):
        first = next(iter(lines.values()))
        raise HeterosegError(f"{path}: expected numbers before the names, found them behind, as {first!r:.60}; {hint}")
    return [{"name": line} for line in lines.values()]


def _python_rows(path: Path) -> Rows:
    """The calls `Label(...)` with plain values; the fields are those of the file's namedtuple."""
    try:
        module = ast.parse(read_text(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise HeterosegError(f"{path}: not valid Python, {error}") from None
    calls = [(n.func.id, n) for n in ast.walk(module) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    fields, rows = CITYSCAPES, []
    for function, call in sorted(calls, key=lambda pair: (pair[0] == "Label", pair[1].lineno)):
        try:
            if function == "namedtuple" and len(call.args) == 2:
                names = ast.literal_eval(call.args[1])
                fields = names.replace(",", " ").split() if isinstance(names, str) else [str(name) for name in names]
            elif function == "Label":
                row = dict(zip(fields, map(ast.literal_eval, call.args), strict=False))
                rows.append(row | {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg})
                repr(rows[-1])  # a number of too many digits cannot be told
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            told = "expected a plain value, found an expression; write it out"
            raise HeterosegError(f"{path}:{call.lineno}: {told}") from None
    return rows


READERS: dict[str, Callable[[Path], Rows]] = {".json": _json_rows, ".py": _python_rows}
READERS |= {".yaml": _yaml_rows, ".yml": _yaml_rows, ".csv": _csv_rows, ".tsv": _csv_rows}
READERS |= {".txt": _text_rows, ".names": _text_rows}
