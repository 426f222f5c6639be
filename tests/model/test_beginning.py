"""A trained network as the beginning of another: what each node's logit is when training begins."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig, load_experiment
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy
from heteroseg.model.beginning import first_network, open_model, take_weights
from heteroseg.model.model import Model, load
from heteroseg.networks.network import build_network
from heteroseg.training.loop import Run, train
from tests.conftest import TINY
from tests.networks.catalogue import MASKERS, SEGMENTERS, catalogue
from tests.small_tree import FILE

IMAGES = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0))
KINDS = {
    "plain": {},
    "void": {"void": True},
    "adapters": {"adapters": True},
    "adapters, upsampling and void": {"adapters": True, "upsample": True, "void": True},
    "upsampling": {"upsample": True},
    "branch": {"branches": ["x"]},
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def tree_of(void: bool = False, **changes) -> Taxonomy:
    children = {**FILE.tree, **changes}
    return build_taxonomy(TaxonomyFile(name="t", tree={k: v for k, v in children.items() if v}), void=void)


def trained(kind: dict, seed: int = 0) -> Model:
    """Random weights, of norms and biases too, for the small tree."""
    torch.manual_seed(seed)
    tree, config = tree_of(kind.get("void", False)), ModelConfig(**TINY | kind)
    network = build_network(config, tree).eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim < 4:
                tensor.add_(torch.rand_like(tensor) * 0.3)
    return Model("t", network, tree, {}, config)


def begun(source: Model, kind: dict, **changes) -> tuple[Model, dict[str, str]]:
    tree = tree_of(source.taxonomy.void, **changes)
    torch.manual_seed(99)
    network = build_network(source.config.model_copy(update=kind), tree).eval()
    origins = take_weights(network, tree, source)
    return Model("new", network, tree, {}, source.config), origins


@torch.no_grad()
def logits(model: Model) -> dict[str, torch.Tensor]:
    out = model.network(IMAGES)
    tree = model.taxonomy
    return {name: out[:, c] for name, c in zip(tree.names, tree.channel_of, strict=True) if c >= 0}


@kinds
def test_the_same_tree_has_the_same_weights(kind):
    source = trained(kind)
    model, origins = begun(source, {})
    assert set(origins.values()) == {"itself"}
    ours, theirs = model.torch_network.state_dict(), source.torch_network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@kinds
def test_the_order_of_children_changes_nothing(kind):
    source = trained(kind)
    model, _ = begun(source, {}, root=["c", "b", "a"], x=["v", "w", "u"], a=["y", "x"])
    ours, theirs = logits(model), logits(source)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)


@kinds
def test_a_refined_leaf_leaves_all_others_as_they_were(kind):
    source = trained(kind)
    model, origins = begun(source, {}, y=["y1", "y2"])
    ours, theirs = logits(model), logits(source)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    if not kind.get("upsample"):
        assert origins["y1"] == origins["y2"] == "its parent"
        assert torch.equal(ours["y1"], ours["y2"]), "even, so that the leaf is shared out evenly"


@kinds
def test_a_new_sibling_is_the_mean_of_the_others(kind):
    source = trained(kind)
    model, origins = begun(source, {}, x=["new", "u", "v", "w"])
    ours, theirs = logits(model), logits(source)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    assert origins["new"] == "its siblings"
    assert torch.allclose(ours["new"], (theirs["u"] + theirs["v"] + theirs["w"]) / 3, atol=1e-6)


def test_a_node_in_between_is_the_mean_of_its_children_and_their_number():
    source = trained({})
    model, origins = begun(source, {}, root=["ab", "c"], ab=["a", "b"])
    ours, theirs = logits(model), logits(source)
    assert origins["ab"] == "its children"
    assert torch.allclose(ours["ab"], (theirs["a"] + theirs["b"]) / 2 + math.log(2), atol=1e-6)
    assert torch.allclose(ours["a"], theirs["a"], atol=1e-6)


def test_what_is_gone_and_what_nothing_is_known_of_is_told():
    source = trained({})
    _, origins = begun(source, {}, root=["p", "q"], a=[], b=[], x=[], p=["r", "s"])
    assert {origins[name] for name in "pqrs"} == {"at random"}
    assert origins["a"] == origins["u"] == "left out"


def test_a_new_branch_begins_at_random_and_an_adapter_as_that_above():
    source = trained({"adapters": True})
    model, _ = begun(source, {}, y=["y1", "y2"])
    adapters = [model.torch_network.get_submodule(f"body.2.adapters.{i}").state_dict() for i in range(4)]
    names = [model.taxonomy.names[c.node] for c in model.taxonomy.classifiers]
    a, y = adapters[names.index("a")], adapters[names.index("y")]
    assert all(torch.equal(a[key], y[key]) for key in a)
    source = trained({})
    model, origins = begun(source, {"branches": ["x"]})
    ours, theirs = logits(model), logits(source)
    assert {name for name, origin in origins.items() if origin == "at random"} == {"u", "v", "w"}
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs.keys() - {"u", "v", "w"})


def test_whole_networks_begin_too():
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    kinds = {"hf-seg:segformer": SEGMENTERS["segformer"], "hf-mask:eomt": MASKERS["eomt"]}
    for backbone, options in kinds.items():
        kind = {"backbone": backbone, "backbone_options": options}
        source = trained(kind)
        model, origins = begun(source, {})
        ours, theirs = model.torch_network.state_dict(), source.torch_network.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert set(origins.values()) == {"itself"}
        assert begun(source, {}, y=["y1", "y2"])[1]["y1"] == "its parent"


@pytest.mark.parametrize("void", [False, True], ids=["", "void"])
@pytest.mark.parametrize("name", [name for name in MASKERS if name != "videomt"])
def test_queries_begin_by_the_names_of_nodes(name, void):
    """Class by class in every query; temperatures go with the nodes, and "no object" stays."""
    if f"hf-mask:{name}" not in catalogue():
        pytest.skip("this version of transformers lacks it")
    kind = {"backbone": f"hf-mask:{name}", "backbone_options": MASKERS[name], "void": void}
    source = trained(kind)
    old, known = source.torch_network.head, source.taxonomy
    old.factors.fill_(1)
    names = [known.names[c.node] for c in known.classifiers]
    old.divide([1.0 + 0.5 * (name == "a") + (name == "x") for name in names])
    model, origins = begun(source, {}, root=["c", "b", "a"], x=["new", "u", "v", "w"], y=["y1", "y2"])
    new, tree = model.torch_network.head, model.taxonomy
    assert {n: o for n, o in origins.items() if o != "itself"} == {
        "new": "its siblings",
        "y1": "its parent",
        "y2": "its parent",
    }
    ours, theirs = logits(model), logits(source)
    assert all(torch.allclose(ours[n], theirs[n], atol=1e-5) for n in theirs.keys() - {*"uvw"})
    assert torch.equal(ours["y1"], ours["y2"])
    assert void or torch.allclose(ours["y1"], theirs["y"] - math.log(2) / 1.5, atol=1e-5)
    shared = [n for n in known.names if known.channel_of[known.index(n)] >= 0]
    places = [[t.channel_of[t.index(n)] for n in shared] + [-1] for t in (tree, known)]
    for ours, theirs in zip(new.classes[0].parameters(), old.classes[0].parameters(), strict=True):
        assert torch.equal(ours[places[0]], theirs[places[1]])
        mean = theirs[[known.channel_of[known.index(n)] for n in "uvw"]].mean(0)
        assert torch.allclose(ours[tree.channel_of[tree.index("new")]], mean, atol=1e-6)
    assert new.factors[tree.channel_of[tree.index("new")]] == 0.5


@pytest.fixture(scope="module")
def first(tmp_path_factory, tiny_experiment) -> Path:
    out = tmp_path_factory.mktemp("first") / "run"
    train(*load_experiment(tiny_experiment), out)
    return out


def written(folder: Path, experiment: Path, **changes) -> Path:
    """The tiny experiment in another folder, with changes; None takes a key away."""
    content = yaml.safe_load(experiment.read_text()) | changes
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return path


def test_the_path_of_a_beginning_may_have_any_sign(tmp_path, tiny_experiment, capsys):
    model = tmp_path / "\N{GRINNING FACE}"
    assert main(["train", str(tiny_experiment), "--from", str(model), "--out", str(tmp_path / "run")]) == 2
    assert f"{model}: expected a MODEL folder" in capsys.readouterr().err


def test_train_begins_from_a_model(tmp_path, tiny_experiment, first, monkeypatch, capsys):
    """The network is the MODEL's where the file says nothing; label spaces stay; a relative path is from here."""
    content = yaml.safe_load(tiny_experiment.read_text())
    (tmp_path / "elsewhere").mkdir()
    path = written(
        tmp_path / "elsewhere", tiny_experiment, model=None, datasets={"vistas": content["datasets"]["vistas"]}
    )
    monkeypatch.chdir(first.parent)
    monkeypatch.setattr(Run, "train_step", stop)
    assert main(["train", str(path), "--from", "run", "--out", str(tmp_path / "run")]) == 130
    told = capsys.readouterr().err
    assert f"begins as {first}: 111 nodes taken by name, 0 new, 0 left out" in told
    before, after = (load_file(folder / "last" / "model.safetensors") for folder in (first, tmp_path / "run"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(load(tmp_path / "run" / "last").spaces) == {"cityscapes", "vistas", "gtsdb"}
    assert len(list(csv.DictReader((tmp_path / "run" / "begun.csv").open()))) == 111
    assert json.loads((tmp_path / "run" / "experiment.json").read_text())["train"]["begin"] == str(first)


def stop(*_):
    raise KeyboardInterrupt


def test_a_stopped_run_goes_on_without_its_beginning(tmp_path, tiny_experiment, first, monkeypatch):
    """Stopped before its first state it begins from the MODEL again; after that the MODEL may be gone."""
    begin = tmp_path / "begin"
    shutil.copytree(first, begin)
    path = written(tmp_path, tiny_experiment, model=None)
    experiment, folder = load_experiment(path, [f"train.begin={begin}"])
    train(experiment, folder, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(Run, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, folder, tmp_path / "broken")
    with monkeypatch.context() as patched:
        patched.setattr(Run, "train_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, folder, tmp_path / "broken", resume=True)
    shutil.rmtree(begin)
    train(*load_experiment(path), tmp_path / "broken", resume=True)
    whole, broken = (load_file(tmp_path / run / "last" / "model.safetensors") for run in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_hub_and_the_shipped_model_are_named_and_nothing_else_is_fetched(tiny_experiment, first, monkeypatch):
    monkeypatch.setattr("heteroseg.model.model.download", lambda name: {"hf://owner/name": first}[name])
    for name, due in (("hf://owner/name", "tiny"), ("demo", "demo"), (first.name, "tiny")):
        assert open_model(name, first.parent, "begin").name == due
    source = open_model("demo", first.parent, "begin")
    experiment, _ = load_experiment(tiny_experiment, ["model={backbone: lite0, width: 64}", "train.begin=demo"])
    assert experiment.model.pretrained
    monkeypatch.setattr("heteroseg.networks.backbone.torch.load", stop)
    assert set(first_network(experiment, source.taxonomy, source)[1].values()) == {"itself"}


@pytest.mark.parametrize(
    ("begin", "overrides", "told"),
    [
        ("run", ["model.width=8"], "train.begin: expected model.width=16, as the MODEL 'tiny' has it, found 8"),
        ("run", ["model.backbone=lite0", "model.width=16"], "found 'lite0'"),
        ("nowhere", [], "nowhere: expected a MODEL folder"),
    ],
    ids=["width", "backbone", "no MODEL"],
)
def test_another_network_is_refused(tmp_path, tiny_experiment, first, begin, overrides, told):
    if f"model.backbone={TINY['backbone']}" in overrides:
        pytest.skip("without transformers it is the same backbone")
    path = written(tmp_path, tiny_experiment, model=None)
    experiment, folder = load_experiment(path, [f"train.begin={first.parent / begin}", *overrides])
    with pytest.raises(HeterosegError, match=told.replace(".", r"\.")):
        train(experiment, folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
