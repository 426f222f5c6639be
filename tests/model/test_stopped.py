"""Long work looks now and then whether it may go on, in every part of it."""

import signal
import threading
import time

import numpy as np
import pytest

import heteroseg
from heteroseg.decisions.exact import decode_torch
from heteroseg.export.export import ENDINGS, export
from heteroseg.export.random_model import scenes


class StoppedError(Exception):
    pass


def stop() -> None:
    raise StoppedError


ASKED = {
    "labels": lambda said: said.labels("cityscapes"),
    "indices": lambda said: said.label_indices("leaves"),
    "confidence": lambda said: said.confidence("vistas"),
    "nodes": lambda said: said.nodes(),
    "back-off": lambda said: said.nodes(0.5),
    "novelty": lambda said: said.novelty(),
    "on a GPU": lambda said: decode_torch(said.logits, said.covers, said.size, said.model.plan("vistas"), said.between),
}


@pytest.mark.parametrize("asked", ASKED)
def test_an_answer(tiny_model, asked):
    said = tiny_model.predict(scenes(1, (64, 96))[0])
    said.between = stop
    with pytest.raises(StoppedError):
        ASKED[asked](said)


@pytest.mark.parametrize("head", ["dense", "lazy"])
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_an_exported_network(tiny_model, tmp_path, runtime, head):
    """It is stopped amid its work, and works again when it is asked anew."""
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime), reason="an extra is not installed")
    path = tmp_path / f"network{ENDINGS[runtime]}"
    export(tiny_model, path, runtime, head=head)
    model, image = heteroseg.load(path), np.random.default_rng(0).integers(0, 255, (2000, 3000, 3), np.uint8)
    small = image[:64, :96]
    begin = time.monotonic()
    wanted = model.predict(small).labels("cityscapes"), model.predict(image).size
    whole, model.network.between = time.monotonic() - begin, stop
    begin = time.monotonic()
    with pytest.raises(StoppedError):
        model.predict(image)
    print(f"{time.monotonic() - begin:.2f} s, whole {whole:.2f} s")
    model.network.between = bool
    np.testing.assert_array_equal(model.predict(small).labels("cityscapes"), wanted[0])


@pytest.fixture
def compiled_slowly(tiny_model, tmp_path, monkeypatch):
    """An OpenVINO network that waits for `go_on` before it is compiled, and the shapes for which that began."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    export(tiny_model, tmp_path / "network.xml", "openvino", head="dense")
    model, go_on, begun = heteroseg.load(tmp_path / "network.xml"), threading.Event(), []
    compile_now = model.network._compile
    monkeypatch.setattr(model.network, "_compile", lambda s: begun.append(s) or (go_on.wait(60), compile_now(s))[1])
    yield model, go_on, begun
    go_on.set()


def test_a_compilation_is_left_to_the_next(compiled_slowly):
    """Nothing ends one of OpenVINO, so that who may wait no longer goes."""
    model, go_on, begun = compiled_slowly
    model.network.between = stop
    for _ in range(2):
        with pytest.raises(StoppedError):
            model.predict(np.zeros((64, 96, 3), np.uint8))
    go_on.set()
    model.network.between = None
    assert model.predict(np.zeros((64, 96, 3), np.uint8)).labels("cityscapes").shape == (64, 96)
    assert len(begun) == 1


def test_a_signal_comes_through_amid_a_compilation(compiled_slowly):
    model, *_ = compiled_slowly
    threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,)).start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.predict(np.zeros((64, 96, 3), np.uint8))
    finally:
        signal.signal(signal.SIGINT, before)
