"""The tables of loss terms: equal to what each label's path says, and quick for thousands of labels."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroseg.errors import HeterosegError
from heteroseg.labels.space import LabelSpace, LabelSpaceFile, build_label_space, own_space
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy
from heteroseg.supervision.label_terms import LabelTerms, build_terms, pad_ragged
from tests.labels.test_taxonomy import trees


@st.composite
def spaces_of_a_tree(draw) -> list[LabelSpace]:
    """One to three label spaces of a random tree, with unions, coverage and what lies around boxes."""
    tree = draw(trees())
    node, inner = st.sampled_from(tree.names), st.sampled_from(tree.names[1:])
    spaces = []
    for _ in range(draw(st.integers(1, 3))):
        meanings = draw(
            st.lists(st.none() | st.lists(node, min_size=1, max_size=3, unique=True), min_size=1, max_size=5)
        )
        labels = [
            {"id": i, "name": f"l{i}", "evaluate": False, **({"nodes": nodes} if nodes else {"ignore": True})}
            for i, nodes in enumerate(meanings)
        ]
        file = LabelSpaceFile(
            name="s",
            taxonomy="random",
            labels=labels,
            gate="root" if draw(st.booleans()) else None,
            around_boxes={"excludes": draw(inner)} if draw(st.booleans()) else None,
            coverage=draw(st.dictionaries(inner, st.sampled_from(["positives", "complete", "none"]), max_size=2)),
        )
        try:
            spaces.append(build_label_space(file, tree))
        except HeterosegError:  # labels that overlap, or that coverage leaves without a meaning
            spaces.append(own_space(tree))
    return spaces


def slow_cover(tree: Taxonomy, leaves: frozenset[int], node: int = 0) -> list[int]:
    if tree.leaves_of(node) <= leaves:
        return [node]
    return [
        n for child in tree.children[node] for n in slow_cover(tree, leaves, child) if tree.leaves_of(child) & leaves
    ]


def decided(tree: Taxonomy, nodes) -> list[tuple[int, int]]:
    """(channel, owning classifier) of each step on a path of nodes."""
    return [(tree.channel_of[n], tree.classifier_of[tree.parents[n]]) for n in nodes if tree.channel_of[n] >= 0]


def slow_terms(space: LabelSpace, index: int) -> dict:
    """The terms of one target, each worked out from the path of its nodes."""
    tree, around = space.taxonomy, index == len(space.labels)
    ignored = not around and not space.labels[index].leaves
    cover = [0] if ignored else slow_cover(tree, space.training_leaves(index))
    top = tree.common_ancestor(cover)
    if around or space.file.gate or top == 0:
        gate = 0
    else:
        gate = top if len(cover) > 1 else tree.parents[top]
    first = gate
    while len(tree.children[first]) == 1:
        first = tree.children[first][0]
    steps = decided(tree, tree.path(top))
    return {
        "path": [channel for channel, _ in steps],
        "path_of": [owner for _, owner in steps],
        "below_gate": [gate in tree.path(tree.classifiers[owner].node) for _, owner in steps],
        "union_below_gate": gate in tree.path(top),
        "gate": [channel for channel, _ in decided(tree, tree.path(gate))],
        "gate_of": tree.classifier_of[first],
        "parts": [[c for c, _ in decided(tree, tree.path(n)[tree.depths[top] + 1 :])] for n in cover],
        "parts_of": tree.classifier_of[top],
    }


def row_of(terms: LabelTerms, i: int) -> dict:
    """Row `i` of the tables in the form of `slow_terms`, without padding."""

    def row(values) -> list[int]:
        return [v for v in values.tolist() if v >= 0]

    path, union = row(terms.path[i]), int(terms.union[i])
    assert not terms.below_gate[i, len(path) :].any()
    return {
        "path": path,
        "path_of": row(terms.path_of[i]),
        "below_gate": terms.below_gate[i, : len(path)].tolist(),
        "union_below_gate": bool(terms.union_below_gate[i]),
        "gate": row(terms.gate[i]),
        "gate_of": int(terms.gate_of[i]),
    } | ({} if union < 0 else {"parts": [row(p) for p in terms.parts[union]], "parts_of": int(terms.parts_of[union])})


@settings(max_examples=150, deadline=None)
@given(spaces_of_a_tree())
def test_tables_say_what_each_path_says(spaces):
    terms = build_terms(spaces)
    unions = 0
    for i, (space, index) in enumerate((s, index) for s in spaces for index in range(s.targets)):
        slow, fast = slow_terms(space, index), row_of(terms, i)
        assert (terms.union[i] >= 0) == (len(slow["parts"]) > 1)
        if "parts" in fast:
            assert terms.union[i] == unions
            unions += 1
            fast["parts"] = fast["parts"][: len(slow["parts"])]
        assert fast == {key: slow[key] for key in fast}
    assert len(terms.parts) == len(terms.parts_of) == unions


@pytest.mark.parametrize("groups", [1, 40])
def test_two_thousand_labels(groups):
    names = [f"n{i}" for i in range(2000)]
    if groups == 1:
        tree = {"root": names}
    else:
        tree = {"root": [f"g{i}" for i in range(groups)]} | {f"g{i}": names[i::groups] for i in range(groups)}
    space = own_space(build_taxonomy(TaxonomyFile(name="wide", tree=tree)))
    terms = build_terms([space])
    assert terms.path.shape == (2000, 1 if groups == 1 else 2)


def test_ragged_lists_are_padded_at_the_end_of_every_level():
    assert pad_ragged([[1, 2], [], [3]]).tolist() == [[1, 2], [-1, -1], [3, -1]]
    assert pad_ragged([[[1]], [[2, 3], [4]], []], levels=3, fill=0).tolist() == [
        [[1, 0], [0, 0]],
        [[2, 3], [4, 0]],
        [[0, 0], [0, 0]],
    ]
    assert pad_ragged([[], []]).shape == (2, 1)
    assert pad_ragged([], levels=3).shape == (0, 1, 1)
