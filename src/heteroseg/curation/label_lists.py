"""Lists of labels as datasets publish them: ids, names, colours and groups, of no taxonomy yet.

Read are Cityscapes' labels.py (parsed, never run), Mapillary's config.json, COCO's categories, JSON tables of `fields`
and rows, CSV with a header, CamVid's label_colors.txt, a name a line, and our own label spaces (but not their nodes).
"""

import ast
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heteroseg.errors import HeterosegError, nearest
from heteroseg.files import parse_yaml, read_text
from heteroseg.labels.taxonomy import Color

FORMS = "a .py, .json, .csv, .txt or .yaml list of labels"
CITYSCAPES = ["name", "id", "trainId", "category", "catId", "hasInstances", "ignoreInEval", "color"]
VOID = {"void", "unlabeled", "unlabelled", "unlabel", "ignore", "ignored", "unknown", "invalid", "unannotated"}


@dataclass(frozen=True)
class Listed:
    """One label of a list. `groups` are the names of what it belongs to, widest first; an ignored one means nothing."""

    id: int
    name: str
    color: Color | None = None
    groups: tuple[str, ...] = ()
    ignore: bool = False
    evaluate: bool = True


def read_label_list(path: Path | str, id_field: str = "id", table: str | None = None) -> list[Listed]:
    """The labels of a list, by id. `id_field` is the field with the ids of the files (as trainId), `table` the
    part of a JSON file that holds several lists. Labels with a negative id are in no file and left out; labels that
    share an id (as by IDD's level1Id) become one. A list that cannot be understood raises HeterosegError.
    """
    path = Path(path)
    rows = _rows(path, read_text(path), table)
    if not rows:
        raise HeterosegError(f"{path}: expected {FORMS}, found no label in it; see `heteroseg taxonomy import --help`")
    known = dict.fromkeys(key for row in rows for key in row)
    if id_field != "id" and id_field not in known:
        hint = nearest(id_field, known)
        raise HeterosegError(f"{path}: there is no field {id_field!r}{hint}; it has {', '.join(known)}")
    return _joined(path, [_listed(path, place, row, id_field) for place, row in enumerate(rows)])


def _joined(path: Path, labels: Sequence[Listed]) -> list[Listed]:
    """One label for each id. Labels that share one take the name of their group, where it holds just them."""
    by_id: dict[int, list[Listed]] = {}
    for label in labels:
        if label.id >= 0:
            by_id.setdefault(label.id, []).append(label)
    result = []
    for number in sorted(by_id):
        mine = [label for label in by_id[number] if not label.ignore] or by_id[number][:1]
        first, alike = mine[0], {label.groups for label in mine}
        name, groups = " / ".join(dict.fromkeys(label.name for label in mine)), first.groups
        others = [b for b in labels if b.id != number and b.groups == groups and not b.ignore]
        if len(mine) > 1 and len(alike) == 1 and groups and not others:
            name, groups = groups[-1], groups[:-1]
        elif len(alike) > 1:
            groups = ()
        scored = any(label.evaluate for label in mine)
        result.append(Listed(number, name, first.color, groups, first.ignore, scored))
    names: dict[str, int] = {}
    faults = [
        f"{path}: the name {b.name!r} stands for the ids {names[b.name]} and {b.id}; give each label its own"
        for b in result
        if names.setdefault(b.name, b.id) != b.id
    ]
    if faults:
        raise HeterosegError(*faults)
    return result


def _listed(path: Path, place: int, row: dict[str, Any], id_field: str) -> Listed:
    """One row of any form; the place in the list is the id where there is no field for it."""
    name = str(row.get("readable") or row.get("name") or "").strip()
    number = row.get(id_field, place)
    if isinstance(number, str) and number.strip().lstrip("-").isdecimal():
        number = int(number)
    if not name or type(number) is not int:
        what = "a name" if not name else f"a whole number as {id_field!r}"
        raise HeterosegError(f"{path}: label {place + 1}: expected {what}, found {row!r:.90}; correct the row")
    raw = str(row.get("name", ""))
    if "--" in raw:  # Mapillary: construction--barrier--curb
        groups = tuple(raw.split("--")[:-1])
    else:
        group = row.get("category", row.get("supercategory", row.get("level1")))
        groups = (group.strip(),) if isinstance(group, str) and group.strip() else ()
    plain = name.lower().replace("_", " ")
    evaluate = not _true(row.get("ignoreInEval")) and row.get("evaluate", True) is not False
    unused = number == 255 and id_field != "id"  # what training ids call none
    void = "void" in groups and row.get("evaluate") is not True
    ignore = _true(row.get("ignore")) or plain in VOID or void or unused
    return Listed(number, name, _color(path, place, row), () if ignore else groups, ignore, evaluate)


def _true(value: Any) -> bool:
    return value is True or str(value).lower() in ("true", "yes")


def _color(path: Path, place: int, row: dict[str, Any]) -> Color | None:
    value = row.get("color", row.get("colour"))
    if value is None and {"r", "g", "b"} <= row.keys():
        value = [row["r"], row["g"], row["b"]]
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.startswith("#") and len(value) == 7:
        value = [str(int(value[i : i + 2], 16)) if _hex(value[i : i + 2]) else "?" for i in (1, 3, 5)]
    parts = value.replace(",", " ").split() if isinstance(value, str) else list(value)
    if len(parts) == 3 and all(str(p).strip().isdecimal() and int(p) < 256 for p in parts):
        return (int(parts[0]), int(parts[1]), int(parts[2]))
    raise HeterosegError(f"{path}: label {place + 1}: expected a colour of three numbers to 255, found {value!r:.40}")


def _hex(text: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in text)


def _rows(path: Path, text: str, table: str | None) -> list[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _json_rows(path, read_json(path, text), table)
    if table is not None:
        found = suffix or "no suffix"
        raise HeterosegError(f"{path}: --table names a part of a .json file, found {found}; leave it out")
    if suffix == ".py":
        return _python_rows(path, text)
    if suffix in (".yaml", ".yml"):
        data = parse_yaml(text, path).data
        return _dicts(data.get("labels") if isinstance(data, dict) else data) or []
    if suffix == ".csv":
        rows = [{(k or "").strip().lower(): v for k, v in r.items()} for r in csv.DictReader(io.StringIO(text))]
        return [{("id" if k == "class_id" else k): v for k, v in row.items()} for row in rows]
    if suffix == ".txt":
        return _text_rows(text)
    raise HeterosegError(f"{path}: expected {FORMS}, found the suffix {suffix or '(none)'!r}; convert or rename it")


def read_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HeterosegError(f"{path}: not valid JSON, {error}") from None


def _dicts(value: Any) -> list[dict[str, Any]] | None:
    return value if isinstance(value, list) and value and all(isinstance(v, dict) for v in value) else None


def _table_rows(data: Any) -> list[dict[str, Any]] | None:
    """The rows of one list in JSON, None if it is none: dicts, or lists under the names in `fields`."""
    if rows := _dicts(data):
        return rows
    if not isinstance(data, dict):
        return None
    for key in ("labels", "categories"):
        if rows := _dicts(data.get(key)):
            return rows
    fields, rows = data.get("fields"), data.get("labels")
    if isinstance(fields, list) and isinstance(rows, list) and all(isinstance(r, list) for r in rows):
        return [dict(zip(map(str, fields), row, strict=False)) for row in rows]
    return None


def _json_rows(path: Path, data: Any, table: str | None) -> list[dict[str, Any]]:
    lists = {str(k): rows for k, v in data.items() if (rows := _table_rows(v))} if isinstance(data, dict) else {}
    if table is not None:
        if table not in lists:
            has = ", ".join(lists) or "none"
            raise HeterosegError(f"{path}: no list of labels {table!r}{nearest(table, lists)}; the lists are: {has}")
        return lists[table]
    if rows := _table_rows(data):
        return rows
    if len(lists) == 1:
        return next(iter(lists.values()))
    if lists:
        raise HeterosegError(f"{path}: expected one list of labels, found {', '.join(lists)}; choose with --table")
    return []


def _text_rows(text: str) -> list[dict[str, Any]]:
    """`r g b name` a line (CamVid), or a name a line."""
    rows: list[dict[str, Any]] = []
    for line in text.splitlines():
        words = line.split(maxsplit=3)
        if len(words) == 4 and all(word.isdecimal() for word in words[:3]):
            rows.append({"name": words[3], "color": " ".join(words[:3])})
        elif line.strip() and not line.lstrip().startswith("#"):
            rows.append({"name": line.strip()})
    return rows


def _python_rows(path: Path, text: str) -> list[dict[str, Any]]:
    """Calls of `Label(...)` with plain values, under the fields that the file's namedtuple names."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise HeterosegError(f"{path}: not valid Python, {error}") from None
    calls = [n for n in ast.walk(module) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    fields, rows = CITYSCAPES, []
    for call in calls:
        if call.func.id == "namedtuple" and len(call.args) == 2:  # type: ignore[attr-defined]
            named = _plain(path, call.args[1])
            fields = named.replace(",", " ").split() if isinstance(named, str) else [str(f) for f in named]
    for call in sorted((c for c in calls if c.func.id == "Label"), key=lambda c: c.lineno):  # type: ignore[attr-defined]
        row = dict(zip(fields, (_plain(path, a) for a in call.args), strict=False))
        rows.append(row | {k.arg: _plain(path, k.value) for k in call.keywords if k.arg})
    return rows


def _plain(path: Path, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        where = f"{path}:{node.lineno}"
        raise HeterosegError(f"{where}: expected a plain value, found an expression; write it out") from None
