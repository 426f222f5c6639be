"""Branches: layers of its own for a fine classifier, in the place of its logits; what they teach the shared layers."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import heteroseg

pytest.importorskip("transformers", reason="the extra hf is not installed")

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig, load_experiment
from heteroseg.export.export import ENDINGS, export
from heteroseg.export.random_model import random_model, scenes
from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.branched import few, pack_branches
from heteroseg.model.exported import METADATA
from heteroseg.model.model import save_model
from heteroseg.networks.branches import Branches
from heteroseg.networks.network import Network, build_network
from tests.networks.test_networks import TINY_RESNET, TINY_SEGFORMER

TREE = load_taxonomy("streets-real")
SIGNS = TREE.classifiers[TREE.classifier_of[TREE.index("traffic sign")]]
IMAGES = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0))


def config_of(names: tuple[str, ...] = ("traffic sign",), **options) -> ModelConfig:
    base = {"backbone": "hf:resnet", "backbone_options": TINY_RESNET, "width": 16, "branches": list(names)}
    return ModelConfig(**base | options)


def network_of(names: tuple[str, ...] = ("traffic sign",), **options) -> Network:
    torch.manual_seed(0)
    return build_network(config_of(names, **options), TREE)


def taught(network: Network, channels: slice) -> dict[str, torch.Tensor | None]:
    """The gradients after a step in training on some channels alone."""
    network.train().zero_grad()
    network(IMAGES)[:, channels].square().sum().backward()
    return {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize(("stride", "inputs"), [(4, 16 + 8), (8, 16 + 4 * 8 + 8), (16, 16 + 16 * 8 + 4 * 8 + 16)])
def test_a_branch_reads_all_maps_that_are_no_coarser(stride, inputs):
    network = network_of(stride=stride)
    assert network.get_submodule("body.2.branches.each.7.narrow").in_features == inputs
    assert network(IMAGES).shape == (2, TREE.channels, 64 // stride, 96 // stride)


def test_only_the_named_classifier_has_its_own_layers():
    """Its logits come from there and from nowhere else; all others come from what is shared."""
    network = network_of(("roadside object", "traffic sign"))
    own = taught(network, slice(SIGNS.start, SIGNS.stop))
    names = [n for n, gradient in own.items() if gradient is not None and gradient.any()]
    assert {n.split(".")[4] for n in names if n.startswith("body.2.branches")} == {"7"}
    assert not any(n.startswith("body.2.logits") for n in names)
    rest = taught(network, slice(TREE.classifiers[1].start, TREE.classifiers[1].stop))
    assert all(g is None or not g.any() for n, g in rest.items() if n.startswith("body.2.branches"))


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.5, 1.0])
def test_only_a_part_of_the_gradient_reaches_what_is_shared(factor):
    whole, part = (network_of(branch_gradient=g) for g in (1.0, factor))
    assert torch.equal(whole.train()(IMAGES), part.train()(IMAGES)), "the logits are the same"
    one, other = (
        taught(n, slice(SIGNS.start, SIGNS.stop))
        for n in (network_of(branch_gradient=1.0), network_of(branch_gradient=factor))
    )
    shared = [n for n in one if n.startswith(("body.0", "body.1"))]
    assert any(one[n] is not None and one[n].any() for n in shared)
    for name, gradient in one.items():
        if name in shared and not factor:
            assert other[name] is None or not other[name].any()
        elif gradient is not None:
            torch.testing.assert_close(other[name], gradient * (factor if name in shared else 1), rtol=1e-3, atol=5e-5)


@torch.no_grad()
def test_a_cell_sees_its_surroundings_alone():
    """The middle of a crop, four cells from its borders, has the logits that it has in the whole."""
    branch = network_of().get_submodule("body.2.branches.each.7").eval()
    x = torch.randn(1, 24, 30, 40)
    whole, crop = branch(x), branch(x[:, :, 8:28, 10:31])
    torch.testing.assert_close(crop[:, :, 4:-4, 4:-4], whole[:, :, 12:24, 14:27], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"branches": ["trafic sign"]},
            r"below its root, found 'trafic sign'; did you mean 'traffic sign'\?",
        ),
        ({"branches": ["car"]}, "model.branches: expected classifiers of 'streets-real' below its root, found 'car'"),
        ({"branches": ["root"]}, "found 'root'"),
        ({"branches": ["x" * 500]}, "found 'x{80}"),
        (
            {"backbone": "hf-seg:segformer", "backbone_options": TINY_SEGFORMER},
            "a whole network of transformers takes none",
        ),
    ],
)
def test_what_cannot_have_a_branch_is_told(options, told):
    with pytest.raises(HeterosegError, match=told) as error:
        build_network(config_of(**options), TREE)
    assert len(error.value.faults) == 1
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.branches=traffic sign", "list"),
        ("model.branches=[1]", "text"),
        ("model.branches=['']", "not an empty one"),
        ("model.branch_gradient=2", "less than or equal to 1"),
        ("model.branch_gradient=0.5", "has no effect, there are no model.branches"),
        (
            "model={backbone: 'hf-seg:segformer', branches: [traffic sign]}",
            "has no effect, 'hf-seg:segformer' is a whole",
        ),
    ],
)
def test_faults_of_the_experiment_are_told(tiny_experiment, override, told):
    with pytest.raises(HeterosegError, match=told) as error:
        load_experiment(tiny_experiment, [override])
    assert len(error.value.faults) == 1


@torch.no_grad()
@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.5, 1.0])
def test_a_few_cells_have_the_logits_of_all(share):
    branch = network_of().get_submodule("body.2.branches.each.7").eval()
    x = torch.randn(1, 24, 33, 41).contiguous(memory_format=torch.channels_last)
    wanted = np.random.default_rng(0).random((33, 41)) < share
    wanted[0, 0] = wanted[-1, -1] = True
    maps = [part.permute(1, 2, 0) for part in x[0].split([10, 14])]
    found = torch.from_numpy(few(branch, maps, wanted))
    torch.testing.assert_close(found, branch(x)[0].permute(1, 2, 0)[torch.from_numpy(wanted)], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=[4, 8])
def model(request, tmp_path_factory):
    """A MODEL with a branch below a branch, saved and loaded, with few signs."""
    names = ("roadside object", "traffic sign")
    made, folder = random_model(config_of(names, stride=request.param), TREE, (64, 96)), tmp_path_factory.mktemp("m")
    save_model(made, folder / "model")
    again = heteroseg.load(folder / "model")
    assert again.config.branches == list(names)
    assert again.digest == made.digest
    return again


def test_use_works_out_what_decisions_need(model):
    """The answers are those of all logits, and the branch is not asked for what they do not need."""
    image = scenes(1, (70, 100))[0]
    asked = []
    for rule in ("path", "marginal"):
        lazy = replace(model, decision=rule).predict(image)
        whole = replace(lazy, output=model.network(torch.from_numpy(image)[None].permute(0, 3, 1, 2)).detach())
        for space in ("leaves", "camvid32", "gtsdb-real"):
            space = load_label_space(space, TREE) if space != "leaves" else space
            assert (lazy.label_indices(space) == whole.label_indices(space)).mean() > 0.9999
            asked.append(lazy.output.known[7].mean())
        assert (lazy.nodes() == whole.nodes()).mean() > 0.9999
        assert np.allclose(lazy.confidence("leaves"), whole.confidence("leaves"), atol=1e-5)
        assert lazy.output.known[7].all()
        torch.testing.assert_close(lazy.logits, whole.logits, rtol=1e-4, atol=1e-4)
    assert min(asked) < 0.9


@pytest.mark.parametrize("head", ["auto", "dense"])
@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_an_exported_file_answers_as_the_model(model, tmp_path, kind, head):
    pytest.importorskip({"openvino": "openvino", "onnx": "onnxruntime"}[kind], reason=f"the extra {kind} is missing")
    image, path = scenes(1, (70, 100))[0], tmp_path / f"m{ENDINGS[kind]}"
    export(model, path, kind, head=head)
    exported = heteroseg.load(path)
    assert exported.network.lazy == (head == "auto")
    for rule in ("path", "marginal"):
        wanted, found = (replace(m, decision=rule).predict(image) for m in (model, exported))
        assert (found.labels("leaves") == wanted.labels("leaves")).mean() > 0.999
        assert (found.nodes() == wanted.nodes()).mean() > 0.999
        assert (found.logits - wanted.logits).abs().max() < 1e-3 * wanted.logits.std()


@pytest.mark.parametrize(
    "packed",
    ["", "x", base64.b64encode(b"x" * 99).decode(), pack_branches(Branches({7: 42}, 16, (), (), 4, 0.1))],
    ids=["none", "letter", "letters", "another"],
)
def test_forged_weights_of_branches_are_told(model, tmp_path, packed):
    pytest.importorskip("onnxruntime", reason="the extra onnx is missing")
    import onnx

    path = tmp_path / "m.onnx"
    export(model, path, "onnx")
    file = onnx.load(path)
    entry = next(e for e in file.metadata_props if e.key == METADATA)
    facts = json.loads(entry.value)
    entry.value = json.dumps(facts | {"branches": packed, "checksum": None})
    onnx.save(file, path)
    with pytest.raises(HeterosegError, match=r"m\.onnx: expected the weights of branches, found others") as error:
        heteroseg.load(path)
    assert len(error.value.faults) == 1


def test_the_commands_take_branches(tiny_experiment, tmp_path, capsys):
    """Trained, calibrated, evaluated: the whole way of a user."""
    options = ["model.branches=[traffic sign, traffic sign (front)]", "train.steps=2"]
    assert main(["train", str(tiny_experiment), "--out", str(tmp_path / "run"), *options]) == 0
    out, data = tmp_path / "calibrated", ["--data", str(tiny_experiment)]
    assert main(["calibrate", str(tmp_path / "run"), *data, "--out", str(out)]) == 0
    old, new = (heteroseg.load(path).predict(scenes(1, (70, 100))[0]) for path in (tmp_path / "run", out))
    temperatures = new.model.temperatures
    for c in old.model.taxonomy.classifiers:
        t = temperatures.get(old.model.taxonomy.names[c.node], 1.0)
        torch.testing.assert_close(
            new.logits[:, c.start : c.stop] * t, old.logits[:, c.start : c.stop], atol=1e-4, rtol=1e-4
        )
    assert np.array_equal(old.nodes() >= 0, new.nodes() >= 0)
    capsys.readouterr()
