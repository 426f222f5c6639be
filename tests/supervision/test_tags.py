"""Tags from files to the loss: what an image holds somewhere."""

from pathlib import Path

import numpy as np
import pytest

from heteroseg.datasets import list_items, read_sample
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.files import write_yaml
from heteroseg.supervision.targets import MIXED
from heteroseg.training.batches import batches, training_loader
from heteroseg.training.loop import train
from tests.conftest import TINY
from tests.datasets.test_datasets import samples
from tests.writers import WRITERS

OPTIONS = {"images": "images/{split}/{name}.png", "tags": "tags_{split}.csv"}


def write(root: Path, rows: str, masks: str | None = None) -> None:
    WRITERS["folder"](root, "train", samples(["a", "b"], [0, 1]), OPTIONS["images"], masks)
    (root / "tags_train.csv").write_text("image,note,class_id\n" + rows)


def test_tags_come_to_their_images(tmp_path):
    write(tmp_path, "a.png,x,3\na,,1\na,,3\n")
    a, b = list_items("folder", tmp_path, "train", OPTIONS)
    assert (a.tags.tolist(), b.tags.tolist()) == ([1, 3], [])
    assert read_sample(a).tags.tolist() == [1, 3]
    assert a.mask is None


def test_faults_of_tags_are_told_all_at_once(tmp_path):
    write(tmp_path, "a,,3\nc,,1\nb,,sign\n")
    with pytest.raises(HeterosegError) as error:
        list_items("folder", tmp_path, "train", OPTIONS)
    assert len(error.value.faults) == 2
    assert "tags_train.csv:3" in error.value.faults[0]
    assert "found 'sign'" in error.value.faults[1]
    (tmp_path / "tags_train.csv").write_text("image,label\na,1\n")
    with pytest.raises(HeterosegError, match="expected the columns image, class_id, found no class_id"):
        list_items("folder", tmp_path, "train", OPTIONS)
    (tmp_path / "tags_train.csv").unlink()
    with pytest.raises(HeterosegError, match="file of tags"):
        list_items("folder", tmp_path, "train", OPTIONS)


def test_open_images_labels(tmp_path):
    boxes = np.array([[1, 1, 9, 9]], np.float32)
    one = samples(["a"], [0])[0]
    one.boxes, one.box_ids = boxes, np.array([2])
    WRITERS["open_images"](tmp_path, "train", [one])
    lines = ["ImageID,Source,LabelName,Confidence", "a,v,/m/1,1", "a,v,/m/2,0", "a,v,/m/unboxed,1", "other,v,/m/1,1"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    (item,) = list_items("open_images", tmp_path, "train", {"tags": "t.csv"})
    assert item.tags.tolist() == [1]
    assert item.box_ids.tolist() == [2]


def test_boxes_tags_and_masks_train_together(tmp_path):
    """A dataset with boxes and tags beside one with masks, two steps; tags and shared boxes reach the batch."""
    write(tmp_path, "a,,1\na,,2\nb,,1\n", "masks/{split}/{name}.png")
    (tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2,class_id\na,0,0,24,24,1\na,8,8,30,30,2\nb,2,2,20,20,2\n")
    tree = {"root": ["sky", "thing"], "thing": ["car", "bus", "sign"]}
    write_yaml(tmp_path / "tree.yaml", {"name": "t", "tree": tree})
    labels: list[dict] = [{"id": i, "name": n, "nodes": n} for i, n in enumerate(("sky", "car", "bus"))]
    rest = [{"id": i, "name": f"n{i}", "ignore": True} for i in range(3, 256)]
    for name, more in (("boxed", []), ("dense", rest)):
        space = {"name": name, "taxonomy": "tree.yaml", "overlap": "share", "labels": [*labels, *more]}
        write_yaml(tmp_path / f"{name}.yaml", space)
    common = {"root": ".", "reader": "folder", "val": None, "scale": [1.0, 1.0]}
    options = {"images": OPTIONS["images"]}
    write_yaml(
        tmp_path / "e.yaml",
        {
            "name": "e",
            "taxonomy": "tree.yaml",
            "datasets": {
                "boxed": common | {"label_space": "boxed.yaml", "options": OPTIONS | {"boxes": "boxes.csv"}},
                "dense": common
                | {"label_space": "dense.yaml", "options": options | {"masks": "masks/{split}/{name}.png"}},
            },
            "model": TINY,
            "train": {"steps": 2, "batch": 4, "crop": [64, 64], "workers": 0, "accelerator": "cpu", "log_every": 1},
        },
    )
    experiment, folder = load_experiment(tmp_path / "e.yaml")
    batch = next(batches(training_loader(experiment, open_sources(experiment, folder))))
    assert (batch.boxes <= MIXED).any()
    assert (batch.mixtures.weights == 0.5).any(), "two boxes share pixels"
    assert (batch.mixtures.labels >= 0).sum(-1).max() == 2, "tags are a set"
    train(experiment, folder, tmp_path / "run")
    assert "thing/boxes" in (tmp_path / "run" / "log.csv").read_text()
