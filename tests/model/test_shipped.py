"""The network that ships: known by the name `demo`, kept in int8, shown by `heteroseg demo --quick`."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from heteroseg import demo
from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.files import SPECS
from heteroseg.model import model as models
from heteroseg.model.checking import SCALE, WEIGHTS, read_weights
from heteroseg.model.model import SHIPPED, load
from heteroseg.scenes import draw_scene, generate

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "demo_model.py"))
MOST = 6_000_000  # bytes


@pytest.fixture
def shipped(tiny_model, tmp_path, monkeypatch) -> Path:
    """A tiny network in the place of the one that ships, made as that."""
    folder = tmp_path / "package" / "demo"
    monkeypatch.setitem(TOOL["ship"].__globals__, "load", lambda run: tiny_model)
    TOOL["ship"](tmp_path, folder)
    for place in (models, demo):
        monkeypatch.setattr(place, "SHIPPED", folder)
    monkeypatch.setattr(demo, "QUICK_IMAGES", 2)
    monkeypatch.chdir(tmp_path)
    return folder


def test_int8_weights_are_the_network_to_a_part_in_255(shipped, tiny_model):
    kept, due = read_weights(shipped / WEIGHTS), tiny_model.network.state_dict()
    assert any(tensor.dtype == torch.int8 for tensor in load_file(shipped / WEIGHTS).values())
    assert kept.keys() == due.keys()
    for name, weight in due.items():
        if weight.ndim == 4:
            assert ((kept[name] - weight).abs() <= weight.abs().amax((1, 2, 3), keepdim=True) / 253).all()
    image = draw_scene(np.random.default_rng(1), (64, 128)).image
    asked = [model.predict(image).probs("sky") for model in (load("demo"), tiny_model)]
    assert np.abs(asked[0] - asked[1]).mean() < 0.1


@pytest.mark.parametrize("scale", [torch.ones(3), torch.ones(1, 1, 1, 1), torch.ones(16, 1, 1, 1).long()])
def test_scales_that_do_not_fit_are_refused(shipped, scale):
    weights = load_file(shipped / WEIGHTS)
    name = next(name for name in weights if name.endswith(SCALE))
    save_file(weights | {name: scale}, shipped / WEIGHTS)
    with pytest.raises(HeterosegError, match="expected the weights of this network"):
        load(shipped)


def test_a_folder_of_the_name_comes_first(shipped, tiny_model, tmp_path):
    assert load("demo").origin == shipped
    models.save_model(tiny_model, tmp_path / "demo")
    assert load("demo").origin == Path("demo")
    assert load("./demo").digest == tiny_model.digest


def test_the_quick_demo_ends_in_a_page_with_pictures(shipped, tmp_path, capsys):
    assert main(["demo", "--quick", "--out", "shown"]) == 0
    assert str(tmp_path / "shown" / "report.html") in capsys.readouterr().out
    page = Path("shown/report.html").read_text()
    assert page.count("data:image/") == 6
    assert len([*Path("shown/predictions").glob("*/*_overlay.jpg")]) == 6
    assert [*Path("shown/predictions").glob("*_answers.jpg")]
    assert main(["demo", "--quick", "train.steps=3"]) == 2
    assert "trains nothing" in capsys.readouterr().err


def test_the_name_works_for_predict(shipped, capsys):
    Path("p.ppm").write_bytes(b"P6 32 32 255 " + bytes(32 * 32 * 3))
    assert main(["predict", "demo", "p.ppm", "--out", "out", "--overlay"]) == 0
    assert Path("out/p_overlay.jpg").is_file()


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="`make demo-model` has not been run")
def test_what_ships_is_small_whole_and_sees(tmp_path):
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) <= MOST
    assert "apache-2.0" in (SHIPPED / "README.md").read_text()
    generate(tmp_path, 0, 2, seed=7)
    experiment, folder = load_experiment(SPECS / "experiments" / "demo.yaml", [f"data_root={tmp_path}"])
    scores = evaluate(load(SHIPPED), open_sources(experiment, folder, splits=("val",)))["datasets"]
    assert all(scores[name]["acc"] > 0.7 for name in ("cityscapes", "vistas"))
