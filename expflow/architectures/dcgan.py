"""DCGAN (Radford et al. 2016, "Unsupervised Representation Learning with Deep Convolutional GANs", figure 1).

For 64x64 images the published networks. For other sizes maps are doubled as often as brings them from 4 to 7 pixels
to the image's side; what is too large then is cut off around the middle.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from expflow.architectures.image_layers import SLOPE, draw_weights, halvings, judged_shape, map_norm, needs_bias
from expflow.architectures.specs.image_nets import DCGANDiscriminatorSpec, DCGANGeneratorSpec
from expflow.data.dataspec import DataSpec


class DCGANGenerator(nn.Module):
    """(b, latent) -> (b, c, h, w) images from -1 to 1.

    Args:
        spec: What the user chose.
        image_shape: (c, h, w) of the images.
    """

    def __init__(self, spec: DCGANGeneratorSpec, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        doublings = halvings(height, width)
        core = -(-height // 2**doublings), -(-width // 2**doublings)
        widths = [spec.width * 2**level for level in reversed(range(doublings))]
        bias = needs_bias(spec.norm)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(spec.latent, widths[0], core, bias=bias),
            *map_norm(spec.norm, widths[0]),
            nn.ReLU(),
        ]
        for entering, leaving in pairwise(widths):
            layers += [nn.ConvTranspose2d(entering, leaving, 4, 2, 1, bias=bias), *map_norm(spec.norm, leaving)]
            layers.append(nn.ReLU())
        layers += [nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1, bias=False), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.latent = spec.latent
        self._size = height, width

    def forward(self, noise_bz: Tensor) -> Tensor:
        """(b, latent) -> (b, c, h, w)."""
        image_bchw: Tensor = self.layers(noise_bz[:, :, None, None])
        height, width = self._size
        top, left = (image_bchw.shape[2] - height) // 2, (image_bchw.shape[3] - width) // 2
        return image_bchw[:, :, top : top + height, left : left + width]


class DCGANDiscriminator(nn.Module):
    """(b, c, h, w) images from -1 to 1 -> (b, 1) logits of being real.

    Args:
        spec: What the user chose.
        image_shape: (c, h, w) of what it looks at.
    """

    def __init__(self, spec: DCGANDiscriminatorSpec, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        number = halvings(height, width)
        widths = [spec.width * 2**level for level in range(number)]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(SLOPE)]
        for entering, leaving in pairwise(widths):
            layers.append(nn.Conv2d(entering, leaving, 4, 2, 1, bias=needs_bias(spec.norm)))
            layers += [*map_norm(spec.norm, leaving), nn.LeakyReLU(SLOPE)]
        layers.append(nn.Conv2d(widths[-1], 1, (height // 2**number, width // 2**number), bias=False))
        self.layers = nn.Sequential(*layers)
        self.sees = spec.sees

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, 1)."""
        return torch.flatten(self.layers(image_bchw), 1)


def build_generator(spec: DCGANGeneratorSpec, data_spec: DataSpec) -> DCGANGenerator:
    """The generator of ``spec``: (b, latent) -> (b, c, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images that it makes.

    Source:
        Radford et al. 2016, figure 1 and section 3.
    """
    network = DCGANGenerator(spec, data_spec.image_shape)
    draw_weights(network)
    return network


def build_discriminator(spec: DCGANDiscriminatorSpec, data_spec: DataSpec) -> DCGANDiscriminator:
    """The discriminator of ``spec``: (b, c, h, w) -> (b, 1).

    Args:
        spec: What the user chose.
        data_spec: The images that it judges.

    Source:
        Radford et al. 2016, section 3.
    """
    network = DCGANDiscriminator(spec, judged_shape(spec, data_spec))
    draw_weights(network)
    return network
