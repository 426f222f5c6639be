"""From a backbone's feature maps to one map that all classifiers share."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from heteroseg.errors import HeterosegError


def conv_bn(inputs: int, outputs: int, kernel: int = 1, groups: int = 1, relu: bool = True) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


class Reduction(nn.Module):
    """The paper's: a 1x1 convolution with batch norm on the last feature map (IV 2018)."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, stride: int):
        super().__init__()
        if strides[-1] != stride:
            told = f"the decoder 'reduction' works at the stride of the last feature map, {strides[-1]}, found {stride}"
            hint = f"set model.stride={strides[-1]} or choose the decoder 'fpn'"
            raise HeterosegError(f"model.stride: {told}; {hint}")
        self.reduce = conv_bn(channels[-1], width)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.reduce(maps[-1])


class LightFPN(nn.Module):
    """Top-down sums of 1x1 laterals, with a global context and separable convolutions; output at `stride`."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, stride: int):
        super().__init__()
        if stride not in strides:
            told = f"expected one of the backbone's strides {list(strides)}, found {stride}"
            raise HeterosegError(f"model.stride: {told}")
        self.first = list(strides).index(stride)
        used, steps = channels[self.first :], strides[self.first :]
        self.ratios = [float(coarse / fine) for fine, coarse in pairwise(steps)]
        self.laterals = nn.ModuleList(conv_bn(c, width, relu=False) for c in used)
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels[-1], width, 1))
        smooth = (nn.Sequential(conv_bn(width, width, 5, groups=width), conv_bn(width, width)) for _ in used)
        self.smooth = nn.ModuleList(smooth)

    def forward(self, maps: list[Tensor]) -> Tensor:
        maps = maps[self.first :]
        x = self.context(maps[-1])
        for i in range(len(maps))[::-1]:
            side = self.laterals[i](maps[i])
            if i < len(self.ratios):
                x = F.interpolate(x, scale_factor=self.ratios[i], mode="bilinear", align_corners=False)
                x = x[:, :, : side.shape[2], : side.shape[3]]  # a coarse map may reach beyond a finer one
            x = self.smooth[i](side + x)
        return x


DECODERS: dict[str, type[LightFPN] | type[Reduction]] = {"fpn": LightFPN, "reduction": Reduction}
