"""Taxonomies and label spaces as YAML text that a person goes on editing: one line a label, with comments."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from heteroseg.files import yaml_text
from heteroseg.labels.space import LabelSpaceFile
from heteroseg.labels.taxonomy import ROOT, Taxonomy, TaxonomyFile, build_taxonomy, load_taxonomy, shipped_specs


def _text(file: BaseModel, parts: dict[str, Any], comments: Sequence[str]) -> str:
    """What `file` says beside its defaults, with `parts` of it as given, under comments."""
    data = CommentedMap(file.model_dump(exclude_defaults=True, mode="json") | parts)
    if comments:
        data.yaml_set_start_comment("\n".join(comments))
    return yaml_text(data)


def taxonomy_yaml(file: TaxonomyFile, comments: Sequence[str] = ()) -> str:
    """The text of a taxonomy file, from the top of the tree down. A faulty tree raises HeterosegError."""
    build_taxonomy(file)
    inner = [ROOT]
    for node in inner:  # grows while it is walked
        inner += [child for child in file.tree[node] if child in file.tree]
    return _text(file, {"tree": {node: file.tree[node] for node in inner}}, comments)


def space_yaml(
    file: LabelSpaceFile, comments: Sequence[str] = (), notes: Mapping[int, Sequence[str]] | None = None
) -> str:
    """The text of a label space file, one line a label; `notes` by label id stand as comments above the label."""
    lines = CommentedSeq()
    for i, label in enumerate(file.labels):
        line = CommentedMap(label.model_dump(exclude_defaults=True, mode="json"))
        line.pop("nodes", None)
        if label.node_names:
            line.insert(2, "nodes", label.node_names if len(label.node_names) > 1 else label.node_names[0])
        line.fa.set_flow_style()
        lines.append(line)
        if notes and notes.get(label.id):
            lines.yaml_set_comment_before_after_key(i, before="\n".join(notes[label.id]), indent=2)
    return _text(file, {"labels": lines}, comments)


def is_shipped(tree: Taxonomy) -> bool:
    """Whether the package ships this very tree under its name."""
    return tree.name in shipped_specs("taxonomies") and load_taxonomy(tree.name).same_tree(tree)
