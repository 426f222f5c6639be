"""`data show` writes what every pixel teaches, in a format that programs rely on."""

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image

from heteroseg.cli.main import main
from tests.browser import chromium, complaints, require_whole

TREE = {
    "name": "t",
    "tree": {"root": ["ground", "sky", "object"], "ground": ["marking", "road"], "object": ["car", "sign"]},
}
TREE["tree"]["sign"] = ["stop", "yield"]
MASKS = [
    {"id": 0, "name": "void", "ignore": True},
    {"id": 1, "name": "below", "nodes": "ground"},
    {"id": 2, "name": "rest", "nodes": ["sky", "car"]},
]
SIGNS = [{"id": 7, "name": "Stop", "nodes": "stop", "shape": "disc"}, {"id": 300, "name": "Yield", "nodes": "yield"}]
AROUND = {"around_boxes": {"excludes": "sign", "margin": 0.5}}
HEIGHT, WIDTH = 30, 40


def write(root: Path, labels: list[dict], options: dict[str, str], more: dict | None = None, **files: str) -> Path:
    """An experiment of the images a and b to train and c to evaluate, and whatever `files` are given."""
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        (root / split).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (ord(name), 9, 9)).save(root / split / f"{name}.png")
    (root / "tree.yaml").write_text(yaml.safe_dump(TREE))
    space = {"name": "s", "taxonomy": "tree.yaml", "labels": labels} | (more or {})
    (root / "space.yaml").write_text(yaml.safe_dump(space))
    for name, text in files.items():
        (root / f"{name}.csv").write_text(text)
    options = {"images": "{split}/{name}.png"} | options
    dataset = {"root": ".", "reader": "folder", "label_space": "space.yaml", "options": options}
    path = root / "experiment.yaml"
    path.write_text(yaml.safe_dump({"name": "e", "taxonomy": "tree.yaml", "datasets": {"d": dataset}}))
    return path


def shown(path: Path, *options: str) -> tuple[list[dict], dict[str, dict], list[np.ndarray]]:
    """Entries of maps.json, the legend of the dataset, and the maps as Pillow reads them."""
    out = path.parent / "shown"
    assert main(["data", "show", str(path), "--out", str(out), *options]) == 0
    entries = json.loads((out / "maps.json").read_text())
    maps = [Image.open(out / entry["map"]) for entry in entries]
    assert {one.mode for one in maps} == {"I;16"}
    legend = json.loads((out / "legend.json").read_text())
    assert list(legend) == ["d"]
    return entries, legend["d"], [np.array(one).astype(int) for one in maps]


def taught(legend: dict[str, dict], numbers: np.ndarray) -> list:
    """The label and nodes of each number, row by row; None where nothing is known."""
    return [(legend[str(n)]["label"], legend[str(n)]["nodes"]) if n else None for n in numbers.ravel().tolist()]


def test_masks(tmp_path):
    path = write(tmp_path, MASKS, {"masks": "masks/{name}.png"})
    ids = np.repeat(np.array([0, 1, 2, 1], np.uint8), WIDTH // 4)[None].repeat(HEIGHT, 0)
    (tmp_path / "masks").mkdir()
    for name in "abc":
        Image.fromarray(ids).save(tmp_path / "masks" / f"{name}.png")
    entries, legend, maps = shown(path)
    assert [(e["dataset"], e["split"], e["image"]) for e in entries] == [
        ("d", split, str(tmp_path / split / f"{name}.png"))
        for split, name in (("train", "a"), ("train", "b"), ("val", "c"))
    ]
    assert {frozenset(e) for e in entries} == {frozenset({"dataset", "split", "image", "map"})}
    for one in maps:
        assert one.shape == (HEIGHT, WIDTH)
        assert taught(legend, one[3, [0, 10, 20, 39]]) == [None, below := ("below", ["ground"]), REST, below]
        assert (one > 0).tolist() == (ids > 0).tolist()


REST = ("rest", ["sky", "car"])


def test_boxes_in_their_shapes_and_what_surrounds_them(tmp_path):
    rows = "image,x1,y1,x2,y2,class_id\na,10,10,20,20,7\na,14,14,18,18,300\nc,30,10,38,18,300\n"
    path = write(tmp_path, SIGNS, {"boxes": "boxes.csv"}, AROUND, boxes=rows)
    _, legend, (a, b, c) = shown(path)
    around = ("(around boxes)", ["ground", "sky", "car"])
    points = np.array([a[y, x] for x, y in ((15, 11), (16, 16), (10, 10), (6, 10), (4, 10))])
    assert taught(legend, points) == [("Stop", ["stop"]), ("Yield", ["yield"]), around, around, None]
    assert not b.any()  # without a box nothing surrounds one
    assert taught(legend, c[14, [34, 28, 10]]) == [("Yield", ["yield"]), around, None]


def test_a_mask_speaks_before_a_box(tmp_path):
    rows = "image,x1,y1,x2,y2,class_id\na,0,0,20,10,7\n"
    labels = [*MASKS, SIGNS[0] | {"shape": "rectangle"}]
    path = write(tmp_path, labels, {"masks": "masks/{name}.png", "boxes": "boxes.csv"}, boxes=rows)
    (tmp_path / "masks").mkdir()
    for name in "abc":
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids[:, :10] = 1
        Image.fromarray(ids).save(tmp_path / "masks" / f"{name}.png")
    _, legend, (a, *_) = shown(path)
    assert taught(legend, a[5, [5, 15, 25]]) == [("below", ["ground"]), ("Stop", ["stop"]), None]


def test_tags_and_shared_boxes_are_alternatives(tmp_path):
    rows = "image,x1,y1,x2,y2,class_id\na,0,0,20,10,7\na,10,0,30,10,300\n"
    tags = "image,class_id\na,7\nb,300\nb,7\nc,7\n"
    labels = [entry | {"shape": "rectangle"} for entry in SIGNS]
    path = write(
        tmp_path, labels, {"boxes": "boxes.csv", "tags": "tags.csv"}, {"overlap": "share"}, boxes=rows, tags=tags
    )
    _, legend, (a, b, c) = shown(path)
    both = ("Stop or Yield", ["sign"])
    unsure = ("(tags) Stop", ["ground", "sky", "car", "stop"])  # if it is a sign, it is this one
    assert taught(legend, a[5, [5, 15, 25, 35]]) == [("Stop", ["stop"]), both, ("Yield", ["yield"]), unsure]
    assert {label for label, _ in taught(legend, b)} == {"(tags) Stop or Yield"}
    assert {label for label, _ in taught(legend, c)} == {"(tags) Stop"}


@pytest.mark.parametrize(("upright", "size"), [("true", (HEIGHT, WIDTH)), ("false", (WIDTH, HEIGHT))])
def test_maps_lie_as_images_are_trained(tmp_path, upright, size):
    rows = "image,x1,y1,x2,y2,class_id\na,0,0,9,4,7\nc,0,0,9,4,7\n"
    path = write(tmp_path, SIGNS, {"boxes": "boxes.csv", "upright": upright}, boxes=rows)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "train" / "a.png", exif=exif)
    _, _, (a, *_) = shown(path)
    assert a.shape == (size if upright == "true" else (WIDTH, HEIGHT))
    assert np.argwhere(a).max(0).tolist() == [3, 8]


def test_some_images_of_each_split(tmp_path):
    path = write(
        tmp_path, SIGNS, {"boxes": "boxes.csv"}, boxes="image,x1,y1,x2,y2,class_id\na,0,0,9,9,7\nc,0,0,9,9,7\n"
    )
    entries, _, _ = shown(path, "--images", "1")
    assert [entry["split"] for entry in entries] == ["train", "val"]


def test_faults_are_those_of_data_check(tmp_path, capsys):
    path = write(tmp_path, MASKS, {"masks": "masks/{name}.png"})
    (tmp_path / "masks").mkdir()
    for name, value in (("a", 1), ("b", 9), ("c", 2)):
        Image.new("L", (WIDTH, HEIGHT), value).save(tmp_path / "masks" / f"{name}.png")
    assert main(["data", "check", str(path)]) == 2
    (told,) = (line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: "))
    assert main(["data", "show", str(path), "--out", str(tmp_path / "shown")]) == 2
    assert "b.png: expected ids of label space 's', found 9" in told
    assert told in capsys.readouterr().err
    assert not (tmp_path / "shown").exists()


def test_the_page_shows_what_training_sees(tmp_path):
    """Its numbers are the labels of the crops that a training of the experiment draws, in the same order."""
    from heteroseg.experiment.config import load_experiment
    from heteroseg.experiment.sources import open_sources
    from heteroseg.training.batches import TrainingDraws

    rows = "image,x1,y1,x2,y2,class_id\na,0,0,20,10,7\n"
    labels = [*MASKS, SIGNS[0] | {"shape": "rectangle"}]
    path = write(tmp_path, labels, {"masks": "masks/{name}.png", "boxes": "boxes.csv"}, boxes=rows)
    (tmp_path / "masks").mkdir()
    for name in "abc":
        ids = np.random.default_rng(ord(name)).integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
        Image.fromarray(ids).save(tmp_path / "masks" / f"{name}.png")
    shown(path, "train.crop=[32, 64]")
    page = (tmp_path / "shown" / "data.html").read_text(encoding="utf-8")
    assert "https:" not in page
    packed = re.findall(r'class="maps">([^<]*)<', page)
    assert len(packed) == 12
    experiment, folder = load_experiment(path, ["train.crop=[32, 64]"])
    sources = open_sources(experiment, folder)
    draws = TrainingDraws(sources, experiment.train.batch, (32, 64), experiment.train.color, 0)
    for i, text in enumerate(packed):
        numbers = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2").reshape(32, 64).astype(int)
        _, mask, boxes, *_ = draws[i]
        assert np.array_equal(numbers, np.where(mask >= 0, mask, boxes) + 1)
    with chromium() as browser:
        require_whole(browser, (tmp_path / "shown" / "data.html").as_uri())
        view, faults = browser.new_page(viewport={"width": 390, "height": 800}, bypass_csp=True), []
        view.on("pageerror", lambda error: faults.append(str(error)))
        view.goto((tmp_path / "shown" / "data.html").as_uri())
        view.locator(".example").first.click()
        view.locator("dialog .legend li").first.wait_for()
        assert complaints(view) == []
        view.locator("dialog canvas").hover()
        assert (
            view.locator("dialog .readout")
            .inner_text()
            .startswith(("below: teaches ground", "rest: teaches sky or", "Stop", "Tea"))
        )
        names = {name.rsplit(" ", 2)[0].strip() for name in view.locator("dialog .legend li").all_inner_texts()}
        assert names <= {"below", "rest", "Stop", "nothing"}
        assert faults == []


def test_the_page_shows_what_is_pasted_from_another_dataset(tmp_path):
    """Its labels stand in the legend of the crops that it is laid into, with the dataset's name before them."""
    from heteroseg.experiment.config import load_experiment
    from heteroseg.experiment.sources import open_sources
    from heteroseg.report.data import _crops
    from heteroseg.training.batches import TrainingDraws

    rows = "image,x1,y1,x2,y2,class_id\na,2,3,22,21,7\nb,0,0,12,12,300\n"
    path = write(tmp_path / "signs", SIGNS, {"boxes": "boxes.csv"}, AROUND, boxes=rows)
    write(tmp_path / "streets", MASKS, {"masks": "masks/{name}.png"})
    (tmp_path / "streets" / "masks").mkdir()
    for name in "abc":
        ids = np.random.default_rng(ord(name)).integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
        Image.fromarray(ids).save(tmp_path / "streets" / "masks" / f"{name}.png")
    document = yaml.safe_load(path.read_text())
    (signs,) = document["datasets"].values()
    one = {"reader": "folder", "root": "../streets", "label_space": "../streets/space.yaml"}
    one["options"] = {"images": "{split}/{name}.png", "masks": "masks/{name}.png"}
    space = yaml.safe_load((tmp_path / "streets" / "space.yaml").read_text()) | {"name": "streets"}
    (tmp_path / "streets" / "space.yaml").write_text(yaml.safe_dump(space))
    document["datasets"] = {"streets": one, "signs": signs | {"val": None, "paste": 3, "scale": [1, 1.2]}}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["data", "show", str(path), "--out", str(tmp_path / "shown"), "train.crop=[32, 64]"]) == 0
    experiment, folder = load_experiment(path, ["train.crop=[32, 64]"])
    sources = open_sources(experiment, folder)
    (legend, crops), (own, _) = _crops(experiment, sources)
    told = [entry["label"] for entry in legend]
    assert set(told[3:]) == {"signs: Stop", "signs: Yield"}
    assert [entry["nodes"] for entry in legend[3:]] == [["stop"] if "Stop" in name else ["yield"] for name in told[3:]]
    assert [entry["label"] for entry in own] == ["Stop", "Yield", "(around boxes)"]
    draws, seen = TrainingDraws(sources, 8, (32, 64), experiment.train.color, 0), set()
    drawn = (draws[i] for i in range(200) if draws.owner[i % 8] == 0)
    for crop, (_, mask, boxes, *_) in zip(crops, drawn, strict=False):
        numbers = np.frombuffer(zlib.decompress(base64.b64decode(crop["maps"])), "<u2").reshape(32, 64).astype(int)
        for label, name in ((3, "signs: Stop"), (4, "signs: Yield")):
            pasted = (boxes == label).numpy() & (mask < 0).numpy()
            seen |= {label} if pasted.any() else set()
            assert (numbers[pasted] == (told.index(name) + 1 if pasted.any() else 0)).all()
        assert (numbers[mask >= 0] == mask[mask >= 0].numpy() + 1).all()
    assert seen == {3, 4}
