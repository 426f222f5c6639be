"""Predictions as result files: what cityscapesScripts, the code of the server, finds and accepts."""

import cv2
import numpy as np
import pytest

from heteroseg.datasets import list_items, read_image
from heteroseg.inference.files import predict_files


@pytest.fixture(scope="module")
def results(tiny_data, tiny_model, tmp_path_factory):
    """Two images under Cityscapes' names in the folders of their cities, and their predictions with overlays."""
    images, out = tmp_path_factory.mktemp("test"), tmp_path_factory.mktemp("results")
    names = ("berlin/berlin_000000_000019", "bonn/bonn_000031_000019")
    for name, item in zip(names, list_items("cityscapes", tiny_data / "cityscapes", "val"), strict=False):
        path = images / f"{name}_leftImg8bit.png"
        path.parent.mkdir()
        assert cv2.imwrite(str(path), read_image(item.image)[..., ::-1])
    predict_files(tiny_model, [images], out, tiny_model.space("cityscapes"), with_overlay=True)
    return out


def test_cityscapes_scripts_find_one_prediction_for_each_image(results):
    pytest.importorskip("cityscapesscripts", reason="cityscapesScripts, of the extra dev, is not installed")
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
    from cityscapesscripts.helpers.labels import id2label

    args = official.CArgs()
    args.predictionPath, args.predictionWalk = str(results), None
    for city, name in (("berlin", "berlin_000000_000019"), ("bonn", "bonn_000031_000019")):
        path = official.getPrediction(args, f"gtFine/test/{city}/{name}_gtFine_labelIds.png")
        assert path == str(results / city / f"{name}_leftImg8bit.png")
        ids = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        assert (ids.dtype, ids.shape) == (np.uint8, (64, 128))
        assert set(np.unique(ids).tolist()) <= set(id2label)
        assert len(np.unique(ids)) > 1
