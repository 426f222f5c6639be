"""Temperatures from validation data: pixels are what the network says, and a network that is too sure is found out."""

import json

import numpy as np
import pytest

from heteroseg.cli import main
from heteroseg.config import load_experiment
from heteroseg.data import open_sources
from heteroseg.datasets import read_sample
from heteroseg.evaluation import truth
from heteroseg.labelspace import load_label_space
from heteroseg.reliability import PER_IMAGE, Pixels, _fit, children_of_labels, sample_pixels
from heteroseg.taxonomy import load_taxonomy


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
    found = _fit(tree, [Pixels(space, z * 3, label, np.arange(len(z)) % 2 == 1)])
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


def test_a_classifier_that_never_errs_keeps_its_temperature():
    tree, space = load_taxonomy("streets-real"), load_label_space("idd-lite")
    child = np.arange(400) // 2 % 7
    label = np.array([np.flatnonzero(children_of_labels(space, 0) == k)[0] for k in range(7)])[child]
    z = np.zeros((400, tree.channels), np.float32)
    z[np.arange(400), tree.classifiers[0].start + child] = 1.0
    assert _fit(tree, [Pixels(space, z, label, np.arange(400) % 2 == 1)])["root"]["temperature"] == 1.0
