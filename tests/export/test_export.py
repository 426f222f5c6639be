"""Exported files answer as the MODEL they came from; wrong use is told in one sentence."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from benchmarks.naive import compare

import heteroseg
from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import presets
from heteroseg.export.export import ENDINGS, calibration_images, export
from heteroseg.export.random_model import random_model, scenes
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.exported import SIZES
from heteroseg.model.model import save_model

pytest.importorskip("openvino", reason="the extra openvino is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
IMAGE = scenes(1, (70, 100))[0]  # no multiple of 32, so it is padded


@pytest.fixture(scope="module")
def exported(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    made = {}
    for kind, ending in (("openvino", "xml"), ("onnx", "onnx")):
        for precision in ("fp32", "bf16", "int8"):
            if (kind, precision) != ("onnx", "bf16"):
                made[kind, precision] = folder / f"{precision}.{ending}"
                export(tiny_model, made[kind, precision], kind, precision, scenes(4, (64, 96)))
    return made


@pytest.mark.parametrize(
    ("kind", "precision", "far", "same"),
    [
        ("openvino", "fp32", 1e-3, 0.999),  # largest difference of a logit, in their deviations; share of equal labels
        ("onnx", "fp32", 1e-3, 0.999),
        ("openvino", "bf16", 0.5, 0.95),
        ("openvino", "int8", 3.0, 0.8),
        ("onnx", "int8", 3.0, 0.8),
    ],
)
def test_agrees_with_pytorch(tiny_model, exported, kind, precision, far, same):
    model = heteroseg.load(exported[kind, precision])
    theirs, ours = tiny_model.predict(IMAGE), model.predict(IMAGE)
    assert ours.logits.shape == theirs.logits.shape
    assert (ours.logits - theirs.logits).abs().max() < far * theirs.logits.std()
    for space in ("cityscapes", "gtsdb", "leaves"):
        assert ours.labels(space).shape == (70, 100)
        assert (ours.labels(space) == theirs.labels(space)).mean() >= same
    assert ours.nodes().shape == ours.probs("traffic sign").shape == (70, 100)
    assert len(np.unique(ours.labels("leaves"))) > 3


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_a_file_holds_all_that_prediction_needs(tiny_model, exported, kind):
    model = heteroseg.load(exported[kind, "fp32"])
    assert (model.name, model.decision) == (tiny_model.name, tiny_model.decision)
    assert model.taxonomy == tiny_model.taxonomy
    assert {n: s.labels for n, s in model.spaces.items()} == {n: s.labels for n, s in tiny_model.spaces.items()}
    assert len(model.digest) == 16
    assert model.digest != heteroseg.load(exported[kind, "int8"]).digest


def test_any_image_size(tiny_model, exported):
    """More sizes than are compiled one by one."""
    model = heteroseg.load(exported["openvino", "fp32"])
    for i in range(SIZES + 2):
        image = scenes(1, (40 + 32 * i, 50))[0]
        theirs, ours = tiny_model.predict(image), model.predict(image)
        assert (ours.nodes() == theirs.nodes()).mean() > 0.999


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_images_are_shrunk_in_a_file_too(tiny_model_config, tmp_path, kind):
    config = tiny_model_config.model_copy(update={"stride": 12, "scale": 0.6667})
    model = random_model(config, load_taxonomy("streets-108"), (64, 96))
    path = tmp_path / f"small{ENDINGS[kind]}"
    export(model, path, kind)
    for size in ((70, 100), (200, 130)):
        image = scenes(1, size)[0]
        theirs, ours = model.predict(image), heteroseg.load(path).predict(image)
        assert (ours.logits - theirs.logits).abs().max() < 1e-3 * theirs.logits.std()
        assert (ours.nodes() == theirs.nodes()).mean() > 0.999


def test_predict_command_runs_a_file(exported, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE[..., ::-1])
    assert main(["predict", str(exported["onnx", "fp32"]), str(tmp_path / "a.png"), "--out", str(tmp_path / "o")]) == 0
    assert cv2.imread(str(tmp_path / "o" / "a.png"), cv2.IMREAD_UNCHANGED).shape == (70, 100)


def test_int8_is_told_with_scores_before_and_after(tiny_model_folder, tiny_experiment, tmp_path, capsys):
    out = tmp_path / "m.xml"
    args = ["export", str(tiny_model_folder), "--format", "openvino", "--precision", "int8", "--out", str(out)]
    assert main([*args, "--calibrate", str(tiny_experiment), "--images", "4", "--limit", "1"]) == 0
    said = capsys.readouterr().out
    assert "mIoU before" in said
    assert all(name in said for name in ("cityscapes", "vistas", "gtsdb", "ms an image"))
    assert out.with_suffix(".bin").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.bin", "m.xml"], "no temporary file is left"
    assert main(args) == 2, "nothing is overwritten"
    assert "stands there already" in capsys.readouterr().err


def test_calibration_images_come_from_all_datasets_or_a_folder(tiny_experiment, tiny_data):
    assert len(calibration_images(str(tiny_experiment), 6)) == 6
    found = calibration_images(str(tiny_data / "vistas"), 3)
    assert len(found) == 3
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in found)


@pytest.mark.parametrize(
    ("out", "kind", "precision", "said"),
    [
        ("a.onnx", "openvino", "fp32", "ends in .xml"),
        ("a.onnx", "onnx", "bf16", "is for openvino"),
        ("a.xml", "openvino", "int8", "--calibrate"),
    ],
)
def test_wrong_use(tiny_model, tmp_path, out, kind, precision, said):
    with pytest.raises(HeterosegError, match=said):
        export(tiny_model, tmp_path / out, kind, precision)
    assert not list(tmp_path.iterdir())


def test_an_exported_network_is_a_file_already(exported, tmp_path):
    model = heteroseg.load(exported["onnx", "fp32"])
    with pytest.raises(HeterosegError, match="exported already"):
        export(model, tmp_path / "a.onnx", "onnx")
    with pytest.raises(HeterosegError, match="cannot be saved"):
        save_model(model, tmp_path / "m")
    with pytest.raises(HeterosegError, match="runs on the cpu"):
        heteroseg.load(exported["onnx", "fp32"], "cuda")


@pytest.mark.parametrize("name", ["gone.onnx", "text.onnx", "text.xml"])
def test_wrong_files(tmp_path, name):
    if name.startswith("text"):
        (tmp_path / name).write_text("<net/>")
    with pytest.raises(HeterosegError, match=r"expected (an? |its weights)") as caught:
        heteroseg.load(tmp_path / name)
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)


def test_a_foreign_onnx_file(tmp_path):
    torch.onnx.export(torch.nn.Conv2d(3, 4, 1), (torch.zeros(1, 3, 4, 4),), str(tmp_path / "f.onnx"), dynamo=False)
    with pytest.raises(HeterosegError, match="heteroseg export"):
        heteroseg.load(tmp_path / "f.onnx")


def test_bench_writes_the_agreed_keys(tiny_model_folder, tmp_path, capsys):
    out = tmp_path / "b.json"
    for runtime in ("torch", "openvino", "onnx"):
        args = ["bench", str(tiny_model_folder), "--size", "64x90", "--runtime", runtime, "--repeats", "3"]
        assert main([*args, "--threads", "1", "--labels", "gtsdb", "--json", str(out)]) == 0
        found = json.loads(out.read_text())
        assert {"fps", "ms", "classes", "size", "stages_ms"} <= set(found)
        assert list(found["stages_ms"]) == ["read", "normalise", "network", "decode", "write"]
        assert all(value > 0 for value in found["stages_ms"].values())
        assert (found["size"], found["classes"], found["runtime"]) == ([64, 90], 107, runtime)
        assert found["fps"] == pytest.approx(1000 / found["ms"])
        assert found["facts"]["machine"]
    assert "fps" in capsys.readouterr().out


def test_bench_needs_no_model(tmp_path):
    out = tmp_path / "b.json"
    args = ["bench", "--preset", "fast", "--taxonomy", "streets-108", "--size", "240x320", "--runtime", "torch"]
    assert main([*args, "--repeats", "2", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["decision"] == "path"
    assert found["labels_found"] > 5, "random weights are scaled so that there is something to decide"
    assert 0.2 < found["mixed_cells"] < 0.4


@pytest.mark.parametrize("rule", ["path", "marginal"])
@pytest.mark.parametrize("runtime", [None, "openvino", "onnx"])
def test_the_naive_decode_of_the_benchmarks_agrees(tiny_model, exported, runtime, rule):
    model = replace(heteroseg.load(exported[runtime, "fp32"]) if runtime else tiny_model, decision=rule)
    result = compare(model, IMAGE, "gtsdb", threads=1, repeats=1)
    assert result["naive_agreement"] > 0.99
    assert result["naive_decode_ms"] > 0


def test_the_naive_decode_of_a_network_with_random_weights_agrees():
    model = random_model(presets()["fast"], load_taxonomy("streets-108"), (240, 320))
    assert compare(model, scenes(1, (240, 320))[0], "leaves", repeats=1)["naive_agreement"] > 0.99


def test_bench_takes_a_photograph(tiny_model_folder, tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), IMAGE[..., ::-1])
    args = ["bench", str(tiny_model_folder), "--size", "33x40", "--runtime", "torch", "--repeats", "1"]
    assert main([*args, "--image", str(tmp_path / "photo.png"), "--json", str(tmp_path / "b.json")]) == 0
    assert json.loads((tmp_path / "b.json").read_text())["size"] == [33, 40]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "name one of the two"),
        (["--preset", "quick"], "no preset 'quick'"),
        (["--preset", "fast", "--size", "12"], "HEIGHTxWIDTH"),
        (["--preset", "fast", "--runtime", "torch", "--precision", "bf16", "--size", "64x64"], "needs --runtime"),
    ],
)
def test_wrong_use_of_bench(args, said, capsys):
    try:
        code = main(["bench", *args])
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2
    assert said in capsys.readouterr().err
