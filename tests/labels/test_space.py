"""Labels of a dataset: what they cover, what silence means, and every fault that a label space file can have."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.errors import HeterosegError
from heteroseg.labels.describe import check_spec_file
from heteroseg.labels.space import (
    AroundBoxes,
    LabelEntry,
    LabelSpace,
    LabelSpaceFile,
    build_label_space,
    load_label_space,
)
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy
from tests.labels.test_taxonomy import trees

TREE = """\
name: tiny
tree:
  root: [sky, ground, rider, cycle, sign]
  ground: [road, parking, walk]
  sign: [front, back]
  front: [stop, yield]
"""
HEAD = "name: mine\ntaxonomy: tiny.yaml\n"


def write(folder: Path, text: str) -> str:
    (folder / "tiny.yaml").write_text(TREE)
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def space(folder: Path, labels: str, head: str = "") -> LabelSpace:
    return load_label_space(write(folder, f"{HEAD}{head}labels:\n{labels}"))


def leaf_names(tied: LabelSpace, leaves) -> set[str]:
    return {tied.taxonomy.names[tied.taxonomy.leaves[i]] for i in leaves}


def label_of(tied: LabelSpace, node: str) -> str | int:
    found = tied.by_node[tied.taxonomy.index(node)]
    return tied.labels[found].name if found >= 0 else int(found)


LABELS = """\
  - {id: 7, name: ground, nodes: ground, color: [1, 2, 3]}
  - {id: 9, name: parking, nodes: parking}
  - {id: 300, name: cyclist, nodes: [rider, cycle]}
  - {id: 2000, name: sign, nodes: sign, evaluate: false, shape: disc}
  - {id: 2001, name: stop, nodes: stop}
  - {id: 0, name: void, ignore: true}
"""


def test_what_labels_cover(tmp_path):
    tied = space(tmp_path, LABELS)
    assert leaf_names(tied, tied.labels[0].leaves) == {"road", "parking", "walk"}
    assert leaf_names(tied, tied.labels[2].leaves) == {"rider", "cycle"}
    assert tied.labels[5].leaves == frozenset()
    assert tied.ids.tolist() == [7, 9, 300, 2000, 2001, 0]
    assert tied.ids.dtype == np.int64
    assert tied.ignored.tolist() == [False] * 5 + [True]
    assert tied.evaluated.tolist() == [True, True, True, False, True, False]
    assert tied.labels[0].color == (1, 2, 3)
    assert tied.labels[3].shape == "disc"


def test_the_most_specific_label_shows(tmp_path):
    tied = space(tmp_path, LABELS)
    shown = {tied.taxonomy.names[n]: tied.by_leaf[i] for i, n in enumerate(tied.taxonomy.leaves)}
    assert {n: tied.labels[i].name if i >= 0 else None for n, i in shown.items()} == {
        "sky": None,
        "road": "ground",
        "parking": "parking",
        "walk": "ground",
        "rider": "cyclist",
        "cycle": "cyclist",
        "stop": "stop",
        "yield": "sign",
        "back": "sign",
    }


def test_labels_of_decided_nodes(tmp_path):
    tied = space(tmp_path, LABELS)
    assert label_of(tied, "ground") == "ground", "an inner node stands for the label of exactly its leaves"
    assert label_of(tied, "sign") == "sign"
    assert label_of(tied, "front") == -2, "stop or sign: the network has to go deeper"
    assert label_of(tied, "root") == -2
    assert label_of(tied, "sky") == -1
    assert label_of(tied, "rider") == "cyclist"
    stops = {tied.taxonomy.names[n] for n in np.flatnonzero(tied.stops)}
    assert stops == {tied.taxonomy.names[n] for n in tied.taxonomy.leaves}


def test_a_decision_may_stop_where_all_leaves_agree(tmp_path):
    tied = space(tmp_path, "  - {id: 0, name: ground, nodes: ground}\n  - {id: 1, name: stop, nodes: stop}\n")
    stops = {tied.taxonomy.names[n] for n in np.flatnonzero(tied.stops)}
    assert "ground" in stops
    assert {"sign", "front", "root"}.isdisjoint(stops)


def test_an_unscored_label_keeps_its_leaves_but_yields_to_an_equal(tmp_path):
    tied = space(
        tmp_path,
        "  - {id: 0, name: road, nodes: ground}\n"
        "  - {id: 1, name: parking, nodes: parking, evaluate: false}\n"
        "  - {id: 2, name: group, nodes: cycle, evaluate: false}\n"
        "  - {id: 3, name: cycle, nodes: cycle}\n"
        "  - {id: 4, name: crowd, nodes: rider}\n"
        "  - {id: 5, name: rider, nodes: rider, evaluate: false}\n",
    )
    assert label_of(tied, "parking") == "parking"
    assert label_of(tied, "ground") == "road"
    assert label_of(tied, "cycle") == "cycle"
    assert label_of(tied, "rider") == "crowd"


@pytest.mark.parametrize(
    ("head", "labels", "outside"),
    [
        ("", "  - {id: 0, name: sky, nodes: sky}\n  - {id: 5, name: void, ignore: true}\n", 5),
        ("outside: 9\n", "  - {id: 0, name: sky, nodes: sky}\n  - {id: 5, name: void, ignore: true}\n", 9),
        ("outside: 6\n", "  - {id: 0, name: sky, nodes: sky}\n  - {id: 6, name: void, ignore: true}\n", 6),
        ("", "  - {id: 0, name: sky, nodes: sky}\n", 255),
        ("", "  - {id: 255, name: sky, nodes: sky}\n", 65535),
        ("", "  - {id: 255, name: sky, nodes: sky}\n  - {id: 65535, name: front, nodes: front}\n", 65536),
    ],
)
def test_the_id_of_outside(tmp_path, head, labels, outside):
    assert space(tmp_path, labels, head).outside == outside


@pytest.mark.parametrize(("largest", "dtype"), [(254, np.uint8), (300, np.uint16), (2**31 - 1, np.int64)])
def test_native_ids_of_label_indices(tmp_path, largest, dtype):
    labels = f"  - {{id: 7, name: ground, nodes: ground}}\n  - {{id: {largest}, name: stop, nodes: stop}}\n"
    tied = space(tmp_path, labels)
    ids = tied.native_ids(np.array([[0, 1], [-1, -2]]))
    assert ids.dtype == dtype
    assert ids.tolist() == [[7, largest], [255, 255]]


def test_ids_of_any_width(tmp_path):
    tied = space(tmp_path, "  - {id: 2147483647, name: sky, nodes: sky}\n")
    assert tied.ids.tolist() == [2**31 - 1]


# ---- coverage: what the silence of a dataset means
GROUND_AND_PARKING = "  - {id: 0, name: ground, nodes: ground}\n  - {id: 1, name: parking, nodes: parking}\n"


@pytest.mark.parametrize(
    ("head", "ground", "parking"),
    [
        ("", {"road", "parking", "walk"}, {"parking"}),
        ("coverage: {parking: positives}\n", {"road", "parking", "walk"}, {"parking"}),
        ("coverage: {parking: complete}\n", {"road", "walk"}, {"parking"}),
        ("coverage: {parking: none}\n", {"road", "parking", "walk"}, {"road", "parking", "walk"}),
    ],
)
def test_coverage(tmp_path, head, ground, parking):
    tied = space(tmp_path, GROUND_AND_PARKING + "  - {id: 2, name: sky, nodes: sky}\n", head)
    assert leaf_names(tied, tied.training_leaves(0)) == ground
    assert leaf_names(tied, tied.training_leaves(1)) == parking
    assert leaf_names(tied, tied.training_leaves(2)) == {"sky"}, "other labels are not touched"
    assert leaf_names(tied, tied.labels[1].leaves) == {"parking"}, "coverage changes training, not meaning"


def test_check_notes_where_silence_is_not_declared(tmp_path):
    labels = "  - {id: 0, name: ground, nodes: ground}\n  - {id: 1, name: parking, nodes: parking}\n"
    said = check_spec_file(write(tmp_path, f"{HEAD}labels:\n{labels}"))
    assert "'ground' for all that may also be 'parking'" in said
    assert "'coverage: {parking: complete}'" in said
    for kind in ("positives", "complete", "none"):
        declared = write(tmp_path, f"{HEAD}coverage: {{parking: {kind}}}\nlabels:\n{labels}")
        assert "  note:" not in check_spec_file(declared)


def test_coverage_of_an_inner_node(tmp_path):
    labels = "  - {id: 0, name: sign, nodes: sign}\n  - {id: 1, name: stop, nodes: stop}\n"
    tied = space(tmp_path, labels, "coverage: {front: complete}\n")
    assert leaf_names(tied, tied.training_leaves(0)) == {"back"}, "a sign without a type shows its back"
    assert leaf_names(tied, tied.training_leaves(1)) == {"stop"}


def test_an_ignored_label_trains_nothing(tmp_path):
    labels = GROUND_AND_PARKING + "  - {id: 2, name: void, ignore: true}\n"
    tied = space(tmp_path, labels, "coverage: {parking: none}\n")
    assert tied.training_leaves(2) == frozenset()


# ---- faults. The word HERE marks the line that the message must point at.
SKY = "  - {id: 0, name: sky, nodes: sky}\n"
FAULTS = {
    "duplicate id": (
        f"labels:\n{SKY}  - {{id: 0, name: road, nodes: road}}  # HERE\n",
        "id 0 of 'road' is already .*'sky'",
    ),
    "duplicate name": (f"labels:\n{SKY}  - {{id: 1, name: sky, nodes: road}}  # HERE\n", "the name 'sky' stands twice"),
    "unknown node": (
        f"labels:\n{SKY}  - {{id: 1, name: p, nodes: parkin}}  # HERE\n",
        "'parkin' is no node of taxonomy 'tiny'; did you mean 'parking'",
    ),
    "unknown node in a union": (
        f"labels:\n{SKY}  - id: 1\n    name: p\n    nodes: [rider, cylce]  # HERE\n",
        "'cylce' is no node .*did you mean 'cycle'",
    ),
    "unmapped id": (
        f"labels:\n{SKY}  - {{id: 1, name: raod}}  # HERE\n",
        r"'raod' \(id 1\) is not mapped; give 'nodes:' or 'ignore: true'; did you mean 'road'",
    ),
    "empty union": (f"labels:\n{SKY}  - {{id: 1, name: q, nodes: []}}  # HERE\n", "'q' .id 1. is not mapped"),
    "mapped and ignored": (
        "labels:\n  - {id: 1, name: sky, nodes: sky, ignore: true}  # HERE\n",
        "names nodes and says 'ignore: true'",
    ),
    "node covered twice": (
        "labels:\n  - {id: 1, name: g, nodes: [ground, parking]}  # HERE\n",
        "union 'g' covers 'parking' twice, by 'ground' and by 'parking'",
    ),
    "same node twice": ("labels:\n  - {id: 1, name: g, nodes: [sky, sky]}  # HERE\n", "covers 'sky' twice"),
    "partial overlap": (
        "labels:\n  - {id: 1, name: a, nodes: [sky, road]}\n  - {id: 2, name: b, nodes: [road, walk]}  # HERE\n",
        "labels 'b' and 'a' overlap without one containing the other",
    ),
    "no leaf to show it": (
        "labels:\n  - {id: 1, name: f, nodes: front}  # HERE\n"
        "  - {id: 2, name: s, nodes: stop}\n  - {id: 3, name: y, nodes: yield}\n",
        "'f' is evaluated, but no leaf can express it.*'evaluate: false'",
    ),
    "two labels of one meaning": (
        "labels:\n  - {id: 1, name: a, nodes: sky}  # HERE\n  - {id: 2, name: b, nodes: sky}\n",
        "'a' is evaluated, but no leaf can express it",
    ),
    "unknown key": (f"labels:\n{SKY}outsid: 3  # HERE\n", "outsid: there is no such key; did you mean 'outside'"),
    "unknown key of a label": (
        "labels:\n  - id: 1\n    name: sky\n    node: sky  # HERE\n",
        "labels.0.node: there is no such key; did you mean 'nodes'",
    ),
    "id is no number": (
        "labels:\n  - {id: one, name: sky, nodes: sky}  # HERE\n",
        "labels.0.id: .*whole number.*found 'one'",
    ),
    "negative id": ("labels:\n  - {id: -1, name: sky, nodes: sky}  # HERE\n", "labels.0.id: .*found -1"),
    "id too large": (
        "labels:\n  - {id: 2147483648, name: sky, nodes: sky}  # HERE\n",
        "labels.0.id: .*found 2147483648",
    ),
    "missing id": ("labels:\n  - {name: sky, nodes: sky}  # HERE\n", "labels.0.id: expected a value, found none"),
    "labels are no list": ("labels: {sky: 0}  # HERE\n", "labels: expected a list"),
    "missing labels": ("description: none  # no HERE\n", "labels: expected a value, found none"),
    "color of two numbers": (
        "labels:\n  - {id: 0, name: sky, nodes: sky, color: [1, 2]}  # HERE\n",
        "labels.0.color.2: expected a value, found none",
    ),
    "color out of range": (
        "labels:\n  - {id: 0, name: sky, nodes: sky, color: [1, 2, -3]}  # HERE\n",
        r"the colour of 'sky' must be three numbers from 0 to 255, found \[1, 2, -3\]",
    ),
    "unknown shape": (
        "labels:\n  - {id: 0, name: sky, nodes: sky, shape: circle}  # HERE\n",
        "labels.0.shape: .*'disc'.*found 'circle'",
    ),
    "coverage of a wrong kind": (
        f"labels:\n{SKY}coverage:\n  parking: sometimes  # HERE\n",
        "coverage.parking: expected 'positives', 'complete' or 'none', found 'sometimes'",
    ),
    "coverage of no node": (
        f"labels:\n{SKY}coverage:\n  sky: none\n  parkin: none  # HERE\n",
        "'parkin' is no node .*did you mean 'parking'",
    ),
    "coverage of the root": (f"labels:\n{SKY}coverage:\n  root: none  # HERE\n", "must name a node below the root"),
    "gate is no node": (f"labels:\n{SKY}gate: frnt  # HERE\n", "'frnt' is no node .*did you mean 'front'"),
    "assumed node is none": (f"labels:\n{SKY}assume: [frnt]  # HERE\n", "'frnt' is no node .*did you mean 'front'"),
    "assumed root": (f"labels:\n{SKY}assume: [root]  # HERE\n", "'assume' must name a node below the root"),
    "outside is a mapped label": (f"labels:\n{SKY}outside: 0  # HERE\n", "'outside' must be .*found 0 .'sky'"),
    "duplicate key": (
        f"labels:\n{SKY}gate: sky\ngate: front  # HERE\n",
        "the key 'gate' stands twice .first on line 5",
    ),
    "duplicate key of a label": ("labels:\n  - {id: 0, name: a, id: 1}  # HERE\n", "the key 'id' stands twice"),
    "no labels": ("labels: []  # HERE\n", "labels: expected at least 1 item"),
    "an id that is yes": ("labels:\n  - {id: yes, name: sky, nodes: sky}  # HERE\n", "labels.0.id: expected a number"),
    "an outside that is yes": (f"labels:\n{SKY}outside: yes  # HERE\n", "outside: expected a number"),
    "an outside that no file can hold": (
        f"labels:\n{SKY}outside: -5  # HERE\n",
        "outside: .*greater than or equal to 0",
    ),
    "an endless margin": (
        f"labels:\n{SKY}around_boxes:\n  excludes: sign\n  margin: .inf  # HERE\n",
        "around_boxes.margin: expected a finite number",
    ),
    "alias to itself": ("labels: &all  # HERE\n  - *all\n", "an alias refers to the block that contains it"),
}


def faults_of(path: str) -> tuple[str, ...]:
    with pytest.raises(HeterosegError) as caught:
        load_label_space(path)
    return caught.value.faults


def test_more_labels_than_a_run_can_number(tmp_path):
    labels = "".join(f"  - {{id: {i}, name: l{i}, ignore: true}}\n" for i in range(32_001))
    (fault,) = faults_of(write(tmp_path, f"{HEAD}labels:\n{labels}"))
    assert "labels: expected at most 32000 items" in fault


@pytest.mark.parametrize("kind", FAULTS)
def test_fault(kind, tmp_path):
    body, words = FAULTS[kind]
    path = write(tmp_path, HEAD + body)
    faults = faults_of(path)
    matching = [f for f in faults if re.search(words, f)]
    assert len(matching) == 1, faults
    for number, line in enumerate((HEAD + body).splitlines(), 1):
        if line.endswith("# HERE"):
            assert matching[0].startswith(f"{path}:{number}: "), matching


def test_all_faults_are_told_at_once(tmp_path):
    body = (
        "labels:\n"
        "  - {id: 0, name: sky, nodes: skye}\n"
        "  - {id: 0, name: sky, nodes: [ground, road]}\n"
        "  - {id: 1, name: walk}\n"
        "  - {id: 2, name: stop, nodes: stop, color: [0, 0, 300]}\n"
        "gate: nowhere\nassume: [root]\n"
    )
    faults = faults_of(write(tmp_path, HEAD + body))
    lines = sorted(int(re.search(r"mine\.yaml:(\d+): ", f)[1]) for f in faults)
    assert lines == [4, 5, 5, 5, 6, 7, 8, 9], faults


def test_overlaps_are_told_at_once(tmp_path):
    body = "labels:\n" + "".join(
        f"  - {{id: {i}, name: l{i}, nodes: [{a}, {b}]}}\n"
        for i, (a, b) in enumerate([("sky", "road"), ("road", "walk"), ("walk", "rider")])
    )
    assert len(faults_of(write(tmp_path, HEAD + body))) == 2


def test_one_unknown_node_named_twice_points_at_both_places(tmp_path):
    path = write(tmp_path, f"{HEAD}labels:\n{SKY}gate: frnt\nassume: [frnt]\n")
    assert [f.split(": ")[0] for f in faults_of(path)] == [f"{path}:6", f"{path}:5"]


def test_a_repeated_id_does_not_confuse_outside(tmp_path):
    labels = f"{SKY}  - {{id: 0, name: road, nodes: road}}\n  - {{id: 1, name: void, ignore: true}}\n"
    faults = faults_of(write(tmp_path, f"{HEAD}outside: 1\nlabels:\n{labels}"))
    assert len(faults) == 1, faults
    assert "already the id of" in faults[0]


def test_faults_of_the_taxonomy_name_its_file(tmp_path):
    path = write(tmp_path, f"{HEAD}labels:\n{SKY}")
    (tmp_path / "tiny.yaml").write_text("name: tiny\ntree:\n  root: [a, a]\n")
    assert faults_of(path)[0].startswith(f"{tmp_path / 'tiny.yaml'}:3: ")


def test_a_taxonomy_that_is_not_there(tmp_path):
    path = write(tmp_path, f"name: mine\ntaxonomy: streets-rael\nlabels:\n{SKY}")
    assert "did you mean 'streets-real'" in faults_of(path)[0]


def test_a_taxonomy_may_be_given(tmp_path):
    first = space(tmp_path, SKY)
    path = tmp_path / "other.yaml"
    path.write_text(f"name: other\ntaxonomy: does not matter\nlabels:\n{SKY}")
    assert load_label_space(str(path), first.taxonomy).labels == first.labels


def test_without_a_file_the_label_space_is_named(tmp_path):
    tree = space(tmp_path, SKY).taxonomy
    file = LabelSpaceFile.model_validate({"name": "mine", "taxonomy": "x", "labels": [{"id": 3, "name": "q"}]})
    with pytest.raises(HeterosegError, match=r"^label space 'mine': label 'q' \(id 3\) is not mapped"):
        build_label_space(file, tree)


def test_around_boxes_must_leave_something():
    tree = build_taxonomy(TaxonomyFile(name="t", tree={"root": ["all"], "all": ["a", "b"]}))
    labels = [LabelEntry(id=1, name="a", nodes=["a"])]
    file = LabelSpaceFile(name="s", taxonomy="t", labels=labels, around_boxes=AroundBoxes(excludes="all"))
    assert "'all' holds every leaf, so nothing is left around boxes" in faults_when_built(tree, file)


@st.composite
def spaces(draw) -> tuple[Taxonomy, LabelSpaceFile]:
    """A random tree and labels of its nodes and unions, with coverage; overlaps that are faults occur."""
    tree = draw(trees())
    nodes = st.sampled_from(range(1, len(tree)))
    labels = []
    for i in range(draw(st.integers(1, 6))):
        chosen: list[int] = []
        for node in draw(st.lists(nodes, max_size=3)):
            if not any(node in tree.path(other) or other in tree.path(node) for other in chosen):
                chosen.append(node)
        names = [tree.names[node] for node in chosen]
        evaluate = draw(st.booleans())
        labels.append(LabelEntry(id=i, name=f"l{i}", nodes=names, ignore=not names, evaluate=evaluate))
    kinds = st.sampled_from(["complete", "none", "positives"])
    coverage = {tree.names[node]: draw(kinds) for node in draw(st.lists(nodes, max_size=3))}
    parts = st.sampled_from([n for n in range(1, len(tree)) if tree.leaves_of(n) != tree.leaves_of(0)])
    around = AroundBoxes(excludes=tree.names[draw(parts)]) if draw(st.booleans()) else None
    return tree, LabelSpaceFile(name="s", taxonomy="t", labels=labels, coverage=coverage, around_boxes=around)


def slow_training(tree: Taxonomy, file: LabelSpaceFile, leaves: frozenset[int]) -> frozenset[int]:
    nodes = {kind: [tree.index(n) for n, k in file.coverage.items() if k == kind] for kind in ("complete", "none")}
    result = leaves.difference(*(tree.leaves_of(n) for n in nodes["complete"] if tree.leaves_of(n) < leaves))
    for node in sorted(nodes["none"], key=lambda n: -tree.depths[n]):
        if result & tree.leaves_of(node):
            result |= tree.leaves_of(tree.parents[node])
    return result


def faults_when_built(tree: Taxonomy, file: LabelSpaceFile) -> str:
    try:
        build_label_space(file, tree)
    except HeterosegError as error:
        return str(error)
    return ""


@given(spaces())
def test_tables_and_faults_equal_slow_ones(drawn):
    tree, file = drawn
    leaves = [frozenset(x for n in e.nodes for x in tree.leaves_of(tree.index(n))) for e in file.labels]
    pairs = [(a, b) for i, a in enumerate(leaves) for b in leaves[:i]]
    crossing = sum(bool(a & b) and not (a <= b or b <= a) for a, b in pairs)
    empty = sum(bool(a) and not slow_training(tree, file, a) for a in leaves)
    told = faults_when_built(tree, file)
    assert told.count("overlap without") == crossing
    assert told.count("leaves no meaning") == empty
    if told:
        assert told.count("no leaf can express") == len(told.splitlines()) - crossing - empty
        return
    built = build_label_space(file, tree)
    for i, label in enumerate(leaves):
        assert built.training_leaves(i) == slow_training(tree, file, label)
    if file.around_boxes:
        rest = tree.leaves_of(0) - tree.leaves_of(tree.index(file.around_boxes.excludes))
        assert built.training_leaves(len(leaves)) == rest
    for node in range(len(tree)):
        under = tree.leaves_of(node)
        shown = {int(built.by_leaf[leaf]) for leaf in under}
        assert built.stops[node] == (len(shown) == 1)
        whole = next((i for i in range(len(leaves)) if leaves[i] == under), -2)
        assert built.by_node[node] == (shown.pop() if len(shown) == 1 else whole)


def test_2000_labels_are_tied():
    groups = {f"g{i}": [f"leaf {i} {j}" for j in range(40)] for i in range(50)}
    tree = build_taxonomy(TaxonomyFile(name="wide", tree={"root": list(groups), **groups}))
    labels = [
        LabelEntry(id=n, name=name, nodes=name, evaluate=not tree.children[n]) for n, name in enumerate(tree.names)
    ]
    tied = build_label_space(
        LabelSpaceFile(name="s", taxonomy="wide", labels=labels, coverage={"g0": "complete"}), tree
    )
    covers = [tree.cover(tied.training_leaves(i)) for i in range(tied.targets)]
    assert covers[-1] == (len(tree) - 1,)
    assert tied.stops.sum() == 2000


def test_a_space_of_another_taxonomy_is_refused():
    """2,000 unknown nodes: a hint for each would take minutes."""
    tree = build_taxonomy(TaxonomyFile(name="wide", tree={"root": [f"leaf number {i}" for i in range(2000)]}))
    labels = [LabelEntry(id=i, name=f"label {i}", nodes=f"leaf nomber {i}") for i in range(2000)]
    with pytest.raises(HeterosegError, match="did you mean") as caught:
        build_label_space(LabelSpaceFile(name="s", taxonomy="wide", labels=labels), tree)
    assert len(caught.value.faults) == 2000


def test_labels_are_named_by_themselves_or_by_a_node_above_them():
    space = load_label_space("camvid32")
    assert [label.name for label in space.named("Bicyclist")] == ["Bicyclist"]  # lies across the tree
    assert [label.name for label in space.named("living thing")] == ["Animal", "Child", "Pedestrian"]
    assert [label.name for label in space.named("pole")] == ["Column_Pole"]
    assert space.named("p_limit_20") == space.named("nothing of that name") == []
