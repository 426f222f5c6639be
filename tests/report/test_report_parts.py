"""What pages are made of: charts, scores of nodes, and confusions."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from heteroseg.evaluation.scores import Tally, summarise
from heteroseg.labels.space import LabelEntry, LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy
from heteroseg.report.charts import line_chart
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


def curves_in(parsed: Elements) -> list[dict[str, str]]:
    """The styles of the lines of a chart that have a colour of their own, by name of the property."""
    styles = [a.get("style") or "" for t, a in parsed.tags if t == "path" and "clip-path" in a]
    pairs = [dict(part.split(": ", 1) for part in style.split("; ")) for style in styles]
    return [style for style in pairs if style["stroke"].startswith("var(--c")]


def test_curves_tell_their_names_and_last_values():
    many = [(s, 1 / s) for s in range(1, 3000)]
    svg = str(line_chart("t", {HOSTILE: many, "b": [(5, 1.0), (10, float("nan")), (2000, 0.25)]}))
    parsed = Elements(svg)
    assert "<script" not in svg
    assert HOSTILE in parsed.text
    assert "0.25" in parsed.text
    curves = curves_in(parsed)
    assert [c["stroke"] for c in curves] == ["var(--c0)", "var(--c1)"]
    assert len({c.get("stroke-dasharray") for c in curves}) == 2  # told apart without colour
    points = next(a["d"] for t, a in parsed.tags if t == "path" and "var(--c0)" in (a.get("style") or ""))
    places = [[float(n) for n in place.split()] for place in points.strip("M ").split("L ")]
    assert 20 < len(places) <= 300
    heights = [y for _, y in places]
    assert heights == sorted(heights)  # a falling curve goes down the page
    assert line_chart("t", {"x": [(1, float("inf"))]}) == ""
    Elements(str(line_chart("t", {"one": [(7, 0.0)]}, percent=True)))  # a single point, and zero


def test_charts_of_a_page_share_no_id_and_take_its_colours():
    lines = {"b": [(5, 1.0), (10, 0.5)]}
    parsed = Elements(str(line_chart("one", lines)) + str(line_chart("two", lines)))
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids)) > 2
    used = {v for _, a in parsed.tags for v in re.findall(r"#([\w-]+)", " ".join(filter(None, a.values())))}
    assert used == set(ids), "nothing but ids: colours are those of the page, light or dark"
    assert [a["aria-label"] for t, a in parsed.tags if t == "svg"] == [
        f"{n}: b, last value 0.5" for n in ("one", "two")
    ]
    assert "style" not in [t for t, _ in parsed.tags]


# ---- scores of nodes and confusions


def deep_space() -> LabelSpace:
    tree = build_taxonomy(
        TaxonomyFile(
            name="t", tree={"root": ["sky", "vehicle", "sign"], "vehicle": ["car", "bus"], "sign": ["stop", "give"]}
        )
    )
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
    assert found["vehicle"]["iou"] == pytest.approx((30 + 10 + 6 + 20) / (40 + 30 + 5))
    assert found["sign"]["iou"] == 1.0
    assert found["car"]["iou"] == pytest.approx(30 / (40 + 6))
    assert found["car"]["taken_for"] == [("Lbus", 0.25)]
    assert found["sky"]["pixels"] == 60
    assert {name for name, _ in found["sky"]["taken_for"]} == {"Lbus", "outside its labels"}
    for name in ("sky", "car", "bus", "stop"):  # where a label is a node, these are the scores of the evaluation
        assert found[name]["iou"] == pytest.approx(entry["per_class"][f"L{name}"]["iou"])


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
