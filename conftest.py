"""Docstring examples may use `model`: a tiny network with random weights that answers in the labels of GTSDB."""

import pytest


@pytest.fixture(scope="session")
def example_model():
    from heteroseg.experiment.config import ModelConfig
    from heteroseg.labels.space import load_label_space
    from heteroseg.model.model import Model
    from heteroseg.networks.network import build_network

    config, space = ModelConfig(pretrained=False, width=16), load_label_space("gtsdb")
    return Model("tiny", build_network(config, space.taxonomy), space.taxonomy, {"gtsdb": space}, config)


@pytest.fixture(autouse=True)
def names_of_examples(request, doctest_namespace):
    if isinstance(request.node, pytest.DoctestItem):
        lines = [example.source for example in request.node.dtest.examples]
        if any("model" in line for line in lines) and not any(line.startswith("model =") for line in lines):
            doctest_namespace["model"] = request.getfixturevalue("example_model")
