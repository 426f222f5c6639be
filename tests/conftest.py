"""What several test files share: tiny drawn data, a tiny network with random weights, and an experiment of both."""

import os
import secrets
import signal
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings

from heteroseg.experiment.config import ModelConfig
from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.model import Model, load, save_model
from heteroseg.networks.network import build_network
from heteroseg.scenes import draw_scene, generate

DATASETS = ("cityscapes", "vistas", "gtsdb")

SIZES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
TINY = {"backbone": "hf:resnet", "backbone_options": SIZES, "width": 16}
if find_spec("transformers") is None:  # `make test-plain`
    TINY = {"backbone": "lite0", "pretrained": False, "width": 16}
EXPERIMENT = """\
name: tiny
taxonomy: streets-108
data_root: {root}
datasets:
  cityscapes: {{root: cityscapes, reader: cityscapes, label_space: cityscapes}}
  vistas:     {{root: vistas, reader: vistas, label_space: vistas}}
  gtsdb:      {{root: gtsdb, reader: gtsdb, label_space: gtsdb, flip: 0, focus: 0.9}}
model: MODEL
train: {{steps: 2, batch: 3, crop: [64, 64], workers: 0, accelerator: cpu}}
""".replace("MODEL", yaml.safe_dump(TINY, default_flow_style=True, width=200).replace("{", "{{").replace("}", "}}"))

# the same examples on every machine and in every run, so that a red test is the change's fault
settings.register_profile("repeatable", max_examples=150, derandomize=True, deadline=None)
# `make examples`: other ones in every run; --hypothesis-seed repeats one
settings.register_profile("random", max_examples=500, deadline=None)
settings.load_profile("repeatable")
# whoever starts the tests in the background may have these ignored, and then no test could send them
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# what tests/reliability draws is new in every run; set before xdist's processes begin, so that all have the same
os.environ.setdefault("SEED", str(secrets.randbelow(2**32)))


def pytest_report_header() -> str:
    return f"reliability: SEED={os.environ['SEED']}"


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """Drawn Cityscapes, Vistas and GTSDB, 4 train and 2 val images each. Tests that change files copy it first."""
    root = tmp_path_factory.mktemp("tiny_data")
    generate(root, 4, 2, (64, 128), seed=5)
    return root


@pytest.fixture(scope="session")
def tiny_model_config() -> ModelConfig:
    return ModelConfig(**TINY)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory, tiny_model_config) -> Path:
    """A MODEL folder of random weights that answers with many different labels."""
    torch.manual_seed(3)
    tree = load_taxonomy("streets-108")
    network = build_network(tiny_model_config, tree)
    image = torch.from_numpy(draw_scene(np.random.default_rng(0), (64, 128)).image.transpose(2, 0, 1).copy())
    with torch.no_grad():  # decided answers that change from place to place, signs among them
        last = network.eval().body.get_submodule("2.logits.0")
        logits = network(image[None])
        size = torch.full((tree.channels,), 4.0)
        size[[tree.channel_of[n] for n in tree.path(tree.index("traffic sign (front)"))[1:]]] = 8.0
        mean, factor = logits.mean((0, 2, 3)), size / logits.std((0, 2, 3))
        last.weight.mul_(factor[:, None, None, None])
        last.bias.copy_(-mean * factor)
    spaces = {name: load_label_space(name, tree) for name in DATASETS}
    folder = tmp_path_factory.mktemp("tiny_model") / "model"
    save_model(Model("tiny", network, tree, spaces, tiny_model_config), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder) -> Model:
    return load(tiny_model_folder)


@pytest.fixture(scope="session")
def tiny_experiment(tmp_path_factory, tiny_data) -> Path:
    path = tmp_path_factory.mktemp("tiny_experiment") / "experiment.yaml"
    path.write_text(EXPERIMENT.format(root=tiny_data))
    return path
