"""U-Net (Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", figure 1).

Convolutions are padded, so that a map keeps its size, where the paper's lose a border that is then cut off elsewhere.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.blocks import activation, init_weights
from expflow.architectures.convolutions import convolution_norm
from expflow.architectures.specs.unet import UNetSpec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


def double_convolution(channels_in: int, channels: int, spec: UNetSpec) -> nn.Sequential:
    """Two 3x3 convolutions: (b, channels_in, h, w) -> (b, channels, h, w).

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave each of them.
        spec: Norm and activation.
    """
    layers: list[nn.Module] = []
    for entering in (channels_in, channels):
        layers += [*convolution_norm(entering, channels, 3, norm=spec.norm), activation(spec.activation)]
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))


def upsampling(channels_in: int, channels: int, spec: UNetSpec) -> nn.Module:
    """What doubles a map: (b, channels_in, h, w) -> (b, channels, 2h, 2w).

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave.
        spec: How it is doubled.
    """
    if spec.up == "transposed":
        return nn.ConvTranspose2d(channels_in, channels, 2, stride=2)
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(channels_in, channels, 1))


class UNet(nn.Module):
    """(b, c, h, w) -> (b, classes, h, w) for any h and w of at least ``2 ** depth`` pixels.

    Args:
        spec: What the user chose.
        channels_in: Channels of the image.
        classes: Scores of each pixel.
    """

    def __init__(self, spec: UNetSpec, channels_in: int, classes: int) -> None:
        super().__init__()
        widths = [spec.width * 2**level for level in range(spec.depth + 1)]
        self.encoder = nn.ModuleList(
            double_convolution(entering, leaving, spec) for entering, leaving in pairwise([channels_in, *widths])
        )
        self.pool = nn.MaxPool2d(2)
        downwards = list(pairwise(reversed(widths)))
        self.up = nn.ModuleList(upsampling(entering, leaving, spec) for entering, leaving in downwards)
        self.decoder = nn.ModuleList(
            double_convolution(2 * leaving if spec.skip else leaving, leaving, spec) for _, leaving in downwards
        )
        self.head = nn.Conv2d(widths[0], classes, 1)
        self._skip = spec.skip

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, classes, h, w)."""
        maps: list[Tensor] = []
        for block in self.encoder:
            x_bchw = block(self.pool(x_bchw) if maps else x_bchw)
            maps.append(x_bchw)
        maps.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            beside = maps.pop()
            x_bchw = up(x_bchw)
            missing = [beside.shape[axis] - x_bchw.shape[axis] for axis in (-1, -2)]
            if any(missing):  # an odd side lost a row when it was halved
                x_bchw = functional.pad(x_bchw, (0, missing[0], 0, missing[1]))
            x_bchw = block(torch.cat([beside, x_bchw], 1) if self._skip else x_bchw)
        scores: Tensor = self.head(x_bchw)
        return scores


def build(spec: UNetSpec, data_spec: DataSpec) -> UNet:
    """The U-Net of ``spec``: (b, c, h, w) -> (b, classes, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small for its depth.

    Source:
        Ronneberger et al. 2015, figure 1, with padded convolutions.
    """
    smallest = 2**spec.depth
    if min(data_spec.image_size) < smallest:
        height, width = data_spec.image_size
        raise UserError(
            f"model unet: images of {height}x{width} cannot be halved {spec.depth} times; lower model.depth, or use"
            f" images of at least {smallest} pixels"
        )
    network = UNet(spec, data_spec.in_channels, data_spec.num_classes)
    init_weights(network, spec.init)
    return network
