"""A tree of classes that grows by the names of labels, dataset after dataset."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from heteroseg.curation.name_matching import above, is_rest, meanings, relation
from heteroseg.labels.taxonomy import ROOT, Color, Taxonomy, TaxonomyFile

Ask = Callable[[str], bool]
"""What answers a question: whether it is so."""


@dataclass
class GrowingTree:
    """The parent of each node, in the order in which nodes came; nodes of `fixed` keep their places."""

    parents: dict[str, str] = field(default_factory=dict)
    colors: dict[str, Color] = field(default_factory=dict)
    fixed: Collection[str] = ()

    @classmethod
    def of(cls, tree: Taxonomy | None) -> "GrowingTree":
        """What begins with all nodes of a taxonomy, or with none."""
        if tree is None:
            return cls()
        parents = {tree.names[n]: tree.names[tree.parents[n]] for n in range(1, len(tree))}
        return cls(parents, dict(zip(tree.names, tree.colors, strict=True)), frozenset(parents))

    def children(self, node: str) -> list[str]:
        return [child for child, parent in self.parents.items() if parent == node]

    def put(self, name: str, parent: str = ROOT) -> str:
        """A new node, with a name of its own."""
        tries = (name, *(f"{name} ({i})" for i in range(2, len(self.parents) + 4)))
        free = next(text for text in tries if text not in self.parents and text != ROOT)
        self.parents[free] = parent
        return free

    def is_under(self, node: str, others: Collection[str]) -> bool:
        """Whether a node is one of the others, or below one."""
        while node != ROOT and node not in others:
            node = self.parents[node]
        return node != ROOT

    def file(self, name: str) -> TaxonomyFile:
        tree = {node: self.children(node) for node in dict.fromkeys([ROOT, *self.parents.values()])}
        return TaxonomyFile(name=name, tree=tree, colors={n: c for n, c in self.colors.items() if n in self.parents})


def plain(name: str) -> str:
    """A name in small letters, with spaces."""
    return name.lower().strip("_ ").replace("_", " ")


def _meanings(label: str) -> dict[tuple[str, ...], str]:
    """What a label may mean, with a name for each: `truck or bus` means two things."""
    several = meanings(label) or ((label,),)
    return {meaning: label if len(several) == 1 else " ".join(meaning) for meaning in several}


def find(tree: GrowingTree, label: str, ask: Ask) -> list[str]:
    """The node that has a label's meaning, or those of its several meanings; [] where one lacks.

    `ask` says whether two names that are spelt alike mean the same.
    """
    if named := [node for node in tree.parents if plain(node) == plain(label)]:
        return named[:1]
    nodes = []
    for meaning, name in _meanings(label).items():
        same = [n for n in tree.parents if meanings(n) == (meaning,) and is_rest(n) == is_rest(name)]
        alike = [] if same else [n for n in tree.parents if relation(name, n)[1] == "spelling"]
        if alike and ask(f"is {label!r} the same as {alike[0]!r}, which is spelt alike?"):
            same = alike
        if not same:
            return []
        nodes.append(same[0])
    return nodes


def put(tree: GrowingTree, label: str, apart: Collection[str]) -> tuple[list[str], str]:
    """New nodes for a label, below what is wider and above what is narrower, and where they are.

    `apart` are the nodes of the same dataset's labels, which are neither, because it tells them apart.
    """
    nodes, places = [], []
    for name in _meanings(label).values():
        if there := find(tree, name, lambda _: False):
            nodes += there
            continue
        related = {n: relation(name, n) for n in tree.parents if n not in apart and not is_rest(n)}
        kinds = ("part", "same") if is_rest(name) else ("part",)
        wider = [(score, n) for n, (score, kind) in related.items() if kind in kinds and not tree.is_under(n, apart)]
        parent = max(wider)[1] if wider else ROOT
        node = tree.put(name, parent)
        for below, (_, kind) in related.items() if not is_rest(name) else ():
            if kind == "kind" and tree.parents[below] == parent and below not in tree.fixed:
                tree.parents[below] = node
        places.append(f"new, below {parent}" if wider else "new")
        nodes.append(node)
    return nodes, ", ".join(dict.fromkeys(places))


def group(tree: GrowingTree) -> None:
    """Put new nodes of the top that are of one kind under a node of its name, the nearest kinds first."""
    while True:
        top = {node: _kinds(node) for node in tree.children(ROOT) if node not in tree.fixed and meanings(node)}
        counts = Counter(kind for kinds in top.values() for kind in kinds if kind not in tree.parents)
        shared = [kind for kind, count in counts.items() if 2 <= count < len(tree.children(ROOT))]
        if not shared:
            return
        kind = min(shared, key=lambda kind: (max(k[kind] for k in top.values() if kind in k), -counts[kind], kind))
        new = tree.put(kind)
        tree.parents |= {node: new for node, kinds in top.items() if kind in kinds}


def _kinds(node: str) -> dict[str, int]:
    """What a node is a kind of, with the steps to it; what is left of a kind is one step below it."""
    return {kind: steps + is_rest(node) for kind, steps in above(meanings(node)[0]).items() if steps or is_rest(node)}
