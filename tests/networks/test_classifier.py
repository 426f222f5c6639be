"""The last layer of other people's networks: found by what it does, or refused."""

import contextlib

import pytest
import torch
from torch import nn

from heteroseg import HeterosegError, replace_classifier
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.networks.classifier import find_classifier
from heteroseg.networks.heads import HierarchicalHead

TREE = load_taxonomy("streets-108")


class Mine(nn.Module):
    """A network whose parts are defined in another order than they run in."""

    def __init__(self, classifier: nn.Module, auxiliary: nn.Module | None = None, end: nn.Module | None = None):
        super().__init__()
        self.classifier = classifier
        self.end = end or nn.UpsamplingBilinear2d(scale_factor=2)
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.narrow = nn.Conv2d(16, 16, 1)
        self.auxiliary = auxiliary
        self.other = nn.Conv2d(16, 7, 1)

    def forward(self, x):
        features = self.narrow(self.stem(x).relu()).relu()
        logits = {"out": self.end(self.classifier(features)), "aux": self.other(features)}
        return logits | ({"more": self.auxiliary(features)} if self.auxiliary else {})


class PerPixel(nn.Module):
    """A linear layer on the channels of a map."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 7)

    def forward(self, x):
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


ENDS = {
    "1x1": (Mine(nn.Conv2d(16, 7, 1)), "classifier"),
    "3x3": (Mine(nn.Conv2d(16, 7, 3, padding=1)), "classifier"),
    "dilated": (Mine(nn.Conv2d(16, 7, 3, padding=2, dilation=2, padding_mode="reflect")), "classifier"),
    "one class": (Mine(nn.Conv2d(16, 1, 1)), "classifier"),
    "no bias": (Mine(nn.Conv2d(16, 7, 1, bias=False)), "classifier"),
    "linear": (Mine(PerPixel()), "classifier.linear"),
    "auxiliary behind": (Mine(nn.Conv2d(16, 7, 1), nn.Conv2d(16, 7, 1)), "classifier"),
    "as many channels as classes": (Mine(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)), "classifier"),
    "dropout behind": (Mine(nn.Conv2d(16, 7, 1), end=nn.Dropout2d()), "classifier"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_layer_that_makes_the_logits_is_found(end):
    network, path = ENDS[end]
    assert find_classifier(network) == path
    assert network.training
    shape = network(torch.zeros(1, 3, 64, 96))["out"].shape
    other = network(torch.zeros(1, 3, 64, 96))["aux"].shape
    assert replace_classifier(network, TREE) is network
    now = network(torch.zeros(1, 3, 64, 96))
    assert now["out"].shape == (1, TREE.channels, *shape[2:])
    assert now["aux"].shape == other
    now["out"].sum().backward()
    (head,) = (m for m in network.modules() if isinstance(m, HierarchicalHead))
    assert all(p.grad is not None for p in head.parameters())
    network.eval()
    before = network(torch.ones(1, 3, 64, 96))["out"]
    head.divide([2.0] * len(TREE.classifiers))
    torch.testing.assert_close(network(torch.ones(1, 3, 64, 96))["out"], before / 2)


class TwoScales(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 7, 1), nn.Conv2d(3, 7, 1)

    def forward(self, x):
        return self.fine(x) + self.coarse(x)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Mine(nn.Conv2d(16, 7, 1), end=nn.Softmax(1)), "Mine: expected one convolution or linear layer .*found none"),
        (Mine(nn.ConvTranspose2d(16, 7, 2, 2)), "whose 7 outputs are its logits, found none; put one at its end"),
        (TwoScales(), "found fine, coarse, which only add up to them"),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten()), r"a map of logits .*found the shape \(1, 32768\)"),
        (nn.Sequential(nn.Conv2d(5, 8, 1)), "expected a network that takes an image of 3 channels .*found that it f"),
        (nn.Sequential(nn.ReLU()), "found one without parameters"),
    ],
    ids=["softmax", "transposed", "sum", "flat", "channels", "nothing"],
)
def test_networks_with_another_end_are_refused(network, told):
    with pytest.raises(HeterosegError, match=told):
        replace_classifier(network, TREE)


def test_a_path_names_the_layer_on_either_side_of_the_taxonomy():
    for arguments in ((TREE, "other"), ("other", TREE)):
        network = replace_classifier(Mine(nn.Conv2d(16, 7, 1)), *arguments)
        assert network(torch.zeros(1, 3, 8, 8))["aux"].shape == (1, TREE.channels, 4, 4)
    with pytest.raises(HeterosegError, match=r"Mine has no layer 'last'; its last convolution is other"):
        replace_classifier(Mine(nn.Conv2d(16, 7, 1)), TREE, "last")
    with pytest.raises(HeterosegError, match="expected a convolution or linear layer at 'end', found Upsampling"):
        replace_classifier(Mine(nn.Conv2d(16, 7, 1)), TREE, "end")
    with pytest.raises(HeterosegError, match="expected a taxonomy, found None"):
        replace_classifier(Mine(nn.Conv2d(16, 7, 1)), None)


def test_a_linear_layer_takes_no_upsampling():
    with pytest.raises(HeterosegError, match="upsample: expected a convolution as the last layer"):
        replace_classifier(Mine(PerPixel()), TREE, upsample=True)


def register_torchvision() -> None:
    for op in ("nms", "qnms"):  # torchvision registers kernels for these even where its own library does not load
        with contextlib.suppress(RuntimeError):
            torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@pytest.mark.parametrize("kind", ["Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "PSPNet", "Segformer", "UPerNet"])
def test_networks_of_segmentation_models_pytorch(kind):
    register_torchvision()
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = getattr(smp, kind)("resnet18", encoder_weights=None, classes=19).eval()
    assert replace_classifier(network, TREE)(torch.zeros(1, 3, 64, 64)).shape == (1, TREE.channels, 64, 64)


def test_a_network_of_timm():
    register_torchvision()
    timm = pytest.importorskip("timm")
    network = timm.create_model("convnext_atto", num_classes=19, global_pool="")
    assert replace_classifier(network, TREE)(torch.zeros(1, 3, 64, 64)).shape == (1, TREE.channels, 2, 2)
