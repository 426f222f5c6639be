"""Graphs that end in answers say what the network says, in other runtimes and without anything of ours."""

import json
from dataclasses import replace

import numpy as np
import pytest

import heteroseg
from heteroseg.cli.main import main
from heteroseg.export.answers import export_answers
from heteroseg.export.export import ENDINGS
from heteroseg.export.random_model import scenes
from heteroseg.model.model import save_model

pytest.importorskip("openvino", reason="the extra openvino is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
IMAGE = scenes(1, (128, 192))[0]


def answer(path, image: np.ndarray) -> np.ndarray:
    if path.suffix == ".onnx":
        return ort.InferenceSession(str(path)).run(None, {"images": image[None]})[0][0]
    import openvino

    return openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([image[None]])[0][0]


@pytest.mark.parametrize("kind", ENDINGS)
@pytest.mark.parametrize("rule", ["marginal", "path"])
def test_labels_are_those_of_predict(tiny_model, tmp_path, kind, rule):
    model = replace(tiny_model, decision=rule)
    for name in ("cityscapes", "gtsdb"):  # gtsdb takes the fronts of signs for granted
        out = tmp_path / f"{name}{ENDINGS[kind]}"
        export_answers(model, out, kind, "labels", model.space(name))
        found, due = answer(out, IMAGE), model.predict(IMAGE).labels(name)
        assert found.shape == due.shape
        assert (found == due).mean() >= 0.999
        assert len(np.unique(due)) > 3


@pytest.mark.parametrize("kind", ENDINGS)
def test_probabilities_are_those_of_predict(tiny_model, tmp_path, kind):
    out, space = tmp_path / f"p{ENDINGS[kind]}", tiny_model.space("leaves")
    export_answers(tiny_model, out, kind, "probabilities", space)
    found, due = answer(out, IMAGE), tiny_model.predict(IMAGE)
    assert found.shape == (128, 192, len(space.labels))
    for i in range(0, len(space.labels), 9):
        assert np.abs(found[..., i] - due.probs(space.labels[i].name)).max() < 1e-3


def test_void_and_smaller_images(tmp_path, tiny_model_config):
    from heteroseg.export.random_model import random_model

    tree = heteroseg.load_taxonomy("streets-108", void=True)
    config = tiny_model_config.model_copy(update={"void": True, "scale": 0.5, "stride": 8})
    space = heteroseg.load_label_space("cityscapes", tree)
    for rule in ("marginal", "path"):
        model = replace(random_model(config, tree, IMAGE.shape[:2]), spaces={"cityscapes": space}, decision=rule)
        export_answers(model, tmp_path / f"{rule}.onnx", "onnx", "labels", space)
        assert (answer(tmp_path / f"{rule}.onnx", IMAGE) == model.predict(IMAGE).labels("cityscapes")).mean() > 0.999


def test_the_command_writes_what_a_program_needs(tiny_model, tmp_path, capsys):
    save_model(tiny_model, tmp_path / "m")
    out = tmp_path / "labels.onnx"
    command = ["export", str(tmp_path / "m"), "--format", "onnx", "--out", str(out), "--output", "labels"]
    assert main([*command, "--labels", "gtsdb"]) == 0
    told = json.loads(ort.InferenceSession(str(out)).get_modelmeta().custom_metadata_map["heteroseg"])
    assert told["labels"][1]["id"] == tiny_model.spaces["gtsdb"].labels[1].id
    assert told["multiple"] == tiny_model.network.multiple
    assert main([*command[:-4], "--out", str(tmp_path / "x.onnx"), "--output", "labels", "--precision", "int8"]) == 2
    assert "goes with --precision fp32 alone" in capsys.readouterr().err
    assert main(["predict", str(out), str(tmp_path), "--out", str(tmp_path / "o")]) == 2
