"""Lists of labels as datasets publish them, and how one becomes a taxonomy by its groups and a label space.

A list is Cityscapes' labels.py (parsed, never run), Mapillary's config.json, COCO's categories, a JSON table of
`fields` and rows, CSV with a header, CamVid's label_colors.txt, a name a line, or a label space (not its nodes).
"""

import ast
import csv
import json
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import Field

from heteroseg.curation.spec_text import space_yaml, taxonomy_yaml
from heteroseg.errors import HeterosegError, nearest
from heteroseg.files import parse_yaml, read_text, require_absent, write_text
from heteroseg.labels.space import LabelEntry, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import ROOT, Color, TaxonomyFile, build_taxonomy

FORMS = "a .py, .json, .csv, .txt or .yaml list of labels"
CITYSCAPES = ["name", "id", "trainId", "category", "catId", "hasInstances", "ignoreInEval", "color"]
VOID = {"void", "unlabeled", "unlabelled", "unlabel", "ignore", "ignored", "unknown", "invalid", "unannotated"}


class Listed(LabelEntry):
    """One label of a list. `groups` names what it belongs to, the widest first."""

    id: int  # below 0 in lists that name what is in no file
    groups: tuple[str, ...] = Field((), exclude=True)


def read_label_list(path: Path | str, id_field: str = "id", table: str | None = None) -> list[Listed]:
    """The labels of a list, sorted by id; a list that cannot be understood raises HeterosegError.

    `id_field` is the field with the ids of the dataset's files (such as trainId). `table` names one list of a JSON file
    that holds several. Labels with a negative id are in no file and are left out. Labels that share an id (as IDD's
    level1Id) become one.
    """
    path = Path(path)
    rows = _rows(path, read_text(path), table)
    if not rows:
        raise HeterosegError(f"{path}: expected {FORMS}, found no label in it; see `heteroseg taxonomy import --help`")
    fields = dict.fromkeys(key for row in rows for key in row)
    if id_field != "id" and id_field not in fields:
        hint = nearest(id_field, fields)
        raise HeterosegError(f"{path}: there is no field {id_field!r}{hint}; it has {', '.join(fields)}")
    return _join(path, [_label(f"{path}: label {i + 1}", i, row, id_field) for i, row in enumerate(rows)])


def _join(path: Path, labels: Sequence[Listed]) -> list[Listed]:
    """One label for each id. Labels that share an id take the name of their group, if the group holds only them."""
    by_id: dict[int, list[Listed]] = {}
    for label in labels:
        if label.id >= 0:
            by_id.setdefault(label.id, []).append(label)
    result = []
    for number, same_id in sorted(by_id.items()):
        used = [label for label in same_id if not label.ignore] or same_id[:1]
        name, groups = " / ".join(dict.fromkeys(label.name for label in used)), used[0].groups
        others = [label for label in labels if label.id != number and label.groups == groups and not label.ignore]
        if len({label.groups for label in used}) > 1:
            groups = ()
        elif len(used) > 1 and groups and not others:
            name, groups = groups[-1], groups[:-1]
        evaluate = any(label.evaluate for label in used)
        result.append(used[0].model_copy(update={"name": name, "groups": groups, "evaluate": evaluate}))
    ids: dict[str, int] = {}
    faults = [
        f"{path}: the name {b.name!r} stands for the ids {ids[b.name]} and {b.id}; give each label its own"
        for b in result
        if ids.setdefault(b.name, b.id) != b.id
    ]
    if faults:
        raise HeterosegError(*faults)
    return result


def _label(where: str, position: int, row: dict[str, Any], id_field: str) -> Listed:
    """The label of one row; its position is its id where the row has no field for it."""
    name = str(row.get("readable") or row.get("name") or "").strip()
    number = row.get(id_field, position)
    if isinstance(number, str) and number.strip().lstrip("-").isdecimal():
        number = int(number)
    if not name or type(number) is not int or number >= 2**31:
        what = "a name" if not name else f"a whole number as {id_field!r}, below 2**31"
        raise HeterosegError(f"{where}: expected {what}, found {row!r:.90}; correct the row")
    groups = _groups(row)
    unused = number == 255 and id_field != "id"  # training ids call what is not trained 255
    void = "void" in groups and row.get("evaluate") is not True
    ignore = _true(row.get("ignore")) or name.lower().replace("_", " ") in VOID or void or unused
    evaluate = not _true(row.get("ignoreInEval")) and row.get("evaluate", True) is not False
    color, groups = _color(where, row), () if ignore else groups
    return Listed(id=number, name=name, color=color, groups=groups, ignore=ignore, evaluate=evaluate)


def _groups(row: dict[str, Any]) -> tuple[str, ...]:
    raw = str(row.get("name", ""))
    if "--" in raw:  # Mapillary: construction--barrier--curb
        return tuple(raw.split("--")[:-1])
    group = row.get("category", row.get("supercategory", row.get("level1")))
    return (group.strip(),) if isinstance(group, str) and group.strip() else ()


def _true(value: Any) -> bool:
    return value is True or str(value).lower() in ("true", "yes")


def _color(where: str, row: dict[str, Any]) -> Color | None:
    value = row.get("color", row.get("colour"))
    if value is None and {"r", "g", "b"} <= row.keys():
        value = [row["r"], row["g"], row["b"]]
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        value = bytes.fromhex(value[1:])
    parts = value.replace(",", " ").split() if isinstance(value, str) else list(value)
    if len(parts) == 3 and all(str(p).strip().isdecimal() and int(p) < 256 for p in parts):
        return (int(parts[0]), int(parts[1]), int(parts[2]))
    raise HeterosegError(f"{where}: expected a colour of three numbers to 255, found {value!r:.40}")


def _rows(path: Path, text: str, table: str | None) -> list[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _json_rows(path, text, table)
    if table is not None:
        kind = suffix or "no suffix"
        raise HeterosegError(f"{path}: --table names a part of a .json file, found {kind}; leave it out")
    if suffix == ".py":
        return _python_rows(path, text)
    if suffix in (".yaml", ".yml"):
        return _table_rows(parse_yaml(text, path).data) or []
    if suffix == ".csv":
        rows = [
            {(k or "").strip().lower(): v for k, v in r.items()} for r in csv.DictReader(StringIO(text, newline=""))
        ]
        return [{("id" if k == "class_id" else k): v for k, v in row.items()} for row in rows]
    if suffix == ".txt":
        return _text_rows(text)
    raise HeterosegError(f"{path}: expected {FORMS}, found the suffix {suffix or '(none)'!r}; convert or rename it")


def _table_rows(data: Any) -> list[dict[str, Any]] | None:
    """The rows of one list in JSON or YAML, None if it is none: dicts, or lists under the names in `fields`."""
    lists = [data.get("labels"), data.get("categories")] if isinstance(data, dict) else [data]
    for rows in lists:
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            return rows
    fields = data.get("fields") if isinstance(data, dict) else None
    if isinstance(fields, list) and isinstance(lists[0], list) and all(isinstance(row, list) for row in lists[0]):
        return [dict(zip(map(str, fields), row, strict=False)) for row in lists[0]]
    return None


def _json_rows(path: Path, text: str, table: str | None) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HeterosegError(f"{path}: not valid JSON, {error}") from None
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
    """The calls `Label(...)` with plain values; the fields are those of the file's namedtuple."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
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
        except (ValueError, TypeError, SyntaxError):
            told = "expected a plain value, found an expression; write it out"
            raise HeterosegError(f"{path}:{call.lineno}: {told}") from None
    return rows


def grouped_tree(paths: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """A tree of names by their groups, the widest first.

    A group of one child is left out. A group that shares its name with a label is called `NAME (group)`.
    """
    children: dict[tuple[str, ...], list[str]] = {(): []}
    for label, path in paths.items():
        children.setdefault(path, []).append(label)
    groups = {path[:i] for path in children for i in range(1, len(path) + 1)}
    tree: dict[str, list[str]] = {}
    for group in sorted(groups, key=lambda group: (*group, "\U0010ffff")):  # a group after those in it
        below = children[group]
        if len(below) > 1:
            used, plain = {ROOT, *paths, *tree}, group[-1]
            tries = (plain, f"{plain} (group)", *(f"{plain} (group {i})" for i in range(2, len(used) + 3)))
            name = next(name for name in tries if name not in used)
            tree[name], below = below, [name]
        children.setdefault(group[:-1], []).extend(below)
    return {ROOT: children[()], **tree}


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-") or "labels"


def import_file(
    path: Path, out: Path, name: str | None = None, id_field: str = "id", table: str | None = None, flat: bool = False
) -> list[Path]:
    """Turn a list of labels into OUT/NAME-tree.yaml, a taxonomy by groups, and OUT/NAME.yaml, a label space.

    `id_field` and `table` are as for `read_label_list`; `flat` makes one classifier of all labels. Returns both paths.
    No file is replaced; faults raise HeterosegError before anything is written.
    """
    labels = read_label_list(path, id_field, table)
    mapped = [label for label in labels if not label.ignore]
    if len(mapped) < 2:
        raise HeterosegError(f"{path}: expected two or more labels that mean something, found {len(mapped)}")
    name = name or _slug(table or path.stem)
    nodes = {label.id: "root (label)" if label.name == ROOT else label.name for label in mapped}
    tree = grouped_tree({nodes[label.id]: () if flat else label.groups for label in mapped})
    colors = {nodes[label.id]: label.color for label in mapped if label.color}
    file = TaxonomyFile(name=f"{name}-tree", tree=tree, colors=colors)
    entries: list[LabelEntry] = [label.model_copy(update={"nodes": nodes.get(label.id)}) for label in labels]
    paths = [out / f"{_slug(name)}-tree.yaml", out / f"{_slug(name)}.yaml"]
    space = LabelSpaceFile(name=name, taxonomy=paths[0].name, labels=entries)
    for target in paths:
        require_absent(target, "choose another --out or --name")
    build_label_space(space, build_taxonomy(file))
    write_text(paths[0], taxonomy_yaml(file, [f"The {len(mapped)} labels of {path.name}."]))
    write_text(paths[1], space_yaml(space, [f"Labels as in {path.name}."]))
    return paths
