"""Taxonomies and label spaces as YAML text that a person goes on editing: one line a label, with comments."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heteroseg.errors import HeterosegError
from heteroseg.files import parse_yaml, write_text
from heteroseg.labels.space import LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import ROOT, Color, Taxonomy, TaxonomyFile, build_taxonomy, load_taxonomy

WIDTH = 116
_PLAIN = re.compile(r"[A-Za-z_(][\w ()./+-]*")
_NOT_TEXT = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "inf", "nan"}


@dataclass(frozen=True)
class Entry:
    """One label of a draft; no nodes means that it is ignored. `comments` stand above its line."""

    id: int
    name: str
    nodes: tuple[str, ...] = ()
    color: Color | None = None
    evaluate: bool = True
    comments: tuple[str, ...] = field(default=())


def scalar(text: str) -> str:
    """A string as YAML reads it back inside a flow list: bare where that is safe, else quoted."""
    plain = _PLAIN.fullmatch(text) and text == text.strip() and text.lower() not in _NOT_TEXT
    return text if plain else json.dumps(text, ensure_ascii=False)


def _listed(names: Sequence[str], indent: str) -> str:
    """[a, b, ...], broken into lines of WIDTH."""
    one = "[" + ", ".join(map(scalar, names)) + "]"
    if len(one) + len(indent) <= WIDTH - 20:
        return one
    lines, line = [], indent
    for i, name in enumerate(names):
        word = scalar(name) + ("," if i < len(names) - 1 else "")
        if len(line) + len(word) + 1 > WIDTH:
            lines.append(line.rstrip())
            line = indent
        line += word + " "
    return "[\n" + "\n".join([*lines, line.rstrip()]) + "\n" + indent[:-2] + "]"


def _heading(comments: Sequence[str], name: str, description: str) -> list[str]:
    head = [f"# {comment}" for comment in comments]
    head.append(f"name: {scalar(name)}")
    if description:
        head.append(f"description: {json.dumps(description, ensure_ascii=False)}")
    return head


def taxonomy_yaml(
    name: str, tree: dict[str, list[str]], colors: dict[str, Color], comments: Sequence[str] = (), description: str = ""
) -> str:
    """The text of a taxonomy file. A faulty tree raises HeterosegError before anything is written."""
    build_taxonomy(TaxonomyFile(name=name, tree=tree, colors=colors))
    lines = _heading(comments, name, description)
    lines.append("tree:")
    order, waiting = [], [ROOT]
    while waiting:
        inner = waiting.pop(0)
        order.append(inner)
        waiting += [child for child in tree[inner] if child in tree]
    lines += [f"  {scalar(inner)}: {_listed(tree[inner], '    ')}" for inner in order]
    if colors:
        lines.append("colors:")
        lines += [f"  {scalar(node)}: {list(color)}" for node, color in colors.items()]
    return "\n".join(lines) + "\n"


def space_yaml(
    name: str, taxonomy: str, entries: Sequence[Entry], comments: Sequence[str] = (), description: str = ""
) -> str:
    """The text of a label space file; `taxonomy` is a shipped name or a path that ends in .yaml."""
    lines = [*_heading(comments, name, description), f"taxonomy: {scalar(taxonomy)}", "labels:"]
    for entry in entries:
        lines += [f"  # {comment}" for comment in entry.comments]
        nodes = scalar(entry.nodes[0]) if len(entry.nodes) == 1 else f"[{', '.join(map(scalar, entry.nodes))}]"
        parts = [f"id: {entry.id}", f"name: {scalar(entry.name)}", f"nodes: {nodes}" if entry.nodes else "ignore: true"]
        if not entry.evaluate and entry.nodes:
            parts.append("evaluate: false")
        if entry.color:
            parts.append(f"color: {list(entry.color)}")
        lines.append(f"  - {{{', '.join(parts)}}}")
    return "\n".join(lines) + "\n"


def is_shipped(tree: Taxonomy) -> bool:
    """Whether the package ships this very tree under its name."""
    try:
        shipped = load_taxonomy(tree.name)
    except HeterosegError:
        return False
    return shipped.same_tree(tree)


def taxonomy_reference(tree: Taxonomy) -> str:
    """How a label space file names the tree: as it ships, else as `taxonomy.yaml` beside it."""
    return tree.name if is_shipped(tree) else "taxonomy.yaml"


def write_taxonomy(tree: Taxonomy, path: Path) -> None:
    file = tree.to_file()
    write_text(path, taxonomy_yaml(file.name, file.tree, file.colors, (), file.description))


def checked_space(text: str, path, taxonomy: Taxonomy) -> LabelSpace:
    """The label space of a draft's text: HeterosegError if `heteroseg taxonomy check` would refuse it."""
    document = parse_yaml(text, path)
    return build_label_space(document.parse(LabelSpaceFile), taxonomy, document)
