"""Several views of an image (`--tta`): the mean of the tree's probabilities, worked out a second time here."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import heteroseg
from heteroseg.cli.main import main
from heteroseg.datasets.encoding import write_image
from heteroseg.decisions.reference import back_off, label_map, leaf_probs, log_probs, upsample
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.export.export import export
from heteroseg.inference.files import predict_files
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model import views as module
from heteroseg.model.model import Model
from heteroseg.model.views import views_of, views_text
from heteroseg.networks.network import build_network
from heteroseg.scenes import draw_scene
from tests.decisions.test_back_off import TREES
from tests.networks.test_branches import TINY_RESNET

ODD = (61, 90)  # no multiple of anything
VIEWS = "0.6,1,1.3,flip"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return draw_scene(np.random.default_rng(3), ODD).image


def other(void: bool, branches: list[str]) -> Model:
    config = ModelConfig(
        backbone="hf:resnet", backbone_options=TINY_RESNET, width=16, void=void, branches=branches, scale=0.5, stride=8
    )
    tree = load_taxonomy("streets-108", void=void)
    torch.manual_seed(1)
    return Model("other", build_network(config, tree), tree, {}, config)


def mean_by_hand(model: Model, image: np.ndarray, views: str, at: list[tuple[float, float]]) -> np.ndarray:
    """(points, leaves) mean over the views of the probabilities at points (x, y) of the image, each in float64."""
    found = []
    for scale in [float(part) for part in views.split(",") if part != "flip"]:
        size = [round(side * scale) for side in image.shape[:2]]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        view = image if scale == 1 else cv2.resize(image, size[::-1], interpolation=how)
        for mirrored in [False, True] if "flip" in views else [False]:
            alone = model.predict(view[:, ::-1].copy() if mirrored else view, tta=False)
            logits, covers = alone.logits[0].double().numpy(), alone.covers
            points = []
            for x, y in at:
                x, y = (x - image.shape[1]) * -1 if mirrored else x, y
                column = x * size[1] / image.shape[1] * logits.shape[2] / covers[1] - 0.5
                row = y * size[0] / image.shape[0] * logits.shape[1] / covers[0] - 0.5
                column, row = np.clip(column, 0, logits.shape[2] - 1), np.clip(row, 0, logits.shape[1] - 1)
                c, r = min(int(column), logits.shape[2] - 2), min(int(row), logits.shape[1] - 2)
                square = logits[:, r : r + 2, c : c + 2]
                across = square[..., 0] * (1 - column + c) + square[..., 1] * (column - c)
                points.append(across[:, 0] * (1 - row + r) + across[:, 1] * (row - r))
            z = torch.from_numpy(np.stack(points, 1))[None, :, None]
            found.append(leaf_probs(z, model.taxonomy)[0, :, 0].T.numpy())
    return np.mean(found, 0)


@pytest.mark.parametrize("views", [VIEWS, "1,flip", "0.5", "2,0.7"])
@pytest.mark.parametrize("kind", ["tiny", "void", "branches"])
def test_the_mean_of_all_views(tiny_model, image, views, kind):
    model = {"tiny": lambda: tiny_model, "void": lambda: other(True, []), "branches": lambda: other(False, ["rider"])}
    model = model[kind]()
    prediction = model.predict(image, tta=views)
    h, w = prediction.logits.shape[2:]
    rng = np.random.default_rng(0)
    cells = [(int(rng.integers(h)), int(rng.integers(w))) for _ in range(40)] + [(0, 0), (h - 1, w - 1), (0, w - 1)]
    at = [((c + 0.5) * prediction.covers[1] / w, (r + 0.5) * prediction.covers[0] / h) for r, c in cells]
    expected = mean_by_hand(model, image, views, at)
    found = leaf_probs(prediction.logits, model.taxonomy)[0]
    for (r, c), probs in zip(cells, expected, strict=True):
        assert np.abs(found[:, r, c].numpy() - probs).max() < 2e-5
    alone = model.predict(image)
    assert prediction.size == alone.size
    assert not torch.equal(prediction.logits, alone.logits)


@pytest.mark.parametrize("rule", ["path", "marginal"])
def test_decisions_on_the_mean_are_those_of_the_reference(tiny_model, image, rule):
    model = Model("m", tiny_model.network, tiny_model.taxonomy, tiny_model.spaces, tiny_model.config, rule, tta=VIEWS)
    prediction = model.predict(image)
    z = upsample(prediction.logits, prediction.covers, (0, ODD[0]), ODD[1])
    for space in model.spaces.values():
        assert np.array_equal(np.asarray(prediction.label_indices(space)), label_map(z, space, rule)[0])
    assert np.array_equal(np.asarray(prediction.nodes(0.6)), back_off(z, model.taxonomy, 0.6)[0])
    assert not np.array_equal(
        np.asarray(prediction.label_indices("vistas")), model.predict(image, tta=False).label_indices("vistas")
    )


def test_a_mirrored_image_has_the_mirrored_answer(tiny_model):
    picture = draw_scene(np.random.default_rng(5), (64, 128)).image  # whole cells, so that nothing is padded
    one = tiny_model.predict(picture, tta=["flip"])
    two = tiny_model.predict(picture[:, ::-1], tta=[1, "flip"])
    for node in ("car", "road", "traffic sign"):
        assert np.abs(one.probs(node) - two.probs(node)[:, ::-1]).max() < 1e-5


@pytest.mark.parametrize("tree", TREES, ids=["small", "streets-real", "void"])
def test_logs_of_probabilities_are_logits_of_the_same_tree(tree):
    z = torch.randn(2, tree.channels, 5, 7, generator=torch.Generator().manual_seed(0)) * 4
    logs = log_probs(z, tree)
    assert torch.allclose(leaf_probs(logs, tree), leaf_probs(z, tree), atol=1e-5)
    for leaf, probs in zip(tree.leaves, leaf_probs(z, tree).unbind(1), strict=True):
        if tree.channel_of[leaf] >= 0:
            assert torch.allclose(logs[:, tree.channel_of[leaf]].exp(), probs, atol=1e-5)
    assert log_probs(z * 1e30, tree).isfinite().all()


def test_a_list_and_what_a_model_does_by_itself(tiny_model, image):
    model = Model("m", tiny_model.network, tiny_model.taxonomy, tiny_model.spaces, tiny_model.config, tta=True)
    first, second = model.predict([image, image[:40]])
    assert torch.equal(first.logits, tiny_model.predict(image, tta="0.75,1,1.25").logits)
    assert torch.equal(second.logits, tiny_model.predict(image[:40], "1.25, 0.75, 1").logits)
    (alone,) = model.predict([image], tta=False)
    assert torch.equal(alone.logits, tiny_model.predict(image).logits)


@pytest.mark.parametrize(
    ("tta", "text"),
    [(None, ""), (False, ""), ("1", ""), ([], ""), (True, "0.75,1,1.25"), ("flip", "1,flip"),
     (["flip", 2, 1.0], "1,2,flip"), ((np.float32(0.5), "1"), "0.5,1")],
)  # fmt: skip
def test_views_by_their_text(tta, text):
    assert views_text(views_of(tta)) == text
    assert views_of(text) == views_of(tta)


@pytest.mark.parametrize(
    "tta", ["photo.jpg", "0", "-1", "nan", "inf", "1,,2", "9", 1, {"a"}, [None], [[1]], "1,flop", "1," * 20]
)
def test_other_views_are_refused(tiny_model, image, tta):
    for ask in (lambda: tiny_model.predict(image, tta=tta), lambda: replace(tiny_model, tta=tta)):
        with pytest.raises(
            HeterosegError,
            match=r"^tta: expected up to 16 scales from 0\.1 to 4, and flip, such as 0\.75,1,1\.25,flip, found ",
        ):
            ask()


def test_too_large_a_view_is_refused(tiny_model, image, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 61 * 90)
    tiny_model.predict(image, tta="0.5,flip")
    with pytest.raises(HeterosegError, match="tta: expected views of at most 5490 pixels, found 122x180"):
        tiny_model.predict(image, tta="2")


@pytest.mark.parametrize("head", ["dense", "lazy"])
def test_exported_files_too(tiny_model, image, tmp_path, head):
    pytest.importorskip("onnxruntime", reason="an extra is not installed")
    export(tiny_model, tmp_path / "a.onnx", "onnx", head=head)
    file = heteroseg.load(tmp_path / "a.onnx")
    assert torch.allclose(file.predict(image, tta=VIEWS).logits, tiny_model.predict(image, tta=VIEWS).logits, atol=1e-2)


def test_a_file_for_one_size_takes_flips_alone(tiny_model, tmp_path):
    pytest.importorskip("onnxruntime", reason="an extra is not installed")
    picture = draw_scene(np.random.default_rng(5), (64, 128)).image
    export(tiny_model, tmp_path / "a.onnx", "onnx", size=(64, 128))
    file = heteroseg.load(tmp_path / "a.onnx")
    assert torch.allclose(
        file.predict(picture, tta="flip").logits, tiny_model.predict(picture, "flip").logits, atol=1e-2
    )
    with pytest.raises(
        HeterosegError, match=r"^tta: .* for images of 64x128 alone, so it takes no scales, found 0\.5,1; take flip"
    ):
        file.predict(picture, tta="0.5,1")


def test_predict_tells_and_mixes_nothing(tiny_model, tiny_model_folder, image, tmp_path, capsys):
    write_image(tmp_path / "a.png", image)
    call = [
        "predict",
        str(tiny_model_folder),
        str(tmp_path / "a.png"),
        "--out",
        str(tmp_path / "out"),
        "--labels",
        "vistas",
    ]
    assert main([*call, "--tta", VIEWS]) == 0
    assert json.loads((tmp_path / "out" / "a.json").read_text())["tta"] == VIEWS
    written = cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, np.asarray(tiny_model.predict(image, tta=VIEWS).labels("vistas")))
    assert main([*call, "--tta", "1.30,0.6,1,flip"]) == 0  # the same views
    for views in ([], ["--tta"]):
        assert main([*call, *views]) == 2
        assert "was predicted with other views, --tta; choose another --out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["predict", "--tta", *call[1:]])
    assert f"found '{str(tiny_model_folder)[:20]}" in capsys.readouterr().err
    model = Model("m", tiny_model.network, tiny_model.taxonomy, tiny_model.spaces, tiny_model.config)
    predict_files(model, [tmp_path / "a.png"], tmp_path / "plain", model.space("vistas"))
    assert "tta" not in json.loads((tmp_path / "plain" / "a.json").read_text())


def test_evaluate_scores_the_mean(tiny_model, tiny_model_folder, tiny_experiment, tmp_path, capsys):
    call = ["evaluate", str(tiny_model_folder), "--data", str(tiny_experiment), "--limit", "1", "--json"]
    scores = []
    for views in ([], ["--tta"], ["--tta", "flip"]):
        path = Path(tmp_path, f"{len(scores)}.json")
        assert main([*call, str(path), *views]) == 0
        scores.append(json.loads(path.read_text()))
    assert ["tta" in each for each in scores] == [False, True, True]
    assert scores[1]["tta"] == "0.75,1,1.25"
    assert len({json.dumps(each["datasets"]) for each in scores}) == 3
