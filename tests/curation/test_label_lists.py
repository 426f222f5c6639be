"""Published lists of labels become taxonomies and label spaces that pass the check."""

import csv
import io
import json
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.cli.main import main
from heteroseg.curation.label_lists import grouped_tree, import_file, read_label_list
from heteroseg.curation.spec_text import space_yaml, taxonomy_yaml
from heteroseg.errors import HeterosegError
from heteroseg.files import parse_yaml
from heteroseg.labels.space import LabelEntry, LabelSpaceFile, load_label_space
from heteroseg.labels.taxonomy import TaxonomyFile
from tests.datasets.damage import damaged, damaged_json

LABELS_PY = """
from collections import namedtuple
Label = namedtuple('Label', ['name', 'id', 'trainId', 'category', 'catId', 'hasInstances', 'ignoreInEval', 'color'])
labels = [
    Label('unlabeled', 0, 255, 'void', 0, False, True, (0, 0, 0)),
    Label('road', 7, 0, 'flat', 1, False, False, (128, 64, 128)),
    Label('parking', 9, 255, 'flat', 1, False, True, (250, 170, 160)),
    Label('sky', 23, 10, 'sky', 5, False, False, (70, 130, 180)),
    Label('car', 26, 13, 'vehicle', 7, True, False, color=(0, 0, 142)),
    Label('truck', 27, 14, 'vehicle', 7, True, False, (0, 0, 70)),
    Label('license plate', -1, -1, 'vehicle', 7, False, True, (0, 0, 142)),
]
raise SystemExit("this file must not be run")
"""


def write(path, text):
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def space_of(tmp_path, file, *options):
    assert main(["taxonomy", "import", str(file), "--out", str(tmp_path / "out"), "--name", "mine", *options]) == 0
    return load_label_space(str(tmp_path / "out" / "mine.yaml"))


def test_cityscapes_labels_py(tmp_path):
    space = space_of(tmp_path, write(tmp_path / "labels.py", LABELS_PY))
    tree = space.taxonomy
    assert [b.id for b in space.labels] == [0, 7, 9, 23, 26, 27]
    assert space.ignored.tolist() == [True, False, False, False, False, False]
    assert space.evaluated.tolist() == [False, True, False, True, True, True]
    assert [tree.names[k] for k in tree.children[0]] == ["flat", "sky", "vehicle"]  # a group of one is its only child
    assert tree.path(tree.index("truck")) == (0, tree.index("vehicle"), tree.index("truck"))
    assert space.labels[4].color == (0, 0, 142)


def test_training_ids_join_labels(tmp_path):
    rows = [
        ["road", 0, "flat"],
        ["path", 0, "flat"],
        ["car", 1, "vehicle"],
        ["sky", 2, "sky"],
        ["cloud", 2, "air"],
        ["rest", 255, "flat"],
    ]
    file = write(tmp_path / "t.json", {"a": {"fields": ["name", "coarse", "category"], "labels": rows}})
    labels = read_label_list(file, "coarse")
    assert [(b.id, b.name, b.ignore) for b in labels] == [  # all of a group, and nothing else, takes its name
        (0, "flat", False),
        (1, "car", False),
        (2, "sky / cloud", False),
        (255, "rest", True),
    ]
    space = space_of(tmp_path, file, "--id", "coarse")
    assert space.ids.tolist() == [0, 1, 2, 255]


def test_vistas_config(tmp_path):
    labels = [
        {"name": "animal--bird", "readable": "Bird", "color": [165, 42, 42], "evaluate": True},
        {"name": "construction--barrier--curb", "readable": "Curb", "color": [196, 196, 196], "evaluate": True},
        {"name": "construction--barrier--wall", "readable": "Wall", "color": [1, 2, 3], "evaluate": False},
        {"name": "construction--flat--road", "readable": "Road", "color": [128, 64, 128], "evaluate": True},
        {"name": "void--car-mount", "readable": "Car Mount", "color": [32, 32, 32], "evaluate": True},
        {"name": "void--unlabeled", "readable": "Unlabeled", "color": [0, 0, 0], "evaluate": False},
    ]
    space = space_of(tmp_path, write(tmp_path / "config.json", {"labels": labels, "version": 1}))
    names = [space.taxonomy.names[n] for n in space.taxonomy.path(space.taxonomy.index("Curb"))]
    assert names == ["root", "construction", "barrier", "Curb"]
    assert space.ids.tolist() == list(range(6))
    assert space.ignored.tolist() == [False] * 5 + [True]
    assert not space.labels[2].evaluate


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_a_csv_has_the_lines_that_csv_writers_make(tmp_path, sign):
    """Python ends lines of text at more signs than a CSV does."""
    labels = read_label_list(write(tmp_path / "list.csv", f"id,name\n1,sky\n2,tall{sign}archway\n"))
    assert [(b.id, b.name) for b in labels] == [(1, "sky"), (2, f"tall{sign}archway")]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("label_colors.txt", "64 128 64\tAnimal\n0 0 0\t\tVoid\n192 0 128\tTall archway\n"),
        ("class_dict.csv", "name,r,g,b\nAnimal,64,128,64\nVoid,0,0,0\nTall archway,192,0,128\n"),
        ("list.csv", "id,name,color\n0,Animal,64 128 64\n1,Void,#000000\n2,Tall archway,#c00080\n"),
        (
            "coco.json",
            {
                "images": [],
                "categories": [
                    {"id": 0, "name": "Animal", "color": [64, 128, 64]},
                    {"id": 1, "name": "Void", "color": [0, 0, 0]},
                    {"id": 2, "name": "Tall archway", "color": [192, 0, 128]},
                ],
            },
        ),
    ],
)
def test_other_forms(tmp_path, file, text):
    labels = read_label_list(write(tmp_path / file, text))
    assert [(b.id, b.name, b.color, b.ignore) for b in labels] == [
        (0, "Animal", (64, 128, 64), False),
        (1, "Void", (0, 0, 0), True),
        (2, "Tall archway", (192, 0, 128), False),
    ]
    space_of(tmp_path, tmp_path / file)


THREE = [(0, "background"), (1, "road"), (2, "sky")]
CVAT = [{"name": "road", "id": 4711, "attributes": []}, {"name": "sky", "id": 4712, "attributes": []}]
HF = {"architectures": ["X"], "id2label": {"3": "a", "4": "b"}, "label2id": {}}
THINGS = [{"id": 2, "name": "things", "supercategory": "none"}, {"id": 4, "name": "car", "supercategory": "things"}]
TRAIN_IDS = [{"trainId": 5, "label": "sky"}, {"trainId": 9, "label": "road"}]


@pytest.mark.parametrize(
    ("file", "text", "options", "ids"),
    [
        ("labelmap.txt", "# label:rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\nsky:0,0,9::\n", [], THREE),
        ("_classes.csv", "Pixel Value, Class\n0, background\n1, road\n2, sky\n", [], THREE),
        ("data.yaml", "train: ../train/images\nnc: 3\nnames: ['background', 'road', 'sky']\n", [], THREE),
        ("data.yaml", "names:\n  0: background\n  1: road\n  7: sky\n", [], [*THREE[:2], (7, "sky")]),
        ("kitti.yaml", "labels: {0: background, 1: road, 252: sky}\n", [], [*THREE[:2], (252, "sky")]),
        ("id2label.json", {"0": "background", "1": "road", "7": "sky"}, [], [*THREE[:2], (7, "sky")]),
        ("config.json", HF, [], [(3, "a"), (4, "b")]),
        ("label2id.json", {"a": 3, "b": 4}, [], [(3, "a"), (4, "b")]),
        ("list.txt", "0: background\n1: road\n7: sky\n", [], [*THREE[:2], (7, "sky")]),
        ("list.txt", "7 sky\n3 traffic sign\n", [], [(3, "traffic sign"), (7, "sky")]),
        ("list.txt", "7\tsky\n3\ttraffic sign\n", [], [(3, "traffic sign"), (7, "sky")]),
        ("list.txt", "7,sky\n3, road\n", [], [(3, "road"), (7, "sky")]),
        ("list.txt", "3 64 128 64 Animal\n5 0 0 0 Sky\n", [], [(3, "Animal"), (5, "Sky")]),
        ("obj.names", "sky\nroad\n", [], [(0, "sky"), (1, "road")]),
        ("cvat.json", CVAT, [], [(0, "road"), (1, "sky")]),
        ("cvat.json", CVAT, ["--id", "id"], [(4711, "road"), (4712, "sky")]),
        ("names.json", ["sky", "road"], [], [(0, "sky"), (1, "road")]),
        ("excel.csv", "\ufeffid;name\r\n1;sky\r\n2;road\r\n;\r\n", [], [(1, "sky"), (2, "road")]),
        ("list.tsv", "ID\tName\n1\tsky\n2\troad\n", [], [(1, "sky"), (2, "road")]),
        ("list.csv", "pixel_value,name\n5,sky\n9,road\n", ["--id", "pixel_value"], [(5, "sky"), (9, "road")]),
        ("list.csv", "Pixel Value,Name\n5,sky\n9,road\n", ["--id", "Pixel Value"], [(5, "sky"), (9, "road")]),
        ("list.json", TRAIN_IDS, ["--id", "trainId"], [(5, "sky"), (9, "road")]),
        ("coco.json", {"categories": THINGS}, [], [(2, "things"), (4, "car")]),
        ("list.json", [{"id": 1, "name": 1}, {"id": 0, "name": 0}], [], [(0, "0"), (1, "1")]),
    ],
)
def test_lists_as_tools_write_them(tmp_path, file, text, options, ids):
    space = space_of(tmp_path, write(tmp_path / file, text), *options)
    assert [(label.id, label.name) for label in space.labels] == ids


@pytest.mark.parametrize("column", ["pixel_value", "label_id", "value", "Pixel Value", "index", "trainId", "catId"])
def test_ids_are_asked_for_where_only_another_column_has_numbers(tmp_path, capsys, column):
    for file in (
        write(tmp_path / "a.csv", f"{column},name\n5,sky\n9,road\n"),
        write(tmp_path / "excel.csv", f"\ufeffname;{column}\r\nsky;5\r\nroad;\r\n"),
        write(tmp_path / "float.csv", f"name,{column}\nsky,5.0\nroad,9.0\n"),
        write(tmp_path / "a.json", [{"name": "sky", column: 5}, {"name": "road", column: 9}]),
    ):
        assert main(["taxonomy", "import", str(file), "--out", str(tmp_path / "o")]) == 2
        assert f"found the numbers {column.lower()}; say which are the ids with --id" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("a.txt", "sky\nroad\n", "no ids, so ids are the places"),
        ("a.json", [{"name": "a", "id": 9, "attributes": []}, {"name": "b", "attributes": []}], "numbers of CVAT"),
        ("a.csv", "name,train\na,0\nb,1\nc,255\n", "'c' has 255 as train, which is what is not trained"),
        ("a.yaml", "names: [a, b]", None),
        ("a.yaml", "labels: [{name: a, color: [1, 2, 3]}, {name: b}]", "no ids"),
        ("label_colors.txt", "1 2 3 a\n4 5 6 b\n", None),
    ],
)
def test_what_a_list_leaves_open_is_a_warning(tmp_path, capsys, file, text, said):
    read_label_list(write(tmp_path / file, text), "train" if "train" in str(text) else None)
    told = capsys.readouterr().err.splitlines()
    assert [said in line and line.startswith("warning: ") for line in told] == [True] * (said is not None)


@pytest.mark.parametrize("name", ["camvid32", "cityscapes", "gtsdb"])
def test_our_own_spaces_are_lists_of_labels(name, tmp_path):
    from importlib.resources import files

    source = files("heteroseg") / "specs" / "label_spaces" / f"{name}.yaml"
    space = load_label_space(name)
    labels = {b.id: b for b in read_label_list(str(source))}
    assert {b.id: (b.name, b.color) for b in space.labels} == {b.id: (b.name, b.color) for b in labels.values()}


def test_groups_that_share_a_name_with_a_class():
    assert grouped_tree({"wall": ("wall",), "brick": ("wall",), "sky": ("sky",), "car": ()}) == {
        "root": ["car", "sky", "wall (group)"],
        "wall (group)": ["wall", "brick"],
    }


@pytest.mark.parametrize(
    ("file", "text", "options", "said"),
    [
        ("a.py", "x = 1", [], "found no label"),
        ("a.py", "Label(", [], "not valid Python"),
        ("a.py", "Label(f(), 1, 2)", [], "a.py:1: expected a plain value"),
        ("a.json", "{", [], "not valid JSON"),
        ("a.json", "[1, 2]", [], "found no label"),
        ("a.json", {"p": [{"name": "x"}], "q": [{"name": "y"}]}, [], "found p, q; choose with --table"),
        ("a.json", {"p": [{"name": "x"}]}, ["--table", "pp"], "did you mean 'p'?"),
        ("a.json", [{"id": "one", "name": "x"}], [], "label 1: expected a whole number as 'id'"),
        ("a.json", [{"id": 2**31, "name": "x"}, {"name": "y"}], [], "label 1: expected a whole number as 'id', below"),
        ("a.json", [{"id": 1}], [], "label 1: expected a name"),
        ("a.json", [{"name": "x"}, {"name": "x"}], [], "the name 'x' stands for the ids 0 and 1"),
        ("a.json", [{"name": "x"}, {"name": "y"}], ["--id", "nam"], "no field 'nam'; did you mean 'name'?"),
        ("a.json", [{"name": "x", "color": [1, 2, 300]}], [], "a colour of three numbers to 255"),
        ("a.json", [{"name": "x", "color": "#12345z"}], [], "a colour of three numbers to 255"),
        ("a.json", [{"name": "x"}, {"name": "void"}], [], "two or more labels"),
        ("a.xml", "<a/>", [], "found the suffix '.xml'"),
        ("a.csv", "name\nx\ny\n", ["--table", "t"], "--table names a part of a .json file"),
        ("a.csv", 'id,name\n1,"sky\n2,road\n', [], "expected a CSV file, found unexpected end of data"),
        ("a.csv", "id,name\n1,x, y\n2,z\n", [], "a.csv:2: expected 2 columns as in the first line, found 3"),
        ("a.csv", "id,name\n1,x\n1,y\n2,z\n", [], "found 1 for 'x' and for 'y'"),
        ("a.csv", "id,id,name\n1,2,x\n2,3,y\n", [], "expected each column once"),
        ("a.csv", "id,name\n1,x\n,y\n", [], "label 2: expected a whole number as 'id'"),
        ("a.csv", "id,name\n1.0,x\n2.0,y\n", [], "label 1: expected a whole number as 'id'"),
        ("a.csv", "0,x\n1,y\n", [], "label 1: expected a name"),
        ("a.json", [{"id": 1, "name": "x"}, {"name": "y"}], [], "label 2: expected a whole number as 'id'"),
        ("a.json", [{"name": "x", "color": 255}], [], "a colour of three numbers to 255"),
        ("a.json", "[" * 100_000, [], "not valid JSON"),
        ("a.py", f"Label(0x{'f' * 9000}, 'x')", [], "a.py:1: expected a plain value"),
        ("a.yaml", "names: [no, yes]", [], "no label"),
        ("a.yaml", "names: [x, yes]", [], "label 2: expected a name, in quotes"),
        ("a.yaml", "nc: 3\nnames: [x, y]", [], "found nc 3 and 2 names"),
        ("a.txt", "7 sky\nroad\n", [], "a.txt:2: expected a line like '7 sky', found 'road'"),
        ("a.txt", "1 2 3 sky\n7 4 5 6 road\n", [], "expected an id in each line or in none"),
        ("a.txt", "sky 7\nroad 8\n", [], "expected numbers before the names"),
        ("a.txt", "sky: 70, 130, 180\nroad: 1, 2, 3\n", [], "expected numbers before the names"),
    ],
)
def test_faults(tmp_path, capsys, file, text, options, said):
    path = write(tmp_path / file, text)
    assert main(["taxonomy", "import", str(path), "--out", str(tmp_path / "o"), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert file in error
    assert not (tmp_path / "o").exists()


def test_a_list_becomes_files_once(tmp_path, capsys):
    file = write(tmp_path / "l.json", [{"name": "x", "category": "g"}, {"name": "y", "category": "g"}, {"name": "z"}])
    command = ["taxonomy", "import", str(file), "--out", str(tmp_path / "o")]
    assert main(command) == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert main(command) == 2
    assert "stands there already" in capsys.readouterr().err
    flat = [*import_file(file, tmp_path / "flat", flat=True)]
    assert "root: [x, 'y', z]" in flat[0].read_text()


@pytest.mark.parametrize("name", ["no", "a, b", "a: b", "[x]", "1", "#x", " x", "ü", "a#b", "it's", 'a"b', "(x)", "-"])
def test_names_and_notes_come_back_from_yaml(name):
    labels = [LabelEntry(id=0, name=name, nodes=[name]), LabelEntry(id=1, name="b", nodes=[name, "c"], color=(1, 2, 3))]
    text = space_yaml(LabelSpaceFile(name="s", taxonomy="t", labels=labels), ["head"], {1: ["two", "lines"]})
    assert parse_yaml(text, None).data == {
        "name": "s",
        "taxonomy": "t",
        "labels": [
            {"id": 0, "name": name, "nodes": name},
            {"id": 1, "name": "b", "nodes": [name, "c"], "color": [1, 2, 3]},
        ],
    }
    lines = text.splitlines()
    assert lines[0] == "# head"
    assert lines[-3:-1] == ["  # two", "  # lines"]
    assert lines[-1].startswith("  - {id: 1, ")


def test_long_lists_break_between_names():
    children = [f"a long name of number {i}" for i in range(40)]
    text = taxonomy_yaml(TaxonomyFile(name="t", tree={"root": ["x", "y"], "y": children}))
    assert max(map(len, text.splitlines())) < 140
    assert sum(text.count(child) for child in children[10:]) == 30, "no name is broken"
    assert parse_yaml(text, None).data["tree"] == {"root": ["x", "y"], "y": children}


def test_missing_file(tmp_path):
    with pytest.raises(HeterosegError, match="cannot be read"):
        read_label_list(tmp_path / "none.json")


ROWS = [
    {"id": 3, "name": "sky", "color": [1, 2, 3]},
    {"id": 7, "name": "a, b", "category": "c"},
    {"id": 0, "name": "x"},
]
LINES = "".join(f'{row["id"]},"{row["name"]}",{row.get("category", "")}\n' for row in ROWS)
LISTS = {
    "l.csv": f"id,name,category\n{LINES}",
    "l.json": json.dumps(ROWS),
    "l.txt": "3: sky\n7: road\n0: x\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky:1,2,3::\nroad:4,5,6::\n",
    "l.yaml": "nc: 2\nnames:\n  0: sky\n  7: 'no'\n",
    "l.py": LABELS_PY,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def listed_by_others(file, text):
    """(id, name) of each row by csv, json and PyYAML, None of other files and of those that have no ids."""
    if file == "l.csv":
        rows = csv.DictReader(io.StringIO(text, ""), skipinitialspace=True, strict=True)
        rows = [row for row in rows if any(str(value or "").strip() for value in row.values())]
        return [(row["id"], row["name"]) for row in rows] if rows and "id" in rows[0] and "name" in rows[0] else None
    data = json.loads(text) if file == "l.json" else None
    with suppress(yaml.YAMLError):  # of tabs, which libyaml takes
        data = yaml.safe_load(text) if file == "l.yaml" else data
    if file == "l.yaml" and isinstance(data, dict) and isinstance(data.get("names"), dict):
        return list(data["names"].items())
    rows = data if isinstance(data, list) and all(isinstance(row, dict) for row in data) else []
    return [(row["id"], row["name"]) for row in rows] if all({"id", "name"} <= row.keys() for row in rows) else None


@pytest.mark.parametrize("file", LISTS)
@given(data=st.data())
def test_damaged_lists(place, file, data):
    """A list is refused, or read as others read it."""
    text = LISTS[file]
    structured = damaged_json(ROWS).map(json.dumps).map(str.encode) if file == "l.json" else st.nothing()
    content = data.draw(damaged(text.encode()) | st.binary(max_size=100) | structured)
    (place / file).write_bytes(content)
    try:
        labels = read_label_list(place / file)
    except HeterosegError:
        return
    rows = listed_by_others(file, content.decode("utf-8-sig"))
    if rows:
        assert {(b.id, b.name) for b in labels} == {(int(i), str(n).strip()) for i, n in rows if int(i) >= 0}
