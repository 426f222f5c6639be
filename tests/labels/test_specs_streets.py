"""The taxonomy `streets`, a refinement of streets-108 for more datasets, and its label spaces."""

import pytest

from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import Taxonomy, load_taxonomy
from tests.facts import facts
from tests.labels.test_specs import leaf_names

WIDER = ("bdd100k", "idd", "idd-level1", "idd-level2", "idd-level3", "idd-level4", "wilddash2", "a2d2", "nuimages")


@pytest.fixture(scope="module")
def streets() -> Taxonomy:
    return load_taxonomy("streets-108")


@pytest.fixture(scope="module")
def wider() -> Taxonomy:
    return load_taxonomy("streets")


def test_streets_refines_streets_108(streets, wider):
    """Its nodes are there, under the same parents, and the children of each still begin with the paper's."""
    for node, name in enumerate(streets.names):
        twin = wider.index(name)
        if node:
            assert wider.names[wider.parents[twin]] == streets.names[streets.parents[node]]
        children = [wider.names[c] for c in wider.children[twin]]
        before = [streets.names[c] for c in streets.children[node]]
        assert children[: len(before)] == before


@pytest.mark.parametrize("name", ["cityscapes", "cityscapes-extended", "vistas", "gtsdb"])
def test_label_spaces_of_streets_108_hold_over_streets(streets, wider, name):
    """What two leaves of streets-108 are called there, the leaves under them are called here."""
    before, after = load_label_space(name, streets), load_label_space(name, wider)
    for position, leaf in enumerate(streets.leaves):
        for under in wider.leaves_of(wider.index(streets.names[leaf])):
            assert after.by_leaf[under] == before.by_leaf[position], streets.names[leaf]


def test_every_new_leaf_is_named_by_a_dataset(streets, wider):
    named = frozenset().union(*(x.leaves for n in WIDER for x in load_label_space(n, wider).labels))
    assert {n for n in leaf_names(wider, wider.leaves_of(0) - named) if n not in streets} == set()


def test_bdd100k_has_the_train_ids_of_cityscapes():
    rows = {r[2]: r for r in facts("label_tables")["cityscapes"]["labels"] if 0 <= r[2] < 19}
    labels = [x for x in load_label_space("bdd100k").labels if x.leaves]
    assert [(x.id, x.name, list(x.color)) for x in labels] == [(i, rows[i][0], rows[i][7]) for i in range(19)]


def test_idd_follows_its_own_table():
    table = facts("label_tables")["idd"]
    rows = [dict(zip(table["fields"], row, strict=True)) for row in table["labels"]]
    space = load_label_space("idd")
    found = [(x.id, x.name, list(x.color), bool(s)) for x, s in zip(space.labels, space.evaluated, strict=True)]
    assert found == [(r["id"], r["name"], r["color"], not r["ignoreInEval"]) for r in rows]


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_levels_of_idd_are_unions_of_its_classes(level):
    table = facts("label_tables")["idd"]
    rows = [dict(zip(table["fields"], row, strict=True)) for row in table["labels"]]
    classes = {x.name: x.leaves for x in load_label_space("idd").labels}
    space = load_label_space(f"idd-level{level}")
    assert set(space.ids.tolist()) == {r[f"level{level}Id"] for r in rows}
    for label in space.labels:
        mine = [classes[r["name"]] for r in rows if r[f"level{level}Id"] == label.id != 255]
        assert label.leaves == frozenset().union(*mine), label.name


def test_wilddash2_is_cityscapes_and_five_more():
    space = load_label_space("wilddash2")
    city = {x.id: x.name for x in load_label_space("cityscapes").labels}
    found = {x.id: x.name for x in space.labels}
    assert {i: n for i, n in found.items() if i in city} == city
    assert [found[i] for i in range(34, 39)] == ["pickup", "van", "billboard", "street-light", "road-marking"]
    universal = facts("label_tables")["universal_concepts"]["wd"]
    assert set(found.values()) - {"unlabeled"} <= set(universal)
