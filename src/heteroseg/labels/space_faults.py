"""What can be wrong with a label space: each fault is one sentence with its place."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from heteroseg.errors import nearest
from heteroseg.labels.taxonomy import Taxonomy

if TYPE_CHECKING:
    from heteroseg.labels.space import LabelEntry, LabelSpace, LabelSpaceFile

MOST_HINTS = 20  # a hint is a search through all names, so a file for another taxonomy gets only some
Place = Callable[..., str]
"""Keys and indices into the file -> `file:line`."""


def faults_of_file(file: "LabelSpaceFile", taxonomy: Taxonomy, place: Place) -> list[str]:
    """What is wrong with the entries of a file, each by itself and in their names of nodes."""
    faults = _repeated(file, place) + _unknown_nodes(file, taxonomy, place)
    for i, entry in enumerate(file.labels):
        told = _faults_of_entry(entry, taxonomy, hint=len(faults) < MOST_HINTS)
        faults += [f"{place('labels', i)}: {fault}" for fault in told]
        if entry.id == file.outside and any(node in taxonomy for node in entry.node_names):
            expected = "'outside' must be an id of no label or of an ignored one, found"
            faults.append(f"{place('outside')}: {expected} {entry.id} ({entry.name!r})")
    return faults


def faults_of_space(space: "LabelSpace", place: Place) -> list[str]:
    """What is wrong with what the labels mean together."""
    return _crossing(space, place) + _without_meaning(space, place) + _never_shown(space, place)


def _repeated(file: "LabelSpaceFile", place: Place) -> list[str]:
    """A fault for each id and each name that an earlier label has."""
    faults = []
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for i, entry in enumerate(file.labels):
        if entry.id in names:
            told = f"id {entry.id} of {entry.name!r} is already the id of {names[entry.id]!r}; ids are unique"
            faults.append(f"{place('labels', i)}: {told}")
        if entry.name in ids:
            told = f"the name {entry.name!r} stands twice (also line of id {ids[entry.name]}); names are unique"
            faults.append(f"{place('labels', i)}: {told}")
        names.setdefault(entry.id, entry.name)
        ids.setdefault(entry.name, entry.id)
    return faults


def _unknown_nodes(file: "LabelSpaceFile", taxonomy: Taxonomy, place: Place) -> list[str]:
    """A fault for each name that is no node, or that is the root where a node below it is due."""
    named: list[tuple[tuple[str | int, ...], str]] = [
        (("labels", i, "nodes"), node) for i, entry in enumerate(file.labels) for node in entry.node_names
    ]
    named += [(("coverage", node), node) for node in file.coverage]
    named += [(("assume", node), node) for node in file.assume]
    if file.around_boxes:
        named.append((("around_boxes", file.around_boxes.excludes), file.around_boxes.excludes))
    if file.gate:
        named.append((("gate", file.gate), file.gate))
    faults: list[str] = []
    for loc, node in named:
        if node not in taxonomy:
            hint = nearest(node, taxonomy.names) if len(faults) < MOST_HINTS else ""
            faults.append(f"{place(*loc)}: {node!r} is no node of taxonomy {taxonomy.name!r}{hint}")
        elif node == taxonomy.names[0] and loc[0] in ("coverage", "assume", "around_boxes"):
            faults.append(f"{place(*loc)}: '{loc[0]}' must name a node below the root")
        elif loc[0] == "around_boxes" and taxonomy.spans[taxonomy.index(node)] == taxonomy.spans[0]:
            told = f"{node!r} holds every leaf, so nothing is left around boxes; name a node below"
            faults.append(f"{place(*loc)}: {told}")
    return faults


def _faults_of_entry(entry: "LabelEntry", taxonomy: Taxonomy, hint: bool) -> list[str]:
    """What is wrong with one label by itself."""
    nodes, faults = entry.node_names, []
    if entry.ignore and nodes:
        faults.append(f"label {entry.name!r} names nodes and says 'ignore: true'; keep one of the two")
    if not entry.ignore and not nodes:
        near = nearest(entry.name, taxonomy.names) if hint else ""
        faults.append(f"label {entry.name!r} (id {entry.id}) is not mapped; give 'nodes:' or 'ignore: true'{near}")
    owner: dict[int, str] = {}  # of each leaf, the node of the union that covers it
    for node in nodes if len(nodes) > 1 else []:
        leaves = taxonomy.leaves_of(taxonomy.index(node)) if node in taxonomy else frozenset()
        twice = min(leaves & owner.keys(), default=None)
        if twice is not None:
            leaf = taxonomy.names[taxonomy.leaves[twice]]
            told = f"covers {leaf!r} twice, by {owner[twice]!r} and by {node!r}; drop one of them"
            faults.append(f"the union {entry.name!r} {told}")
        owner.update(dict.fromkeys(leaves, node))
    if entry.color and not all(0 <= c <= 255 for c in entry.color):
        told = f"must be three numbers from 0 to 255, found {list(entry.color)}"
        faults.append(f"the colour of {entry.name!r} {told}")
    return faults


def _crossing(space: "LabelSpace", place: Place) -> list[str]:
    """A fault for each two labels that overlap without one containing the other."""
    labels, owner = space.labels, np.full(len(space.taxonomy.leaves), -1)
    for i in space.widest_first:
        owners = owner[space.meaning_table[i]]
        if len(owners) and (owners != owners[0]).any():
            break  # a narrower label is partly in a wider one
        owner[space.meaning_table[i]] = i
    else:
        return []
    told = "overlap without one containing the other; split the shared node in the taxonomy so that each label names"
    return [
        f"{place('labels', i)}: labels {a.name!r} and {b.name!r} {told} its own part"
        for i, a in enumerate(labels)
        for b in labels[:i]
        if a.leaves & b.leaves and not (a.leaves <= b.leaves or b.leaves <= a.leaves)
    ]


def _without_meaning(space: "LabelSpace", place: Place) -> list[str]:
    """A fault for each label of which coverage leaves nothing to train."""
    left = np.count_nonzero(space.training_table, axis=1)
    return [
        f"{place('coverage')}: coverage 'complete' for all that {label.name!r} covers leaves no meaning for it; "
        "take one of these nodes out, or drop the label"
        for i, label in enumerate(space.labels)
        if label.leaves and not left[i]
    ]


def _never_shown(space: "LabelSpace", place: Place) -> list[str]:
    """A fault for each evaluated label that no leaf is shown as."""
    shown = set(space.by_leaf.tolist())
    return [
        f"{place('labels', i)}: label {label.name!r} is evaluated, but no leaf can express it, because other labels "
        "take all of its leaves; add a leaf for it or say 'evaluate: false'"
        for i, label in enumerate(space.labels)
        if label.leaves and label.evaluate and i not in shown
    ]
