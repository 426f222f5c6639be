"""What `relabel`, `blobs apply` and `masks draw` write is sound, and says of every pixel what training saw there."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image

from heteroseg.cli.main import main
from heteroseg.datasets import read_annotation
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources

HELD = {  # by EXIF orientation: how the scene is stored
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
WIDTH, HEIGHT = 60, 40  # of the scene as it is seen
ROAD, CAR = [0, 24, 40, 16], [6, 10, 20, 12]  # x, y, width, height
SPACE = """\
name: three
taxonomy: streets-108
labels:
  - {id: 1, name: way, nodes: driveable}
  - {id: 2, name: car, nodes: car, shape: disc}
"""


def drawn(ids: np.ndarray, scale: int = 1) -> np.ndarray:
    """The scene with the road and the car of these ids."""
    for (x, y, w, h), i in ((ROAD, 1), (CAR, 2)):
        ids[y : y + h, x : x + w] = i * scale
    return ids


def boxed(box: list[int], turn: Image.Transpose | None) -> list[int]:
    """A box where it lies on the scene, or on the file that stores it turned."""
    one = Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8))
    one.paste(255, (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    left, top, right, bottom = (one if turn is None else one.transpose(turn)).getbbox()
    return [left, top, right - left, bottom - top]


def write_dataset(root: Path, orientation: int, stored: bool, kind: str) -> Path:
    """Two photographs that were held turned, annotated upright or as they are stored; the path of an experiment."""
    turn = HELD.get(orientation)
    for split in ("train", "val"):
        photo = Image.fromarray(drawn(np.full((HEIGHT, WIDTH), 40, np.uint8), 100)).convert("RGB")
        photo.putpixel((0, 0), (split == "val",) * 3)  # val is another photograph
        photo = photo if turn is None else photo.transpose(turn)
        exif = photo.getexif()
        exif[ExifTags.Base.Orientation] = orientation
        (root / split).mkdir(parents=True)
        photo.save(root / split / "a.png", exif=exif)
        annotation = turn if stored else None
        size = photo.size if stored else (WIDTH, HEIGHT)
        if kind == "masks":
            mask = Image.fromarray(drawn(np.zeros((HEIGHT, WIDTH), np.uint8)))
            (mask if annotation is None else mask.transpose(annotation)).save(root / f"{split}-a.png")
            continue
        boxes = [(i, boxed(box, annotation)) for box, i in ((ROAD, 1), (CAR, 2))]
        data = {
            "images": [{"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}],
            "categories": [{"id": 1, "name": "way"}, {"id": 2, "name": "car"}],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": i, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
                | ({"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]} if kind == "polygons" else {})
                for i, (x, y, w, h) in boxes
            ],
        }
        (root / f"{split}.json").write_text(json.dumps(data))
    options = {"images": "{split}/{name}.*"} | (
        {"masks": "{split}-{name}.png"} if kind == "masks" else {kind: "{split}.json"}
    )
    if stored and orientation == 3:  # no size can tell
        options["upright"] = "false"
    void = "  - {id: 0, name: void, ignore: true}\n" * (kind == "masks")
    (root / "space.yaml").write_text(SPACE + void)
    return experiment(root / "e.yaml", {"root": str(root), "reader": "folder", "label_space": "space.yaml"}, options)


def experiment(path: Path, dataset: dict, options: dict) -> Path:
    data = {"name": "e", "taxonomy": "streets-108", "datasets": {"a": dataset | {"options": options}}}
    path.write_text(yaml.safe_dump(data))
    return path


def checked(path: Path, capsys) -> list[str]:
    """The warnings of `data check`, which has to call all sound."""
    code = main(["data", "check", str(path)])
    said = capsys.readouterr()
    assert code == 0, said.err
    return [line for line in said.out.splitlines() if line.startswith("warning: ")]


def read(path: Path) -> list[tuple[np.ndarray, dict[int, frozenset[int]], Path]]:
    """Of the train and the val image the mask (H, W), the leaves of each of its ids, and the photograph."""
    (source,) = open_sources(*load_experiment(path))
    leaves = {label.id: label.leaves for label in source.space.labels} | {-1: frozenset()}
    return [(read_annotation(item).mask, leaves, item.image) for item in [*source.train, *source.val]]


KINDS = [(o, s) for o in (1, *HELD) for s in (False, True)[: 1 + (o > 1)]]


@pytest.mark.parametrize(("orientation", "stored"), KINDS)
@pytest.mark.parametrize("kind", ["masks", "polygons"])
@pytest.mark.parametrize("command", ["relabel", "blobs"])
def test_new_masks_lie_where_the_old_ones_did(command, kind, orientation, stored, tiny_model_folder, tmp_path, capsys):
    old, out = write_dataset(tmp_path / "old", orientation, stored, kind), tmp_path / "new"
    model = ["--labels", "leaves", "--dataset", "a"]
    checked(old, capsys)
    if command == "relabel":
        run = ["relabel", str(tiny_model_folder), "--data", str(old), *model, "--confidence", "0.3", "--out", str(out)]
        assert main(run) == 0
    else:
        find = ["blobs", "find", str(old), *model, "--label", "way", "--model", str(tiny_model_folder)]
        assert main([*find, "--out", str(tmp_path / "blobs")]) == 0
        with open(tmp_path / "blobs" / "blobs.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 2
        with open(tmp_path / "blobs" / "blobs.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | {"confirmed": "yes"} for row in rows)
        capsys.readouterr()
        assert main(["blobs", "apply", str(old), "--blobs", str(tmp_path / "blobs"), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.split("experiment:\n")[1]
    ((_, dataset),) = yaml.safe_load(lines).items()
    new = experiment(tmp_path / "new.yaml", dataset, dataset.pop("options"))
    checked(new, capsys)
    finer = 0
    for (before, leaves, a), (after, fine, b) in zip(read(old), read(new), strict=True):
        assert a.read_bytes() == b.read_bytes()
        assert before.shape == after.shape
        for i, j in np.unique(np.stack([before, after], -1).reshape(-1, 2), axis=0).tolist():
            assert fine[j] <= leaves[i], (i, j)
            assert bool(fine[j]) == bool(leaves[i])
            finer += fine[j] < leaves[i]
    assert finer


@pytest.mark.parametrize(("orientation", "stored"), KINDS)
def test_masks_of_boxes_lie_in_the_boxes(orientation, stored, tmp_path, capsys):
    old, out = write_dataset(tmp_path / "old", orientation, stored, "boxes"), tmp_path / "masks"
    assert main(["masks", "draw", str(old), "--dataset", "a", "--out", str(out)]) == 0
    capsys.readouterr()
    options = {"images": "old/{split}/{name}.*", "masks": "masks/gtCoarse/{split}/{name}_labelIds.png"}
    if stored and orientation == 3:
        options["upright"] = "false"
    dataset = {"root": str(tmp_path), "reader": "folder", "label_space": "masks/label_space.yaml"}
    new = experiment(tmp_path / "new.yaml", dataset, options)
    checked(new, capsys)
    turn = HELD.get(orientation) if stored else None
    for mask, _, _ in read(new):
        ids = Image.fromarray(drawn(np.full((HEIGHT, WIDTH), 255, np.uint8)))
        np.testing.assert_array_equal(mask, np.asarray(ids if turn is None else ids.transpose(turn)))


def test_names_of_their_own_make_no_folders(tmp_path):
    old, out = write_dataset(tmp_path / "old", 1, False, "boxes"), tmp_path / "masks"
    (tmp_path / "old" / "val" / "a.png").rename(tmp_path / "old" / "val" / "b.png")
    data = json.loads((tmp_path / "old" / "val.json").read_text())
    data["images"][0]["file_name"] = "b.png"
    (tmp_path / "old" / "val.json").write_text(json.dumps(data))
    assert main(["masks", "draw", str(old), "--dataset", "a", "--out", str(out)]) == 0
    assert sorted(p.name for p in (out / "gtFine").iterdir()) == ["a_labelIds.png", "b_labelIds.png"]
