"""A network of mask classification trains, resumes, is calibrated and predicts as any other."""

import pytest
import torch

from heteroseg.evaluation.temperatures import calibrated
from heteroseg.experiment.config import Experiment
from heteroseg.model.model import load
from heteroseg.networks.queries import Queries
from heteroseg.training.loop import train
from tests.networks.catalogue import MASKERS
from tests.small_tree import TREE

pytest.importorskip("transformers", reason="the extra hf is not installed")


def experiment(matching: float = 1.0, steps: int = 2) -> Experiment:
    return Experiment(
        name="masks",
        taxonomy="streets-108",
        datasets={n: {"root": n, "reader": n, "label_space": n} for n in ("cityscapes", "gtsdb")},
        model={"backbone": "hf-mask:eomt_dinov3", "pretrained": False, "backbone_options": MASKERS["eomt_dinov3"]},
        loss={"matching": matching},
        train={"steps": steps, "batch": 2, "crop": (64, 64), "workers": 0, "accelerator": "cpu"},
    )


def test_it_trains_and_answers(tiny_data, tmp_path):
    result = train(experiment(), tiny_data, tmp_path / "run")
    assert result is not None
    model = load(tmp_path / "run")
    image = torch.randint(0, 256, (50, 70, 3), dtype=torch.uint8).numpy()
    before = model.predict(image)
    assert before.nodes().shape == (50, 70)
    halved = calibrated(model, {"root": 2.0})
    logits = [m.torch_network(torch.from_numpy(image).permute(2, 0, 1)[None]) for m in (model, halved)]
    root = model.taxonomy.classifiers[0]
    assert torch.allclose(logits[1][:, : root.stop], logits[0][:, : root.stop] / 2, atol=1e-5)
    assert torch.equal(logits[1][:, root.stop :], logits[0][:, root.stop :])
    again = load(halved.save_pretrained(tmp_path / "halved"))
    assert again.digest == halved.digest != model.digest


def test_matching_moves_the_queries(tiny_data, tmp_path):
    weights = []
    for matching in (0.0, 1.0):
        train(experiment(matching, steps=1), tiny_data, tmp_path / f"{matching}")
        weights.append(load(tmp_path / f"{matching}").torch_network.state_dict())
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_queries_keep_nothing_in_use():
    queries = Queries(TREE).eval()
    queries(torch.zeros(1, 2, TREE.channels + 1), torch.zeros(1, 2, 3, 3))
    assert queries.seen is None
