"""Files: YAML read with lines and faults in one sentence, written so that it comes back, and never half a file."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel

import heteroseg
from heteroseg import writing
from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import load_experiment
from heteroseg.files import parse_yaml, read_yaml, write_json, write_text, yaml_text
from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.writing import require_empty, written

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])) | st.sampled_from(
    [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "Y",
        "null",
        "~",
        "true",
        "1_000",
        "12:30",
        "1e5",
        "0x1f",
        "0o7",
        "017",
        ".inf",
        "2024-01-01",
        "=",
        "<<",
        "-",
        "?",
        ":",
        "#",
        "a:b",
        "a,b",
        "[x",
        "it's",
    ]
)
PLAIN = TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
DATA = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


class Named(BaseModel):
    name: str


def parse(text: str):
    return parse_yaml(text, Path("f.yaml"))


def fault(text: str) -> str:
    with pytest.raises(HeterosegError) as caught:
        parse(text).parse(Named)
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lines_of_keys_and_items(tmp_path):
    (tmp_path / "a.yaml").write_text("a:\n  b: 1\n  c:\n    - x\n    - y\n")
    document = read_yaml(tmp_path / "a.yaml")
    assert document.data == {"a": {"b": 1, "c": ["x", "y"]}}
    places = [document.where(*loc) for loc in (("a",), ("a", "b"), ("a", "c", 1), ("a", "nothing"))]
    assert [p.rpartition(":")[2] for p in places] == ["1", "2", "5", "1"]


def test_merge_keys():
    """The block's own keys win over merged ones, and lines are those where each key stands."""
    document = parse("a: &a\n  x: 1\n  y: 1\nb: &b\n  y: 2\n  <<: *a\nc:\n  <<: [*b, {y: 3, z: 3}]\n  w: 4\n")
    assert document.data["b"] == {"x": 1, "y": 2}
    assert document.data["c"] == {"x": 1, "y": 2, "z": 3, "w": 4}
    assert [document.lines["c", key] for key in "xyzw"] == [2, 5, 8, 9]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nname: 2024-01-31\n", 2, "name: expected a text, found the date 2024-01-31; write it in"),
        ("a: 1\nname: 12:30\n", 2, "name: expected a text, found 750; write it in quotes"),
        ("a: 1\nname:\n\tb: 1\n", 3, "begins no value; indent by blanks and not by tabs"),
        ("a: 1\nname: 2024-13-45\n", 2, "expected a plain value, month must be in 1..12"),
        ("a: 1\n2024-13-45: x\n", 2, "expected a plain value, month must be in 1..12"),
        ("a: 1\n2024-01-31: x\n", 2, "a key must be a plain name"),
        ("a: 1\nname: !thing x\n", 2, "expected a plain value, could not determine a constructor for the tag '!thing'"),
        ("a: 1\nname: !thing {x: y}\n", 2, "expected a plain value, could not determine a constructor"),
        ("a: 1\n!thing name: x\n", 2, "expected a plain value, could not determine a constructor"),
        ("a: 1\nname: !!int x\n", 2, "expected a plain value, invalid literal"),
        ("a: 1\n? [b, c]\n: x\n", 2, "a key must be a plain name"),
        ("a: 1\nb: x\na: 2\n", 3, "the key 'a' stands twice (first on line 1)"),
        ("{a: 1, a: 2}\n", 1, "the key 'a' stands twice (first on line 1)"),
        ("a: &a {b: 1, b: 2}\nc: {<<: *a}\n", 1, "the key 'b' stands twice"),
        ("a: 1\nb: {<<: 3}\n", 2, "'<<' merges blocks of keys and values"),
        ("name: x\na: &a\n  b: *a\n", 3, "an alias refers to the block that contains it"),
        ("name: x\na: &a\n- x\n- *a\n", 2, "an alias refers to the block that contains it"),
        ("name: x\n---\nname: y\n", 2, "not valid YAML"),
        ("name: [x\n", 2, "not valid YAML"),
    ],
)
def test_faults_in_one_sentence(text, line, words):
    assert re.match(rf"f\.yaml:{line}: ", fault(text))
    assert words in fault(text)


NINE = ", ".join(["{}"] * 9)
BOMBS = {
    "lists": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{NINE.format(*[f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
    "long texts": f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 9000)}]\n",
    "merges": f"a: &a {{{', '.join(f'k{i}: 1' for i in range(2000))}}}\nb: {{<<: [{', '.join(['*a'] * 2000)}]}}\n",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_aliases_that_would_take_all_memory_are_refused_soon(kind):
    start = time.monotonic()
    assert "aliases stand for more than 100000 parts; write the file out" in fault(BOMBS[kind])
    assert time.monotonic() - start < 10


def test_aliases_of_ordinary_files_are_read():
    text = "a: &a {x: [1, 2, 3]}\n" + "".join(f"b{i}: *a\n" for i in range(5000))
    assert len(parse(text).data) == 5001


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"name: {'[' * 60}{']' * 60}", "f.yaml:1: expected at most 50 blocks in one another"),
        (f"a: 1\nname: 0x{'f' * 5000}", "f.yaml:2: expected a number, found one of too many digits"),
        (f"a: 1\nname: {'9' * 5000}", "f.yaml:2: expected a plain value"),
    ],
)
def test_depth_and_digits_have_bounds(text, words):
    assert words in fault(text)


SPACE = "taxonomy: {tree}\nlabels:\n- {{id: 0, name: a, nodes: a}}\nname: {name}\n"
EXPERIMENT = "taxonomy: t\n\n\n\ndatasets: {{d: {{root: r, reader: folder, label_space: s}}}}\nname: {name}\n"
DATASET = "taxonomy: t\nname: e\ndatasets:\n  {name}: {{root: r, reader: folder, label_space: s}}\n"
NAMED_FILES = {
    "taxonomy": (load_taxonomy, "tree: {{root: [a, b]}}\n\n\nname: {name}\n", 4),
    "label space": (load_label_space, SPACE, 4),
    "experiment": (load_experiment, EXPERIMENT, 6),
    "dataset": (load_experiment, DATASET, 4),
}


@pytest.mark.parametrize("kind", NAMED_FILES)
@pytest.mark.parametrize(
    "name", ["../x", "..", ".x", "a/b", "/a", "'a\\\\b'", "''", "' a'", "'a\u00a0'", '"a\\nb"', '"a\\0b"', "x" * 201]
)
def test_names_are_plain(kind, name, tmp_path):
    read, text, line = NAMED_FILES[kind]
    (tmp_path / "f.yaml").write_text(text.format(name=name, tree="t"))
    with pytest.raises(HeterosegError) as error:
        read(str(tmp_path / "f.yaml"))
    (told,) = error.value.faults
    assert told.startswith(f"{tmp_path / 'f.yaml'}:{line}: ")
    assert "expected a plain name" in told


@pytest.mark.parametrize("text", ["name: \0", "[" * 3000, "a: &a {<<: *a, b: 1}"])
def test_what_has_no_line_is_told_too(text):
    assert fault(text).startswith("f.yaml")


def test_long_files_keep_their_lines():
    text = "".join(f"- {{id: {i}, name: label {i}, nodes: [a{i}, b{i}], color: [1, 2, 3]}}\n" for i in range(2000))
    document = parse(text)
    assert document.lines[1999, "color", 2] == 2000


@given(DATA)
def test_what_is_written_comes_back(data):
    assert parse(yaml_text({"data": data})).data == {"data": data}
    assert yaml.safe_load(yaml_text({"data": data})) == {"data": data}


def test_written_puts_the_whole_file_in_place(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with written(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.name == ".part-file.txt.tmp"  # no pattern such as *.txt meets it
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("old", [None, "old"])
def test_a_failing_block_leaves_no_file_and_keeps_the_old_one(tmp_path, old):
    path = tmp_path / "file.txt"
    if old:
        path.write_text(old)

    def fail() -> None:
        with written(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.read_text() for p in tmp_path.iterdir()] == ([old] if old else [])


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(HeterosegError, match="cannot be written, a file stands where a folder is due"):
        write_json(tmp_path / "file" / "a.json", {})
    with pytest.raises(HeterosegError, match="expected a file to write, found a folder"):
        write_json(tmp_path, {})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_folders_that_are_not_empty_are_refused(tmp_path):
    require_empty(tmp_path)
    require_empty(tmp_path / "new")
    (tmp_path / "file").write_text("x")
    with pytest.raises(HeterosegError, match="expected a new or empty folder, found something in it; choose another"):
        require_empty(tmp_path)
    with pytest.raises(HeterosegError, match="file: expected a new or empty folder, found a file; take that"):
        require_empty(tmp_path / "file", "take that")


def test_a_name_that_is_not_utf_8_can_be_written(tmp_path):
    write_text(tmp_path / "page.html", "caf\udce9.jpg, ä")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "caf\\udce9.jpg, ä"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_file_is_made_leaves_nothing(tmp_path, monkeypatch, stop):
    def made(*args):
        create(*args)
        os.kill(os.getpid(), stop)
        time.sleep(10)

    create = writing._create
    monkeypatch.setattr(writing, "_create", made)
    monkeypatch.setattr(heteroseg, "load", lambda *_: writing.write_bytes(tmp_path / "a.png", b"a"))
    Image.new("RGB", (9, 9)).save(tmp_path / "in.png")
    assert main(["predict", "M", str(tmp_path / "in.png"), "--out", str(tmp_path / "out")]) == 128 + stop
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
