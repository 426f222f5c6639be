"""Maps at four strides from a backbone whose maps all have one, such as a plain ViT."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from heteroseg.networks.backbone import Backbone, Maps


def _twice(inputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, inputs // 2, 2, 2)


class Pyramid(Backbone):
    """The simple feature pyramid of ViTDet (Li et al., ECCV 2022), from maps of four depths, fine ones from early maps.

    Images are resized first so that a patch stands for a power of two of pixels: 14 for 16. So every image size goes
    that does for a patch of 16, and every output stride from a quarter of a patch to twice of it.
    """

    def __init__(self, plain: Backbone):
        patch, channels = plain.maps.strides[0], plain.maps.channels
        whole = 2 ** round(math.log2(patch))
        depths = [-(-len(channels) * part // 4) - 1 for part in (1, 2, 3, 4)]
        fine, half, same, coarse = (channels[i] for i in depths)
        maps = Maps(
            (fine // 4, half // 2, same, coarse),
            (whole // 4, whole // 2, whole, 2 * whole),
            plain.maps.mean,
            plain.maps.std,
            max(2 * whole, (plain.maps.multiple or patch) * whole // patch),
        )
        super().__init__(plain.body, maps)
        self.patch, self.whole, self.depths = patch, whole, depths
        finer = nn.Sequential(_twice(fine), nn.GroupNorm(1, fine // 2), nn.GELU(), _twice(fine // 2))
        self.scales = nn.ModuleList([finer, _twice(half), nn.Identity(), nn.MaxPool2d(2)])

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.patch != self.whole:
            size = [side * self.patch // self.whole for side in images.shape[2:]]
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        maps = super().forward(images)
        return [scale(maps[i]) for scale, i in zip(self.scales, self.depths, strict=True)]
