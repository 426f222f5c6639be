"""Temperatures from validation data: pixels are what the network says, and a network that is too sure is found out."""

import json

import numpy as np
import pytest
import torch

from heteroseg.cli.main import main
from heteroseg.datasets import read_sample
from heteroseg.evaluation.pixels import PER_IMAGE, Pixels, sample_pixels
from heteroseg.evaluation.scores import truth
from heteroseg.evaluation.temperatures import _fit, calibrated, children_of_labels, errors_by_depth
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.model import load
from heteroseg.networks.branches import Branches
from heteroseg.networks.heads import HierarchicalHead


def test_children_of_labels():
    space = load_label_space("camvid11")
    tree = space.taxonomy
    root = [tree.names[k] for k in tree.classifiers[0].children]
    child = children_of_labels(space, 0)
    told = {b.name: root[k] if k >= 0 else None for b, k in zip(space.labels, child, strict=True)}
    assert told["Road"] == "drivable"
    assert told["Car"] == "vehicle"
    assert told["Bicyclist"] is None  # lies across living thing and vehicle
    assert told["Void"] is None


def test_sampled_pixels_are_what_the_network_says(tiny_experiment, tiny_model):
    source = open_sources(*load_experiment(tiny_experiment))[0]
    pixels = sample_pixels(tiny_model, source, None)
    assert pixels.logits.shape == (len(pixels.labels), tiny_model.taxonomy.channels)
    assert len(pixels.labels) == 2 * PER_IMAGE
    assert pixels.judge.mean() == 0.5
    sample = read_sample(source.val[0])
    expected, said = truth(sample, source.space), tiny_model.predict(sample.image)
    full = said._by_bands(lambda z: z.permute(0, 2, 3, 1))
    flat = full.reshape(-1, full.shape[-1])
    known = {(int(v), tuple(np.round(z, 3))) for v, z in zip(expected.ravel(), flat, strict=True)}
    for label, z in zip(pixels.labels[:50].tolist(), pixels.logits[:50], strict=True):
        assert (label, tuple(np.round(z, 3))) in known


def test_a_network_that_is_three_times_too_sure():
    tree, space = load_taxonomy("streets-real"), load_label_space("idd-lite")
    rng = np.random.default_rng(0)
    root = tree.classifiers[0]
    z = rng.normal(size=(20_000, tree.channels)).astype(np.float32)
    mine = z[:, root.start : root.stop].astype(float)
    p = np.exp(mine) / np.exp(mine).sum(1, keepdims=True)
    child = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    label = np.array([np.flatnonzero(children_of_labels(space, 0) == k)[0] for k in range(7)])[child]
    found = _fit(tree, [Pixels(space, z * 3, label, np.arange(len(z)) % 2 == 1, np.ones(len(z)))])
    assert found["root"]["temperature"] == pytest.approx(3, rel=0.05)
    assert found["root"]["ece"][1] < 0.02 < found["root"]["ece"][0]
    assert found["vehicle"] == {"temperature": 1.0, "pixels": 0}


def test_from_the_command_line(tiny_experiment, tiny_model_folder, tmp_path, capsys):
    out = tmp_path / "c.json"
    assert main(["calibrate", str(tiny_model_folder), "--data", str(tiny_experiment), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert set(result["datasets"]) == {"cityscapes", "vistas", "gtsdb"}
    assert all(e["temperature"] > 0 for e in result["classifiers"].values())
    assert result["classifiers"]["root"]["nll"][1] <= result["classifiers"]["root"]["nll"][0]
    assert "AURC" in capsys.readouterr().out
    for entry in result["datasets"].values():
        for risk, acc in zip(entry["risk"], entry["acc"], strict=True):
            assert len(risk) == 20
            assert risk[-1] == pytest.approx(1 - acc)


def test_a_classifier_that_never_errs_keeps_its_temperature():
    tree, space = load_taxonomy("streets-real"), load_label_space("idd-lite")
    child = np.arange(400) // 2 % 7
    label = np.array([np.flatnonzero(children_of_labels(space, 0) == k)[0] for k in range(7)])[child]
    z = np.zeros((400, tree.channels), np.float32)
    z[np.arange(400), tree.classifiers[0].start + child] = 1.0
    assert _fit(tree, [Pixels(space, z, label, np.arange(400) % 2 == 1, np.ones(400))])["root"]["temperature"] == 1.0


@pytest.mark.parametrize("branched", [False, True])
@pytest.mark.parametrize(("adapters", "upsample"), [(False, False), (True, False), (False, True), (True, True)])
def test_every_head_takes_the_temperatures(adapters, upsample, branched):
    tree = load_taxonomy("streets-real")
    branches = Branches({2: 3, 7: 43}, 8, (), (), 4, 0.1) if branched else None
    head = HierarchicalHead(8, tree, adapters, upsample, branches).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features, temperatures = torch.randn(1, 8, 4, 5), [0.5 + i for i in range(len(tree.classifiers))]
    before = head(features)
    head.divide(temperatures)
    after = head(features)
    for c, t in zip(tree.classifiers, temperatures, strict=True):
        assert torch.allclose(after[:, c.start : c.stop] * t, before[:, c.start : c.stop], atol=1e-5)


def test_a_calibrated_copy(tiny_experiment, tiny_model_folder, tmp_path, capsys):
    out, command = tmp_path / "calibrated", ["calibrate", str(tiny_model_folder), "--data", str(tiny_experiment)]
    assert main([*command, "--out", str(out), "--json", str(tmp_path / "c.json")]) == 0
    assert "a calibrated copy" in capsys.readouterr().out
    found = json.loads((tmp_path / "c.json").read_text())["classifiers"]
    old, new = load(tiny_model_folder), load(out)
    assert new.temperatures == {name: e["temperature"] for name, e in found.items() if e["temperature"] != 1}
    assert new.temperatures["root"] != 1
    assert not old.temperatures
    assert new.digest != old.digest
    image = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)
    before, after = old.predict(image), new.predict(image)
    for c in old.taxonomy.classifiers:
        t = found[old.taxonomy.names[c.node]]["temperature"]
        assert torch.allclose(after.logits[:, c.start : c.stop] * t, before.logits[:, c.start : c.stop], atol=1e-3)
    assert (before.nodes() == after.nodes()).mean() > 0.999  # but for rounding, decisions by path stay
    tops = [old.taxonomy.names[k] for k in old.taxonomy.children[0]]
    assert max(np.abs(before.probs(n) - after.probs(n)).max() for n in tops) > 0.01
    twice = calibrated(new, {"root": 2.0}).temperatures
    assert twice["root"] == 2 * new.temperatures["root"]
    assert main([*command, "--out", str(out)]) == 2
    assert "stands there already" in capsys.readouterr().err


def test_a_pixel_weighs_what_it_stands_for(tiny_experiment, tiny_model):
    """The weights of a dataset sum to the labelled part of its images: a few signs are little, a street is all."""
    sources = {s.name: s for s in open_sources(*load_experiment(tiny_experiment))}
    for name in ("cityscapes", "gtsdb"):
        source = sources[name]
        truths = [truth(read_sample(item, scoring=True), source.space) for item in source.val]
        part = np.mean([np.append(source.space.evaluated, False)[t].mean() for t in truths])
        assert sample_pixels(tiny_model, source, None).weight.sum() == pytest.approx(part)


def test_a_dataset_of_few_wrong_pixels_does_not_decide():
    tree, space = load_taxonomy("streets-real"), load_label_space("idd-lite")
    rng = np.random.default_rng(0)
    z = rng.normal(size=(8000, tree.channels)).astype(np.float32) * 2
    mine = z[:, : len(tree.classifiers[0].children)].astype(float)
    p = np.exp(mine) / np.exp(mine).sum(1, keepdims=True)
    child = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    label = np.array([np.flatnonzero(children_of_labels(space, 0) == k)[0] for k in range(7)])
    judge = np.arange(8000) % 2 == 1
    good = Pixels(space, z, label[child], judge, np.full(8000, 1 / 8000))
    wrong = Pixels(space, z, label[(mine.argmax(1) + 1) % 7], judge, np.full(8000, 0.001 / 8000))
    assert _fit(tree, [good, wrong])["root"]["temperature"] == pytest.approx(1, rel=0.05)
    heavy = Pixels(space, z, wrong.labels, judge, good.weight)
    assert _fit(tree, [good, heavy])["root"]["temperature"] > 1.5


def test_the_calibration_error_at_each_depth():
    """A network that knows the coarse labels and is sure of a wrong fine one errs at the deepest depth alone."""
    space = load_label_space("camvid32")
    tree = space.taxonomy
    names = [b.name for b in space.labels]
    true, said = names.index("Car"), names.index("Truck_Bus")
    z = np.zeros((100, tree.channels), np.float32)
    for n in tree.path(tree.cover(space.labels[said].leaves)[0])[1:]:
        z[:, tree.channel_of[n]] = 50
    pixels = Pixels(space, z, np.full(100, true), np.arange(100), np.ones(100))
    found = errors_by_depth(pixels, space)
    deep = str(tree.depths[tree.cover(space.labels[true].leaves)[0]])
    assert found["1"] < 0.01
    assert found[deep] > 0.3
