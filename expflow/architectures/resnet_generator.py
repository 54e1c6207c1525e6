"""The generator of residual blocks (Johnson et al. 2016, "Perceptual Losses for Real-Time Style Transfer"; Zhu et al.
2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", section 7.1).
"""

from __future__ import annotations

from torch import Tensor, nn

from expflow.architectures.image_layers import check_sides, draw_weights, map_norm, needs_bias
from expflow.architectures.specs.image_nets import ResNetGeneratorSpec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

SMALLEST_SIDE = 8
"""Pixels: maps of a quarter have to be larger than what is reflected at their edge."""


class ReflectedBlock(nn.Module):
    """x + F(x) with two 3x3 convolutions over maps that are reflected at their edges: (b, c, h, w) -> the same.

    Args:
        channels: c.
        norm: Normalisation behind each convolution.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        bias = needs_bias(norm)
        layers: list[nn.Module] = []
        for last in (False, True):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), *map_norm(norm, channels)]
            layers += [] if last else [nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        residual: Tensor = self.layers(x_bchw)
        return x_bchw + residual


class ResNetGenerator(nn.Module):
    """(b, c, h, w) -> (b, c, h, w), both from -1 to 1.

    Args:
        spec: What the user chose.
        channels: c of both images.
    """

    def __init__(self, spec: ResNetGeneratorSpec, channels: int) -> None:
        super().__init__()
        width, norm, bias = spec.width, spec.norm, needs_bias(spec.norm)
        edge = spec.kernel // 2
        layers: list[nn.Module] = [nn.ReflectionPad2d(edge), nn.Conv2d(channels, width, spec.kernel, bias=bias)]
        layers += [*map_norm(norm, width), nn.ReLU()]
        for entering in (width, 2 * width):
            layers.append(nn.Conv2d(entering, 2 * entering, 3, 2, 1, bias=bias))
            layers += [*map_norm(norm, 2 * entering), nn.ReLU()]
        layers += [ReflectedBlock(4 * width, norm) for _ in range(spec.blocks)]
        for leaving in (2 * width, width):
            layers += _enlarging(spec.enlarge, 2 * leaving, leaving, bias)
            layers += [*map_norm(norm, leaving), nn.ReLU()]
        layers += [nn.ReflectionPad2d(edge), nn.Conv2d(width, channels, spec.kernel), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        made_bchw: Tensor = self.layers(image_bchw)
        return made_bchw


def _enlarging(how: str, entering: int, leaving: int, bias: bool) -> list[nn.Module]:
    """Layers from maps of ``entering`` channels to ones of ``leaving`` and twice the side."""
    if how == "transposed":
        return [nn.ConvTranspose2d(entering, leaving, 3, 2, 1, output_padding=1, bias=bias)]
    return [nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(entering, leaving, 3, bias=bias)]


def build(spec: ResNetGeneratorSpec, data_spec: DataSpec) -> ResNetGenerator:
    """The generator of ``spec``: (b, c, h, w) -> (b, c, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images.

    Raises:
        UserError: The sides of the images cannot be divided by 4, or are shorter than 8 pixels.

    Source:
        Zhu et al. 2017, section 7.1 ("Generator architectures").
    """
    check_sides(spec.name, data_spec, 4, "crop or resize them")
    if min(data_spec.image_size) < SMALLEST_SIDE:
        raise UserError(f"model {spec.name} needs images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels")
    network = ResNetGenerator(spec, data_spec.in_channels)
    draw_weights(network)
    return network
