"""What Python asks wrongly is refused in one sentence, as on the command line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import heteroseg
from heteroseg.cli.main import main
from heteroseg.decisions.plan import plan_decode
from heteroseg.decisions.reference import label_map
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import open_sources
from heteroseg.export.export import export
from heteroseg.inference.files import back_off_space
from heteroseg.labels.space import load_label_space, own_space

BLACK = np.zeros((32, 32, 3), np.uint8)

ASKED = {
    "labels": lambda m, wrong: m.predict(BLACK).labels(wrong),
    "confidence": lambda m, wrong: m.predict(BLACK).confidence(wrong),
    "space": lambda m, wrong: m.space(wrong),
    "load": lambda _, wrong: heteroseg.load(wrong),
    "taxonomy": lambda _, wrong: heteroseg.load_taxonomy(wrong),
    "label space": lambda _, wrong: heteroseg.load_label_space(wrong),
    "experiment": lambda _, wrong: heteroseg.load_experiment(wrong),
    "override": lambda _, wrong: heteroseg.load_experiment("e.yaml", [wrong]),
    "save": lambda m, wrong: m.save_pretrained(wrong),
    "push": lambda m, wrong: m.push_to_hub(wrong),
}
WRONG = {
    "novelty": (lambda m, _: m.predict(BLACK).novelty("entrpy"), "novelty: expected one of .*; did you mean 'entropy'"),
    "back_off above 1": (lambda m, _: m.predict(BLACK).nodes(1.5), "expected a number from 0 to 1, found 1.5"),
    "back_off below 0": (lambda m, _: m.predict(BLACK).nodes(-0.1), "back_off: expected a number from 0 to 1"),
    "back_off nan": (lambda m, _: m.predict(BLACK).nodes(float("nan")), "back_off: expected .*, found nan"),
    "names of no space": (lambda m, _: m.predict(BLACK).names(None), "expected the name of a label space, found None"),
    "overlay of no space": (lambda m, _: m.predict(BLACK).overlay(None), "expected the name of a label space"),
    "trust": (lambda m, _: heteroseg.load(m.origin, trust=3), "expected trust as MODULE:CLASS, found 3"),
    "no network": (lambda m, _: heteroseg.replace_classifier({}, m.taxonomy), "expected a network, a torch"),
    "back_off list": (lambda m, _: m.predict(BLACK).nodes([0.5]), r"back_off: expected .*, found \[0.5\]"),
    "precision list": (lambda m, _: m.predict(BLACK).nodes(precision=[0.5]), r"precision: expected .*, found \[0.5\]"),
    "back_off text": (lambda m, _: m.predict(BLACK).nodes("0.5"), "back_off: expected .*, found '0.5'"),
    "precision above 1": (lambda m, _: m.predict(BLACK).nodes(precision=2), "precision: expected a number from 0 to 1"),
    "precision text": (lambda m, _: m.predict(BLACK).nodes(precision="0.9"), "precision: expected a number"),
    "precision and back_off": (lambda m, _: m.predict(BLACK).nodes(0.5, 0.5), "expected back_off or precision, found"),
    "precision of no promise": (lambda m, _: m.predict(BLACK).nodes(precision=0.9), "heteroseg calibrate MODEL --data"),
    "space of a back-off": (lambda m, _: back_off_space(m.taxonomy, 2), "back_off: expected a number from 0 to 1"),
    "decision": (lambda m, _: replace(m, decision="foo"), "decision: expected one of path, marginal, found 'foo'"),
    "decision of a plan": (lambda m, _: plan_decode(m.taxonomy, "pth"), "decision: .*; did you mean 'path'"),
    "rule": (lambda m, _: label_map(torch.zeros(1, m.taxonomy.channels, 1, 1), own_space(m.taxonomy), "foo"), "rule: "),
    "device": (lambda _, f: heteroseg.load(f, "meta"), "device 'meta' cannot be used, .*; this machine has cpu"),
    "no device": (lambda _, f: heteroseg.load(f, "nonsense"), "device 'nonsense' cannot be used"),
    "device of a file": (lambda _, f: heteroseg.load(f / "a.onnx", "nonsense"), "runs on the cpu, found device"),
    "label space": (lambda m, _: m.predict(BLACK).labels("cityscpes"), "did you mean 'cityscapes'"),
    "another tree": (lambda m, _: m.predict(BLACK).labels(load_label_space("camvid11")), "belongs to taxonomy"),
    "node": (lambda m, _: m.predict(BLACK).probs("skyy"), "has no node 'skyy'; did you mean 'sky'"),
    "unhashable node": (lambda m, _: m.predict(BLACK).probs([]), r"has no node \[\]"),
    "nothing": (lambda m, _: m.predict(None), "expected an image as an array .*, found NoneType"),
    "tensor": (lambda m, _: m.predict(torch.zeros(3, 9, 9)), "expected an image as an array .*, found Tensor"),
    "floats": (lambda m, _: m.predict(BLACK / 255), r"expected an RGB image .*, found \(32, 32, 3\) of float64"),
    "no pixels": (lambda m, _: m.predict(BLACK[:0]), r"expected an RGB image .*, found \(0, 32, 3\)"),
    "floats of Pillow": (lambda m, _: m.predict(Image.new("F", (9, 9))), "8 or 16 bits, found mode F; convert it"),
    "format": (lambda m, _: export(m, Path("a.onnx"), "tflite"), "format: expected one of onnx, openvino"),
    "precision": (lambda m, _: export(m, Path("a.onnx"), "onnx", "fp8"), "precision: expected one of fp32, bf16, int8"),
    "head": (lambda m, _: export(m, Path("a.onnx"), "onnx", head="lzy"), "head: .*; did you mean 'lazy'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_sentence(tiny_model, tiny_model_folder, name):
    ask, said = WRONG[name]
    with pytest.raises(HeterosegError, match=said) as caught:
        ask(tiny_model, tiny_model_folder)
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -1}, {"limit": 1.5}, {"back_off": 2}, {"precision": 2}])
def test_evaluation(tiny_model, tiny_experiment, wrong):
    sources = open_sources(*heteroseg.load_experiment(tiny_experiment))
    with pytest.raises(HeterosegError, match="expected a"):
        heteroseg.evaluate(tiny_model, sources, **wrong)


@pytest.mark.parametrize("command", ["predict", "predict-many"])
@pytest.mark.parametrize("device", ["meta", "cuda:-1", "cpu:cpu", "xla"])
def test_devices_of_the_command_line(tiny_model_folder, tmp_path, capsys, device, command):
    Image.fromarray(BLACK).save(tmp_path / "a.png")
    if command == "predict-many":
        pytest.importorskip("ray.data", reason="the extra ray is not installed")
    source = tmp_path if command == "predict-many" else tmp_path / "a.png"
    words = [command, str(tiny_model_folder), str(source), "--out", str(tmp_path / "out")]
    assert main([*words, "--device", device]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"heteroseg: device {device!r} cannot be used")
    assert said.count("\n") == 1


def test_a_plan_is_kept_once(tiny_model):
    """For each label space by what it says, not for each call and not for each object."""
    made = plan_decode.cache_info().misses
    spaces = [load_label_space("vistas", tiny_model.taxonomy) for _ in range(3)]
    for space in ["vistas", "leaves", "vistas", "leaves", *spaces]:
        tiny_model.predict(BLACK).label_indices(space)
    assert plan_decode.cache_info().misses <= made + 2
    assert tiny_model.plan(spaces[0]) is tiny_model.plan("vistas")


@pytest.mark.parametrize(
    "wrong",
    [3, 0.5, b"x", [], {}, object(), ("leaves",), np.int64(1), True, ""],
    ids=lambda wrong: type(wrong).__name__,
)
@pytest.mark.parametrize("what", ASKED)
def test_what_is_no_text(tiny_model, what, wrong):
    with pytest.raises(HeterosegError, match=r"^expected .*, found "):  # were AttributeError and TypeError
        ASKED[what](tiny_model, wrong)


def test_what_names_a_file_may_be_a_path(tiny_model, tmp_path):
    (tmp_path / "t.yaml").write_text("name: t\ntree: {root: [a, b]}\n")
    assert heteroseg.load_taxonomy(tmp_path / "t.yaml").name == "t"  # was "has no attribute 'endswith'"
    (tmp_path / "s.yaml").write_text("name: s\ntaxonomy: t\nlabels: [{id: 1, name: sky, nodes: sky}]\n")
    assert tiny_model.space(tmp_path / "s.yaml").name == "s"
    plain = tiny_model.predict(BLACK).labels("leaves")
    assert (tiny_model.predict(np.asmatrix(BLACK[..., 0])).labels("leaves") == plain).all()  # was "shape too large"
