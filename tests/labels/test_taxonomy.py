"""The tree: numbering, slices, covers, and every fault that a taxonomy file can have."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.errors import HeterosegError, nearest
from heteroseg.files import write_yaml
from heteroseg.labels.describe import check_spec_file, show_spec_file
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy, distinct_colors, load_taxonomy


@st.composite
def trees(draw, void: bool | None = None) -> Taxonomy:
    """A random tree with at least one classifier; the file lists its inner nodes in any order."""
    count = draw(st.integers(3, 24))
    parents = [-1, *(draw(st.integers(0, i)) for i in range(count - 1))]
    if len(set(parents)) == count:  # a chain decides nothing
        parents[-1] = 0
    names = ["root", *(f"n{i}" for i in range(1, count))]
    inner = draw(st.permutations(sorted(set(parents[1:]))))
    tree = {names[n]: [names[i] for i in range(count) if parents[i] == n] for n in inner}
    return build_taxonomy(TaxonomyFile(name="random", tree=tree), void=draw(st.booleans()) if void is None else void)


def below(tree: Taxonomy, node: int) -> set[int]:
    """Leaf positions under a node, found the slow way."""
    if not tree.children[node]:
        return {tree.leaves.index(node)}
    return set().union(*(below(tree, child) for child in tree.children[node]))


@given(trees())
def test_slices_partition_the_logits(tree):
    channels = [c for one in tree.classifiers for c in range(one.start, one.stop)]
    assert channels == list(range(tree.channels))
    named = [tree.channel_of[child] for one in tree.classifiers for child in one.children]
    voids = {one.stop - 1 for one in tree.classifiers if tree.void}
    assert sorted([*named, *voids]) == channels
    for node, channel in enumerate(tree.channel_of):
        alone = node == 0 or len(tree.children[tree.parents[node]]) == 1
        assert (channel == -1) == alone


@given(trees())
def test_classifiers_are_the_nodes_with_a_choice(tree):
    owners = [one.node for one in tree.classifiers]
    assert sorted(owners) == [n for n in range(len(tree)) if len(tree.children[n]) >= 2]
    assert [tree.depths[n] for n in owners] == sorted(tree.depths[n] for n in owners)
    for node, position in enumerate(tree.classifier_of):
        assert position == (owners.index(node) if node in owners else -1)
        if position >= 0:
            assert tree.classifiers[position].children == tree.children[node]


@given(trees(void=False))
def test_void_adds_one_logit_per_classifier(tree):
    file = tree.to_file()
    with_void = build_taxonomy(file, void=True)
    assert with_void.channels == tree.channels + len(tree.classifiers)
    assert build_taxonomy(file) == tree, "a taxonomy written to a file and read again is the same"


@given(trees())
def test_leaves_of_a_node_are_consecutive(tree):
    assert tree.leaves_of(0) == set(range(len(tree.leaves)))
    for node, (start, stop) in enumerate(tree.spans):
        assert set(range(start, stop)) == tree.leaves_of(node) == below(tree, node)
        assert stop > start


@given(trees())
def test_paths_lead_from_the_root_to_the_node(tree):
    for node in range(len(tree)):
        path = tree.path(node)
        assert (path[0], path[-1]) == (0, node)
        assert len(path) == tree.depths[node] + 1
        assert all(tree.parents[b] == a for a, b in pairwise(path))


@given(trees(), st.data())
def test_cover_is_disjoint_exact_and_minimal(tree, data):
    wanted = frozenset(data.draw(st.sets(st.sampled_from(range(len(tree.leaves))))))
    nodes = tree.cover(wanted)
    covered = [leaf for node in nodes for leaf in sorted(tree.leaves_of(node))]
    assert covered == sorted(wanted), "no leaf twice, in tree order"
    for node in nodes:  # a node could be saved only by its parent, and the parent holds a leaf too many
        assert node == 0 or not tree.leaves_of(tree.parents[node]) <= wanted


@given(trees(), st.data())
def test_common_ancestor_is_the_deepest_shared_node(tree, data):
    nodes = data.draw(st.lists(st.sampled_from(range(len(tree))), min_size=1, max_size=4))
    found = tree.common_ancestor(nodes)
    assert all(found in tree.path(n) for n in nodes)
    assert not any(all(child in tree.path(n) for n in nodes) for child in tree.children[found])


@given(trees())
def test_names_and_numbers(tree):
    for node, name in enumerate(tree.names):
        assert tree.index(name) == node
        assert name in tree
    assert "n99" not in tree


def test_unknown_node_names_the_nearest():
    tree = build_taxonomy(TaxonomyFile(name="tiny", tree={"root": ["sky", "road"]}))
    with pytest.raises(HeterosegError, match=r"taxonomy 'tiny' has no node 'raod'; did you mean 'road'\?"):
        tree.index("raod")
    assert nearest("zzz", tree.names) == ""


def test_colors_are_taken_or_made():
    tree = build_taxonomy(TaxonomyFile(name="tiny", tree={"root": ["sky", "road"]}, colors={"sky": (1, 2, 3)}))
    assert tree.colors[tree.index("sky")] == (1, 2, 3)
    many = distinct_colors(120)
    assert len(set(many)) == 120
    assert np.array(many).min() >= 0
    assert np.array(many).max() <= 255


# ---- faults. The word HERE marks the line that the message must point at.
FAULTS = {
    "duplicate node": (
        "tree:\n  root: [a, b]\n  a: [c, d]\n  b: [e, c]  # HERE\n",
        r"node 'c' stands twice .*first at .*:4",
    ),
    "duplicate among siblings": ("tree:\n  root: [a, a]  # HERE\n", "node 'a' stands twice"),
    "cycle": ("tree:\n  root: [a, b]\n  c: [d, e]  # HERE\n  d: [c, f]\n", "'c' is on or under a cycle"),
    "node that is its own child": ("tree:\n  root: [a, b]\n  c: [c, d]  # HERE\n", "'c' is on or under a cycle"),
    "below a cycle": (
        "tree:\n  root: [a, b]\n  c: [d, x]\n  d: [c, e]\n  e: [f, g]  # HERE\n",
        "'e' is on or under a cycle",
    ),
    "orphan": (
        "tree:\n  root: [vehicle, b]\n  vehicles: [car, bus]  # HERE\n",
        "'vehicles' is an orphan.*did you mean 'vehicle'",
    ),
    "root as a child": ("tree:\n  root: [a, b]\n  a: [c, root]  # HERE\n", "'root' is the top of the tree"),
    "missing root": ("tree:  # HERE\n  a: [b, c]\n", "no 'root' entry; add 'root:"),
    "no children": ("tree:\n  root: [a, b]\n  a: []  # HERE\n", "'a' lists no children"),
    "nothing to decide": ("tree:  # HERE\n  root: [a]\n  a: [b]\n", "nothing to decide"),
    "empty tree": ("tree: {}  # HERE\n", "no 'root' entry"),
    "missing tree": ("description: nothing  # no HERE\n", "tree: expected a value, found none"),
    "duplicate key": (
        "tree:\n  root: [a, b]\n  a: [c, d]\n  a: [e, f]  # HERE\n",
        r"the key 'a' stands twice \(first on line 4\)",
    ),
    "alias to itself": ("tree:\n  root: &r  # HERE\n  - *r\n", "an alias refers to the block that contains it"),
    "unknown key": (
        "tree:\n  root: [a, b]\ncolour: {}  # HERE\n",
        "colour: there is no such key; did you mean 'colors'",
    ),
    "children are no list": ("tree:\n  root: a  # HERE\n", "tree.root: expected a list, found 'a'"),
    "a child is no name": ("tree:\n  root: [a, 7]  # HERE\n", "expected a text, found 7"),
    "a child is yes or no": ("tree:\n  root: [a, no]  # HERE\n", "expected a text, found False"),
    "a list as a key": ("tree:\n  ? [a, b]  # HERE\n  : c\n", "a key must be a plain name"),
    "color of nothing": (
        "tree:\n  root: [sky, road]\ncolors:\n  raod: [1, 2, 3]  # HERE\n",
        "a colour is given for 'raod', which is no node; did you mean 'road'",
    ),
    "color out of range": (
        "tree:\n  root: [a, b]\ncolors:\n  a: [1, 2, 256]  # HERE\n",
        r"the colour of 'a' must be three numbers from 0 to 255, found \[1, 2, 256\]",
    ),
    "color of two numbers": (
        "tree:\n  root: [a, b]\ncolors:\n  a: [1, 2]  # HERE\n",
        "colors.a.2: expected a value, found none",
    ),
    "color by name": ("tree:\n  root: [a, b]\ncolors:\n  a: red  # HERE\n", "colors.a: .*found 'red'"),
    "bad indentation": ("tree:\n  root: [a, b]\n a: [c, d]  # HERE\n", "not valid YAML"),
    "open bracket": ("tree:\n  root: [a, b\n  a: [c]  # HERE\n", "not valid YAML"),
    "custom tag": ("tree:\n  root: [a, !thing b]  # HERE\n", "expected a plain value"),
}


def fault_lines(text: str) -> list[int]:
    return [i for i, line in enumerate(text.splitlines(), 1) if line.endswith("# HERE")]


def read_faults(path: Path, text: str) -> tuple[str, ...]:
    path.write_text(text)
    with pytest.raises(HeterosegError) as caught:
        load_taxonomy(str(path))
    return caught.value.faults


@pytest.mark.parametrize("kind", FAULTS)
def test_fault(kind, tmp_path):
    body, words = FAULTS[kind]
    text = f"name: bad\n{body}"
    path = tmp_path / "bad.yaml"
    matching = [f for f in read_faults(path, text) if re.search(words, f)]
    assert matching, read_faults(path, text)
    for line in fault_lines(text):
        assert matching[0].startswith(f"{path}:{line}: "), matching


def test_all_faults_are_told_at_once(tmp_path):
    text = "name: bad\ntree:\n  root: [a, b, a]\n  q: [c, d]\n  b: []\ncolors: {z: [1, 2, 3], b: [0, 0, 999]}\n"
    faults = read_faults(tmp_path / "bad.yaml", text)
    for words in ("'a' stands twice", "'q' is an orphan", "'b' lists no children", "for 'z'", "of 'b' must be"):
        assert sum(words in f for f in faults) == 1, (words, faults)
    assert len(faults) == 5


def test_faults_of_form_are_told_at_once(tmp_path):
    faults = read_faults(tmp_path / "bad.yaml", "name: [a]\ntree:\n  root: 5\ncolor: {}\n")
    assert [int(re.search(r"\.yaml:(\d+): ", f)[1]) for f in faults] == [1, 3, 4]


def test_an_empty_file_tells_what_is_missing(tmp_path):
    faults = read_faults(tmp_path / "bad.yaml", "")
    told = "expected a value, found none"
    assert [f.split(": ", 1)[1] for f in faults] == [f"name: {told}", f"tree: {told}"]


def test_unreadable_files(tmp_path):
    with pytest.raises(HeterosegError, match=r"absent\.yaml: cannot be read, No such file"):
        load_taxonomy(str(tmp_path / "absent.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(HeterosegError, match=r"binary\.yaml: expected a text file in UTF-8"):
        load_taxonomy(str(tmp_path / "binary.yaml"))


def test_unknown_shipped_name():
    with pytest.raises(HeterosegError, match=r"no shipped file 'streets-rael' .*did you mean 'streets-real'"):
        load_taxonomy("streets-rael")


def test_a_file_beside_another(tmp_path):
    (tmp_path / "tiny.yaml").write_text("name: tiny\ntree: {root: [a, b]}\n")
    assert load_taxonomy("tiny.yaml", beside=tmp_path).names == ("root", "a", "b")


def test_without_a_file_the_taxonomy_is_named():
    with pytest.raises(HeterosegError, match=r"^taxonomy 'bad': node 'a' stands twice"):
        build_taxonomy(TaxonomyFile(name="bad", tree={"root": ["a", "a"]}))


def deep_tree(levels: int) -> dict[str, list[str]]:
    return {"root" if i == 0 else f"n{i}": [f"n{i + 1}", f"leaf {i}"] for i in range(levels)}


def test_a_tree_of_2000_levels(tmp_path):
    """Deeper than Python's recursion: built, covered, checked and shown."""
    write_yaml(tmp_path / "deep.yaml", {"name": "deep", "tree": deep_tree(2000)})
    tree = load_taxonomy(str(tmp_path / "deep.yaml"))
    last = tree.index("n2000")
    assert tree.depths[last] == 2000
    assert tree.channels == 4000
    assert tree.cover(range(2000)) == (tree.index("n1"),)
    assert tree.common_ancestor([last, tree.index("leaf 1500")]) == tree.index("n1500")
    assert "2001 leaves, 2000 classifiers" in check_spec_file(str(tmp_path / "deep.yaml"))
    assert show_spec_file(str(tmp_path / "deep.yaml")).count("\n") == 1 + len(tree)


def test_more_nodes_than_can_be_numbered():
    wide = {"root": [f"n{i}" for i in range(32_000)]}
    with pytest.raises(HeterosegError, match="expected at most 32000 nodes, found 32001"):
        build_taxonomy(TaxonomyFile(name="wide", tree=wide))


def test_a_tree_of_2000_leaves():
    groups = {f"g{i}": [f"leaf {i} {j}" for j in range(40)] for i in range(50)}
    tree = build_taxonomy(TaxonomyFile(name="wide", tree={"root": list(groups), **groups}))
    assert [len(tree.cover(tree.leaves_of(n))) for n in range(len(tree))] == [1] * len(tree)
    assert tree.spans[0] == (0, 2000)


@given(trees(), st.data())
def test_under_is_on_the_path(tree, data):
    node, above = (data.draw(st.sampled_from(range(len(tree)))) for _ in range(2))
    assert (tree.common_ancestor([node, above]) == above) == (above in tree.path(node))
