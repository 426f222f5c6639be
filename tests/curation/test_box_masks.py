"""Masks drawn from boxes: the released format, and how near they come to the released masks."""

from pathlib import Path

import numpy as np
import pytest

from heteroseg.cli.main import main
from heteroseg.curation.box_masks import agreement, box_masks
from heteroseg.datasets import list_items, read_annotation, read_mask
from heteroseg.datasets.formats.gtsdb import gtsdb
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.labels.space import load_label_space

GTSDB = Path(__file__).parents[3] / "shared" / "data" / "gtsdb"


def test_from_the_command_line(tiny_experiment, tmp_path, capsys):
    command = ["masks", "draw", str(tiny_experiment), "--dataset", "gtsdb", "--out", str(tmp_path / "m")]
    assert main([*command, "--compare"]) == 0
    assert "mean IoU" in capsys.readouterr().out
    source = next(s for s in open_sources(*load_experiment(tiny_experiment)) if s.name == "gtsdb")
    for item in source.train + source.val:
        coarse, fine = (read_mask(tmp_path / "m" / f / f"{item.name}_labelIds.png") for f in ("gtCoarse", "gtFine"))
        assert (tmp_path / "m" / "gtFine" / f"{item.name}_labelIds.png").read_bytes()[24] == 16  # bits
        assert set(np.unique(coarse)) - {0} == set(item.box_ids.tolist())
        assert (coarse[fine > 0] > 0).all()
        assert (fine > 0).sum() < (coarse > 0).sum() or not len(item.boxes)
        for box in item.boxes:
            x1, y1, x2, y2 = box.astype(int)
            assert (coarse[y1:y2, x1:x2] > 0).all()
        outside = np.ones(coarse.shape, bool)
        for x1, y1, x2, y2 in item.boxes.astype(int):
            outside[y1:y2, x1:x2] = False
        assert not coarse[outside].any()
    assert main(command) == 2
    assert "stands there already" in capsys.readouterr().err
    assert main([*command[:3], "--dataset", "vistas", "--out", str(tmp_path / "n")]) == 2
    assert "has no boxes" in capsys.readouterr().err
    assert main([*command[:3], "--dataset", "gtsd", "--out", str(tmp_path / "n")]) == 2
    assert "did you mean 'gtsdb'?" in capsys.readouterr().err


def test_scale_is_the_width_of_the_last_column(tiny_data):
    whole, scaled = gtsdb(tiny_data / "gtsdb", "train"), gtsdb(tiny_data / "gtsdb", "train", scale="0.6")
    for a, b in zip(whole, scaled, strict=True):
        assert np.allclose(a.boxes - b.boxes, [0, 0, 0.4, 0.4])
    for wrong in ("0", "x", "-1", "nan"):
        with pytest.raises(HeterosegError, match="'scale'"):
            gtsdb(tiny_data / "gtsdb", "train", scale=wrong)


def test_nothing_to_compare_with(tiny_data):
    items = list_items("gtsdb", tiny_data / "gtsdb", "train")
    bare = [type(i)(i.name, i.image, boxes=i.boxes, box_ids=i.box_ids) for i in items]
    with pytest.raises(HeterosegError, match="no masks for scoring"):
        agreement(bare, load_label_space("gtsdb"))
    assert box_masks(read_annotation(bare[0]), load_label_space("gtsdb"))["fine"].max() >= 2000


def test_the_released_masks():
    """Per shape; the boxes at hand are rounded at 0.6 of the original size, which costs the small triangles most."""
    if not GTSDB.exists():
        pytest.skip(f"the datasets are not part of the repository: {GTSDB} is absent")
    space = load_label_space("gtsdb-real")
    shapes = {label.name: label.shape for label in space.labels}
    found = agreement(list_items("gtsdb", GTSDB, "val", {"scale": "0.6"}), space)
    before = agreement(list_items("gtsdb", GTSDB, "val"), space)
    for shape, floor in (("disc", 0.95), ("triangle_up", 0.93), ("triangle_down", 0.96), ("diamond", 0.95)):
        names = [n for n in found if shapes[n] == shape]
        boxes = sum(found[n][1] for n in names)
        assert sum(found[n][0] * found[n][1] for n in names) / boxes >= floor, shape
    assert sum(iou * n for iou, n in found.values()) > sum(iou * n for iou, n in before.values())
