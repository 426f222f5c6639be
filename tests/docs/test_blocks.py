"""Every shell and Python block of the README and the docs is run, page by page, in a folder that holds what it names.

A block that cannot be run here says why on the line before it: <!-- not run: REASON -->.
"""

import csv
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import heteroseg
from heteroseg.cli.main import main
from heteroseg.datasets.sample import Sample
from heteroseg.labels.space import load_label_space
from tests.writers import WRITERS

ROOT = Path(__file__).parents[2]
OUTSIDE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]  # mkdocs checks the links of the others
OTHERS = ("start.md", "log.md", "changelog.md", "notebook.md")
PAGES = [*OUTSIDE, *sorted(p for p in (ROOT / "docs").rglob("*.md") if p.name not in OTHERS)]
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```", re.M | re.S)
SMALL = {
    "train": ["train.steps=2", "train.batch=4", "train.crop=[64,64]", "train.workers=0", "train.accelerator=cpu"],
    "bench": ["--size", "64x96", "--repeats", "2"],
}
EXPERIMENT = """\
name: real
taxonomy: streets-real
data_root: data
datasets:
  camvid11: {root: camvid11, reader: camvid_segnet, label_space: camvid11}
  gtsdb: {root: gtsdb, reader: gtsdb, label_space: gtsdb-real, flip: 0, focus: 0.9}
  camvid: {root: camvid, reader: camvid, label_space: camvid32}
  a: {root: camvid, reader: camvid, label_space: a.yaml}
model:
  backbone: hf:resnet
  backbone_options: {embedding_size: 8, hidden_sizes: [8, 8, 16, 16], depths: [1, 1, 1, 1], layer_type: basic}
  width: 16
"""
LABELS_PY = """\
labels = [
    Label('unlabeled', 0, 255, 'void', 0, False, True, (0, 0, 0)),
    Label('road', 7, 0, 'flat', 1, False, False, (128, 64, 128)),
    Label('sky', 23, 10, 'sky', 5, False, False, (70, 130, 180)),
]
"""


def patches(rng: np.random.Generator, ids: list[int]) -> np.ndarray:
    """(96, 128) int32 random ids in patches of 32 pixels."""
    return np.kron(rng.choice(ids, (3, 4)), np.ones((32, 32), np.int32)).astype(np.int32)


def sample(rng: np.random.Generator, name: str, space: str, boxes: bool = False) -> Sample:
    image = rng.integers(0, 256, (96, 128, 3), np.uint8)
    ids = [b.id for b in load_label_space(space).labels if b.leaves]
    if not boxes:
        return Sample(name, image, patches(rng, ids))
    mask = np.zeros((96, 128), np.int32)
    mask[30:50, 20:40] = ids[3]
    return Sample(name, image, mask, np.array([[20, 30, 40, 50]], np.float32), np.array([ids[3]]))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A tree of folders with everything that the pages name."""
    folder = tmp_path_factory.mktemp("docs")
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for reader, space in (("camvid_segnet", "camvid11"), ("gtsdb", "gtsdb-real"), ("camvid", "camvid32")):
            samples = [sample(rng, f"{split}{i}", space, reader == "gtsdb") for i in range(count)]
            WRITERS[reader](folder / "data" / {"camvid_segnet": "camvid11"}.get(reader, reader), split, samples)
    (folder / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.png"):
        assert cv2.imwrite(str(folder / name), rng.integers(0, 256, (64, 96, 3), np.uint8))
    fine = load_label_space("camvid32").file.model_copy(update={"name": "a"})
    (folder / "a.yaml").write_text(yaml.safe_dump(fine.model_dump(exclude_defaults=True, mode="json")))
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    (folder / "mine.yaml").write_text(EXPERIMENT)
    (folder / "labels.py").write_text(LABELS_PY)
    (folder / "classes.csv").write_text("pixel_value,name\n1,sky\n5,road\n")
    listed = [f"{b.id},{b.name}\n" for b in load_label_space("camvid11").labels]
    (folder / "labels.csv").write_text("id,name\n" + "".join(listed))
    (folder / "config.json").write_text(
        json.dumps(
            {
                "labels": [
                    {"name": "construction--flat--road", "readable": "Road", "color": [128, 64, 128], "evaluate": True},
                    {"name": "nature--sky", "readable": "Sky", "color": [70, 130, 180], "evaluate": True},
                ]
            }
        )
    )
    (folder / "CamVid").mkdir()
    (folder / "CamVid" / "label_colors.txt").write_text((folder / "data/camvid/label_colors.txt").read_text())
    (folder / "MSeg_master.tsv").write_text("universal\tada20k\tcityscapes-34\nroad\troad\troad\nsky\tsky\tsky\n")
    return folder


@pytest.fixture(scope="module")
def trained(world) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        for run in ("one", "mine"):
            assert main(["train", "experiment.yaml", "--out", f"runs/{run}", *SMALL["train"]]) == 0
    return world


def confirm(folder: Path) -> None:
    """What a person does between `blobs find` and `blobs apply`."""
    path = folder / "blobs" / "blobs.csv"
    rows = list(csv.DictReader(path.open(newline="")))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"confirmed": "yes"} for row in rows)


def run_shell(text: str, folder: Path) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] == "make":  # `make` is what CI itself calls
            continue
        assert words[0] == "heteroseg", f"{line!r}: only heteroseg is run; say why not"
        if words[1:3] == ["blobs", "apply"]:
            confirm(folder)
        assert main([*words[1:], *SMALL.get(words[1], [])]) == 0, line


@pytest.mark.parametrize("page", OUTSIDE, ids=lambda p: p.stem)
def test_every_link_leads_to_a_file(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if not (page.parent / t).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_block_runs(page, trained, tiny_experiment, monkeypatch, tmp_path, capsys):
    folder = trained
    if page.name == "README.md":  # its labels are those of the demo's tree
        folder = tmp_path
        (folder / "experiment.yaml").write_text(tiny_experiment.read_text())
        (folder / "mine.yaml").write_text((trained / "a.yaml").read_text())
        (folder / "photos").symlink_to(trained / "photos")
        (folder / "photo.jpg").symlink_to(trained / "photo.jpg")
    monkeypatch.chdir(folder)
    shutil.rmtree("out", ignore_errors=True)  # of another page
    names: dict = {}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        reason, kind, text = block["reason"], block["kind"], block["text"]
        if reason:
            assert kind in ("sh", "python"), reason
        elif kind == "sh":
            run_shell(text, folder)
        elif kind == "python":
            exec(compile(text, f"{page.name}: {text.splitlines()[0]}", "exec"), names)
        elif kind == "yaml":
            assert yaml.safe_load(text) is not None
        else:
            assert kind in ("text", "json"), f"{page.name}: a block of kind {kind!r} is not run"
    if page.stem == "deploy":  # what it works out without heteroseg is what heteroseg says
        model = replace(heteroseg.load("runs/one"), decision="path")
        due = np.array(model.taxonomy.names, object)[np.asarray(model.predict("photo.jpg").nodes())]
        assert (names["answer"] == due).mean() > 0.99
        assert (names["ids"] == heteroseg.load("runs/one").predict("photo.jpg").labels("camvid11")).mean() > 0.999
