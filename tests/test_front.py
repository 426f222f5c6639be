"""The plot of accuracy against speed, from training to the picture, with tiny networks and data."""

import json
from itertools import combinations
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="the extra hf is not installed")
agg = pytest.importorskip("matplotlib.backends.backend_agg", reason="the extra plots is not installed")

from benchmarks import front
from matplotlib.text import Text

from heteroseg.experiment.config import ModelConfig

SMALL = ModelConfig(backbone="lite0", pretrained=False, width=16, stride=8)
NETWORKS = {
    "small, frozen, taught": front.Entry(SMALL.model_copy(update={"freeze": True}), teacher="small"),
    "small": front.Entry(SMALL),
    "Fast-SCNN": front.NETWORKS["Fast-SCNN"],
}


@pytest.fixture
def small(monkeypatch, tiny_experiment):
    pytest.importorskip("nncf", reason="the extra openvino is not installed")
    monkeypatch.setattr(front, "REAL", tiny_experiment)
    monkeypatch.setattr(front, "NETWORKS", NETWORKS)
    monkeypatch.setattr(front, "FRAME", (64, 96))
    monkeypatch.setattr(front, "WARM", 0)


def written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_from_training_to_the_picture(small, tmp_path, capsys):
    out = tmp_path / "front"
    careful = ["optimiser.backbone_lr=0.03", "train.freeze_norm=true"]  # as suits weights of ImageNet
    start = ["--out", str(out), "train.crop=[64, 70]", *careful, "--limit", "1"]
    with pytest.raises(SystemExit):
        front.main(start)
    assert "nothing is prepared there" in capsys.readouterr().err
    front.main([*start, "--prepare", "--only", "0"])
    taught = json.loads((out / "small--frozen--taught" / "run" / "experiment.json").read_text())
    assert taught["train"]["teacher"] == str(out / "small" / "run" / "last")
    assert taught["train"]["crop"] == [64, 64]  # whole cells
    assert (taught["optimiser"]["backbone_lr"], taught["train"]["freeze_norm"]) == (1.0, False)  # it begins at random
    (out / "small--frozen--taught" / "int8-path.json").unlink()
    before = written(out)
    front.main([*start, "--prepare"])
    assert before.items() <= written(out).items()  # it went on where it was stopped
    assert (out / "small--frozen--taught" / "int8-path.json").exists()
    front.main([*start, "--repeats", "1"])
    rows = json.loads((out / "front.json").read_text())["rows"]
    assert [row["network"] for row in rows] == list(NETWORKS)
    for row in rows:
        for rule in front.RULES:
            exact, naive, agreement = (row["timing"][rule][key] for key in ("exact", "naive", "agreement"))
            assert min(exact["median"], naive["median"]) > 0
            assert agreement > 0.99
    assert rows[2]["parameters"] > 1e6
    lines = (out / "front.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in NETWORKS]
    assert len({line.count("|") for line in lines}) == 1
    assert (out / "front.png").read_bytes().startswith(b"\x89PNG")
    front.main([*start, "--repeats", "1", "--only", "1"])
    assert len(json.loads((out / "front.json").read_text())["rows"]) == 1


def row(name: str, entry: front.Entry, score: float, ms: float) -> dict:
    scores = {f"int8-{rule}": {"all": {"miou": score, "strict_miou": None}} for rule in front.RULES}
    timing = {rule: {"exact": {"median": ms}, "naive": {"median": ms + 300}} for rule in front.RULES}
    return {"network": name, "ours": entry.ours, "pretrained": entry.model.pretrained} | {
        "scores": scores,
        "timing": timing,
    }


@pytest.mark.parametrize("apart", [0, 0.001, 0.1], ids=str)
def test_names_in_the_picture_do_not_overlap(apart):
    rows = [row(*entry, 0.3 + apart * i / 22, 8 + 20 * i) for i, entry in enumerate(front.NETWORKS.items())]
    rows[-1] = row(*list(front.NETWORKS.items())[-1], 0.1, 500)  # far from all others
    figure = front.picture(rows)
    canvas = agg.FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    assert len(boxes) == len(rows)
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    whole, below = figure.bbox, figure.legends[0].get_window_extent()
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y0 >= 0 and box.y1 <= whole.y1 for box in boxes)
    axes, renderer = figure.axes[0], canvas.get_renderer()
    assert not any(below.overlaps(part.get_tightbbox(renderer)) for part in (axes.xaxis, axes.yaxis))


def test_heights_move_no_more_than_they_have_to():
    assert front.apart([0.9, 0.1, 0.5], 0.2) == pytest.approx([0.9, 0.1, 0.5])
    assert front.apart([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert front.apart([1.0, 0.95, 0.0], 0.2) == pytest.approx([1.0, 0.8, 0.0])


def test_every_network_of_the_plot_is_one():
    """Names lead to folders of their own, and teachers are networks that need none."""
    assert len({front.folder_of(Path(), name) for name in front.NETWORKS}) == len(front.NETWORKS)
    for entry in front.NETWORKS.values():
        assert not entry.teacher or not front.NETWORKS[entry.teacher].teacher
