"""Two real-time networks, written from their papers in plain PyTorch, to stand beside ours in `benchmarks/front.py`.

`model.backbone: python:benchmarks.peers:NAME` takes each with its own decoder: it gives one map at stride 8,
the decoder `reduction` follows, and the hierarchical head is in the place of the classifier. Weights are random. Heads
that only help training (deep supervision) are left out. A coarse map that reaches beyond a finer one is cut to it, so
that images of any size go and no cell moves; for sizes that all strides divide this is the published network.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, relu: bool = True, **more: int) -> nn.Sequential:
    """Convolution, norm and, if `relu`, ReLU."""
    padding = kernel // 2 * more.get("dilation", 1)
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False, **more)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


def upsampled(x: Tensor, times: float, like: Tensor) -> Tensor:
    x = F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)
    return x[:, :, : like.shape[2], : like.shape[3]]


def depthwise(width: int, stride: int = 1, relu: bool = False, **more: int) -> nn.Sequential:
    return conv(width, width, 3, stride, relu, groups=width, **more)


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(depthwise(inputs, stride), conv(inputs, outputs))


class Bottleneck(nn.Module):
    """MobileNetV2's inverted residual block, six times as wide inside."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        wide = 6 * inputs
        self.body = nn.Sequential(
            conv(inputs, wide), depthwise(wide, stride, relu=True), conv(wide, outputs, relu=False)
        )
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.same else self.body(x)


class PyramidPooling(nn.Module):
    """PSPNet's: means of the map over 1, 2, 3 and 6 parts of each side, a quarter of the channels each."""

    BINS = (1, 2, 3, 6)

    def __init__(self, width: int):
        super().__init__()
        self.parts = nn.ModuleList(conv(width, width // 4) for _ in self.BINS)
        self.join = conv(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = (part(F.adaptive_avg_pool2d(x, n)) for part, n in zip(self.parts, self.BINS, strict=True))
        full = (F.interpolate(part, x.shape[2:], mode="bilinear", align_corners=False) for part in parts)
        return self.join(torch.cat([x, *full], 1))


class FastSCNN(nn.Module):
    """Poudel, Liwicki, Cipolla: Fast-SCNN, Fast Semantic Segmentation Network (BMVC 2019), tables 1 to 3.

    The classifier's second separable convolution ends in the decoder `reduction` of width 128, so that with one 1x1
    convolution behind it the network is the published one: 1.11 million parameters with 19 classes, without norms.
    """

    def __init__(self) -> None:
        super().__init__()
        self.downsample = nn.Sequential(conv(3, 32, 3, 2), separable(32, 48, 2), separable(48, 64, 2))
        blocks = [Bottleneck(64, 64, 2), Bottleneck(64, 64, 1), Bottleneck(64, 64, 1)]
        blocks += [Bottleneck(64, 96, 2), Bottleneck(96, 96, 1), Bottleneck(96, 96, 1)]
        blocks += [Bottleneck(96, 128, 1), Bottleneck(128, 128, 1), Bottleneck(128, 128, 1)]
        self.context = nn.Sequential(*blocks, PyramidPooling(128))
        self.coarse = nn.Sequential(depthwise(128, relu=True, dilation=4), conv(128, 128, relu=False))
        self.fine = conv(64, 128, relu=False)
        self.classify = nn.Sequential(separable(128, 128, 1), depthwise(128))

    def forward(self, images: Tensor) -> Tensor:
        fine = self.downsample(images)
        coarse = self.coarse(upsampled(self.context(fine), 4, fine))
        return self.classify(torch.relu(self.fine(fine) + coarse))


class Block(nn.Module):
    """ResNet's basic block, or its bottleneck where `inner` says how wide that is; without a ReLU behind the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, inner: int = 0):
        super().__init__()
        first = [conv(inputs, inner), conv(inner, inner, 3, stride)] if inner else [conv(inputs, outputs, 3, stride)]
        self.body = nn.Sequential(*first, conv(inner or outputs, outputs, 1 if inner else 3, relu=False))
        same = stride == 1 and inputs == outputs
        self.side = nn.Identity() if same else conv(inputs, outputs, 1, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.side(x) + self.body(x)


def stage(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride), nn.ReLU(), Block(outputs, outputs))


def activated(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    """Norm, ReLU and convolution, in this order."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), layer)


class DeepPyramid(nn.Module):
    """DDRNet's DAPPM: means over ever larger windows, each joined with the one before."""

    def __init__(self, inputs: int, inner: int, outputs: int):
        super().__init__()
        self.pools = nn.ModuleList(nn.AvgPool2d(2 * s + 1, s, s) for s in (2, 4, 8))
        self.scales = nn.ModuleList(activated(inputs, inner) for _ in range(5))
        self.joins = nn.ModuleList(activated(inner, inner, 3) for _ in range(4))
        self.end, self.side = activated(5 * inner, outputs), activated(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        first, *middle, last = self.scales
        parts = [first(x)]
        for scale, pool, join in zip(middle, self.pools, self.joins, strict=False):
            parts.append(join(upsampled(scale(pool(x)), pool.stride, x) + parts[-1]))
        parts.append(self.joins[-1](last(F.adaptive_avg_pool2d(x, 1)) + parts[-1]))
        return self.end(torch.cat(parts, 1)) + self.side(x)


class DDRNet23Slim(nn.Module):
    """DDRNet-23-slim of Hong, Pan, Sun, Jia: Deep Dual-resolution Networks for Real-time and Accurate Semantic
    Segmentation of Road Scenes (2021), table 1 and figures 3 to 5; 5.7 million parameters with 19 classes.

    Take it with the decoder `reduction` of width 64: one 1x1 convolution more than published, 0.4 % of the work.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 32, 3, 2), conv(32, 32, 3, 2), stage(32, 32), nn.ReLU(), stage(32, 64, 2))
        self.low = nn.ModuleList([stage(64, 128, 2), stage(128, 256, 2), Block(256, 512, 2, inner=256)])
        self.high = nn.ModuleList([stage(64, 64), stage(64, 64), Block(64, 128, inner=64)])
        self.up = nn.ModuleList([conv(128, 64, relu=False), conv(256, 64, relu=False)])
        steps = [[64, 128], [64, 128, 256]]  # channels on the way down, halved at each step
        self.down = nn.ModuleList(
            nn.Sequential(*(conv(a, b, 3, 2, relu=b != way[-1]) for a, b in pairwise(way))) for way in steps
        )
        self.context = DeepPyramid(512, 128, 128)
        self.head = nn.Sequential(activated(128, 64, 3), nn.BatchNorm2d(64), nn.ReLU(inplace=True))

    def forward(self, images: Tensor) -> Tensor:
        low = high = torch.relu(self.stem(images))
        for i in range(2):
            coarse, fine = self.low[i](low), self.high[i](high)
            low = torch.relu(coarse + self.down[i](torch.relu(fine)))
            high = torch.relu(fine + upsampled(self.up[i](torch.relu(coarse)), 2 ** (i + 1), fine))
        fine = self.high[2](high)
        return self.head(fine + upsampled(self.context(self.low[2](low)), 8, fine))
