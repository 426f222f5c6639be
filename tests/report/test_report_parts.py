"""What pages are made of: charts, scores of nodes, and confusions."""

from html.parser import HTMLParser

import numpy as np
import pytest

from heteroseg.evaluation.scores import Tally, summarise
from heteroseg.labels.space import LabelEntry, LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy
from heteroseg.report.charts import line_chart, matrix_chart, thinned
from heteroseg.report.scores import confusions, counts_of, decisions, junction, node_scores

HOSTILE = "<script>alert('x')</script>&\"$\\frac{"


class Elements(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, svg: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(svg)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_curves_tell_their_names_and_last_values():
    many = thinned(HOSTILE, [(s, 1 / s) for s in range(1, 3000)])
    svg = str(line_chart([many, thinned("b", [(5, 1.0), (10, float("nan")), (2000, 0.25)])], log=True))
    parsed = Elements(svg)
    assert "<script" not in svg
    assert [tag for tag, _ in parsed.tags].count("polyline") == 2
    assert "0.25" in parsed.text
    dashes = [a.get("stroke-dasharray") for t, a in parsed.tags if t == "polyline"]
    assert len(set(dashes)) == 2  # told apart without colour
    points = next(a["points"] for t, a in parsed.tags if t == "polyline").split()
    assert len(points) <= 300
    heights = [float(p.split(",")[1]) for p in points]
    assert heights == sorted(heights)  # a falling curve goes down the page
    assert thinned("x", [(1, float("inf"))]) is None
    Elements(str(line_chart([thinned("one", [(7, 0.0)])], percent=True)))  # a single point, and zero


def test_matrix_has_a_square_for_every_share():
    shares = np.array([[0.9, 0.1, 0.0], [0.0, 0.25, 0.75]])
    parsed = Elements(str(matrix_chart(["a", HOSTILE], shares, ["x", "y"], ["a", HOSTILE, "none"])))
    squares = [a for t, a in parsed.tags if t == "rect" and a["class"] != "edge"]
    assert [a["class"] for a in squares] == ["hit", "miss", "hit", "miss"]
    assert float(squares[0]["width"]) > float(squares[3]["width"]) > float(squares[2]["width"])
    assert f"25.0 % of the pixels of {HOSTILE} are called {HOSTILE}" in parsed.text


# ---- scores of nodes and confusions


def deep_space() -> LabelSpace:
    tree = build_taxonomy(TaxonomyFile(
        name="t", tree={"root": ["sky", "vehicle", "sign"], "vehicle": ["car", "bus"], "sign": ["stop", "give"]}
    ))  # fmt: skip
    nodes = ["sky", "car", "bus", "stop", "give", "vehicle"]
    labels = [LabelEntry(id=i, name=f"L{n}", nodes=n, evaluate=n != "vehicle") for i, n in enumerate(nodes)]
    return build_label_space(LabelSpaceFile(name="deep", taxonomy="t", labels=labels), tree)


COUNTS = [  # sky car bus stop give vehicle outside
    [50, 0, 5, 0, 0, 0, 5],
    [0, 30, 10, 0, 0, 0, 0],
    [4, 6, 20, 0, 0, 0, 0],
    [0, 0, 0, 8, 2, 0, 0],
    [0, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0],
]


def test_a_node_counts_all_that_lies_under_it():
    space, counts = deep_space(), np.array(COUNTS)
    tree = space.taxonomy
    entry = summarise(Tally(counts, 0, np.zeros(len(space.labels), np.int64), 1), space)
    assert (counts_of(entry, space) == counts).all()
    found = {tree.names[n]: s for n, s in node_scores("d", counts, space).items()}
    assert set(found) == {"sky", "vehicle", "car", "bus", "sign", "stop"}  # give has no true pixel
    assert found["vehicle"].iou == pytest.approx((30 + 10 + 6 + 20) / (40 + 30 + 5))
    assert found["sign"].iou == 1.0
    assert found["car"].iou == pytest.approx(30 / (40 + 6))
    assert found["car"].taken_for == (("Lbus", 0.25),)
    assert found["sky"].pixels == 60
    assert {name for name, _ in found["sky"].taken_for} == {"Lbus", "outside its labels"}
    for name in ("sky", "car", "bus", "stop"):  # where a label is a node, these are the scores of the evaluation
        assert found[name].iou == pytest.approx(entry["per_class"][f"L{name}"]["iou"])


def test_confusions_are_siblings_or_across():
    space, counts = deep_space(), np.array(COUNTS)
    rows = confusions(counts, space)
    assert [r["pixels"] for r in rows] == sorted([5, 5, 10, 4, 6, 2], reverse=True)
    assert rows[0] == {
        "true": "Lcar",
        "predicted": "Lbus",
        "pixels": 10,
        "share": 0.25,
        "node": "vehicle",
        "relation": "siblings",
    }
    relations = {(r["true"], r["predicted"]): r["relation"] for r in rows}
    assert relations["Lbus", "Lsky"] == "across branches"
    assert relations["Lsky", "none of its labels"] == "outside"
    assert junction(space, 1, 5) == (space.taxonomy.index("vehicle"), "one within the other")
    at = {row["node"]: row for row in decisions(counts, space)}
    assert at["vehicle"] | {"share": 0} == {
        "node": "vehicle",
        "depth": 1,
        "came": 66,
        "wrong": 16,
        "rate": 16 / 66,
        "share": 0,
    }
    assert at["root"]["wrong"] == 9
    assert sum(row["share"] for row in at.values()) == pytest.approx(1)
