"""A tree grows by names: what the same, wider and narrower labels become; what one dataset tells apart stays so."""

import pytest

from heteroseg.curation.growing_tree import GrowingTree, find, group, put
from heteroseg.labels.taxonomy import ROOT, load_taxonomy

CASES = {
    "the same names": ([["road", "car"], ["Road", "Car"]], {ROOT: ["road", "car"]}),
    "synonyms": ([["sidewalk", "sky"], ["pavement", "sky"]], {ROOT: ["sidewalk", "sky"]}),
    "narrower": ([["sky", "vegetation"], ["tree"]], {ROOT: ["sky", "vegetation"], "vegetation": ["tree"]}),
    "wider": ([["sky", "tree"], ["vegetation"]], {ROOT: ["sky", "vegetation"], "vegetation": ["tree"]}),
    "one dataset tells them apart": ([["person", "rider", "sky"]], {ROOT: ["sky", "living thing"]}),
    "known there, apart here": ([["person"], ["rider", "person", "sky"]], {ROOT: ["sky", "living thing"]}),
    "a kind and its rest": ([["car", "vehicle fallback", "sky"]], {"vehicle": ["car", "vehicle fallback"]}),
    "the rest of another's kind": ([["vehicle", "sky"], ["other vehicle"]], {"vehicle": ["other vehicle"]}),
    "two in one": ([["truck", "sky"], ["truck or bus"]], {ROOT: ["sky", "vehicle"], "vehicle": ["truck", "bus"]}),
    "a kind of many": ([["car", "bus", "sky"]], {ROOT: ["sky", "vehicle"], "vehicle": ["car", "bus"]}),
    "another alphabet": ([["歩道", "空"], ["空"]], {ROOT: ["歩道", "空"]}),
    "the top's own name": ([["root", "sky"]], {ROOT: ["root (2)", "sky"]}),
}


def grown(datasets: list[list[str]], ask=lambda _: False) -> GrowingTree:
    tree = GrowingTree()
    for labels in datasets:
        found = {label: find(tree, label, ask) for label in labels}
        own = {node for nodes in found.values() for node in nodes}
        for label in (label for label, nodes in found.items() if not nodes):
            own |= set(put(tree, label, own)[0])
    return tree


@pytest.mark.parametrize("name", CASES)
def test_where_labels_come(name):
    datasets, expected = CASES[name]
    tree = grown(datasets)
    group(tree)
    found = tree.file("t").tree
    assert {node: found[node] for node in expected} == expected


def test_what_is_spelt_alike_is_asked():
    asked: list[str] = []
    assert grown([["pedestrian", "sky"], ["pedestrain"]], lambda q: not asked.append(q)).children(ROOT) == [
        "pedestrian",
        "sky",
    ]
    assert asked == ["is 'pedestrain' the same as 'pedestrian', which is spelt alike?"]
    assert len(grown([["pedestrian", "sky"], ["pedestrain"]]).parents) == 3


def test_a_tree_that_is_there_keeps_its_places():
    shipped = load_taxonomy("streets-108")
    tree = GrowingTree.of(shipped)
    before = dict(tree.parents)
    assert find(tree, "Pavement", lambda _: False) == ["sidewalk"]
    nodes, told = put(tree, "traffic cone", ())
    group(tree)
    assert nodes == ["traffic cone"]
    assert told == "new"
    assert {node: parent for node, parent in tree.parents.items() if node in before} == before
