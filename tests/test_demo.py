"""`heteroseg demo`: the main job from drawing to report, in small."""

import cv2
import pytest

from heteroseg import demo
from heteroseg.cli.main import main


@pytest.mark.parametrize(("settings", "answers"), [((), 2), (("datasets.gtsdb.val=null",), 0)], ids=["all", "no val"])
def test_the_whole_demo_in_small(tmp_path, monkeypatch, capsys, settings, answers):
    """There is something to look at before the training, whatever is evaluated after it."""
    monkeypatch.setattr(demo, "TRAIN_IMAGES", 3)
    monkeypatch.setattr(demo, "VAL_IMAGES", 2)
    small = ("train.steps=2", "train.batch=3", "train.crop=[64, 64]", "train.workers=0", "model.width=16")
    assert main(["demo", "--out", str(tmp_path / "shown"), *small, *settings]) == 0
    told = capsys.readouterr().out
    first, page = tmp_path / "shown" / "first.jpg", tmp_path / "shown" / "report.html"
    assert told.index(f"answers of the network that ships: {first}") < told.index("training one network")
    assert told.rstrip().endswith(f"report:      {page}")
    assert min(cv2.imread(str(first)).shape[:2]) > 300
    assert page.stat().st_size > 10_000
    assert len(list((tmp_path / "shown" / "predictions").glob("*_answers.jpg"))) == answers
    assert (tmp_path / "shown" / "run" / "best" / "model.safetensors").exists()
