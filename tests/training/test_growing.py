"""A trained network that grows: new nodes are learnt, and all that it answered before it answers to the bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import heteroseg
from heteroseg.cli.main import main
from heteroseg.decisions.reference import RULES
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import OptimiserConfig, load_experiment
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.growing import freeze_but, new_nodes
from heteroseg.model.model import Model
from heteroseg.scenes import draw_scene
from heteroseg.training.loop import train
from heteroseg.training.optimiser import build_optimiser
from heteroseg.training.run import Run
from tests.model.test_beginning import IMAGES, begun, kinds, stop, trained, written
from tests.networks.catalogue import MASKERS

NODE = "traffic sign (front)"
SCENES = [draw_scene(np.random.default_rng(seed), (64, 128)).image for seed in range(3)]


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_experiment) -> Path:
    """`coarse.yaml`, whose tree ends where GTSDB's types begin, and `fine.yaml`, whose tree has them."""
    folder = tmp_path_factory.mktemp("grow")
    tree = load_taxonomy("streets-108").to_file().model_dump()
    (folder / "fine-tree.yaml").write_text(yaml.safe_dump(tree))
    types = tree["tree"].pop(NODE)
    tree["colors"] = {name: color for name, color in tree["colors"].items() if name not in types}
    (folder / "coarse-tree.yaml").write_text(yaml.safe_dump(tree))
    datasets = yaml.safe_load(tiny_experiment.read_text())["datasets"]
    coarse = {name: datasets[name] for name in ("cityscapes", "vistas")}
    written(folder, tiny_experiment, taxonomy="coarse-tree.yaml", datasets=coarse).rename(folder / "coarse.yaml")
    fine = {"gtsdb": datasets["gtsdb"]}
    written(folder, tiny_experiment, taxonomy="fine-tree.yaml", datasets=fine, model=None).rename(folder / "fine.yaml")
    train(*load_experiment(folder / "coarse.yaml"), folder / "old")
    return folder


@pytest.fixture(scope="module")
def new(world) -> Path:
    overrides = ["train.steps=6", "optimiser.warmup=0"]
    command = ["grow", str(world / "old"), "--node", NODE, "--data", str(world / "fine.yaml")]
    assert main([*command, "--out", str(world / "new"), *overrides]) == 0
    return world / "new"


def answers(model: Model, rule: str) -> list[np.ndarray]:
    model.decision = rule  # type: ignore[assignment]
    return [model.predict(image).labels(name) for name in ("cityscapes", "vistas") for image in SCENES]


@pytest.mark.parametrize("rule", RULES)
def test_all_old_answers_are_the_same_to_the_bit(world, new, rule):
    before, after = heteroseg.load(world / "old"), heteroseg.load(new)
    assert set(after.spaces) == {"cityscapes", "vistas", "gtsdb"}
    for one, other in zip(answers(before, rule), answers(after, rule), strict=True):
        assert np.array_equal(one, other)
    tree, above = before.taxonomy, before.taxonomy.path(before.taxonomy.index(NODE))
    for node, name in enumerate(tree.names):
        one, other = (model.predict(SCENES[0]).probs(name) for model in (before, after))
        assert np.allclose(one, other, atol=1e-6), name
        assert node in above or np.array_equal(one, other), f"{name}, which is no sum over the new ones"


def test_all_old_weights_are_the_same_to_the_bit_and_the_new_ones_are_learnt(world, new):
    before, after = (heteroseg.load(folder).torch_network.state_dict() for folder in (world / "old", new))
    assert all(torch.equal(after[name], before[name]) for name in before)
    grown = set(after) - set(before)
    assert grown
    assert all(".branches." in name for name in grown)
    state = torch.load(new / "state.pt", weights_only=True)["optimiser"]["state"]
    assert len(state) == len(grown)
    assert all(moments["exp_avg"].any() for moments in state.values())


def test_it_is_told_before_and_after(world, capsys):
    command = ["grow", str(world / "old"), "--node", NODE, "--data", str(world / "fine.yaml"), "train.steps=1"]
    assert main([*command, "--out", str(world / "told")]) == 0
    out, err = capsys.readouterr()
    assert "stays, bit for bit" in err
    assert "pixels of 2 val images with another answer than before: cityscapes 0 %, vistas 0 %" in out
    assert main(["share", str(world / "told"), "--out", str(world / "shared")]) == 0


def test_a_killed_growth_goes_on(world, monkeypatch):
    command = ["grow", str(world / "old"), "--node", NODE, "--data", str(world / "fine.yaml"), "train.steps=4"]
    command += ["train.save_every=2", "--out"]
    assert main([*command, str(world / "whole")]) == 0
    step = Run.train_step
    with monkeypatch.context() as patched:
        patched.setattr(Run, "train_step", lambda self, batch: stop() if self.step == 3 else step(self, batch))
        assert main([*command, str(world / "broken")]) == 130
    assert main([*command, str(world / "broken"), "--resume"]) == 0
    assert heteroseg.load(world / "whole").digest == heteroseg.load(world / "broken").digest


@kinds
def test_a_sibling_moves_nothing_but_its_own_logits(kind):
    """Of all layers, also of a decaying optimiser, the old rows stay to the bit."""
    source = trained(kind)
    model, origins = begun(source, {}, x=["new", "u", "v", "w"])
    network, tree = model.torch_network, model.taxonomy
    assert freeze_but(network, tree, new_nodes(origins)) == ["x"]
    optimiser = build_optimiser(network, OptimiserConfig())
    with torch.no_grad():
        before = network.eval()(IMAGES)
    for _ in range(3):
        network(IMAGES).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():
        moved = (network(IMAGES) != before).any(3).any(2).any(0)
    assert moved.nonzero().flatten().tolist() == [tree.channel_of[tree.index("new")]]


def test_a_sibling_of_queries_moves_no_other_class():
    """Its brothers alone answer otherwise, as they share their parent with it."""
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    source = trained({"backbone": "hf-mask:mask2former", "backbone_options": MASKERS["mask2former"]})
    model, origins = begun(source, {}, x=["new", "u", "v", "w"])
    network, tree = model.torch_network.eval(), model.taxonomy
    assert freeze_but(network, tree, new_nodes(origins)) == ["x"]
    optimiser = build_optimiser(network, OptimiserConfig())
    old = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        before = network(IMAGES)
    for _ in range(3):
        network(IMAGES).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    row = tree.channel_of[tree.index("new")]
    changed = {name: (tensor != old[name]) for name, tensor in network.state_dict().items()}
    changed = {
        name: where.flatten(1).any(1) if where.ndim > 1 else where for name, where in changed.items() if where.any()
    }
    assert {name: where.nonzero().flatten().tolist() for name, where in changed.items()} == {
        f"body.model.class_predictor.{kind}": [row] for kind in ("weight", "bias")
    }
    with torch.no_grad():
        moved = (network(IMAGES) != before).any(3).any(2).any(0)
    assert {tree.names[tree.channel_of.index(i)] for i in moved.nonzero().flatten().tolist()} == {"new", *"uvw"}


def test_a_sibling_is_told(world, tiny_experiment, capsys):
    tree = yaml.safe_load((world / "coarse-tree.yaml").read_text())
    parent = next(name for name, children in tree["tree"].items() if NODE in children)
    tree["tree"][parent].append("new sign")
    (world / "sibling-tree.yaml").write_text(yaml.safe_dump(tree))
    content = yaml.safe_load((world / "coarse.yaml").read_text()) | {"taxonomy": "sibling-tree.yaml"}
    (world / "sibling.yaml").write_text(yaml.safe_dump(content))
    command = ["grow", str(world / "old"), "--node", parent, "--data", str(world / "sibling.yaml"), "train.steps=1"]
    assert main([*command, "--out", str(world / "sibling")]) == 0
    out, err = capsys.readouterr()
    assert f"answers may change where {parent} is seen" in err
    assert "with another answer than before: cityscapes" in out


@pytest.mark.parametrize(
    ("node", "experiment", "told"),
    [
        ("sky", "fine.yaml", "with new nodes under 'sky' alone, found '.*' elsewhere"),
        ("traffic sing", "fine.yaml", "has no node 'traffic sing'.*did you mean 'traffic sign"),
        (NODE, "coarse.yaml", "found no new node"),
    ],
    ids=["elsewhere", "misspelt", "nothing new"],
)
def test_what_cannot_grow_is_told(world, tmp_path, node, experiment, told):
    how = [f"train.begin={world / 'old'}", f"train.grow={node}"]
    with pytest.raises(HeterosegError, match=told):
        train(*load_experiment(world / experiment, how), tmp_path / "run")
