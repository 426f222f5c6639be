"""The tree of concepts, and where each classifier's logits lie.

A *leaf* is what the network can finally say; a *classifier* is an inner node with two or more children and
owns one softmax over them (Meletis & Dubbelman, IV 2018, section III). docs/concepts.md shows a file.
"""

import colorsys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from pydantic import Field

from heteroseg.errors import HeterosegError, nearest, text_of
from heteroseg.files import SPECS, Document, Fault, PlainName, Strict, parse_yaml, read_text, read_yaml

ROOT = "root"
Color = tuple[int, int, int]
MOST_NODES = 32_000  # numbers of labels and nodes are int16


class TaxonomyFile(Strict):
    """What a taxonomy YAML may hold."""

    name: PlainName
    description: str = ""
    tree: dict[str, list[str]] = Field(description="children of each inner node; `root` is the top")
    colors: dict[str, Color] = Field({})


@dataclass(frozen=True)
class Classifier:
    """One softmax: `children` of `node` lie at channels from `start`; a void logit may follow; `stop` is behind all."""

    node: int
    children: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Taxonomy:
    """A tree whose nodes are numbered in depth-first order, so the leaves of a node are consecutive.

    `names`, `parents` (-1 for the root) and `colors` hold one entry for each node. `void` adds the paper's extra logit
    ("not a child of this node") to every classifier.

    Examples:
        >>> from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy
        >>> children = {"root": ["sky", "vehicle"], "vehicle": ["car", "bus"]}
        >>> tree = build_taxonomy(TaxonomyFile(name="tiny", tree=children))
        >>> tree.names
        ('root', 'sky', 'vehicle', 'car', 'bus')
        >>> [tree.names[leaf] for leaf in tree.leaves]
        ['sky', 'car', 'bus']
        >>> [(tree.names[c.node], c.start, c.stop) for c in tree.classifiers]  # each has its own slice of the logits
        [('root', 0, 2), ('vehicle', 2, 4)]
    """

    name: str
    names: tuple[str, ...]
    parents: tuple[int, ...]
    colors: tuple[Color, ...]
    description: str = ""
    void: bool = False

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Node number of a name; an unknown name raises HeterosegError with the nearest known one."""
        if name not in self:
            raise HeterosegError(f"taxonomy {self.name!r} has no node {name!r:.80}{nearest(name, self.names)}")
        return self._index[name]

    def same_tree(self, other: "Taxonomy") -> bool:
        """Whether the nodes are the same; colours, descriptions and void logits may differ."""
        return (self.names, self.parents) == (other.names, other.parents)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._index

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The children of each node, in the order of the file."""
        result: list[list[int]] = [[] for _ in self.names]
        for node in range(1, len(self)):
            result[self.parents[node]].append(node)
        return tuple(map(tuple, result))

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """The nodes without children."""
        return tuple(n for n in range(len(self)) if not self.children[n])

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """For each node the half-open range of its leaves in `leaves`."""
        starts = [0, *accumulate(not children for children in self.children)]  # how many leaves come before each node
        stops = starts[1:]
        for node in reversed(range(1, len(self))):
            stops[self.parents[node]] = max(stops[self.parents[node]], stops[node])
        return tuple(zip(starts, stops, strict=False))

    def leaves_of(self, node: int) -> frozenset[int]:
        """Positions in `leaves` of the leaves at or under a node."""
        return frozenset(range(*self.spans[node]))

    def path(self, node: int) -> tuple[int, ...]:
        """Nodes from the root down to `node`, both included."""
        result = [node]
        while self.parents[result[-1]] >= 0:
            result.append(self.parents[result[-1]])
        return tuple(reversed(result))

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """For each node how many steps it lies below the root."""
        depths = [0]
        for parent in self.parents[1:]:
            depths.append(depths[parent] + 1)
        return tuple(depths)

    def common_ancestor(self, nodes: Iterable[int]) -> int:
        """The deepest node on the paths of all `nodes` (may be one of them)."""
        numbers = list(nodes)
        result, last = min(numbers), max(numbers)  # in depth-first order the others lie between these two
        while self.spans[result][1] < self.spans[last][1]:
            result = self.parents[result]
        return result

    def cover(self, leaves: Iterable[int]) -> tuple[int, ...]:
        """The fewest disjoint nodes, in tree order, whose leaves are exactly `leaves` (positions in `leaves`)."""
        inside, nodes, end = frozenset(leaves), [], 0
        for leaf in sorted(inside):
            if leaf >= end:
                node = self.leaves[leaf]
                while node and inside.issuperset(range(*self.spans[self.parents[node]])):
                    node = self.parents[node]
                nodes.append(node)
                end = self.spans[node][1]
        return tuple(nodes)

    @cached_property
    def classifiers(self) -> tuple[Classifier, ...]:
        """All classifiers, top down; their slices partition the fused logits."""
        result: list[Classifier] = []
        start = 0
        for node in sorted(range(len(self)), key=self.depths.__getitem__):
            if len(self.children[node]) >= 2:
                stop = start + len(self.children[node]) + self.void
                result.append(Classifier(node, self.children[node], start, stop))
                start = stop
        return tuple(result)

    @property
    def channels(self) -> int:
        """Number of fused logits."""
        return self.classifiers[-1].stop

    def require_logits(self, shape: Sequence[int], sides: int = 4) -> None:
        """Raise HeterosegError unless an array of so many sides has a number for each channel in its second."""
        if len(shape) != sides or shape[1] != self.channels:
            told = f"expected {'pixels' if sides == 2 else 'maps'} of {self.channels} fused logits, as taxonomy"
            told = f"{told} {self.name!r} has, found the shape {tuple(shape)}"
            raise HeterosegError(f"{told}; take the taxonomy of their network, or a network for this taxonomy")

    @cached_property
    def channel_of(self) -> tuple[int, ...]:
        """Each node's channel in the fused logits; -1 for the root and for only children."""
        channels = {child: c.start + i for c in self.classifiers for i, child in enumerate(c.children)}
        return tuple(channels.get(node, -1) for node in range(len(self)))

    @cached_property
    def steps(self) -> tuple[list[int], ...]:
        """For each node the channels that lead to it, from the top: its log-probability is the sum of theirs."""
        return tuple([c for n in self.path(node) if (c := self.channel_of[n]) >= 0] for node in range(len(self)))

    @cached_property
    def classifier_of(self) -> tuple[int, ...]:
        """For each node the classifier that it owns, -1 where it owns none."""
        owned = {classifier.node: i for i, classifier in enumerate(self.classifiers)}
        return tuple(owned.get(node, -1) for node in range(len(self)))

    def to_file(self) -> TaxonomyFile:
        """The tree as a file holds it."""
        tree = {self.names[n]: [self.names[c] for c in kids] for n, kids in enumerate(self.children) if kids}
        colors = dict(zip(self.names, self.colors, strict=True))
        return TaxonomyFile(name=self.name, description=self.description, tree=tree, colors=colors)


def distinct_colors(count: int) -> list[Color]:
    """`count` colours that differ in hue, then in lightness and saturation."""
    result = []
    for i in range(count):
        r, g, b = colorsys.hls_to_rgb((i * 0.618034) % 1.0, (0.5, 0.68, 0.36)[i % 3], (0.75, 0.5, 1.0)[i // 3 % 3])
        result.append((round(r * 255), round(g * 255), round(b * 255)))
    return result


def build_taxonomy(file: TaxonomyFile, document: Document | None = None, void: bool = False) -> Taxonomy:
    """Check a tree and number its nodes. Cycles, orphans and duplicates raise HeterosegError, all at once.

    `document` is what the tree was read from: faults then name file and line.
    """
    document = document or Document(Path(), None, {(): f"taxonomy {file.name!r}"})
    names, parents = _number_nodes(file.tree)
    known = set(names)
    faults = list(_faults_of_tree(file.tree, known, document))
    if not faults and all(len(children) < 2 for children in file.tree.values()):
        faults.append((("tree",), "the tree has no node with two or more children, so there is nothing to decide"))
    if len(names) > MOST_NODES:
        faults.append((("tree",), f"expected at most {MOST_NODES} nodes, found {len(names)}; leave out the finest"))
    for name, color in file.colors.items():
        if name not in known:
            faults.append((("colors", name), f"a colour is given for {name!r}, which is no node{nearest(name, names)}"))
        if not all(0 <= c <= 255 for c in color):
            told = f"the colour of {name!r} must be three numbers from 0 to 255, found {list(color)}"
            faults.append((("colors", name), told))
    document.raise_faults(faults)
    palette = distinct_colors(len(names))
    colors = tuple(file.colors.get(name, color) for name, color in zip(names, palette, strict=True))
    return Taxonomy(file.name, tuple(names), tuple(parents), colors, file.description, void)


def _faults_of_tree(tree: dict[str, list[str]], known: set[str], document: Document) -> Iterator[Fault]:
    """What is wrong with the lists of children; `known` are the nodes below the root."""
    listed_at: dict[str, tuple[str, int]] = {}
    for parent, children in tree.items():
        if not children:
            yield ("tree", parent), f"node {parent!r} lists no children; name some, or drop the line to make it a leaf"
        for i, child in enumerate(children):
            if child == ROOT:
                yield ("tree", parent, i), f"'root' is the top of the tree and cannot be a child of {parent!r}"
            elif child in listed_at:
                first = document.where("tree", *listed_at[child])
                told = f"node {child!r} stands twice in the tree (first at {first}); every name must be unique"
                yield ("tree", parent, i), told
            else:
                listed_at[child] = (parent, i)
    if ROOT not in tree:
        yield ("tree",), "the tree has no 'root' entry; add 'root: [...]' with the topmost classes"
    for name in (name for name in tree if name not in known):
        steps: dict[str, None] = {}  # a dict keeps the order
        above: str | None = name
        while above is not None and above not in steps:
            steps[above] = None
            above = listed_at[above][0] if above in listed_at else None
        if above is None:
            yield ("tree", name), f"node {name!r} is an orphan, no other node lists it as a child{nearest(name, known)}"
        else:
            yield ("tree", name), f"node {name!r} is on or under a cycle ({' < '.join([*steps, above])})"


def _number_nodes(tree: dict[str, list[str]]) -> tuple[list[str], list[int]]:
    """Names of the nodes below the root in depth-first order, and the number of each one's parent."""
    numbers: dict[str, int] = {}
    parents: list[int] = []
    waiting = [(ROOT, -1)]
    while waiting:
        name, parent = waiting.pop()
        if name not in numbers:  # a node that stands twice is told elsewhere
            numbers[name] = len(numbers)
            parents.append(parent)
            waiting += [(child, numbers[name]) for child in reversed(tree.get(name, [])) if child != ROOT]
    return list(numbers), parents


def shipped_specs(kind: str) -> list[str]:
    """The names of the specs that ship; `kind` is 'taxonomies' or 'label_spaces'."""
    return sorted(f.stem for f in (SPECS / kind).glob("*.yaml"))


def find_spec(kind: str, name: str | Path, beside: Path | None = None) -> Document:
    """Read a shipped spec by its name or a user's file by its path.

    `kind` is as for `shipped_specs`; a path is tried relative to the folder `beside` first.
    """
    name = text_of(name, "a name or a path")
    if name.endswith((".yaml", ".yml")):
        return read_yaml((beside or Path()) / name)
    shipped = shipped_specs(kind)
    if name not in shipped:
        told = f"shipped are {', '.join(shipped)}; a file of your own is named with its ending .yaml"
        raise HeterosegError(f"there is no shipped file {name!r} in {kind}{nearest(name, shipped)}; {told}")
    return parse_yaml(read_text(SPECS / kind / f"{name}.yaml"), Path(f"{name}.yaml"))


def load_taxonomy(name: str | Path, beside: Path | None = None, void: bool = False) -> Taxonomy:
    """Load a taxonomy by shipped name or by path (ending .yaml); faults raise HeterosegError with file and line.

    A path is relative to the folder `beside`. `void` adds a logit for "no child" to every classifier.

    Examples:
        >>> from heteroseg.labels.taxonomy import load_taxonomy
        >>> tree = load_taxonomy("streets-108")
        >>> len(tree.leaves), tree.channels
        (107, 111)
        >>> tree.names[tree.parents[tree.index("parking")]]
        'driveable'
    """
    document = find_spec("taxonomies", name, beside)
    return build_taxonomy(document.parse(TaxonomyFile), document, void)
