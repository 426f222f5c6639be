"""Tables and json files: every value of the standard library's reader comes back, or a fault says where and why not."""

import csv
import json

import pytest

from heteroseg.datasets.records import csv_records
from heteroseg.errors import HeterosegError
from heteroseg.files import read_json

HEADER = "image,class_id\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((HEADER + "stra\xdfe,1\n").encode("latin-1"), "t.csv: expected a CSV file in UTF-8, found other bytes"),
        ((HEADER + "a,1\n").encode("utf-16"), "t.csv: expected a CSV file in UTF-8, found other bytes"),
        ((HEADER + 'a,1\n"b,2\nc,3\n').encode(), "t.csv: expected a CSV file, found unexpected end of data"),
        ((HEADER + "a,b,1\n").encode(), "t.csv:2: expected 2 columns as in the first line, found 3"),
        (b"image,image,class_id\na,b,1\n", "t.csv:1: expected each column once, found image twice"),
        (
            b"image;class_id\na;1\n",
            "t.csv:1: expected the columns image, class_id, found no image; they stand apart by",
        ),
        (b"", "t.csv:1: expected the columns image, class_id, found no image"),
    ],
)
def test_tables_that_are_refused(tmp_path, content, said):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(HeterosegError, match=said.replace(".", r"\.")):
        list(csv_records(tmp_path / "t.csv", ("image", "class_id")))


def test_short_lines_long_fields_and_byte_order_marks(tmp_path):
    rows = [["a", "1", "x" * 200_000], ["b"], ["c, d", "2"], ['"e"', "3\n4"]]
    with (tmp_path / "t.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["image", "class_id", "rle"], *rows])
    values = [fields for _, fields in csv_records(tmp_path / "t.csv", ("image", "class_id"))]
    assert values == [["a", "1"], ["b", None], ["c, d", "2"], ['"e"', "3\n4"]]


@pytest.mark.parametrize("text", ["[" * 100_000, f"[{'9' * 5000}]", '{"a": 1', "\ufeff{]"])
def test_json_that_is_refused(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(HeterosegError, match=r"t\.json.*: not valid JSON"):
        read_json(tmp_path / "t.json")


def test_json_with_a_byte_order_mark(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"a": "ü"}, ensure_ascii=False), encoding="utf-8-sig")
    assert read_json(tmp_path / "t.json") == {"a": "ü"}
