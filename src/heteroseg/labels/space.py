"""A dataset's own labels and what they mean in the tree.

Each label names one node, several nodes (a union, also across the tree) or is ignored. Nothing is relabelled:
the leaves that a label covers are all that training, decisions and evaluation need to know about it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from heteroseg.errors import nearest
from heteroseg.files import Document, Fault, PlainName, Strict
from heteroseg.labels.taxonomy import MOST_NODES, ROOT, Color, Taxonomy, distinct_colors, find_spec, load_taxonomy

Coverage = Literal["positives", "complete", "none"]
OUTSIDE = -1
"""The label index of what is none of the labels of a space."""
OUTSIDE_NAME = "(outside)"
"""Stands for OUTSIDE where labels are named: in confusions, in counts of pixels."""
MOST_HINTS = 20  # a hint is a search through all names, so a file for another taxonomy gets only some
BoxShape = Literal["rectangle", "disc", "triangle_up", "triangle_down", "diamond", "octagon"]


class LabelEntry(Strict):
    """One label as a user writes it."""

    id: int = Field(ge=0, le=2**31 - 1, description="as stored in the dataset's files")
    name: str
    nodes: str | list[str] | None = None
    ignore: bool = False
    evaluate: bool = True
    color: Color | None = None
    shape: BoxShape = "rectangle"

    @property
    def node_names(self) -> list[str]:
        """The nodes that the label names, none, one or several."""
        return [self.nodes] if isinstance(self.nodes, str) else self.nodes or []


class AroundBoxes(Strict):
    """What the pixels around a box are not; the part of the box that its shape leaves free counts too."""

    excludes: str = Field(description="the node that they do not belong to")
    margin: float | None = Field(1.0, gt=0, le=1e6, description="how far, in sizes of the box; null: the whole image")


class LabelSpaceFile(Strict):
    """What a label space YAML may hold."""

    name: PlainName
    description: str = ""
    taxonomy: str
    labels: list[LabelEntry] = Field(min_length=1, max_length=MOST_NODES)
    outside: int | None = Field(
        None, ge=0, le=2**31 - 1, description="id written where a prediction lies outside this space"
    )
    gate: str | None = Field(None, description="boxes train the classifiers at and under this node")
    around_boxes: AroundBoxes | None = None
    overlap: Literal["smallest", "share"] = Field("smallest", description="which of several boxes a pixel is in counts")
    assume: list[str] = Field([], description="nodes taken for granted once their parent is decided")
    coverage: dict[str, Coverage] = Field({})


class Label(LabelEntry):
    """A label with its meaning: `leaves` are positions in `Taxonomy.leaves`; an ignored label has none."""

    leaves: frozenset[int]
    color: Color


@dataclass(frozen=True)
class LabelSpace:
    """Labels of one dataset, tied to a taxonomy. Labels are referred to by their index in `labels`.

    Examples:
        >>> from heteroseg.labels.space import load_label_space
        >>> space = load_label_space("camvid11")
        >>> space.ids
        array([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11])
        >>> [space.labels[i].name for i in range(12) if space.ignored[i]]
        ['Void']
        >>> wall = space.taxonomy.index("wall")
        >>> space.labels[space.by_node[wall]].name  # CamVid-11 calls a wall a building
        'Building'
    """

    name: str
    taxonomy: Taxonomy
    labels: tuple[Label, ...]
    file: LabelSpaceFile

    def __hash__(self) -> int:
        return hash((self.name, self.taxonomy.name, len(self.labels)))  # `==` compares everything

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
        return np.asarray(self._stored[np.maximum(label_indices, OUTSIDE)])  # OUTSIDE is the last entry

    @cached_property
    def _index_tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """-2, -1 and the ids in rising order, what `indices_of` answers for each, and its answers for -3 ... 2**16."""
        order = np.argsort(self.ids)
        ids = np.append([-2, -1], self.ids[order])
        indices = np.append([-1, -1], np.where(self.ignored, -1, np.arange(len(order)))[order]).astype(np.int16)
        table = np.full(min(ids[-1], 2**16) + 5, -2, np.int16)
        table[ids[ids <= 2**16] + 3] = indices[ids <= 2**16]
        return ids, indices, table

    def indices_of(self, ids: np.ndarray) -> np.ndarray:
        """Ids of any shape as they stand in files to int16 indices in `labels`.

        Ignored labels, -1 and -2 become -1; an id that the space does not list becomes -2.
        """
        known, indices, table = self._index_tables
        if known[-1] <= 2**16:
            return table.take(ids.astype(np.int64) + 3, mode="clip")
        nearest_known = np.searchsorted(known, ids).clip(max=len(known) - 1)
        return np.where(known[nearest_known] == ids, indices[nearest_known], np.int16(-2))

    @cached_property
    def ignored(self) -> np.ndarray:
        """(labels,) bool: labels that mean nothing in the tree."""
        return np.array([not label.leaves for label in self.labels])

    def named(self, name: str) -> list[Label]:
        """The labels of this name, else those at and under the node of this name."""
        under = self.taxonomy.leaves_of(self.taxonomy.index(name)) if name in self.taxonomy else frozenset[int]()
        own = [label for label in self.labels if label.name == name]
        return own or [label for label in self.labels if label.leaves and label.leaves <= under]

    @cached_property
    def evaluated(self) -> np.ndarray:
        """(labels,) bool: labels that count in the scores."""
        return np.array([label.evaluate and bool(label.leaves) for label in self.labels])

    @cached_property
    def meaning_table(self) -> np.ndarray:
        """(labels, leaves) bool: the leaves of each label."""
        result = np.zeros((len(self.labels), len(self.taxonomy.leaves)), bool)
        for i, label in enumerate(self.labels):
            result[i, list(label.leaves)] = True
        return result

    @cached_property
    def widest_first(self) -> list[int]:
        """Indices of the labels, those of most leaves first; among equals the evaluated ones last."""
        labels = self.labels
        return sorted(range(len(labels)), key=lambda i: (-len(labels[i].leaves), labels[i].evaluate))

    @cached_property
    def by_leaf(self) -> np.ndarray:
        """(leaves,) int64: the label that a leaf is shown as, -1 outside the space.

        Labels are disjoint or nested; the one with the fewest leaves is the most specific and wins, among equals
        the evaluated one.
        """
        result = np.full(len(self.taxonomy.leaves), -1, np.int64)
        for i in self.widest_first:
            result[list(self.labels[i].leaves)] = i
        return result

    @cached_property
    def shown_table(self) -> np.ndarray:
        """(labels, leaves) bool: the leaves that are shown as each label, so not those of narrower labels inside it."""
        return np.asarray(self.by_leaf == np.arange(len(self.labels))[:, None])

    @cached_property
    def by_node(self) -> np.ndarray:
        """(nodes,) int64: the label of a decided node: -1 outside, -2 where its leaves have different labels.

        An inner node stands for a label that covers exactly its leaves even where a child has a label of its own
        (Cityscapes' road is `driveable`, although parking lies under it).
        """
        lowest, highest = self._label_range
        exact = {label.leaves: i for i, label in reversed(list(enumerate(self.labels)))}  # the first of equal ones
        whole = [exact.get(self.taxonomy.leaves_of(node), -2) for node in range(len(self.taxonomy))]
        return np.where(lowest == highest, lowest, whole)

    @cached_property
    def stops(self) -> np.ndarray:
        """(nodes,) bool: nodes under which every leaf has the same label, so a decision need not go deeper."""
        lowest, highest = self._label_range
        return np.asarray(lowest == highest)

    @cached_property
    def whole_nodes(self) -> list[int]:
        """The largest nodes under which all leaves have the same label, which together have all leaves of labels."""
        inside = self.stops & (self.by_node >= 0)
        below = np.append(False, self.stops[list(self.taxonomy.parents[1:])])
        return np.flatnonzero(inside & ~below).tolist()

    @cached_property
    def _label_range(self) -> tuple[np.ndarray, np.ndarray]:
        """(nodes,) int64, twice: the least and the greatest label index among the leaves of each node."""
        pairs = np.array(self.taxonomy.spans).ravel()  # reduceat takes start, stop, start, stop, ...
        labels = np.append(self.by_leaf, -1)
        return np.minimum.reduceat(labels, pairs)[::2], np.maximum.reduceat(labels, pairs)[::2]

    @property
    def targets(self) -> int:
        """How many things a pixel can be trained to: the labels, and where declared `around_boxes` as the last."""
        return len(self.labels) + (self.file.around_boxes is not None)

    @cached_property
    def training_table(self) -> np.ndarray:
        """(targets, leaves) bool: the leaves that a pixel with this target can be, as `training_leaves` says."""
        tree, meanings = self.taxonomy, self.meaning_table
        coverage = [(tree.index(name), kind) for name, kind in self.file.coverage.items()]
        result, sizes = meanings.copy(), meanings.sum(1)
        for start, stop in (tree.spans[node] for node, kind in coverage if kind == "complete"):
            wider = meanings[:, start:stop].all(1) & (sizes > stop - start)
            result[wider, start:stop] = False
        unmarked = [node for node, kind in coverage if kind == "none"]
        for node in sorted(unmarked, key=tree.depths.__getitem__, reverse=True):
            touched = result[:, slice(*tree.spans[node])].any(1)
            result[touched, slice(*tree.spans[tree.parents[node]])] = True
        if self.file.around_boxes is not None:
            around = np.ones((1, len(tree.leaves)), bool)
            around[0, slice(*tree.spans[tree.index(self.file.around_boxes.excludes)])] = False
            result = np.concatenate([result, around])
        return result

    def training_leaves(self, index: int) -> frozenset[int]:
        """The leaves that a pixel with this target can be, in view of what the dataset's silence means (coverage).

        `index` is that of a label, or `len(labels)` for what lies around boxes.
        """
        return frozenset(np.flatnonzero(self.training_table[index]).tolist())


@lru_cache
def own_space(taxonomy: Taxonomy) -> LabelSpace:
    """A taxonomy's leaves as a label space of its own: ids 1, 2, ... in tree order, 0 where nothing is decided."""
    return _space_of(taxonomy, "leaves", taxonomy.leaves)


def node_space(taxonomy: Taxonomy, name: str) -> LabelSpace:
    """Every node as a label, in the tree's order: ids 1, 2, ... (the root is 1), 0 where nothing is decided."""
    return _space_of(taxonomy, name, range(len(taxonomy)))


def _space_of(taxonomy: Taxonomy, name: str, nodes: Iterable[int]) -> LabelSpace:
    labels = []
    for i, n in enumerate(nodes, 1):
        node, color, evaluate = taxonomy.names[n], taxonomy.colors[n], not taxonomy.children[n]
        labels.append(LabelEntry(id=i, name=node, nodes=node, color=color, evaluate=evaluate))
    return build_label_space(LabelSpaceFile(name=name, taxonomy=taxonomy.name, outside=0, labels=labels), taxonomy)


def build_label_space(file: LabelSpaceFile, taxonomy: Taxonomy, document: Document | None = None) -> LabelSpace:
    """Tie labels to a taxonomy; all faults are collected and raised in one HeterosegError.

    `document` is what the label space was read from: faults then name file and line.
    """
    document = document or Document(Path(), None, {(): f"label space {file.name!r}"})
    document.raise_faults(_faults_of_file(file, taxonomy))
    labels = []
    for entry, color in zip(file.labels, distinct_colors(len(file.labels)), strict=True):
        leaves = frozenset[int]().union(*(taxonomy.leaves_of(taxonomy.index(node)) for node in entry.node_names))
        labels.append(Label(**entry.model_dump() | {"leaves": leaves, "color": entry.color or color}))
    space = LabelSpace(file.name, taxonomy, tuple(labels), file)
    document.raise_faults(_faults_of_space(space))
    return space


def _faults_of_file(file: LabelSpaceFile, taxonomy: Taxonomy) -> Iterator[Fault]:
    """What is wrong with the entries of a file, each by itself and in their names of nodes."""
    left = iter(range(MOST_HINTS))
    by_id = {entry.id: entry for entry in reversed(file.labels)}  # the first of equal ones
    by_name = {entry.name: entry for entry in reversed(file.labels)}

    def hint(name: str) -> str:
        return "" if next(left, None) is None else nearest(name, taxonomy.names)

    for loc, node in _named_nodes(file):
        if node not in taxonomy:
            yield loc, f"{node!r} is no node of taxonomy {taxonomy.name!r}{hint(node)}"
        elif node == ROOT and loc[0] in ("coverage", "assume", "around_boxes"):
            yield loc, f"'{loc[0]}' must name a node below the root"
        elif loc[0] == "around_boxes" and taxonomy.spans[taxonomy.index(node)] == taxonomy.spans[0]:
            yield loc, f"{node!r} holds every leaf, so nothing is left around boxes; name a node below"
    for i, entry in enumerate(file.labels):
        name, loc = entry.name, ("labels", i)
        if by_id[entry.id] is not entry:
            yield loc, f"id {entry.id} of {name!r} is already the id of {by_id[entry.id].name!r}; ids are unique"
        if by_name[name] is not entry:
            yield loc, f"the name {name!r} stands twice (also line of id {by_name[name].id}); names are unique"
        if entry.ignore and entry.node_names:
            yield loc, f"label {name!r} names nodes and says 'ignore: true'; keep one of the two"
        if not entry.ignore and not entry.node_names:
            yield loc, f"label {name!r} (id {entry.id}) is not mapped; give 'nodes:' or 'ignore: true'{hint(name)}"
        if entry.color and not all(0 <= c <= 255 for c in entry.color):
            yield loc, f"the colour of {name!r} must be three numbers from 0 to 255, found {list(entry.color)}"
        if entry.id == file.outside and any(node in taxonomy for node in entry.node_names):
            yield ("outside",), f"'outside' must be an id of no label or of an ignored one, found {entry.id} ({name!r})"
        yield from ((loc, f"the union {name!r} covers {told}") for told in _covered_twice(entry, taxonomy))


def _named_nodes(file: LabelSpaceFile) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each name of a node with its place in the file."""
    for i, entry in enumerate(file.labels):
        yield from ((("labels", i, "nodes"), node) for node in entry.node_names)
    around, gate = [file.around_boxes.excludes] if file.around_boxes else [], [file.gate] if file.gate else []
    for key, nodes in ("coverage", file.coverage), ("assume", file.assume), ("around_boxes", around), ("gate", gate):
        yield from (((key, node), node) for node in nodes)


def _covered_twice(entry: LabelEntry, taxonomy: Taxonomy) -> Iterator[str]:
    """For each node of a union that covers a leaf again: which leaf, and the two nodes."""
    owner: dict[int, str] = {}  # of each leaf, the node of the union that covers it
    for node in entry.node_names if len(entry.node_names) > 1 else []:
        leaves = taxonomy.leaves_of(taxonomy.index(node)) if node in taxonomy else frozenset()
        shared = min(leaves & owner.keys(), default=None)
        if shared is not None:
            leaf = taxonomy.names[taxonomy.leaves[shared]]
            yield f"{leaf!r} twice, by {owner[shared]!r} and by {node!r}; drop one of them"
        owner.update(dict.fromkeys(leaves, node))


def _faults_of_space(space: LabelSpace) -> Iterator[Fault]:
    """What is wrong with what the labels mean together."""
    labels, owner, crossing = space.labels, np.full(len(space.taxonomy.leaves), -1), False
    for i in space.widest_first:
        own = list(labels[i].leaves)
        crossing = crossing or bool((owner[own] != owner[own[:1]]).any())  # a narrower label is partly in a wider one
        owner[own] = i
    pairs = ((k, a, b) for k, a in enumerate(labels) for b in labels[:k])
    for k, a, b in pairs if crossing else ():
        if a.leaves & b.leaves and not (a.leaves <= b.leaves or b.leaves <= a.leaves):
            told = "overlap without one containing the other; split the shared node in the taxonomy so that each label"
            yield ("labels", k), f"labels {a.name!r} and {b.name!r} {told} names its own part"
    shown = set(owner.tolist())
    trained = np.asarray(space.training_table.any(1)) if space.file.coverage else None
    for i, label in enumerate(labels):
        if label.leaves and trained is not None and not trained[i]:
            told = f"coverage 'complete' for all that {label.name!r} covers leaves no meaning for it"
            yield ("coverage",), f"{told}; take one of these nodes out, or drop the label"
        if space.evaluated[i] and i not in shown:
            told = "is evaluated, but no leaf can express it, because other labels take all of its leaves"
            yield ("labels", i), f"label {label.name!r} {told}; add a leaf for it or say 'evaluate: false'"


def hold_out(space: LabelSpace, nodes: Sequence[str]) -> LabelSpace:
    """The space in which labels for these nodes, or for parts of them, are ignored; wider labels stay as they are."""
    tree = space.taxonomy
    held = frozenset[int]().union(*(tree.leaves_of(tree.index(n)) for n in nodes))
    gone = {label.id for label in space.labels if label.leaves and label.leaves <= held}
    ignored = {"nodes": None, "ignore": True, "evaluate": False}
    labels = [e.model_copy(update=ignored) if e.id in gone else e for e in space.file.labels]
    return build_label_space(space.file.model_copy(update={"labels": labels}), tree) if gone else space


def load_label_space(name: str | Path, taxonomy: Taxonomy | None = None, beside: Path | None = None) -> LabelSpace:
    """Load a label space by shipped name or by path (ending .yaml); faults raise HeterosegError with file and line.

    Without `taxonomy` the one that the file names is loaded. A path is relative to the folder `beside`.

    Examples:
        >>> from heteroseg.labels.space import load_label_space
        >>> space = load_label_space("cityscapes")
        >>> len(space.labels), int(space.evaluated.sum()), space.taxonomy.name
        (34, 19, 'streets-108')
    """
    document = find_spec("label_spaces", name, beside)
    file = document.parse(LabelSpaceFile)
    return build_label_space(file, taxonomy or load_taxonomy(file.taxonomy, document.path.parent), document)
