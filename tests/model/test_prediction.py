"""What a prediction says by name, and a list of images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import heteroseg
from heteroseg import load
from heteroseg.cli.main import main
from heteroseg.decisions.reference import RULES
from heteroseg.errors import HeterosegError
from heteroseg.scenes import draw_scene


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return heteroseg.load(tiny_model_folder, device="auto")


@pytest.fixture(scope="module")
def prediction(model):
    return model.predict(draw_scene(np.random.default_rng(3), (64, 96)).image)


def test_masks_are_the_answers_by_name(model, prediction):
    for space in model.spaces.values():
        ids = np.asarray(prediction.labels(space))
        for label in space.labels:
            if not label.ignore:
                assert np.array_equal(prediction.mask(label.name, space.name), ids == label.id)
    leaves = sum(prediction.mask(name).astype(int) for name in prediction.names())
    assert leaves.min() == leaves.max() == 1
    tree = model.taxonomy
    for node in (n for n in range(len(tree)) if tree.children[n]):
        below = [n for n in prediction.names() if node in tree.path(tree.index(n))]
        wanted = np.any([np.zeros(prediction.size, bool), *(prediction.mask(n) for n in below)], axis=0)
        assert np.array_equal(prediction.mask(tree.names[node]), wanted)


def test_names_are_those_with_pixels_the_largest_first(prediction):
    names = prediction.names("cityscapes")
    sizes = [prediction.mask(name, "cityscapes").sum() for name in names]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > 0


@pytest.mark.parametrize("ask", [lambda p: p.labels("cityscapes"), lambda p: p.nodes(), lambda p: p.nodes(0.5),
                                 lambda p: p.label_indices("gtsdb"), lambda p: p.labels("gtsdb")[:9]])  # fmt: skip
@pytest.mark.parametrize("name", ["car", np.str_("car"), np.array(["car", "road"])])
def test_a_comparison_with_a_name_never_passes_silently(prediction, ask, name):
    found = ask(prediction)
    for compare in (lambda: found == name, lambda: found != name, lambda: name == found):
        with pytest.raises(HeterosegError, match=r"prediction\.mask"):
            compare()
    assert (found == int(found[0, 0])).any()
    assert torch.from_numpy(found).shape == found.shape


def test_names_that_say_nothing_are_told(model, prediction):
    with pytest.raises(HeterosegError, match="found 'cra'; did you mean 'car'"):
        prediction.mask("cra")
    with pytest.raises(HeterosegError, match="found 'sky'"):
        prediction.mask("sky", "gtsdb")
    names = [{label.name: label.leaves for label in s.labels} for s in model.spaces.values()]
    twice = [n for n in names[0] if n in names[1] and names[0][n] != names[1][n] and n not in model.taxonomy.names]
    for name in twice:
        with pytest.raises(HeterosegError, match="different meanings in 'cityscapes' and 'vistas'"):
            prediction.mask(name)


def test_lists(model, monkeypatch, tmp_path):
    images = [draw_scene(np.random.default_rng(i), (64, 96)).image for i in range(3)]
    images.insert(2, images[0][:40])
    each = [model.predict(image) for image in images]
    for together in (model.predict(images), model.predict(tuple(images))):
        assert [p.size for p in together] == [p.size for p in each] == [(64, 96), (64, 96), (40, 96), (64, 96)]
        assert all(torch.equal(a.logits, b.logits) for a, b in zip(together, each, strict=True))
    for one, other in zip(
        model._predict([(image, None) for image in images[:2]]), each[:2], strict=True
    ):  # as on a GPU
        assert torch.allclose(one.logits, other.logits, atol=1e-4)
    assert model.predict([]) == []
    with pytest.raises(HeterosegError, match="found int"):
        model.predict([images[0], 3])


@pytest.mark.parametrize("rule", RULES)
def test_a_mean_of_few_pixels_comes_near_that_of_all(model, rule):
    said = replace(model, decision=rule).predict(draw_scene(np.random.default_rng(1), (250, 330)).image)
    assert said.mean_confidence("gtsdb") == pytest.approx(said.confidence("gtsdb").mean(), abs=0.01)
    assert 0 < model.predict(np.zeros((3, 5, 3), np.uint8)).mean_confidence("gtsdb") <= 1


def test_what_is_shown(model, prediction):
    assert repr(model) == f"Model('tiny', {model.config.backbone}, 107 leaves, cityscapes, vistas, gtsdb)"
    assert repr(prediction) == f"Prediction(64x96 pixels, by {model!r})"
    assert dir(heteroseg) == sorted([*heteroseg.__all__, "__version__"])


def test_the_picture_has_the_image_and_a_legend(tiny_model):
    image = np.full((48, 64, 3), 120, np.uint8)
    prediction = tiny_model.predict(image)
    shown = prediction.overlay("gtsdb")
    assert (shown.mode, shown.width, shown.height > 48) == ("RGB", 64, True)
    assert np.array_equal(np.asarray(prediction.overlay()), np.asarray(prediction.overlay("leaves")))


@pytest.mark.parametrize("name", ["photo.jpg", "grey.png"])
def test_saved_files_are_those_of_the_command(tiny_model, tiny_model_folder, tmp_path, name):
    photo = tmp_path / name
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (48, 64, 3)[: 2 if name == "grey.png" else 3], np.uint8)).save(photo)
    for space in ("leaves", "gtsdb"):
        own, commands = tmp_path / f"own {space}", tmp_path / f"commands {space}"
        words = ["predict", str(tiny_model_folder), str(photo), "--out", str(commands), "--overlay", "--labels", space]
        assert main(words) == 0
        ids = load(tiny_model_folder).predict(photo).save(own, space)
        assert ids == own / f"{photo.stem}.png"
        files = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in (own, commands)]
        assert files[0] == files[1]
        assert len(files[0]) == 3
        assert load(tiny_model_folder).predict(photo).save(commands, space).parent == commands  # which is there


def test_files_of_another_prediction_stay(tiny_model, tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    first = tiny_model.predict(image)
    assert first.save(tmp_path, "gtsdb").name == "image.png"
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert first.save(tmp_path, "gtsdb", overlay=False).name == "image.png"
    with pytest.raises(HeterosegError, match=r"image\.json: was predicted before this input was changed"):
        tiny_model.predict(image + 1).save(tmp_path, "gtsdb")
    with pytest.raises(HeterosegError, match="in label space 'gtsdb', now 'leaves' is asked for"):
        first.save(tmp_path)
    with pytest.raises(HeterosegError, match=r"was predicted with other views, --tta"):
        tiny_model.predict(image, tta="flip").save(tmp_path, "gtsdb")
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(HeterosegError, match=r"mine\.png: stands there already"):
        first.save(tmp_path, name="mine")
    for name in ("../x", "a/b", "/x", ".."):
        with pytest.raises(HeterosegError):
            first.save(tmp_path / "new", name=name)
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert after == before | {"mine.png": b"mine"}
