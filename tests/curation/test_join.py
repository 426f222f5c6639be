"""Datasets as they are become one experiment that `data check` takes and that trains."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from heteroseg.cli.main import main
from heteroseg.curation.recognise import recognise
from heteroseg.datasets import list_items, read_sample
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.files import read_json, write_text
from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from tests.datasets.test_datasets import sample
from tests.writers import WRITERS

BOXES = ((2, 2, 20, 12, 0), (30, 8, 44, 20, 1))
SIGNS = {1: "stop sign", 2: "give way sign"}
NAMES = {"label 0": "car", "label 1": "stop sign", "label 2": "bus"}
TINY = ["model.pretrained=false", "model.width=16", "train.steps=1", "train.batch=3", "train.crop=[64,64]"]
TINY += ["train.workers=0", "train.accelerator=cpu"]


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8))


def coco(root: Path, files: dict[str, list[str]], categories: dict[int, str], drawn: bool = False) -> Path:
    """A json for each key of `files` with its images, each with a box of each category."""
    for i, (path, images) in enumerate(files.items()):
        notes, entries = [], []
        for j, image in enumerate(images):
            (root / image).parent.mkdir(parents=True, exist_ok=True)
            picture(100 * i + j).save(root / image)
            entries.append({"id": j, "file_name": Path(image).name, "width": 64, "height": 48})
            for k, category in enumerate(categories):
                x = 4 + 20 * k
                note = {"id": len(notes), "image_id": j, "category_id": category, "bbox": [x, 4, 16, 12]}
                outline = [[x, 4, x + 16, 4, x + 16, 16, x, 16]]
                notes.append(note | ({"segmentation": outline} if drawn else {}))
        named = [{"id": number, "name": name} for number, name in categories.items()]
        write_text(root / path, json.dumps({"images": entries, "annotations": notes, "categories": named}))
    return root


def masks(root: Path, ending: str = "", names: str = "0 sky\n1 road\n2 car\n") -> Path:
    for split in ("train", "val"):
        for i in range(2):
            for kind in ("images", "masks"):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
            picture(1000 + i + 7 * (split == "val")).save(root / "images" / split / f"{i}.png")
            ids = np.zeros((48, 64), np.uint8)
            ids[24:], ids[30:40, 10:30] = 1, 2
            Image.fromarray(ids).save(root / "masks" / split / f"{i}{ending}.png")
    write_text(root / "classes.txt", names)
    return root


def joined(tmp_path: Path, *given: object, answers: str = "--yes") -> dict:
    """What is written for some datasets, by file name; `data check` has taken it."""
    assert main(["join", *map(str, given), "--out", str(tmp_path / "out"), answers]) == 0
    assert main(["data", "check", str(tmp_path / "out/experiment.yaml")]) == 0
    return {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "out").glob("*.yaml")}


def export(root: Path, reader: str, boxed: bool = False) -> Path:
    """What a label tool writes, under names of things: boxes, or masks of all pixels."""
    for split, names in (("train", ["a", "b"]), ("val", ["v"])):
        boxes = BOXES if boxed else ()
        wrote = [sample(name, [0, 1, 2], ord(name), boxes) for name in names]
        WRITERS[reader](root, split, [replace(one, mask=None) for one in wrote] if boxed else wrote)
    for path in (path for path in root.glob("*.*") if path.suffix in (".xml", ".json", ".txt")):
        text = path.read_text()
        for old, new in NAMES.items():
            text = text.replace(old, new)
        path.write_text(text)
    if reader == "yolo":
        write_text(root / "data.yaml", "train: images/train\nval: images/val\nnames: [car, stop sign, bus]\n")
    return root


@pytest.mark.parametrize("reader", ["yolo", "cvat", "label_studio"])
@pytest.mark.parametrize("boxed", [False, True])
def test_exports_of_label_tools(tmp_path, reader, boxed):
    root = export(tmp_path / "data", reader, boxed)
    made = joined(tmp_path, root)
    labels = {label["name"]: label["nodes"] for label in made["data"]["labels"]}
    assert {name: labels[name] for name in ("car", "stop sign")} == {"car": "car", "stop sign": "stop sign"}
    assert made["experiment"]["datasets"]["data"]["reader"] == reader
    assert ("background" in labels) != boxed  # what is painted has a rest
    (source,) = open_sources(*load_experiment(tmp_path / "out/experiment.yaml"))
    assert [item.name for item in source.train] == ["a", "b"]
    assert [item.name for item in source.val] == ["v"]


def test_of_several_exports_none_is_left_out_silently(tmp_path, capsys):
    for part in ("train", "val"):
        export(tmp_path / "data" / part, "cvat")
    assert main(["join", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--yes"]) == 2
    assert "expected one export, found 2, train/annotations.xml, val/annotations.xml" in capsys.readouterr().err


def test_two_exports_become_one_trained_network(tmp_path, capsys):
    """Three commands, and no line by hand."""
    scenes = masks(tmp_path / "scenes")
    signs = coco(tmp_path / "signs", {"train.json": ["train/a.png", "train/b.png"], "val.json": ["val/c.png"]}, SIGNS)
    made = joined(tmp_path, scenes, signs)
    assert made["tree"]["tree"] == {
        "root": ["sky", "road", "car", "roadside object"],
        "roadside object": ["stop sign", "give way sign"],
    }
    assert made["signs"]["gate"] == "root"
    assert made["signs"]["around_boxes"] == {"excludes": "roadside object", "margin": None}
    experiment, run = tmp_path / "out/experiment.yaml", tmp_path / "run"
    assert main(["train", str(experiment), "--out", str(run), *TINY]) == 0
    assert (
        main(["predict", str(run), str(scenes / "images/val"), "--out", str(tmp_path / "p"), "--labels", "signs"]) == 0
    )
    assert "names annotated in all of its images?" in capsys.readouterr().err


def test_what_one_knows_and_the_other_does_not(tmp_path):
    """A background is all that is none of a dataset's own labels, also what only others know."""
    parks = masks(tmp_path / "parks", names="0 background\n1 grass\n2 tree\n")
    cars = coco(tmp_path / "cars", {"all.json": [f"{i}.png" for i in range(10)]}, {4: "car"}, drawn=True)
    made = joined(tmp_path, parks, f"vehicles={cars}")
    assert made["tree"]["tree"]["root"] == ["car", "nature", "background"]
    assert made["parks"]["labels"][0] == {"id": 0, "name": "background", "nodes": ["car", "background"]}
    assert made["vehicles"]["labels"][0] == {"id": 0, "name": "background", "nodes": ["nature", "background"]}
    sources = open_sources(*load_experiment(tmp_path / "out/experiment.yaml"))
    assert [len(s.train) for s in sources] == [2, 8]
    assert [item.name for item in sources[1].val] == ["0", "5"]
    ids = read_sample(sources[1].train[0]).mask
    assert ids is not None
    assert set(np.unique(ids)) == {0, 4}


def test_what_is_not_annotated_everywhere_has_no_background(tmp_path, monkeypatch):
    cars = coco(tmp_path / "cars", {"train.json": ["train/a.png"], "val.json": ["val/b.png"]}, {4: "car"}, drawn=True)
    answers = {"is everything that cars names annotated in all of its images?": False}
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda q: "n" if answers.pop(q.removesuffix(" [Y/n] ")) is False else "y")
    assert main(["join", str(cars), str(masks(tmp_path / "scenes")), "--out", str(tmp_path / "out")]) == 0
    space = yaml.safe_load((tmp_path / "out/cars.yaml").read_text())
    assert [label["name"] for label in space["labels"]] == ["car"]
    assert not answers


def test_without_a_terminal_nothing_is_asked(tmp_path, capsys):
    cars = coco(tmp_path / "cars", {"train.json": ["train/a.png"], "val.json": ["val/b.png"]}, {4: "car"})
    assert main(["join", str(cars), "--out", str(tmp_path / "out")]) == 2
    assert "add --yes" in capsys.readouterr().err


def test_published_layouts_have_their_label_spaces(tmp_path, tiny_data):
    made = joined(tmp_path, *(tiny_data / name for name in ("cityscapes", "vistas", "gtsdb")))
    assert list(made) == ["experiment"]  # nothing else is needed
    assert made["experiment"]["taxonomy"] == "streets-108"
    assert {name: d["label_space"] for name, d in made["experiment"]["datasets"].items()} == {
        name: name for name in ("cityscapes", "vistas", "gtsdb")
    }


def test_a_published_dataset_and_one_of_yours(tmp_path, tiny_data):
    mine = masks(tmp_path / "mine", "_mask", "0 sky\n1 pavement\n2 traffic cone\n")
    made = joined(tmp_path, tiny_data / "cityscapes", mine)
    assert [label["nodes"] for label in made["mine"]["labels"]] == ["sky", "sidewalk", "traffic cone"]
    tree = load_taxonomy(tmp_path / "out/tree.yaml")
    assert "traffic cone" in tree
    assert "o_stop" not in tree
    assert made["experiment"]["datasets"]["mine"]["options"]["masks"] == "masks/{split}/{name}_mask.png"
    whole = load_label_space("cityscapes", tree)
    assert {label.name for label in whole.labels if label.leaves} > {"road", "sky", "car"}


def test_a_network_has_its_say(tmp_path, tiny_model_folder):
    mine = masks(tmp_path / "mine", names="0 sky\n1 zzgrund\n2 car\n")
    made = joined(tmp_path, mine, "--model", tiny_model_folder)
    assert [label["nodes"] for label in made["mine"]["labels"]][::2] == ["sky", "car"]  # names that it knows
    assert "seen there" in (tmp_path / "out/mine.yaml").read_text()
    assert made["experiment"]["taxonomy"] == "streets-108"


def test_label_spaces_that_ship_bring_their_words(tmp_path):
    made = joined(tmp_path, "idd", masks(tmp_path / "mine", names="0 sky\n1 sidewalk\n2 lorry\n"))
    assert made["mine"]["labels"][2]["nodes"] == "truck"
    assert list(made["experiment"]["datasets"]) == ["mine"]


FAULTS = {
    "nothing": (["nowhere"], "found nothing"),
    "an empty folder": (["empty"], "expected a published layout"),
    "masks without names": (["unnamed"], "a list of what the ids mean"),
    "two of one name": (["scenes", "scenes"], "NAME=PATH"),
    "no dataset": (["cityscapes"], "label spaces alone"),
    "a name that leads out": (["../mine=scenes"], "expected a plain name, short, without slashes"),
    "a name of two parts": (["my/own=scenes"], "expected a plain name, short, without slashes"),
    "images that are not there": (["gone"], "expected its images beside it"),
    "folders that are not there": (["yolo"], "expected folders of images"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    masks(Path("scenes"))
    masks(Path("unnamed"))
    Path("unnamed/classes.txt").unlink()
    Path("empty").mkdir()
    coco(Path("gone"), {"a.json": ["b.png"]}, {1: "car"})
    Path("gone/b.png").unlink()
    write_text(Path("yolo/data.yaml"), "train: images/train\nval: images/val\nnames: [car]\n")
    given, told = FAULTS[name]
    assert main(["join", *given, "--out", "out", "--yes"]) == 2
    assert told in capsys.readouterr().err


def test_folders_may_be_hidden_and_have_signs_in_their_names(tmp_path):
    root = masks(tmp_path / "date=2024" / "scenes")
    assert main(["join", str(root), "--out", str(tmp_path / ".out"), "--yes"]) == 0
    experiment, _ = load_experiment(tmp_path / ".out" / "experiment.yaml")
    assert (experiment.name, list(experiment.datasets)) == ("out", ["scenes"])


def test_a_list_of_images_is_a_split_of_every_reader(tmp_path):
    root = export(tmp_path / "data", "cvat", boxed=True)
    write_text(root / "some-train.txt", "b.png\n")
    assert [item.name for item in list_items("cvat", root, "train", {"names": "some-{split}.txt"})] == ["b"]
    write_text(root / "some-train.txt", "b\nx\n")
    with pytest.raises(HeterosegError, match="expected an image for each name, found for 'x'"):
        list_items("cvat", root, "train", {"names": "some-{split}.txt"})


def test_of_several_jsons_none_is_left_out_silently(tmp_path, capsys):
    root = coco(tmp_path / "data", {"one.json": ["a.png"], "two.json": ["b.png"]}, {1: "car"})
    assert main(["join", str(root), "--out", str(tmp_path / "out"), "--yes"]) == 2
    assert "expected one export, found 2, one.json, two.json" in capsys.readouterr().err


def test_the_file_of_one_split_brings_the_others(tmp_path):
    files = {f"annotations/instances_{split}2017.json": [f"{split}2017/a.png"] for split in ("train", "val")}
    root = coco(tmp_path / "data", files, {1: "car"})
    write_text(root / "annotations/captions_train2017.json", '{"images": [], "annotations": []}')
    found = recognise(str(root / "annotations/instances_train2017.json"))
    assert (found.root, found.splits) == (root, ("train", "val"))
    assert recognise(str(root)).options == found.options


@pytest.mark.parametrize("file", ["train/_annotations.coco.json", "annotations/instances_train2017.json"])
def test_places_of_coco_files(tmp_path, file):
    images = "train/a.png" if "_annotations" in file else "train2017/a.png"
    files = {
        f.replace("train", split): [i.replace("train", split)]
        for split in ("train", "val")
        for f, i in [(file, images)]
    }
    found = recognise(str(coco(tmp_path / "data", files, {1: "car"})))
    assert found.splits == ("train", "val")
    assert found.options == {
        "images": f"{images.replace('train', '{split}')[:-5]}{{name}}.*",
        "boxes": file.replace("train", "{split}"),
    }


def test_a_colour_photograph_is_no_mask(tmp_path):
    """Grey photographs beside masks of few values, in one folder, with Roboflow's list."""
    for split in ("train", "valid"):
        (tmp_path / "data" / split).mkdir(parents=True)
        picture(3).convert("L").save(tmp_path / "data" / split / "a.jpg")
        Image.fromarray(np.repeat(np.arange(48) // 24, 64).reshape(48, 64).astype(np.uint8)).save(
            tmp_path / "data" / split / "a_mask.png"
        )
        write_text(tmp_path / "data" / split / "_classes.csv", "Pixel Value, Class\n0, sky\n1, road\n")
    found = recognise(str(tmp_path / "data"))
    assert found.options == {"images": "{split}/{name}.*", "masks": "{split}/{name}_mask.png"}
    assert [label.name for label in found.labels] == ["sky", "road"]
    assert found.splits == ("train", "valid")


def damaged(data: object) -> Iterator[object]:
    """Nested data with each part in turn missing, or something else."""
    yield from (other for other in (None, [], {}, "x", 7) if other != data)
    for key, part in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        for other in damaged(part):
            copy: Any = data.copy()  # type: ignore[attr-defined]
            copy[key] = other
            yield copy
        if isinstance(data, dict):
            yield {name: value for name, value in data.items() if name != key}


def damaged_texts(path: Path) -> list[str]:
    text = path.read_text()
    if path.suffix == ".xml":
        words = re.findall(r'[\w.]+="[^"]*"', text)
        return [*(text[: len(text) * i // 20] for i in range(20)), *(text.replace(word, "", 1) for word in words)]
    return [
        yaml.safe_dump(data) if path.suffix == ".yaml" else json.dumps(data) for data in damaged(yaml.safe_load(text))
    ]


@pytest.mark.parametrize("kind", ["cvat", "label_studio", "yolo", "coco"])
def test_a_damaged_export_is_told_in_a_sentence(tmp_path, capsys, kind):
    root = tmp_path / "data"
    if kind == "coco":
        file = coco(root, {"train.json": ["train/a.png"]}, {1: "car"}, drawn=True) / "train.json"
    else:
        export(root, kind, boxed=True)
        file = next(path for path in root.glob("*.*") if path.suffix in (".xml", ".json", ".yaml"))
    if kind == "label_studio":
        write_text(file, json.dumps(read_json(file)[:1]))
    texts = damaged_texts(file)
    assert len(texts) > 20
    for i, text in enumerate(texts):
        write_text(file, text)
        code = main(["join", f"data={root}", "--out", str(tmp_path / "out" / str(i)), "--yes"])
        told = capsys.readouterr().err
        assert code in (0, 2), f"{text}\n{told}"


def test_subsets_of_cvat_in_folders_of_their_own(tmp_path):
    """As a project is exported: one name may stand in both, and the path of an image is no part of its name."""
    root, entries = tmp_path / "data", ""
    for i, (split, name) in enumerate([("train", "0"), ("train", "1"), ("val", "0")]):
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        picture(i).save(root / "images" / split / f"{name}.png")
        box = '<box label="car" xtl="4" ytl="4" xbr="20" ybr="16"/>'
        entries += f'<image id="{i}" name="{name}.png" subset="{split}" width="64" height="48">{box}</image>'
    meta = "<meta><job><labels><label><name>car</name></label></labels></job></meta>"
    write_text(root / "annotations.xml", f"<annotations><version>1.1</version>{meta}{entries}</annotations>")
    joined(tmp_path, root)
    (source,) = open_sources(*load_experiment(tmp_path / "out/experiment.yaml"))
    assert [item.image.parent.name for item in source.train] == ["train", "train"]
    assert [item.image.parent.name for item in source.val] == ["val"]


def test_the_short_export_of_label_studio_is_told(tmp_path):
    write_text(tmp_path / "data" / "a.json", '[{"id": 1, "image": "1.png", "annotation_id": 1, "label": []}]')
    with pytest.raises(HeterosegError, match="found its JSON-MIN; export as JSON"):
        recognise(str(tmp_path / "data"))
