"""Several threads ask one model at once and get the answers that one thread gets."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import heteroseg
from heteroseg.export.export import ENDINGS, export
from heteroseg.export.random_model import scenes
from heteroseg.model.exported import SIZES

THREADS = 8


@pytest.mark.parametrize("head", ["dense", "lazy"])
@pytest.mark.parametrize("runtime", ["torch", "onnx", "openvino"])
def test_eight_threads_get_the_answers_of_one(tiny_model, tiny_model_folder, tmp_path, runtime, head):
    """Images of one size and of more sizes than are compiled; nothing is compiled when the threads begin."""
    path = tiny_model_folder
    if runtime != "torch":
        pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime), reason="an extra is not installed")
        path = tmp_path / f"network{ENDINGS[runtime]}"
        export(tiny_model, path, runtime, head=head)
    images = [np.roll(scenes(1, (64, 96))[0], 7 * i, axis=1) for i in range(24)]
    images += [scenes(1, (40 + 32 * i, 50))[0] for i in range(2 * SIZES)]
    alone = heteroseg.load(path)
    wanted = [alone.predict(image).labels("cityscapes") for image in images]
    together = heteroseg.load(path)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda image: together.predict(image).labels("cityscapes"), images))
    wrong = [i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if (a != b).mean() > 1e-3]
    assert not wrong, f"{len(wrong)} of {len(images)} answers are another's"
