"""Taxonomies and label spaces as YAML text that a person goes on editing: one line a label, with comments."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from ruamel.yaml.comments import CommentedMap

from heteroseg.files import yaml_text
from heteroseg.labels.space import LabelSpaceFile
from heteroseg.labels.taxonomy import ROOT, Taxonomy, TaxonomyFile, build_taxonomy, load_taxonomy, shipped_specs

KEYS = ("id", "name", "nodes")  # of a label, in this order; others after them


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
    lines = []
    for label in file.labels:
        line = label.model_dump(exclude_defaults=True, mode="json")
        if nodes := label.node_names:
            line["nodes"] = nodes if len(nodes) > 1 else nodes[0]
        keys = sorted(line, key=lambda key: KEYS.index(key) if key in KEYS else len(KEYS))
        told = (notes or {}).get(label.id, ())
        lines += [f"  # {note}" for text in told for note in text.split("\n")]
        lines.append(f"  - {_line({key: line[key] for key in keys})}")
    whole = _text(file, {"labels": []}, comments)
    return whole.replace("labels: []\n", "\n".join(["labels:", *lines, ""]), 1)


def _line(data: dict[str, Any]) -> str:
    """A mapping as one line of YAML, by the writer in C: thousands of labels take the other one minutes."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    options: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True, "width": 2**30}
    return yaml.dump(data, Dumper=dumper, **options).rstrip("\n")


def is_shipped(tree: Taxonomy) -> bool:
    """Whether the package ships this very tree under its name."""
    return tree.name in shipped_specs("taxonomies") and load_taxonomy(tree.name).same_tree(tree)
