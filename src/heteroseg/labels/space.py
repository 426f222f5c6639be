"""A dataset's own labels and what they mean in the tree.

Each label names one node, several nodes (a union, also across the tree) or is ignored. Nothing is relabelled:
the leaves that a label covers are all that training, decisions and evaluation need to know about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from heteroseg.errors import HeterosegError, nearest
from heteroseg.files import Document
from heteroseg.labels.taxonomy import Color, Taxonomy, distinct_colors, find_spec, load_taxonomy

Coverage = Literal["positives", "complete", "none"]
OUTSIDE = -1
"""The label index of what is none of the labels of a space."""
OUTSIDE_NAME = "(outside)"
"""Stands for OUTSIDE where labels are named: in confusions, in counts of pixels."""
Shape = Literal["rectangle", "disc", "triangle_up", "triangle_down", "diamond", "octagon"]


class LabelEntry(BaseModel):
    """One label as a user writes it."""

    model_config = ConfigDict(extra="forbid")
    id: int = Field(ge=0, le=2**31 - 1, description="as stored in the dataset's files")
    name: str
    nodes: str | list[str] | None = None
    ignore: bool = False
    evaluate: bool = True
    color: Color | None = None
    shape: Shape = "rectangle"


class AroundBoxes(BaseModel):
    """What the pixels around a box are not; the part of the box that its shape leaves free counts too."""

    model_config = ConfigDict(extra="forbid")
    excludes: str = Field(description="the node that they do not belong to")
    margin: float | None = Field(1.0, gt=0, description="how far, in sizes of the box; null: the whole image")


class LabelSpaceFile(BaseModel):
    """What a label space YAML may hold."""

    model_config = ConfigDict(extra="forbid")
    name: str
    description: str = ""
    taxonomy: str
    labels: list[LabelEntry]
    outside: int | None = Field(None, description="id written where a prediction lies outside this space")
    gate: str | None = Field(None, description="boxes train the classifiers at and under this node")
    around_boxes: AroundBoxes | None = None
    overlap: Literal["smallest", "share"] = Field("smallest", description="which of several boxes a pixel is in counts")
    assume: list[str] = Field([], description="nodes taken for granted once their parent is decided")
    coverage: dict[str, Coverage] = {}


@dataclass(frozen=True)
class Label:
    """`leaves` are positions in `Taxonomy.leaves`; an ignored label has none."""

    id: int
    name: str
    leaves: frozenset[int]
    color: Color
    evaluate: bool = True
    shape: Shape = "rectangle"


@dataclass(frozen=True)
class LabelSpace:
    """Labels of one dataset, tied to a taxonomy. Labels are referred to by their position in `labels`."""

    name: str
    taxonomy: Taxonomy
    labels: tuple[Label, ...]
    file: LabelSpaceFile

    @cached_property
    def outside(self) -> int:
        """The id written where a prediction is none of the labels."""
        if self.file.outside is not None:
            return self.file.outside
        ignored = [label.id for label in self.labels if not label.leaves]
        used = {label.id for label in self.labels}
        return ignored[0] if ignored else next(i for i in (255, 65535, *range(2**16, 2**17)) if i not in used)

    @cached_property
    def ids(self) -> np.ndarray:
        """(labels,) int64 ids as stored in files."""
        return np.array([label.id for label in self.labels], np.int64)

    @cached_property
    def _stored(self) -> np.ndarray:
        """(labels + 1,) ids and `outside`, in the smallest type that holds them."""
        table = np.append(self.ids, self.outside)
        return table.astype(np.uint8 if table.max() < 2**8 else np.uint16 if table.max() < 2**16 else np.int64)

    def native_ids(self, label_indices: np.ndarray) -> np.ndarray:
        """Ids as stored in files, of the same shape: uint8, uint16 or int64, the smallest that holds all ids.

        `label_indices` (int) are positions in `labels`; all below 0 get the id `outside`.
        """
        return self._stored[np.maximum(label_indices, OUTSIDE)]  # OUTSIDE is the last entry

    @cached_property
    def _index_tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids in rising order, what `indices_of` answers for each, and its answers for -2, -1, 0, ... up to 2**16."""
        order = np.argsort(self.ids)
        ids, indices = self.ids[order], np.where(self.ignored, -1, np.arange(len(self.ids))).astype(np.int16)[order]
        table = np.full(min(ids[-1], 2**16) + 4, -2, np.int16)
        table[1] = -1
        table[ids[ids <= 2**16] + 2] = indices[ids <= 2**16]
        return ids, indices, table

    def indices_of(self, ids: np.ndarray) -> np.ndarray:
        """Ids of any shape as they stand in files to int16 indices in `labels`.

        Ignored labels and -1 become -1; an id that the space does not list becomes -2.
        """
        known, indices, table = self._index_tables
        if known[-1] <= 2**16:
            return table.take(ids.astype(np.int64) + 2, mode="clip")
        nearest_known = np.searchsorted(known, ids).clip(max=len(known) - 1)
        listed = known[nearest_known] == ids
        return np.where(listed, indices[nearest_known], np.where(ids == -1, -1, -2)).astype(np.int16)

    @cached_property
    def ignored(self) -> np.ndarray:
        """(labels,) bool: labels that mean nothing in the tree."""
        return np.array([not label.leaves for label in self.labels])

    @cached_property
    def evaluated(self) -> np.ndarray:
        """(labels,) bool: labels that count in the scores."""
        return np.array([label.evaluate and bool(label.leaves) for label in self.labels])

    @cached_property
    def by_leaf(self) -> np.ndarray:
        """(leaves,) int64: the label that a leaf is shown as, -1 outside the space.

        Labels are disjoint or nested; the one with the fewest leaves is the most specific and wins, among equals
        the evaluated one.
        """
        result = np.full(len(self.taxonomy.leaves), -1, np.int64)
        order = sorted(range(len(self.labels)), key=lambda i: (-len(self.labels[i].leaves), self.labels[i].evaluate))
        for i in order:
            result[sorted(self.labels[i].leaves)] = i
        return result

    @cached_property
    def by_node(self) -> np.ndarray:
        """(nodes,) int64: the label of a decided node: -1 outside, -2 where its leaves have different labels.

        An inner node stands for a label that covers exactly its leaves even where a child has a label of its own
        (Cityscapes' road is `driveable`, although parking lies under it).
        """
        result = np.empty(len(self.taxonomy), np.int64)
        whole = {label.leaves: i for i, label in reversed(list(enumerate(self.labels))) if label.leaves}
        for node in range(len(self.taxonomy)):
            found = np.unique(self.by_leaf[slice(*self.taxonomy.spans[node])])
            result[node] = found[0] if len(found) == 1 else whole.get(self.taxonomy.leaves_of(node), -2)
        return result

    @cached_property
    def stops(self) -> np.ndarray:
        """(nodes,) bool: nodes under which every leaf has the same label, so a decision need not go deeper."""
        return np.array(
            [len(np.unique(self.by_leaf[slice(*self.taxonomy.spans[n])])) == 1 for n in range(len(self.taxonomy))]
        )

    @property
    def targets(self) -> int:
        """How many things a pixel can be trained to: the labels, and where declared `around_boxes` as the last."""
        return len(self.labels) + (self.file.around_boxes is not None)

    def training_leaves(self, index: int) -> frozenset[int]:
        """The leaves that a pixel with this target can be, in view of what the dataset's silence means (coverage)."""
        tree = self.taxonomy
        if index == len(self.labels) and self.file.around_boxes is not None:
            return tree.leaves_of(0) - tree.leaves_of(tree.index(self.file.around_boxes.excludes))
        mine = self.labels[index].leaves
        nodes = {
            kind: [tree.index(n) for n, k in self.file.coverage.items() if k == kind] for kind in ("complete", "none")
        }
        named = [tree.leaves_of(n) for n in nodes["complete"]]
        leaves = mine.difference(*(under for under in named if under < mine))
        for node in sorted(nodes["none"], key=tree.depth, reverse=True):
            if leaves & tree.leaves_of(node):
                leaves = leaves | tree.leaves_of(tree.parents[node])
        return leaves


def own_space(taxonomy: Taxonomy) -> LabelSpace:
    """A taxonomy's leaves as a label space of its own: ids 1, 2, ... in tree order, 0 where nothing is decided."""
    entries = [
        LabelEntry(id=i + 1, name=taxonomy.names[leaf], nodes=taxonomy.names[leaf], color=taxonomy.colors[leaf])
        for i, leaf in enumerate(taxonomy.leaves)
    ]
    return build_label_space(LabelSpaceFile(name="leaves", taxonomy=taxonomy.name, outside=0, labels=entries), taxonomy)


def node_space(taxonomy: Taxonomy, name: str) -> LabelSpace:
    """Every node as a label, in the tree's order: ids 1, 2, ... (the root is 1), 0 where nothing is decided."""
    entries = [
        LabelEntry(id=n + 1, name=node, nodes=node, color=taxonomy.colors[n], evaluate=not taxonomy.children[n])
        for n, node in enumerate(taxonomy.names)
    ]
    return build_label_space(LabelSpaceFile(name=name, taxonomy=taxonomy.name, outside=0, labels=entries), taxonomy)


def build_label_space(file: LabelSpaceFile, taxonomy: Taxonomy, document: Document | None = None) -> LabelSpace:
    """Tie labels to a taxonomy; every fault is collected and raised in one HeterosegError."""

    def at(*loc) -> str:
        return document.where(*loc) if document else f"label space {file.name!r}"

    faults: list[str] = []

    def known(name: str, *loc) -> bool:
        if name in taxonomy:
            return True
        hint = nearest(name, taxonomy.names)
        faults.append(f"{at(*loc)}: {name!r} is no node of taxonomy {taxonomy.name!r}{hint}")
        return False

    ids: dict[int, str] = {}
    names: dict[str, int] = {}
    palette = distinct_colors(len(file.labels))
    labels: list[Label] = []
    for i, entry in enumerate(file.labels):
        where = at("labels", i)
        if entry.id in ids:
            faults.append(
                f"{where}: id {entry.id} of {entry.name!r} is already the id of {ids[entry.id]!r}; ids are unique"
            )
        if entry.name in names:
            faults.append(
                f"{where}: the name {entry.name!r} stands twice (also line of id {names[entry.name]}); names are unique"
            )
        ids.setdefault(entry.id, entry.name)
        names.setdefault(entry.name, entry.id)
        nodes = [entry.nodes] if isinstance(entry.nodes, str) else entry.nodes or []
        if entry.ignore and nodes:
            faults.append(f"{where}: label {entry.name!r} names nodes and says 'ignore: true'; keep one of the two")
        if not entry.ignore and not nodes:
            faults.append(
                f"{where}: label {entry.name!r} (id {entry.id}) is not mapped; give 'nodes:' or 'ignore: true'"
                f"{nearest(entry.name, taxonomy.names)}"
            )
        leaves: frozenset[int] = frozenset()
        covered: dict[int, str] = {}
        for name in nodes:
            if not known(name, "labels", i, "nodes"):
                continue
            mine = taxonomy.leaves_of(taxonomy.index(name))
            twice = sorted(mine & leaves)
            if twice:
                leaf = taxonomy.names[taxonomy.leaves[twice[0]]]
                faults.append(
                    f"{where}: the union {entry.name!r} covers {leaf!r} twice, by {covered[twice[0]]!r} "
                    f"and by {name!r}; drop one of them"
                )
            covered.update(dict.fromkeys(mine, name))
            leaves |= mine
        if entry.color and not all(0 <= c <= 255 for c in entry.color):
            faults.append(
                f"{where}: the colour of {entry.name!r} must be three numbers from 0 to 255, found {list(entry.color)}"
            )
        labels.append(Label(entry.id, entry.name, leaves, entry.color or palette[i], entry.evaluate, entry.shape))
    for label in labels:
        if label.id == file.outside and label.leaves:
            faults.append(
                f"{at('outside')}: 'outside' must be an id of no label or of an ignored one, "
                f"found {label.id} ({label.name!r})"
            )
    named = [("coverage", n) for n in file.coverage] + [("assume", n) for n in file.assume]
    if file.around_boxes:
        named.append(("around_boxes", file.around_boxes.excludes))
    for section, name in [*named, *([("gate", file.gate)] if file.gate else [])]:
        if known(name, section, name) and name == taxonomy.names[0] and section != "gate":
            faults.append(f"{at(section, name)}: '{section}' must name a node below the root")
    if faults:
        raise HeterosegError(*faults)
    space = LabelSpace(file.name, taxonomy, tuple(labels), file)
    for i, a in enumerate(labels):
        for b in labels[:i]:
            if a.leaves & b.leaves and not (a.leaves <= b.leaves or b.leaves <= a.leaves):
                faults.append(
                    f"{at('labels', i)}: labels {a.name!r} and {b.name!r} overlap without one containing the other; "
                    "split the shared node in the taxonomy so that each label names its own part"
                )
    for i, label in enumerate(labels):
        if label.leaves and not space.training_leaves(i):
            faults.append(
                f"{at('coverage')}: coverage 'complete' for all that {label.name!r} covers leaves no meaning for it; "
                "take one of these nodes out, or drop the label"
            )
    shown = set(space.by_leaf.tolist())
    for i, label in enumerate(labels):
        if label.leaves and label.evaluate and i not in shown:
            faults.append(
                f"{at('labels', i)}: label {label.name!r} is evaluated, but no leaf can express it, because other "
                "labels take all of its leaves; add a leaf for it or say 'evaluate: false'"
            )
    if faults:
        raise HeterosegError(*faults)
    return space


def without(space: LabelSpace, nodes: Sequence[str]) -> LabelSpace:
    """The space in which labels for these nodes, or for parts of them, are ignored; wider labels stay as they are."""
    tree = space.taxonomy
    held = frozenset[int]().union(*(tree.leaves_of(tree.index(n)) for n in nodes))
    gone = {label.id for label in space.labels if label.leaves and label.leaves <= held}
    ignored = {"nodes": None, "ignore": True, "evaluate": False}
    labels = [e.model_copy(update=ignored) if e.id in gone else e for e in space.file.labels]
    return build_label_space(space.file.model_copy(update={"labels": labels}), tree) if gone else space


def load_label_space(name: str, taxonomy: Taxonomy | None = None, beside: Path | None = None) -> LabelSpace:
    """Load a label space by shipped name or by path; without `taxonomy` the one that the file names is loaded."""
    document = find_spec("label_spaces", name, beside)
    file = document.parse(LabelSpaceFile)
    if taxonomy is None:
        folder = document.path.parent if name.endswith((".yaml", ".yml")) else None
        taxonomy = load_taxonomy(file.taxonomy, folder)
    return build_label_space(file, taxonomy, document)
