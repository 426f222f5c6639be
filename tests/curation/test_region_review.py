"""Subclasses for the regions of a coarse label: every region is listed once, only what a person confirms is written."""

import csv
import json

import cv2
import numpy as np
import pytest

from heteroseg.cli.main import main
from heteroseg.curation.region_review import components, proposals
from heteroseg.datasets import read_mask
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.labels.space import load_label_space, own_space


def test_components_touch_at_corners_too():
    mask = np.zeros((6, 8), np.int32)
    mask[0, 0] = mask[1, 1] = 5
    mask[3:5, 4:7] = 5
    mask[5, 0] = 5
    numbers, regions = components(mask, 5, 2)
    assert sorted(regions.values()) == [(0, 0, 2, 2, 2), (4, 3, 3, 2, 6)]
    for i, (*_, pixels) in regions.items():
        assert (numbers == i).sum() == pixels
    assert len(components(mask, 5, 1)[1]) == 3
    assert components(mask, 4, 1)[1] == {}


def test_proposals_equal_a_slow_reference(tiny_model):
    tree = tiny_model.taxonomy
    label = max(load_label_space("cityscapes", tree).labels, key=lambda b: len(b.leaves))
    choices = [b for b in own_space(tree).labels if b.leaves < label.leaves]
    regions = np.zeros((40, 56), np.int32)
    regions[3:9, 5:30], regions[20:, 40:] = 1, 2
    prediction = tiny_model.predict(np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8))
    best, shares = proposals(prediction, regions, label, choices, own_space(tree))
    for i in (1, 2):
        means = [float(prediction.probs(c.name)[regions == i].mean()) for c in choices]
        assert best[i] == np.argmax(means)
        assert shares[i] == pytest.approx(max(means) / sum(means), rel=1e-3)


@pytest.fixture(scope="module")
def coarse(tiny_experiment, tiny_model):
    """The Cityscapes source and a label of it that covers several leaves and has pixels."""
    source = open_sources(*load_experiment(tiny_experiment))[0]
    held = np.unique([read_mask(i.mask) for i in source.train + source.val])
    return source, next(b for b in source.space.labels if b.id in held and len(b.leaves) > 1)


def rows_of(folder):
    with open(folder / "blobs.csv", newline="") as file:
        return list(csv.DictReader(file))


def confirm(folder, answers):
    """Fill in `confirmed` by line; the other lines stay empty."""
    rows = rows_of(folder)
    with open(folder / "blobs.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "confirmed": answers.get(i, "")} for i, row in enumerate(rows))


def test_from_the_command_line(coarse, tiny_experiment, tiny_model_folder, tmp_path, capsys):
    source, label = coarse
    found, out = tmp_path / "blobs", tmp_path / "extended"
    what = ["--dataset", "cityscapes", "--label", label.name, "--labels", "leaves", "--model", str(tiny_model_folder)]
    find = ["blobs", "find", str(tiny_experiment), *what]
    assert main([*find, "--out", str(found), "--least", "1"]) == 0
    rows = rows_of(found)
    masks = {
        f"{split}/{i.name}": read_mask(i.mask)
        for split, items in (("train", source.train), ("val", source.val))
        for i in items
    }
    assert sum(int(r["pixels"]) for r in rows) == sum(int((m == label.id).sum()) for m in masks.values())
    assert [int(r["number"]) for r in rows] == list(range(1, len(rows) + 1))
    sheet = cv2.imread(str(found / "sheet-001.jpg"))
    assert sheet.shape == (900, 1080, 3)
    assert sheet[:158, :158].std() > 5  # the first cut-out is there
    subclasses = {e["name"]: e["id"] for e in json.loads((found / "blobs.json").read_text())["subclasses"]}
    assert not set(subclasses.values()) & {b.id for b in source.space.labels}

    apply = ["blobs", "apply", str(tiny_experiment), "--blobs", str(found), "--out", str(out)]
    other = next(n for n in subclasses if n != rows[1]["proposal"])
    for answers, message in [
        ({}, "no region is confirmed"),
        ({0: "yes", 1: "nonsense"}, "blobs.csv:3: confirmed must be"),
    ]:
        confirm(found, answers)
        capsys.readouterr()
        assert main(apply) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()
    confirm(found, {0: "yes", 1: other, 2: "no"})
    assert main(apply) == 0
    assert "add to datasets" in capsys.readouterr().out
    chosen = {(rows[0]["image"], 0): rows[0]["proposal"], (rows[1]["image"], 1): other}
    for name, before in masks.items():
        after = cv2.imread(str(out / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert after.dtype == np.uint16
        changed = after != before
        mine = {i: subclass for (image, i), subclass in chosen.items() if image == name}
        assert changed.sum() == sum(int(rows[i]["pixels"]) for i in mine)
        for i, subclass in mine.items():
            x, y, w, h = (int(rows[i][c]) for c in ("x", "y", "width", "height"))
            part = after[y : y + h, x : x + w] == subclasses[subclass]
            assert (part & (before[y : y + h, x : x + w] == label.id)).sum() == int(rows[i]["pixels"])
    experiment = tmp_path / "e.yaml"
    experiment.write_text(
        f"name: e\ntaxonomy: streets-108\ndatasets:\n  a: {{root: {out}, reader: folder, "
        f"label_space: {out}/label_space.yaml, options: "
        "{images: 'images/{split}/{name}.*', masks: 'masks/{split}/{name}.png'}}\n"
    )
    assert main(["data", "check", str(experiment)]) == 0
    assert other in capsys.readouterr().out
    assert main(apply) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    text = (found / "blobs.csv").read_text().splitlines()
    cells = text[1].split(",")
    cells[2] = str(int(cells[2]) + 1)
    (found / "blobs.csv").write_text("\n".join([text[0], ",".join(cells), *text[2:]]) + "\n")
    assert main([*apply[:-1], str(tmp_path / "again")]) == 2
    assert "no such region" in capsys.readouterr().err
    for wrong, message in [
        (["--label", "rood"], "has no label 'rood'"),
        (["--labels", "gtsdb"], "no label inside"),
        (["--least", "1000000"], "lower --least"),
        (["--dataset", "gtsdb"], "has no label"),
    ]:
        assert main([*find, "--out", str(tmp_path / "wrong"), *wrong]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "wrong").exists()
    for text, fault in [('{"dataset": "cityscapes"}', "blobs.json:1: label"), ("{", "blobs.json:2: not valid")]:
        (found / "blobs.json").write_text(text + "\n")
        assert main([*apply[:-1], str(tmp_path / "again")]) == 2
        assert fault in capsys.readouterr().err
