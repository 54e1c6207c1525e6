"""pix2pix (Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks", section 6.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expflow.architectures.image_layers import (
    SLOPE,
    check_sides,
    draw_weights,
    judged_shape,
    map_norm,
    needs_bias,
)
from expflow.architectures.specs.image_nets import PatchDiscriminatorSpec, Pix2PixGeneratorSpec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

DEEPEST = 8
"""Halvings at most: 256 pixels become one."""

WIDEST = 8
"""Times of the first maps' channels that the inner ones have at most."""


class Pix2PixGenerator(nn.Module):
    """(b, c, h, w) -> (b, c, h, w), both from -1 to 1. Its dropout is the only noise, and active in training alone.

    Args:
        spec: What the user chose.
        channels: c of both images.
        depth: How often maps are halved.
    """

    def __init__(self, spec: Pix2PixGeneratorSpec, channels: int, depth: int) -> None:
        super().__init__()
        widths = [spec.width * min(2**level, WIDEST) for level in range(depth)]
        bias, last = needs_bias(spec.norm), depth - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            entering = widths[level - 1] if level else channels
            before = [nn.LeakyReLU(SLOPE)] if level else []
            norm = map_norm(spec.norm, width) if 0 < level < last else []
            self.down.append(nn.Sequential(*before, nn.Conv2d(entering, width, 4, 2, 1, bias=bias), *norm))
        for level in reversed(range(depth)):
            entering = widths[level] * (2 if spec.skip and level < last else 1)
            if level == 0:
                parts = [nn.ConvTranspose2d(entering, channels, 4, 2, 1), nn.Tanh()]
            else:
                leaving = widths[level - 1]
                parts = [nn.ConvTranspose2d(entering, leaving, 4, 2, 1, bias=bias), *map_norm(spec.norm, leaving)]
                if spec.dropout and level < last and leaving == widths[level] == spec.width * WIDEST:
                    parts.append(nn.Dropout(spec.dropout))
            self.up.append(nn.Sequential(nn.ReLU(), *parts))
        self._skip = spec.skip

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        maps: list[Tensor] = []
        x_bchw = image_bchw
        for block in self.down:
            x_bchw = block(x_bchw)
            maps.append(x_bchw)
        maps.pop()
        for number, block in enumerate(self.up):
            if number:
                beside = maps.pop()
                x_bchw = torch.cat([beside, x_bchw], 1) if self._skip else x_bchw
            x_bchw = block(x_bchw)
        return x_bchw


class PatchDiscriminator(nn.Module):
    """(b, c, h, w) -> (b, 1, h', w') logits of the patches being real.

    Args:
        spec: What the user chose.
        channels: c of what it looks at.
    """

    def __init__(self, spec: PatchDiscriminatorSpec, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, spec.width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        entering = spec.width
        for level in range(1, spec.layers + 1):
            leaving, stride = spec.width * min(2**level, WIDEST), 2 if level < spec.layers else 1
            layers.append(nn.Conv2d(entering, leaving, 4, stride, 1, bias=needs_bias(spec.norm)))
            layers += [*map_norm(spec.norm, leaving), nn.LeakyReLU(SLOPE)]
            entering = leaving
        self.layers = nn.Sequential(*layers, nn.Conv2d(entering, 1, 4, 1, 1))
        self.sees = spec.sees

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, 1, h', w')."""
        scores: Tensor = self.layers(image_bchw)
        return scores


def build_generator(spec: Pix2PixGeneratorSpec, data_spec: DataSpec) -> Pix2PixGenerator:
    """The generator of ``spec``: (b, c, h, w) -> (b, c, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images.

    Raises:
        UserError: The images cannot be halved as often as ``depth`` says.

    Source:
        Isola et al. 2017, section 6.1.1 ("U-Net").
    """
    height, width = data_spec.image_size
    possible = next(level for level in range(DEEPEST, -1, -1) if height % 2**level == width % 2**level == 0)
    depth = spec.depth or possible
    if depth == 0:
        raise UserError(f"model {spec.name}: images of {height}x{width} cannot be halved; give images of even sides")
    check_sides(spec.name, data_spec, 2**depth, f"lower model.depth to {possible}, or give images of other sides")
    network = Pix2PixGenerator(spec, data_spec.in_channels, depth)
    draw_weights(network)
    return network


def build_discriminator(spec: PatchDiscriminatorSpec, data_spec: DataSpec) -> PatchDiscriminator:
    """The discriminator of ``spec``: (b, c, h, w) -> (b, 1, h', w').

    Args:
        spec: What the user chose.
        data_spec: The images.

    Raises:
        UserError: The images are too small for a single patch.

    Source:
        Isola et al. 2017, section 6.1.2.
    """
    channels, height, width = judged_shape(spec, data_spec)
    left = min(height, width) // 2**spec.layers - 2  # two convolutions of stride 1 each take a row and a column
    if left < 1:
        raise UserError(
            f"model {spec.name}: nothing is left of {height}x{width} pixels behind {spec.layers + 2} convolutions;"
            f" lower layers, or give images of at least {3 * 2**spec.layers} pixels"
        )
    network = PatchDiscriminator(spec, channels)
    draw_weights(network)
    return network
