"""One experiment from datasets as they are: a tree, a label space for each, and what is taken for granted.

Labels are placed by their names, or with a network by what it sees too. The tree begins with that of the network or of
the label spaces that ship, and grows by what it lacks.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heteroseg.curation.growing_tree import Ask, GrowingTree, find, group, plain, put
from heteroseg.curation.label_lists import VOID
from heteroseg.curation.new_dataset import Log
from heteroseg.curation.recognise import Recognised, look
from heteroseg.curation.spec_text import is_shipped, space_yaml, taxonomy_yaml
from heteroseg.curation.suggest import collect, draft, propose
from heteroseg.errors import HeterosegError, listed
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.files import write_text, yaml_text
from heteroseg.labels.space import AroundBoxes, LabelEntry, LabelSpaceFile, build_label_space, load_label_space
from heteroseg.labels.taxonomy import ROOT, Taxonomy, TaxonomyFile, build_taxonomy, load_taxonomy, shipped_specs
from heteroseg.model.model import Model
from heteroseg.writing import filling

BACKGROUND = "background"
NONE = {BACKGROUND, "bg", "none", "nothing", "other", "others", "rest", "object free"}
EVERY = 5  # of so many images of one listing one is for scoring
IMAGES = 40  # that a network looks at


@dataclass
class Placed:
    """A dataset with its labels placed.

    `notes` are comments by the label's id. `background` is the id of all that is none of its labels, where there is
    one. `whole`: what its labels name is annotated wherever it occurs. `own` is the node above all labels of a dataset
    of boxes, where no other one knows them.
    """

    dataset: Recognised
    entries: list[LabelEntry] = field(default_factory=list)
    notes: dict[int, list[str]] = field(default_factory=dict)
    background: int | None = None
    whole: bool = False
    own: str | None = None

    @property
    def nodes(self) -> dict[str, LabelEntry]:
        return {node: entry for entry in self.entries for node in entry.node_names}


def join(found: Sequence[Recognised], out: Path, model: Model | None, ask: Ask, log: Log) -> None:
    """Write OUT/tree.yaml, a label space for each dataset and OUT/experiment.yaml, which `data check` takes.

    `ask` answers what is doubtful, `log` gets what was made of each label. Datasets of one name, and what does not
    fit together raise HeterosegError; `out` must be new or empty.
    """
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise HeterosegError(f"{twice}: expected a name of its own for each dataset, found two; write NAME=PATH")
    if not any(one.reader for one in found):
        raise HeterosegError(f"{listed(names, 8)}: expected a dataset, found label spaces alone; name a folder too")
    with filling(out, {"command": "join", "given": [f"{one.name}={one.root}" for one in found]}):
        base = _beginning(found, model)
        tree = GrowingTree.of(base)
        for one in found:
            _prepare(one, out, base)
        first = sorted(found, key=lambda one: one.space is None)  # what ships has its places
        placed = {one.name: _place(one, tree, base, model, ask) for one in first}
        _complete(tree, placed)
        file = tree.file(out.resolve().name.strip(". ") or "joined")  # a folder may be hidden, a name not
        taxonomy = build_taxonomy(file)
        ships = base is not None and base.same_tree(taxonomy) and is_shipped(base)
        if not ships:
            write_text(out / "tree.yaml", taxonomy_yaml(file, [f"The labels of {listed(names, 8)}; make it yours."]))
        datasets: dict[str, Any] = {}
        for name in names:
            datasets |= _write(placed[name], out, taxonomy, log)
        head = {"name": file.name, "taxonomy": base.name if base and ships else "tree.yaml"}
        write_text(out / "experiment.yaml", yaml_text(head | {"datasets": datasets}))
        open_sources(*load_experiment(out / "experiment.yaml"))


def _beginning(found: Sequence[Recognised], model: Model | None) -> Taxonomy | None:
    """The tree of the network, or of the label spaces that ship with what they tell apart; None where neither is."""
    if model:
        return model.taxonomy
    names = [one.space for one in found if one.space]
    for tree in sorted(map(load_taxonomy, shipped_specs("taxonomies")), key=len) if names else ():
        with suppress(HeterosegError):  # the label spaces of another tree
            return _pruned(tree, [load_label_space(name, tree).file for name in names])
    return None


def _pruned(tree: Taxonomy, files: Sequence[LabelSpaceFile]) -> Taxonomy:
    """The tree without the nodes that no label tells apart, and that none covers."""
    named = {node for file in files for entry in file.labels for node in entry.node_names}
    for f in files:
        named |= {n for n in (f.gate, *f.assume, *f.coverage, f.around_boxes and f.around_boxes.excludes) if n}
    needed = {above for node in named for above in tree.path(tree.index(node))}
    kept: dict[str, list[str]] = {}
    for node in sorted(needed):
        covered = any(tree.names[above] in named for above in tree.path(node))
        if any(child in needed for child in tree.children[node]):
            kept[tree.names[node]] = [tree.names[c] for c in tree.children[node] if covered or c in needed]
    inside = {*kept, *(child for children in kept.values() for child in children)}
    colors = {n: color for n, color in zip(tree.names, tree.colors, strict=True) if n in inside}
    return build_taxonomy(TaxonomyFile(name=tree.name, tree=kept, colors=colors))


def _prepare(one: Recognised, out: Path, base: Taxonomy | None) -> None:
    """Look at the images of a dataset; what ships for another tree than the others is placed by names."""
    if one.space and not base:
        one.space, one.labels = None, [entry.model_copy(update={"nodes": None}) for entry in one.labels]
    elif one.reader and not one.space:
        if one.reader == "label_studio":  # whose export has no list of its labels
            write_text(out / f"{one.name}-classes.txt", "".join(f"{label.name}\n" for label in one.labels))
            one.options["classes"] = str(out.resolve() / f"{one.name}-classes.txt")
        look(one)


def _place(one: Recognised, tree: GrowingTree, base: Taxonomy | None, model: Model | None, ask: Ask) -> Placed:
    """Place the labels of a dataset: by names that are known, by what a network sees, else as new nodes."""
    placed = Placed(one)
    meant = {e.id for e in one.labels if not e.ignore and plain(e.name) not in VOID | NONE}
    seen: dict[int, LabelEntry] = {}
    if model and base and one.reader and meant and not one.space:
        split = one.splits[0] if one.splits else "all"
        evidence = collect(model, one.labels, one.reader, one.root, split, one.options, IMAGES)
        labels = [entry for entry in one.labels if entry.id in meant]
        entries, placed.notes = draft(labels, base, propose(labels, base, evidence))
        seen = {entry.id: entry for entry in entries if not entry.ignore}
    for entry in one.labels:
        if plain(entry.name) in NONE and not entry.node_names:
            placed.background = entry.id
        elif entry.id not in meant:
            placed.entries.append(entry.model_copy(update={"nodes": None, "ignore": True}))
        else:
            nodes = entry.node_names or find(tree, entry.name, ask) or seen.get(entry.id, entry).node_names
            placed.entries.append(entry.model_copy(update={"nodes": nodes}))
    for i, entry in enumerate(placed.entries):
        if entry.id in meant and not entry.node_names:
            nodes, told = put(tree, entry.name, placed.nodes)
            placed.entries[i] = entry.model_copy(update={"nodes": nodes})
            placed.notes.setdefault(entry.id, []).insert(0, told)
    tree.colors = {node: e.color for node, e in placed.nodes.items() if e.color} | tree.colors
    annotated, question = one.outlined or one.boxed, "is everything that {} names annotated in all of its images?"
    placed.whole = placed.background is not None or (annotated and ask(question.format(one.name)))
    if placed.whole and one.outlined and placed.background is None:
        placed.background = next(i for i in (0, 255, *range(256, 2**16)) if i not in {e.id for e in one.labels})
    return placed


def _complete(tree: GrowingTree, placed: Mapping[str, Placed]) -> None:
    """Put in what is above, beside and around the labels."""
    group(tree)
    for p in placed.values():
        elsewhere = {node for q in placed.values() if q is not p for node in q.nodes}
        if p.dataset.boxed and p.nodes and not elsewhere & p.nodes.keys():
            p.own = _own_node(p, tree, elsewhere)
    for node in [node for node in dict.fromkeys(tree.parents.values()) if node != ROOT]:
        if len(tree.children(node)) == 1 and node not in tree.fixed:
            tree.put(f"other {node}", node)
    rest = any(p.background is not None or tree.children(ROOT) == [p.own] for p in placed.values())
    if rest and BACKGROUND not in tree.parents:
        tree.put(BACKGROUND)


def _own_node(p: Placed, tree: GrowingTree, elsewhere: set[str]) -> str | None:
    """The node above the labels of a dataset and above nothing else, a new one if need be; None where none can be."""
    nodes, parents = list(p.nodes), {tree.parents[node] for node in p.nodes}
    if len(nodes) == 1:
        return nodes[0]
    if len(parents) == 1 and (only := parents.pop()) != ROOT:
        return only if set(tree.children(only)) == set(nodes) and only not in elsewhere else None
    if parents or any(node in tree.fixed for node in nodes):
        return None
    new = tree.put(p.dataset.name)
    tree.parents |= dict.fromkeys(nodes, new)
    return new


def _write(p: Placed, out: Path, tree: Taxonomy, log: Log) -> dict[str, Any]:
    """Write the label space of a dataset and tell it; returns its entry in the experiment, {} without images."""
    one = p.dataset
    if not one.space:
        space = _space(p, tree)
        build_label_space(space, tree)
        write_text(out / f"{one.name}.yaml", space_yaml(space, ["Read every line, change what is wrong."], p.notes))
        width = max(len(entry.name) for entry in space.labels)
        for label in space.labels:
            nodes, told = listed(label.node_names, 6) or "(ignored)", "; ".join(p.notes.get(label.id, ())[:1])
            log(f"{one.name}  {label.id:6d}  {label.name:<{width}}  {nodes}  {told}".rstrip())
    if not one.reader:
        return {}
    train, val = one.splits or ("train", "val")
    options = one.options | ({} if one.splits else _divided(one, out))
    if p.background is not None and one.outlined:
        options["background"] = str(p.background)
    entry = {"root": str(one.root), "reader": one.reader, "label_space": one.space or f"{one.name}.yaml"}
    more = {"focus": 0.9} if one.boxed else {}
    return {one.name: entry | {"options": options, "train": train, "val": val} | more}


def _space(p: Placed, tree: Taxonomy) -> LabelSpaceFile:
    """The label space of a dataset; its background is all that is none of its labels."""
    entries = list(p.entries)
    if p.background is not None:
        covered = {leaf for node in p.nodes for leaf in tree.leaves_of(tree.index(node))}
        rest = [tree.names[node] for node in tree.cover(set(range(len(tree.leaves))) - covered)]
        name = next((e.name for e in p.dataset.labels if e.id == p.background), BACKGROUND)
        entries.append(LabelEntry(id=p.background, name=name, nodes=rest))
    around = AroundBoxes(excludes=p.own, margin=None) if p.own and p.whole else None
    entries.sort(key=lambda entry: entry.id)
    gate = ROOT if p.own else None
    return LabelSpaceFile(name=p.dataset.name, taxonomy="tree.yaml", labels=entries, gate=gate, around_boxes=around)


def _divided(one: Recognised, out: Path) -> dict[str, str]:
    """Write lists of images to train and to score on; returns the option that names them."""
    names = one.images
    for split, chosen in (("train", [n for i, n in enumerate(names) if i % EVERY]), ("val", names[::EVERY])):
        write_text(out / "splits" / f"{one.name}-{split}.txt", "".join(f"{name}\n" for name in chosen))
    return {"names": str(out.resolve() / "splits" / f"{one.name}-{{split}}.txt")}
