"""The context encoder (Pathak et al. 2016, "Context Encoders: Feature Learning by Inpainting", figure 9a).

The encoder is that of the center-region model: convolutions that halve the maps, and one that leaves a code. Images of
128 pixels give the published network; smaller ones are halved less often.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from expflow.architectures.image_layers import SLOPE, check_sides, draw_weights, halvings, map_norm, needs_bias
from expflow.architectures.specs.image_nets import ContextEncoderSpec
from expflow.data.dataspec import DataSpec


class ContextEncoder(nn.Module):
    """(b, c, h, w) with a hole in its middle -> (b, c, h / 2, w / 2), both from -1 to 1.

    Args:
        spec: What the user chose.
        image_shape: (c, h, w) of the images.
    """

    def __init__(self, spec: ContextEncoderSpec, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        number, bias = max(2, halvings(height, width)), needs_bias(spec.norm)
        core = height // 2**number, width // 2**number
        widths = [spec.width, *(spec.width * 2**level for level in range(number - 1))]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(SLOPE)]
        for entering, leaving in pairwise(widths):
            layers.append(nn.Conv2d(entering, leaving, 4, 2, 1, bias=bias))
            layers += [*map_norm(spec.norm, leaving), nn.LeakyReLU(SLOPE)]
        layers.append(nn.Conv2d(widths[-1], spec.bottleneck, core, bias=bias))
        self.encoder = nn.Sequential(*layers, *map_norm(spec.norm, spec.bottleneck), nn.LeakyReLU(SLOPE))
        downwards = list(reversed(widths[1:]))
        layers = [nn.ConvTranspose2d(spec.bottleneck, downwards[0], core, bias=bias)]
        layers += [*map_norm(spec.norm, downwards[0]), nn.ReLU()]
        for entering, leaving in pairwise(downwards):
            layers.append(nn.ConvTranspose2d(entering, leaving, 4, 2, 1, bias=bias))
            layers += [*map_norm(spec.norm, leaving), nn.ReLU()]
        self.decoder = nn.Sequential(
            *layers, nn.ConvTranspose2d(downwards[-1], channels, 4, 2, 1, bias=False), nn.Tanh()
        )

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h / 2, w / 2)."""
        centre_bchw: Tensor = self.decoder(self.encoder(image_bchw))
        return centre_bchw


def build(spec: ContextEncoderSpec, data_spec: DataSpec) -> ContextEncoder:
    """The context encoder of ``spec``: (b, c, h, w) -> (b, c, h / 2, w / 2).

    Args:
        spec: What the user chose.
        data_spec: The images.

    Raises:
        UserError: The images cannot be halved as often as it needs.

    Source:
        Pathak et al. 2016, section 3 and figure 9a.
    """
    number = max(2, halvings(*data_spec.image_size))
    check_sides(spec.name, data_spec, 2**number, "resize them, to 28, 64 or 128 pixels for example")
    network = ContextEncoder(spec, data_spec.image_shape)
    draw_weights(network)
    return network
