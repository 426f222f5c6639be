"""Lists of labels as datasets publish them, and how one becomes a taxonomy by its groups and a label space.

A list is Cityscapes' labels.py (parsed, never run), Mapillary's config.json, COCO's categories, CVAT's labels as JSON
or labelmap.txt, id2label.json, a JSON table of `fields` and rows, CSV with a header (Roboflow's _classes.csv too),
YOLO's data.yaml, CamVid's label_colors.txt, `7 sky` a line, a name a line, or a label space (not its nodes).
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from pydantic import Field

from heteroseg.curation.label_list_forms import FORMS, Rows, is_whole, read_rows
from heteroseg.curation.spec_text import space_yaml, taxonomy_yaml
from heteroseg.errors import HeterosegError, nearest, raise_faults, warn
from heteroseg.files import Document, write_text
from heteroseg.labels.space import LabelEntry, LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import ROOT, Color, Taxonomy, TaxonomyFile, build_taxonomy
from heteroseg.writing import require_absent

VOID = {"void", "unlabeled", "unlabelled", "unlabel", "ignore", "ignored", "unknown", "invalid", "unannotated"}
NAMES = ("readable", "name", "class", "label", "class_name", "label_name")
IDS = ("id", "class_id")  # fields that hold the ids, unless --id names another one
CHANNELS = [("r", "g", "b"), ("red", "green", "blue")]
NUMBERS = {*CHANNELS[0], *CHANNELS[1], "color", "colour", "isthing", "instances", "evaluate", "ignore", "id in cvat"}
PLACES = "so ids are the places in the list, from 0; compare them with the masks"


class Listed(LabelEntry):
    """One label of a list. `groups` names what it belongs to, the widest first."""

    id: int  # below 0 in lists that name what is in no file
    groups: tuple[str, ...] = Field((), exclude=True)


def read_label_list(path: Path | str, id_field: str | None = None, table: str | None = None) -> list[Listed]:
    """The labels of a list, sorted by id; a list that cannot be understood raises HeterosegError.

    `id_field` is the field with the ids of the dataset's files (such as trainId); without it they are `id`, and the
    places in a list that has no numbers. `table` names one list of a JSON file that holds several. Labels with a
    negative id are in no file and are left out. Labels that share an id of `id_field` (as IDD's level1Id) become one.
    What a list leaves open is a warning.
    """
    path = Path(path)
    rows, placed = read_rows(path, table)
    if not rows:
        raise HeterosegError(f"{path}: expected {FORMS}, found no label in it; see `heteroseg taxonomy import --help`")
    field = _id_field(path, rows, id_field)
    if field is None and not placed:
        cvat = any("id in cvat" in row for row in rows)
        warn(f"{path}: {'the ids are numbers of CVAT, not of files' if cvat else 'no ids'}, {PLACES}")
    labels = []
    for i, row in enumerate(rows):
        label = _label(f"{path}: label {i + 1}", row, i if field is None else row.get(field), field or "id")
        if label.id == 255 and label.ignore and field not in IDS and label.name.lower() not in VOID:
            warn(f"{path}: {label.name!r} has 255 as {field}, which is what is not trained: it is ignored")
        labels.append(label)
    if id_field is None:  # a column that was asked for may join labels
        first = {label.id: label.name for label in reversed(labels)}
        if twice := next((label for label in labels if label.id >= 0 and first[label.id] != label.name), None):
            told = f"found {twice.id} for {first[twice.id]!r} and for {twice.name!r}"
            raise HeterosegError(f"{path}: expected an id of its own for each label, {told}; correct one, or say --id")
    return _join(path, labels)


def _id_field(path: Path, rows: Rows, wanted: str | None) -> str | None:
    """The field with the ids, None where their places are; HeterosegError where nobody can tell."""
    fields = dict.fromkeys(key for row in rows for key in row)
    if wanted is not None:
        known = next((key for key in (*fields, "id in cvat") if key.removesuffix(" in cvat") == wanted.lower()), None)
        if known not in fields:
            hint = nearest(wanted, fields)
            raise HeterosegError(f"{path}: there is no field {wanted!r}{hint}; it has {', '.join(fields)}")
        return known
    if field := next((key for key in IDS if key in fields), None):
        return field
    name = next((key for key in NAMES if key in fields), None)
    values = {key: [row[key] for row in rows if row.get(key) not in (None, "")] for key in fields if key != name}
    numbers = [key for key, found in values.items() if key not in NUMBERS and found and all(map(_is_number, found))]
    if name is not None and numbers:
        told = f"expected the ids in a column called id, found the numbers {', '.join(numbers)}"
        raise HeterosegError(f"{path}: {told}; say which are the ids with --id {numbers[0]!r}, or rename the column")
    return None


def _is_number(value: Any) -> bool:
    return is_whole(value) or type(value) is float or (isinstance(value, str) and is_whole(value.replace(".", "", 1)))


def _join(path: Path, labels: Sequence[Listed]) -> list[Listed]:
    """One label for each id. Labels that share an id take the name of their group, if the group holds only them."""
    by_id: dict[int, list[Listed]] = {}
    for label in labels:
        if label.id >= 0:
            by_id.setdefault(label.id, []).append(label)
    result, sizes = [], Counter(label.groups for label in labels if not label.ignore)
    for _, same_id in sorted(by_id.items()):
        used = list({label.name: label for label in same_id if not label.ignore}.values()) or same_id[:1]
        name, groups = " / ".join(dict.fromkeys(label.name for label in used)), used[0].groups
        others = sizes[groups] - sum(label.groups == groups and not label.ignore for label in same_id)
        if len({label.groups for label in used}) > 1:
            groups = ()
        elif len(used) > 1 and groups and not others:
            name, groups = groups[-1], groups[:-1]
        evaluate = any(label.evaluate for label in used)
        result.append(used[0].model_copy(update={"name": name, "groups": groups, "evaluate": evaluate}))
    ids: dict[str, int] = {}
    twice = (b for b in result if ids.setdefault(b.name, b.id) != b.id)
    hint = "give each label its own"
    raise_faults(f"{path}: the name {b.name!r} stands for the ids {ids[b.name]} and {b.id}; {hint}" for b in twice)
    return result


def _label(where: str, row: dict[str, Any], number: Any, id_field: str) -> Listed:
    raw = next((row[key] for key in NAMES if row.get(key) not in (None, "")), None)
    name = str(raw).strip() if type(raw) in (str, int) else ""
    number = int(number) if is_whole(number) and (type(number) is int or len(number) < 20) else None
    if not name or number is None or number >= 2**31:
        what = f"a name, in quotes if it is no plain text, as {NAMES[1]!r}" if not name else "a whole number as"
        what += "" if not name else f" {id_field!r}, below 2**31"
        raise HeterosegError(f"{where}: expected {what}, found {row!r:.90}; correct the row")
    groups = _groups(row)
    unused = number == 255 and id_field not in IDS  # training ids call what is not trained 255
    void = "void" in groups and not _is(row, "evaluate", False)
    ignore = _is(row, "ignore", False) or name.lower().replace("_", " ") in VOID or void or unused
    evaluate = not _is(row, "ignoreineval", False) and _is(row, "evaluate", True)
    color, groups = _color(where, row), () if ignore else groups
    return Listed(id=number, name=name, color=color, groups=groups, ignore=ignore, evaluate=evaluate)


def _groups(row: dict[str, Any]) -> tuple[str, ...]:
    raw = str(row.get("name", ""))
    if "--" in raw:  # Mapillary: construction--barrier--curb
        return tuple(raw.split("--")[:-1])
    group = row.get("category", row.get("supercategory", row.get("level1")))
    named = isinstance(group, str) and group.strip().lower() not in ("", "none")
    return (str(group).strip(),) if named else ()


def _is(row: dict[str, Any], field: str, default: bool) -> bool:
    """A field that is yes or no."""
    return str(row.get(field) if row.get(field) not in (None, "") else default).lower() in ("true", "yes", "1")


def _color(where: str, row: dict[str, Any]) -> Color | None:
    value = row.get("color", row.get("colour"))
    for keys in CHANNELS:
        value = [row[key] for key in keys] if value is None and row.keys() >= set(keys) else value
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        value = bytes.fromhex(value[1:])
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    plain = isinstance(parts, list | tuple | bytes) and len(parts) == 3
    if plain and all(is_whole(p) and len(str(p).strip()) < 4 and 0 <= int(p) < 256 for p in parts):
        return (int(parts[0]), int(parts[1]), int(parts[2]))
    raise HeterosegError(f"{where}: expected a colour of three numbers to 255, found {value!r:.40}")


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
            plain = group[-1]
            tries = chain((plain, f"{plain} (group)"), (f"{plain} (group {i})" for i in count(2)))
            name = next(name for name in tries if name != ROOT and name not in paths and name not in tree)
            tree[name], below = below, [name]
        children.setdefault(group[:-1], []).extend(below)
    return {ROOT: children[()], **tree}


def slug(name: str, otherwise: str = "labels") -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or otherwise


def import_file(
    path: Path,
    out: Path,
    name: str | None = None,
    id_field: str | None = None,
    table: str | None = None,
    flat: bool = False,
) -> dict[Path, Taxonomy | LabelSpace]:
    """Turn a list of labels into OUT/NAME-tree.yaml, a taxonomy by groups, and OUT/NAME.yaml, a label space.

    `id_field` and `table` are as for `read_label_list`; `flat` makes one classifier of all labels. Returns
    both by their paths. No file is replaced; faults raise HeterosegError before anything is written.
    """
    labels = read_label_list(path, id_field, table)
    mapped = [label for label in labels if not label.ignore]
    if len(mapped) < 2:
        raise HeterosegError(f"{path}: expected two or more labels that mean something, found {len(mapped)}")
    name = name or slug(table or path.stem)
    nodes = {label.id: "root (label)" if label.name == ROOT else label.name for label in mapped}
    tree = grouped_tree({nodes[label.id]: () if flat else label.groups for label in mapped})
    colors = {nodes[label.id]: label.color for label in mapped if label.color}
    named = Document(path, {"name": f"{name}-tree", "tree": tree, "colors": colors}, {(): f"--name {name}"})
    file = named.parse(TaxonomyFile)
    entries: list[LabelEntry] = [label.model_copy(update={"nodes": nodes.get(label.id)}) for label in labels]
    paths = [out / f"{slug(name)}-tree.yaml", out / f"{slug(name)}.yaml"]
    space = LabelSpaceFile(name=name, taxonomy=paths[0].name, labels=entries)
    tree_text = taxonomy_yaml(file, [f"The {len(mapped)} labels of {path.name}."])
    begun = paths[0].is_file() and paths[0].read_bytes() == tree_text.encode()  # a killed run left it
    for target in paths[begun:]:
        require_absent(target, "choose another --out or --name")
    built = build_label_space(space, build_taxonomy(file))
    write_text(paths[0], tree_text)
    write_text(paths[1], space_yaml(space, [f"Labels as in {path.name}."]))
    return dict(zip(paths, (built.taxonomy, built), strict=True))
