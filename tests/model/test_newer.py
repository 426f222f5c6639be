"""Files of a newer heteroseg, and files without what belongs to them, are told as that."""

import json
import shutil

import pytest

import heteroseg
from heteroseg.errors import HeterosegError
from heteroseg.export.export import export


def test_a_newer_model_is_told_before_its_keys(tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 2, "of tomorrow": 1}))
    with pytest.raises(HeterosegError, match="expected format 1, found 2; install a newer heteroseg") as caught:
        heteroseg.load(folder)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_newer_file_is_told_before_its_keys(tiny_model, tmp_path, monkeypatch, kind):
    pytest.importorskip({"onnx": "onnxruntime"}.get(kind, kind), reason="an extra is not installed")
    from heteroseg.export import export as module

    path, describe = tmp_path / {"onnx": "a.onnx", "openvino": "a.xml"}[kind], module.describe
    monkeypatch.setattr(
        module, "describe", lambda *how: json.dumps({**json.loads(describe(*how)), "format": 3, "of tomorrow": 1})
    )
    monkeypatch.setattr(module, "_is_same", lambda *_: True)
    export(tiny_model, path, kind)
    with pytest.raises(HeterosegError, match="expected format 1, found 3; install a newer heteroseg"):
        heteroseg.load(path)


def test_a_missing_bin_is_told(tiny_model, tmp_path):
    pytest.importorskip("openvino", reason="an extra is not installed")
    export(tiny_model, tmp_path / "a.xml", "openvino")
    (tmp_path / "a.bin").unlink()
    with pytest.raises(HeterosegError, match=r"expected its weights beside it, found no a\.bin; put both files"):
        heteroseg.load(tmp_path / "a.xml")
