"""A photograph that was held on its side is answered upright, and in the same way, wherever it is read."""

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image

from heteroseg.cli.main import main
from heteroseg.curation.new_dataset import finish_dataset, items_by_path, write_item
from heteroseg.datasets import list_items, read_image, read_mask, read_sample
from heteroseg.experiment.config import Experiment, load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.export.export import calibration_images
from heteroseg.report.examples import collect_examples
from heteroseg.scenes import draw_scene

HELD = {  # by EXIF orientation: how the scene is stored
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
}


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return draw_scene(np.random.default_rng(7), (64, 96)).image


@pytest.fixture(params=HELD)
def photo(scene, request, tmp_path) -> Path:
    """The scene in a file that stores it turned."""
    stored = Image.fromarray(scene).transpose(HELD[request.param])
    exif = stored.getexif()
    exif[ExifTags.Base.Orientation] = request.param
    (tmp_path / "photos").mkdir()
    stored.save(tmp_path / "photos" / "a.png", exif=exif)
    return tmp_path / "photos" / "a.png"


def test_every_way_to_predict_gives_the_same_map(tiny_model, tiny_model_folder, scene, photo, tmp_path):
    want = tiny_model.predict(scene).labels("cityscapes")
    assert len(np.unique(want)) > 3
    np.testing.assert_array_equal(tiny_model.predict(photo).labels("cityscapes"), want)
    model = str(tiny_model_folder)
    main(["predict", model, str(photo), "--out", str(tmp_path / "out"), "--labels", "cityscapes"])
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "a.png"), want)


def test_images_as_stored(tiny_model, tiny_model_folder, photo, tmp_path, capsys):
    words = ["predict", str(tiny_model_folder), str(photo), "--out", str(tmp_path / "out"), "--labels", "cityscapes"]
    main([*words, "--as-stored"])
    want = tiny_model.predict(read_image(photo, upright=False)).labels("cityscapes")
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "a.png"), want)
    stored = cv2.imread(str(photo), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    np.testing.assert_array_equal(read_image(photo, upright=False), stored[..., ::-1])
    assert main([*words, "--as-stored"]) == 0
    assert main(words) == 2  # upright ones are not mixed with them
    assert "with images as stored: True" in capsys.readouterr().err


def test_the_endpoint_agrees(tiny_model, scene, photo):
    pytest.importorskip("fastapi", reason="the extra app is not installed")
    from fastapi.testclient import TestClient

    from heteroseg.app.bounds import Limits, Turns
    from heteroseg.app.service import build_service

    client = TestClient(build_service({"tiny": tiny_model}, Turns(Limits())), base_url="http://127.0.0.1")
    reply = client.post("/v1/predict?labels=cityscapes", content=photo.read_bytes()).json()
    answer = cv2.imdecode(np.frombuffer(base64.b64decode(reply["label_map"]), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(answer, tiny_model.predict(scene).labels("cityscapes"))


def test_a_collection_agrees(tiny_model, tiny_model_folder, scene, photo, tmp_path):
    pytest.importorskip("ray.data", reason="the extra ray is not installed")
    from heteroseg.inference.collection import Labeller

    places = (str(photo.parent), str(tmp_path / "out"))
    row = Labeller(str(tiny_model_folder), "cityscapes", *places, "cpu", 1).row(photo.name, "", "")
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out" / row["labels"]), tiny_model.predict(scene).labels("cityscapes")
    )
    stored = tiny_model.predict(read_image(photo, upright=False)).labels("cityscapes")
    Labeller(str(tiny_model_folder), "cityscapes", *places, "cpu", 1, as_stored=True).row(photo.name, "", "")
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / row["labels"]), stored)


@pytest.fixture
def experiment(tiny_model, scene, photo) -> Path:
    """An experiment whose mask, drawn on the photograph as it is seen, is what the model answers."""
    ids = tiny_model.predict(scene).labels("cityscapes")
    assert cv2.imwrite(str(photo.parent / "mask_a.png"), ids)
    path = photo.parent / "experiment.yaml"
    options = '{images: "a{name}png", masks: "mask_a{name}png"}'
    path.write_text(
        "name: held\ntaxonomy: streets-108\ndatasets:\n"
        f"  photos: {{root: ., reader: folder, label_space: cityscapes, options: {options}}}\n"
    )
    return path


def test_evaluation_reports_and_calibration_agree(tiny_model, scene, experiment):
    from heteroseg import evaluate

    sources = open_sources(*load_experiment(experiment))
    result = evaluate(tiny_model, sources)
    assert result["datasets"]["photos"]["acc"] == 1
    (example,) = collect_examples(tiny_model, sources, result, 1)
    np.testing.assert_array_equal(example.image, scene)
    np.testing.assert_array_equal(calibration_images(str(experiment), 9), [scene])


def test_frames_of_a_turned_video_are_upright(tmp_path):
    pytest.importorskip("av")
    from heteroseg.inference.video import Video

    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, :48] = 255  # the left half is white
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, (96, 64))
    for _ in range(3):
        writer.write(frame)
    writer.release()
    data, one = (tmp_path / "a.mp4").read_bytes(), (1 << 16).to_bytes(4, "big")
    plain = one + bytes(12) + one + bytes(12) + (1 << 30).to_bytes(4, "big")
    right = (
        bytes(4)
        + one
        + bytes(4)
        + (-1 << 16).to_bytes(4, "big", signed=True)
        + bytes(16)
        + (1 << 30).to_bytes(4, "big")
    )
    place = data.rindex(plain)  # the matrix of the track, behind that of the film
    (tmp_path / "b.mp4").write_bytes(data[:place] + right + data[place + len(plain) :])
    video = Video(tmp_path / "b.mp4")
    first = next(iter(video))
    assert video.size == first.shape[:2] == (96, 64)
    assert first[:40].min() > 200
    assert first[56:].max() < 60


def test_a_new_dataset_reads_its_photographs_as_the_old_one(scene, photo, tmp_path):
    """Which is only told by its options where the photograph is as wide turned as not."""
    Image.fromarray(scene[:64, :64]).save(photo, exif=Image.open(photo).getexif())
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), np.zeros((64, 64), np.uint8))
    options = {"images": "photos/{name}.png", "masks": "masks/{name}.png", "upright": "false"}
    dataset = {"root": ".", "reader": "folder", "label_space": "cityscapes", "options": options, "val": None}
    experiment = Experiment(name="e", taxonomy="streets-108", datasets={"d": dataset})
    (source,) = open_sources(experiment, tmp_path)
    said: list[str] = []
    for path, item in items_by_path(source):
        write_item(tmp_path / "new", path, item, read_sample(item).mask)
    finish_dataset(source, tmp_path / "new", source.space, said.append)
    made = yaml.safe_load("\n".join(said[-1].splitlines()[1:]))["d-refined"]
    (item,) = list_items(made["reader"], made["root"], made["train"], made["options"])
    np.testing.assert_array_equal(read_sample(item).image, scene[:64, :64])
