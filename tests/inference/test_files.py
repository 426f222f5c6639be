"""Predictions for arrays, files, folders and videos: ids, sizes, names, and going on where a run was stopped."""

import json
import shutil
import threading
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from heteroseg import load
from heteroseg.errors import HeterosegError
from heteroseg.inference import files
from heteroseg.inference.files import list_jobs, predict_files
from heteroseg.labels.space import own_space
from heteroseg.model.answer_files import count_labels, encode_ids, summary
from heteroseg.model.model import Model
from heteroseg.scenes import draw_scene

ODD = (37, 53)


def scene(seed: int, size: tuple[int, int] = ODD) -> np.ndarray:
    return draw_scene(np.random.default_rng(seed), size).image


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of all kinds of images: colour, grey, with alpha, of odd sizes, one in a subfolder."""
    root = tmp_path_factory.mktemp("images")
    save(root / "color.jpg", scene(1, (64, 96)))
    save(root / "grey.png", scene(2)[..., 0])
    save(root / "sub" / "alpha.one.png", np.dstack([scene(3), np.full(ODD, 100, np.uint8)]))
    save(root / "sub" / "small.ppm", scene(4)[:5, :7])
    (root / "notes.txt").write_text("no image")
    return root


SIZES = {"color": (64, 96), "grey": ODD, "sub/alpha.one": ODD, "sub/small": (5, 7)}


@pytest.fixture
def calls(monkeypatch) -> list:
    """Every call of Model.predict, as it happens."""
    made: list = []
    predict = Model.predict

    def counted(self, image):
        made.append(image)
        return predict(self, image)

    monkeypatch.setattr(Model, "predict", counted)
    return made


def test_a_folder_keeps_names_sizes_and_structure(tiny_model, images, tmp_path):
    space = tiny_model.spaces["cityscapes"]
    assert predict_files(tiny_model, [images], tmp_path / "out", space, with_overlay=True) == 4
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert written == {f"{name}{e}" for name in SIZES for e in (".png", ".json", "_overlay.jpg")}
    for name, size in SIZES.items():
        ids = read(tmp_path / "out" / f"{name}.png")
        assert ids.shape == size
        assert ids.dtype == np.uint8
        assert set(np.unique(ids)) <= {*space.ids.tolist(), space.outside}
        found = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert found["label_space"] == "cityscapes"
        assert found["size"] == list(size)
        assert found["outside"] + sum(v["pixels"] for v in found["labels"].values()) == ids.size
        shares = sum(v["share"] for v in found["labels"].values()) + found["outside"] / ids.size
        assert shares == pytest.approx(1, abs=1e-4)
        for label in found["labels"].values():
            if label["id"] != space.outside:
                assert label["pixels"] == (ids == label["id"]).sum()
        picture = read(tmp_path / "out" / f"{name}_overlay.jpg")
        assert picture.shape[1] == size[1]
        assert picture.shape[0] > size[0]  # the legend stands below the image


def test_files_say_what_the_model_says(tiny_model, images, tmp_path):
    path = images / "sub" / "alpha.one.png"
    predict_files(tiny_model, [path], tmp_path, own_space(tiny_model.taxonomy))
    ids = read(tmp_path / "alpha.one.png")
    assert len(np.unique(ids)) > 3
    assert np.array_equal(ids, tiny_model.predict(path).labels("leaves"))


def test_large_ids_take_16_bits(tiny_model, images, tmp_path):
    space = tiny_model.spaces["gtsdb"]
    predict_files(tiny_model, [images / "color.jpg"], tmp_path, space)
    assert read(tmp_path / "color.png").dtype == np.uint16
    positions = np.arange(-1, len(space.labels)).reshape(2, -1)
    (tmp_path / "all.png").write_bytes(encode_ids(positions, space))
    ids = read(tmp_path / "all.png").ravel()
    assert ids.tolist() == [0, 0, *range(2000, 2044)]  # outside, unlabelled, the types, unknown


def test_what_was_found(tiny_model):
    space = tiny_model.spaces["cityscapes"]
    road, sky = (next(i for i, label in enumerate(space.labels) if label.name == n) for n in ("road", "sky"))
    positions = np.array([[road, sky, sky, -1], [sky, sky, road, -1]])
    assert summary(count_labels(positions, space), space, positions.shape) == {
        "label_space": "cityscapes",
        "size": [2, 4],
        "frames": 1,
        "outside": 2,
        "labels": {"sky": {"id": 23, "pixels": 4, "share": 0.5}, "road": {"id": 7, "pixels": 2, "share": 0.25}},
    }


def state(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_second_run_keeps_what_is_there(tiny_model, images, tmp_path, calls):
    space = tiny_model.spaces["cityscapes"]
    predict_files(tiny_model, [images], tmp_path, space)
    assert len(calls) == 4
    before = state(tmp_path)
    told = []
    assert predict_files(tiny_model, [images], tmp_path, space, progress=lambda job, done: told.append(done)) == 4
    assert len(calls) == 4
    assert told == [True] * 4
    assert state(tmp_path) == before


def test_a_half_done_folder_is_completed(tiny_model, images, tmp_path, calls, monkeypatch):
    space = tiny_model.spaces["cityscapes"]
    with monkeypatch.context() as patch:
        patch.setattr("heteroseg.model.answer_files.write_json", stop_at_the_second := StopAt(2))
        with pytest.raises(KeyboardInterrupt):
            predict_files(tiny_model, [images], tmp_path, space)
    assert stop_at_the_second.count == 2
    assert len(calls) == 3  # the network goes on while an answer is written
    assert not list(tmp_path.rglob(".part-*"))
    predict_files(tiny_model, [images], tmp_path, space)
    assert len(calls) == 3 + 3  # the first one was done
    assert len(list(tmp_path.rglob("*.json"))) == 4


class StopAt:
    """write_json that is interrupted when it is called for the n-th time."""

    def __init__(self, n: int):
        self.n, self.count = n, 0

    def __call__(self, path: Path, data: dict) -> None:
        self.count += 1
        if self.count == self.n:
            raise KeyboardInterrupt
        path.write_text(json.dumps(data))


def test_reading_network_and_writing_overlap(tiny_model, images, tmp_path, monkeypatch):
    """Each of the three waits for another one to be at another image; what comes out is the same, in the same order."""
    space, told, waited = tiny_model.spaces["cityscapes"], [], []
    inputs = [images / name for name in ("color.jpg", "grey.png", "sub/small.ppm")]
    predict_files(tiny_model, inputs, tmp_path / "alone", space, with_overlay=True)
    seen = {name: threading.Event() for name in ("second read", "second answered")}
    read, answer, write = files.read_image, Model.predict, files.write_answer

    def reading(path, upright):
        if path == inputs[1]:
            seen["second read"].set()
        return read(path, upright)

    def answering(self, image):
        if image.shape[:2] == SIZES["color"]:
            waited.append(seen["second read"].wait(60))
        else:
            seen["second answered"].set()
        return answer(self, image)

    def writing(out, *given):
        if out.ids.name == "color.png":
            waited.append(seen["second answered"].wait(60))
        write(out, *given)

    monkeypatch.setattr(files, "read_image", reading)
    monkeypatch.setattr(files, "write_answer", writing)
    monkeypatch.setattr(Model, "predict", answering)
    predict_files(tiny_model, inputs, tmp_path / "out", space, True, lambda job, done: told.append(job.source))
    assert waited == [True, True]
    assert told == inputs
    for file in (tmp_path / "alone").iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", [".", "grey.png"])
def test_a_full_disk_ends_the_work_before_the_next_image(tiny_model, images, tmp_path, monkeypatch, name):
    def full(out, *given):
        raise OSError(28, "No space left on device", str(out.ids))

    monkeypatch.setattr(files, "write_answer", full)
    space, told = tiny_model.space("leaves"), []
    with pytest.raises(OSError, match="No space left"):
        predict_files(tiny_model, [images / name], tmp_path, space, progress=lambda job, done: told.append(job))
    assert len(told) <= 2


def test_what_was_removed_or_is_newly_wanted_is_worked_out(tiny_model, images, tmp_path, calls):
    space = tiny_model.spaces["cityscapes"]
    inputs = [images / "grey.png"]
    for ending in (".json", ".png"):
        predict_files(tiny_model, inputs, tmp_path, space)
        (tmp_path / f"grey{ending}").unlink()
        if ending == ".json":  # a label map that nothing says to be ours may be somebody's work
            with pytest.raises(HeterosegError, match=r"grey\.png: stands there already; no grey\.json says"):
                predict_files(tiny_model, inputs, tmp_path, space)
            (tmp_path / "grey.png").unlink()
    predict_files(tiny_model, inputs, tmp_path, space)
    assert len(calls) == 3
    predict_files(tiny_model, inputs, tmp_path, space, with_overlay=True)
    assert len(calls) == 4
    assert (tmp_path / "grey_overlay.jpg").exists()


def test_label_spaces_are_not_mixed_in_a_folder(tiny_model, images, tmp_path, calls):
    predict_files(tiny_model, [images / "grey.png"], tmp_path, tiny_model.spaces["cityscapes"])
    before = state(tmp_path)
    with pytest.raises(HeterosegError, match=r"grey\.json: was predicted in label space 'cityscapes', now 'vistas'"):
        predict_files(tiny_model, [images / "grey.png"], tmp_path, tiny_model.spaces["vistas"])
    assert state(tmp_path) == before
    assert len(calls) == 1


def test_answers_of_another_labelling_are_not_kept(tiny_model, images, tmp_path, calls):
    """The name of a label space says little: what decides an answer is compared, before anything is written."""
    text = "name: mine\ntaxonomy: streets-108\nlabels:"
    text += " [{{id: 1, name: up, nodes: sky}}, {{id: {}, name: down, nodes: road}}]"
    yaml, picture, out = tmp_path / "mine.yaml", tmp_path / "in" / "b.png", tmp_path / "out"
    save(tmp_path / "in" / "a.png", scene(1))
    save(picture, scene(2))

    def predict(model=tiny_model):
        return predict_files(model, [tmp_path / "in"], out, model.space(str(yaml)))

    yaml.write_text(text.format(2))
    predict()
    before = state(out)
    (out / "a.json").rename(tmp_path / "a.json")
    (out / "a.png").rename(tmp_path / "a.png")
    yaml.write_text(text.format(3))
    with pytest.raises(HeterosegError, match=r"b\.json: was predicted before label space 'mine' or its taxonomy was"):
        predict()
    yaml.write_text(text.format(2) + "\ndescription: what it says stays")
    with pytest.raises(HeterosegError, match=r"by the decision 'marginal', now it is 'path'; choose another --out, or"):
        predict(replace(tiny_model, decision="path"))
    old = json.loads((out / "b.json").read_text())
    (out / "b.json").write_text(json.dumps(old | {"rule": 1}))
    with pytest.raises(HeterosegError, match="by another version of heteroseg"):
        predict()
    (out / "b.json").write_text(json.dumps(old))
    save(picture, scene(3))
    with pytest.raises(HeterosegError, match=r"b\.json: was predicted before this input was changed"):
        predict()
    save(picture, scene(2))
    assert len(calls) == 2
    assert not (out / "a.png").exists()  # refused as a whole
    predict()
    assert len(calls) == 3
    assert state(out).keys() == before.keys()


def test_models_are_not_mixed_in_a_folder(tiny_model, images, tmp_path, calls):
    space = tiny_model.spaces["cityscapes"]
    predict_files(tiny_model, [images / "grey.png"], tmp_path, space)
    other = replace(tiny_model, network=deepcopy(tiny_model.network))
    predict_files(other, [images / "grey.png"], tmp_path, space)  # a copy of the same weights is the same model
    with torch.no_grad():
        next(other.network.parameters()).add_(1e-3)
    changed = replace(other)
    with pytest.raises(HeterosegError, match=r"grey\.json: was predicted by a model with other weights"):
        predict_files(changed, [images / "grey.png"], tmp_path, space)


@pytest.mark.parametrize("text", ["[]", "{}", "not JSON"])
def test_a_json_of_somebody_else_is_not_touched(tiny_model, images, tmp_path, text):
    (tmp_path / "grey.json").write_text(text)
    with pytest.raises(HeterosegError, match=r"grey\.json: expected a file of an earlier prediction"):
        predict_files(tiny_model, [images / "grey.png"], tmp_path, tiny_model.spaces["vistas"])
    assert (tmp_path / "grey.json").read_text() == text


def test_inputs_that_would_be_written_to_one_file(tmp_path):
    for name in ("one/a.png", "one/a.jpg", "two/a.png"):
        save(tmp_path / name, scene(0))
    for inputs in (["one"], ["one/a.png", "two/a.png"], ["one/a.jpg", "two"]):
        with pytest.raises(HeterosegError, match=r"would both be written to .*a\.png; give them in two runs"):
            list_jobs([tmp_path / i for i in inputs], tmp_path / "out")
    assert len(list_jobs([tmp_path / "two", tmp_path / "two" / "a.png"], tmp_path / "out")) == 1  # the same file twice


def test_no_prediction_replaces_an_input(tiny_model, tmp_path):
    save(tmp_path / "a.png", scene(0))
    with pytest.raises(HeterosegError, match=r"a\.png: a prediction would replace this input"):
        list_jobs([tmp_path / "a.png"], tmp_path)
    with pytest.raises(HeterosegError, match="is the folder of the inputs"):
        list_jobs([tmp_path], tmp_path / "." / "sub" / "..")
    save(tmp_path / "b.jpg", scene(0))
    predict_files(tiny_model, [tmp_path / "b.jpg"], tmp_path, tiny_model.spaces["cityscapes"])
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "b.jpg", "b.png", "b.json"}


def test_earlier_predictions_inside_the_folder_are_no_inputs(tmp_path, monkeypatch):
    save(tmp_path / "in" / "a.jpg", scene(0))
    save(tmp_path / "in" / "out" / "a.png", scene(0))
    monkeypatch.chdir(tmp_path)
    for inputs, out in (("in", "in/out"), (tmp_path / "in", "in/out"), ("in", tmp_path / "in" / "out")):
        assert [job.source.name for job in list_jobs([inputs], Path(out))] == ["a.jpg"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "expected an image, a video or a folder, found no such file"),
        ("text.txt", "expected an image or a video, found the ending '.txt'"),
        ("noending", r"expected an image or a video, found the ending '\(none\)'"),
        ("empty", "expected images or videos in this folder, found none"),
    ],
)
def test_inputs_that_are_none(tmp_path, name, said):
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "noending").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HeterosegError, match=f"{name}: {said}"):
        list_jobs([tmp_path / name], tmp_path / "out")


@pytest.mark.parametrize("name", ["text.jpg", "text.png", "text.mp4"])
def test_text_under_the_name_of_a_picture(tiny_model, tmp_path, name):
    if name.endswith(".mp4"):
        pytest.importorskip("av")
    (tmp_path / name).write_text("no picture at all\n" * 9)
    with pytest.raises(HeterosegError, match=rf"{name}: expected an? (image|video), found a file that") as error:
        predict_files(tiny_model, [tmp_path / name], tmp_path / "out", tiny_model.spaces["vistas"], with_overlay=True)
    assert "\n" not in str(error.value)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != name]


def test_a_video(tiny_model, tmp_path, calls):
    pytest.importorskip("av")
    source = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no mp4v")
    for i in range(3):
        writer.write(scene(i, (48, 64)))
    writer.release()
    space, out = tiny_model.spaces["cityscapes"], tmp_path / "out"
    assert predict_files(tiny_model, [source], out, space, with_overlay=True) == 1
    frames = sorted((out / "drive").iterdir())
    assert [f.name for f in frames] == ["000000.png", "000001.png", "000002.png"]
    assert all(read(f).shape == (48, 64) for f in frames)
    found = json.loads((out / "drive.json").read_text())
    assert found["frames"] == 3
    assert found["size"] == [48, 64]
    assert found["outside"] + sum(v["pixels"] for v in found["labels"].values()) == 3 * 48 * 64
    painted = cv2.VideoCapture(str(out / "drive_overlay.webm"))
    shapes = []
    while (step := painted.read())[0]:
        shapes.append(step[1].shape)
    assert shapes == [(48, 64, 3)] * 3
    assert painted.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    predict_files(tiny_model, [source], out, space, with_overlay=True)
    assert len(calls) == 3


# ---- Prediction ----


@pytest.fixture(scope="module")
def prediction(tiny_model):
    return tiny_model.predict(scene(7))


@pytest.mark.parametrize("name", ["cityscapes", "vistas", "gtsdb", "leaves"])
def test_labels_are_the_native_ids_of_positions(tiny_model, prediction, name):
    space = tiny_model.space(name)
    positions, ids = prediction.label_indices(name), prediction.labels(name)
    assert ids.shape == positions.shape == ODD
    assert ids.dtype == np.int64
    for position in np.unique(positions).tolist():
        expected = space.outside if position < 0 else space.labels[position].id
        assert (ids[positions == position] == expected).all()
    assert np.array_equal(ids, prediction.labels(space))


def test_the_models_own_labels_are_its_likeliest_leaves(tiny_model, prediction):
    tree = tiny_model.taxonomy
    best = np.stack([prediction.probs(tree.names[leaf]) for leaf in tree.leaves]).argmax(0)
    assert len(np.unique(best)) > 5
    assert np.array_equal(prediction.labels("leaves"), best + 1)
    assert own_space(tree).ids.tolist() == list(range(1, len(tree.leaves) + 1))


def test_nodes_are_leaves(tiny_model, prediction):
    nodes = prediction.nodes()
    assert nodes.shape == ODD
    assert set(np.unique(nodes)) <= set(tiny_model.taxonomy.leaves)


def test_a_probability_is_the_sum_over_its_children(tiny_model, prediction):
    tree = tiny_model.taxonomy
    assert np.abs(prediction.probs("root") - 1).max() < 1e-5
    inner = [n for n in range(len(tree)) if tree.children[n]]
    for node in (inner[1], inner[-1], max(inner, key=tree.depths.__getitem__)):
        parts = sum(prediction.probs(tree.names[c]) for c in tree.children[node])
        whole = prediction.probs(tree.names[node])
        assert whole.shape == ODD
        assert np.abs(whole - parts).max() < 1e-5
    with pytest.raises(HeterosegError, match="has no node 'raod'; did you mean 'road'"):
        prediction.probs("raod")


def test_arrays_and_files_give_the_same(tiny_model, tmp_path):
    image = scene(8)
    path = save(tmp_path / "a.png", image[..., ::-1])
    expected = tiny_model.predict(image).labels("vistas")
    assert np.array_equal(tiny_model.predict(path).labels("vistas"), expected)
    assert np.array_equal(tiny_model.predict(str(path)).labels("vistas"), expected)
    grey = image[..., 0]
    same = tiny_model.predict(np.dstack([grey] * 3)).labels("vistas")
    assert np.array_equal(tiny_model.predict(grey).labels("vistas"), same)
    for wrong in (image.astype(np.float32), image[..., :2], image[None]):
        with pytest.raises(HeterosegError, match=r"expected an RGB image \(H, W, 3\) of uint8"):
            tiny_model.predict(wrong)


def test_a_label_space_of_the_users_own(tiny_model, prediction, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ntaxonomy: streets-108\nlabels:\n"
        "  - {id: 3, name: up, nodes: sky}\n  - {id: 300, name: down, nodes: road}\n"
    )
    ids = prediction.labels(tiny_model.space(str(path)))
    assert set(np.unique(ids)) <= {3, 300, 255}
    assert 255 in ids


@pytest.mark.parametrize(("name", "near"), [("cityscape", "cityscapes"), ("leavs", "leaves")])
def test_an_unknown_label_space(tiny_model, name, near):
    with pytest.raises(HeterosegError, match=rf"no label space '{name}'; did you mean '{near}'\?; it has cityscapes, "):
        tiny_model.space(name)


# ---- MODEL folders ----


def test_a_model_folder_says_the_same_after_loading(tiny_model, tiny_model_folder):
    again = load(tiny_model_folder)
    assert {p.name for p in tiny_model_folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "taxonomy.yaml",
        "label_spaces",
    }
    assert list(again.spaces) == ["cityscapes", "vistas", "gtsdb"]
    assert np.array_equal(again.predict(scene(9)).labels("vistas"), tiny_model.predict(scene(9)).labels("vistas"))


def test_folders_that_are_no_model(tiny_model_folder, tmp_path):
    with pytest.raises(HeterosegError, match="found no such folder"):
        load(tmp_path / "nothing")
    with pytest.raises(HeterosegError, match="found another folder"):
        load(tmp_path)
    for name, content, said in (
        ("config.json", "{", "not valid JSON, .*; it is cut off or damaged"),
        ("config.json", "[" * 100_000, "not valid JSON, .*; it is cut off or damaged"),
        ("config.json", '{"name": "x", "label_spaces": []}', "model: expected a value, found none"),
        ("taxonomy.yaml", "name: x\ntree: {root: [" + "&a [x, x, x], " * 2, "not valid YAML"),
        ("model.safetensors", "short", "not the weights of this network"),
        ("taxonomy.yaml", None, "cannot be read"),
        ("label_spaces/vistas.yaml", None, "cannot be read"),
    ):
        folder = tmp_path / "broken"
        shutil.copytree(tiny_model_folder, folder)
        (folder / name).unlink() if content is None else (folder / name).write_text(content)
        with pytest.raises(HeterosegError, match=said) as error:
            load(folder)
        assert "\n" not in str(error.value)
        assert str(folder / name) in str(error.value)
        shutil.rmtree(folder)
