"""Exported files from strangers: what does not fit is refused in one sentence, and no other file is read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from heteroseg.export.export import export
from heteroseg.model.exported import METADATA
from tests.datasets.damage import VALUES
from tests.reliability import SEED
from tests.reliability.forging import DAMAGE, answer, hurt, outcome, random, small_model

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
NAMES = ("dense.onnx", "lazy.onnx", "dense.xml")
Facts = dict[str, Any]


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> dict[str, tuple[Path, np.ndarray]]:
    """Files of each kind, and what they answer."""
    folder, made = tmp_path_factory.mktemp("exports"), {}
    for name in NAMES:
        path = folder / name.partition(".")[0] / name
        export(small_model(), path, "openvino" if path.suffix == ".xml" else "onnx", head=path.stem)
        made[name] = (path, answer(path))
    return made


def put(value: Any, *keys: str | int) -> Callable[[Facts], Any]:
    """Set one value in the metadata."""

    def change(facts: Facts) -> Facts:
        inside: Any = facts
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = value
        return facts

    return change


def without(key: str) -> Callable[[Facts], Any]:
    return lambda facts: {k: v for k, v in facts.items() if k != key}


def tree(**children: list[str]) -> Callable[[Facts], Any]:
    return lambda facts: put({**facts["taxonomy"]["tree"], **children}, "taxonomy", "tree")(facts)


FACTS: dict[str, Callable[[Facts], Any]] = {
    **{
        f"without {key}": without(key)
        for key in ("format", "precision", "multiple", "file", "taxonomy", "label_spaces")
    },
    **{f"multiple {v!r}": put(v, "multiple") for v in ("x", 0, -32, 33, 10**9, 10**30, 1.5, True, None, [32])},
    **{
        f"shrink {v!r}": put(v, "shrink")
        for v in ("ab", [1], [0, 0], [2, 1], [1, 0], [1, 10**9], [1, 3], [-1, 1], None)
    },
    **{f"format {v!r}": put(v, "format") for v in (0, 2, "1", None, [])},
    **{f"precision {v!r}": put(v, "precision") for v in ("trap", 32, None)},
    **{f"tree {v!r}": put(v, "taxonomy") for v in ([], None, "x", {}, {"name": "t", "tree": {}})},
    **{f"spaces {v!r}": put(v, "label_spaces") for v in ([], None, "x", {"mine": {}}, {"mine": None})},
    **{f"file {v!r}": put(v, "file") for v in ([], None, "x", {})},
    **{
        f"head {v!r}": put(v, "lazy_head") for v in ("x", [], {"cuts": [0]}, {"weight": "", "bias": "", "cuts": [0, 0]})
    },
    "a key too many": put(1, "trap"),
    "a leaf more": tree(x=["u", "v", "w", "z"]),
    "a leaf less": tree(x=["u", "v"]),
    "another tree": tree(x=["u", "v"], b=["only", "other"]),
    "an id that no file holds": put(70000, "label_spaces", "mine", "labels", 1, "id"),
    "a node that is none": put("trap", "label_spaces", "mine", "labels", 1, "nodes"),
    "a temperature that is none": put({"root": float("nan")}, "file", "temperatures"),
    "a temperature of nothing": put({"trap": 2}, "file", "temperatures"),
    "another stride": put(8, "file", "model", "stride"),
    "a path for a backbone": put("hf:../x", "file", "model", "backbone"),
    "a checkpoint": put({"checkpoint_path": "x"}, "file", "model", "backbone_options"),
    "twice as fine": put(True, "file", "model", "upsample"),
    "void logits": put(True, "file", "model", "void"),
    "a list": lambda facts: [facts],
    "nothing": lambda facts: None,
    "brackets": lambda facts: "[" * 100_000,
    "braces": lambda facts: '{"file":' * 100_000,
    "a number of many digits": lambda facts: '{"format": ' + "9" * 5000 + "}",
    "no JSON": lambda facts: "trap",
}
HEADS: dict[str, Callable[[Facts], Any]] = {
    **{
        f"cuts {v!r}": put(v, "lazy_head", "cuts")
        for v in (
            [],
            [0],
            [0, 10**12],
            [3, 0],
            [0, 3, 3, 8],
            [0, 8],
            [0.0, 3.0, 8.0],
            "x",
            None,
            [-1, 3, 8],
            [0, 3, 9],
        )
    },
    **{f"weight {v!r}": put(v, "lazy_head", "weight") for v in ("", "!", "AAAA", None, 1)},
    **{f"bias {v!r}": put(v, "lazy_head", "bias") for v in ("", "!", "AAAA", None, 1)},
    "not a number": lambda facts: put(_nan(facts["lazy_head"]["weight"]), "lazy_head", "weight")(facts),
    "no head": put(None, "lazy_head"),
}


def _nan(coded: str) -> str:
    import base64

    numbers = np.frombuffer(base64.b64decode(coded), "<f4").copy()
    numbers[0] = np.nan
    return base64.b64encode(numbers.tobytes()).decode()


def with_facts(source: Path, out: Path, change: Callable[[Facts], Any], sealed: bool = False) -> Path:
    """A copy whose metadata are changed, or text in their place; unless `sealed`, without the checksum."""
    out.mkdir()
    target = out / source.name
    if source.suffix == ".onnx":
        network = onnx.load(source)
        entry = next(e for e in network.metadata_props if e.key == METADATA)
        entry.value = _changed(entry.value, change, sealed)
        onnx.save(network, target)
    else:
        network = openvino.Core().read_model(source)
        text = _changed(network.get_rt_info(METADATA).value, change, sealed)
        network.set_rt_info(text, METADATA)
        openvino.serialize(network, target, target.with_suffix(".bin"))
    return target


def _changed(text: str, change: Callable[[Facts], Any], sealed: bool) -> str:
    facts = json.loads(text)
    if not sealed:
        facts.pop("checksum")
    changed = change(facts)
    return changed if isinstance(changed, str) else json.dumps(changed)


CASES = [(name, title) for name in ("dense.onnx", "dense.xml") for title in FACTS] + [("lazy.onnx", t) for t in HEADS]


@pytest.mark.parametrize(("name", "title"), CASES)
def test_metadata_that_do_not_fit(exports, tmp_path, name, title):
    source, before = exports[name]
    said = outcome(with_facts(source, tmp_path / "m", {**FACTS, **HEADS}[title]), before)
    assert said not in ("same", "other"), said


@pytest.mark.parametrize("name", NAMES)
def test_an_older_file_has_no_checksum(exports, tmp_path, name):
    source, before = exports[name]
    assert outcome(with_facts(source, tmp_path / "m", lambda facts: facts), before) == "same"
    sealed = with_facts(source, tmp_path / "n", put("path", "file", "decision"), sealed=True)
    assert "expected what `heteroseg export` wrote" in outcome(sealed, before)


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any):
    return onnx.helper.make_node(kind, inputs, outputs, **attributes)


def last(network, kind: str, domain: str = "", **attributes: Any) -> None:
    """Put one more operation behind the output."""
    graph = network.graph
    end = graph.output[0].name
    for n in graph.node:
        n.output[:] = ["before" if name == end else name for name in n.output]
    graph.node.append(node(kind, ["before"], [end], domain=domain, **attributes))


def endless(network) -> None:
    body = onnx.helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Identity", ["x"], ["y"])],
        "body",
        [
            onnx.helper.make_tensor_value_info("i", 7, []),
            onnx.helper.make_tensor_value_info("go", 9, []),
            onnx.helper.make_tensor_value_info("x", 1, None),
        ],
        [onnx.helper.make_tensor_value_info("on", 9, []), onnx.helper.make_tensor_value_info("y", 1, None)],
    )
    graph = network.graph
    graph.initializer.append(onnx.helper.make_tensor("yes", 9, [], [True]))
    end = graph.output[0].name
    for n in graph.node:
        n.output[:] = ["before" if name == end else name for name in n.output]
    graph.node.append(node("Loop", ["", "yes", "before"], [end], body=body))


def outside(place: str) -> Callable[[Any], None]:
    def change(network) -> None:
        tensor = network.graph.initializer[0]
        del tensor.external_data[:]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", place

    return change


def filled(value: float) -> Callable[[Any], None]:
    def change(network) -> None:
        tensor = max((t for t in network.graph.initializer if t.data_type == 1), key=lambda t: len(t.raw_data))
        tensor.raw_data = np.full(len(tensor.raw_data) // 4, value, "<f4").tobytes()

    return change


def renamed(network) -> None:
    network.graph.input[0].name = "pictures"
    for n in network.graph.node:
        n.input[:] = ["pictures" if name == "images" else name for name in n.input]


def doubled(network: Any) -> None:
    """One more output, of the same numbers."""
    graph = network.graph
    graph.node.append(node("Identity", [graph.output[0].name], ["more"]))
    graph.output.append(onnx.helper.make_tensor_value_info("more", 1, None))


GRAPHS: dict[str, Callable[[Any], Any]] = {
    "a loop without end": endless,
    "an operation of a stranger": lambda n: last(n, "Trap", domain="com.trap"),
    "an operation of the runtime's": lambda n: last(n, "Gelu", domain="com.microsoft"),
    "an unknown operation": lambda n: last(n, "Trap"),
    "a function": lambda n: n.functions.add(name="trap", domain="trap"),
    "weights elsewhere": outside("../../secret"),
    "weights at the root": outside("/etc/passwd"),
    "weights of a device": outside("/dev/zero"),
    "weights beside it": outside("secret"),
    "weights that are not numbers": filled(float("nan")),
    "weights without end": filled(float("inf")),
    "another input": renamed,
    "whole numbers": lambda n: last(n, "Cast", to=7),
    "fewer channels": lambda n: last(n, "MaxPool", kernel_shape=[1, 2], strides=[1, 2]),
    "fewer axes": lambda n: last(n, "Flatten"),
    "turned": lambda n: last(n, "Transpose", perm=[0, 3, 1, 2]),
    "the output twice": doubled,
    "two outputs": lambda n: n.graph.output.append(onnx.helper.make_tensor_value_info("images", 2, None)),
    "no output": lambda n: n.graph.ClearField("output"),
    "no operations": lambda n: n.graph.ClearField("node"),
    "a circle": lambda n: n.graph.node[0].input.__setitem__(0, n.graph.output[0].name),
    "another version": lambda n: n.opset_import[0].__setattr__("version", 10**6),
    "no metadata": lambda n: n.ClearField("metadata_props"),
}


@pytest.mark.parametrize("title", GRAPHS)
def test_onnx_graphs_that_are_none_of_ours(exports, tmp_path, monkeypatch, title):
    source, before = exports["dense.onnx"]
    path = with_facts(source, tmp_path / "m", lambda facts: facts)
    (path.parent / "secret").write_bytes(b"\0" * 2**20)
    monkeypatch.chdir(path.parent)
    network = onnx.load(path)
    GRAPHS[title](network)
    path.write_bytes(network.SerializeToString())
    said = outcome(path, before)
    assert said not in ("same", "other"), said


BINS: dict[str, Callable[[Path], Any]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "not numbers": lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
    "a pipe": lambda path: (path.unlink(), __import__("os").mkfifo(path)),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a circle": lambda path: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.mark.parametrize("title", BINS)
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "unsealed"])
def test_weights_of_openvino(exports, tmp_path, title, sealed):
    source, before = exports["dense.xml"]
    path = with_facts(source, tmp_path / "m", lambda facts: facts)
    if sealed:
        shutil.copytree(source.parent, path.parent, dirs_exist_ok=True)
    BINS[title](path.with_suffix(".bin"))
    said = outcome(path, before)
    assert said not in ("same", "other"), said


def test_weights_of_another_file(exports, tmp_path):
    source, before = exports["dense.xml"]
    path = Path(shutil.copytree(source.parent, tmp_path / "m")) / source.name
    data = np.fromfile(path.with_suffix(".bin"), "<f4")
    (data * np.float32(0.5)).tofile(path.with_suffix(".bin"))
    assert "expected what `heteroseg export` wrote" in outcome(path, before)


XMLS: dict[str, Callable[[str], str]] = {
    "a bomb of entities": lambda t: '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + t,
    "an entity of a file": lambda t: (
        '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + t.replace("name=", "name=&a;", 1)
    ),
    "depth": lambda t: "<net>" * 100_000,
    "an unknown operation": lambda t: t.replace('type="ReLU"', 'type="Trap"', 1),
    "an operation of a stranger": lambda t: t.replace('version="opset1"', 'version="trap"', 1),
    "a part outside of the weights": lambda t: t.replace('offset="0"', f'offset="{2**40}"', 1),
    "a part of another size": lambda t: t.replace(' size="', ' size="0" was="', 1),
    "other images": lambda t: t.replace("?,?,?,3", "?,?,?,4", 1),
    "images of one size": lambda t: t.replace("?,?,?,3", "1,8,8,3", 1),
    "other numbers": lambda t: t.replace('element_type="u8"', 'element_type="f32"', 1),
    "no net": lambda t: "<a/>",
    "cut": lambda t: t[: len(t) // 2],
    "nothing": lambda t: "",
}


@pytest.mark.parametrize("title", XMLS)
def test_openvino_graphs_that_are_none_of_ours(exports, tmp_path, title):
    source, before = exports["dense.xml"]
    path = with_facts(source, tmp_path / "m", lambda facts: facts)
    changed = XMLS[title](path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    said = outcome(path, before)
    harmless = title == "a bomb of entities" and said == "same"  # nothing expands it
    assert harmless or said not in ("same", "other"), said


@seed(SEED + 2)
@random
@given(st.sampled_from([*NAMES, "dense.bin"]), DAMAGE)
def test_damaged_bytes(exports, tmp_path_factory, name, damage):
    source, before = exports[name.replace(".bin", ".xml")]
    folder = Path(shutil.copytree(source.parent, tmp_path_factory.mktemp("damaged") / "m"))
    (folder / name).write_bytes(hurt((folder / name).read_bytes(), damage))
    assert outcome(folder / source.name, before) != "other"


KEYS = st.sampled_from(["format", "precision", "multiple", "shrink", "lazy_head", "file", "taxonomy", "label_spaces"])


@seed(SEED + 3)
@random
@given(st.sampled_from(NAMES[:2]), KEYS, VALUES)
def test_facts_of_any_value(exports, tmp_path_factory, name, key, value):
    source, before = exports[name]
    said = outcome(with_facts(source, tmp_path_factory.mktemp("facts") / "m", put(value, key)), before)
    assert said != "other"
