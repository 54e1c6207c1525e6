"""SRCNN (Dong et al. 2014, "Learning a Deep Convolutional Network for Image Super-Resolution", section 3)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from expflow.architectures.blocks import activation, init_weights
from expflow.architectures.specs.srcnn import SRCNNSpec
from expflow.data.dataspec import DataSpec


class SRCNN(nn.Module):
    """(b, c, h, w) images that were enlarged -> (b, c, h, w).

    Args:
        spec: Channels and filters.
        channels: c.
    """

    def __init__(self, spec: SRCNNSpec, channels: int) -> None:
        super().__init__()
        widths, layers = (channels, *spec.channels), list[nn.Module]()
        for (entering, leaving), kernel in zip(pairwise(widths), spec.kernels[:-1], strict=True):
            layers += [nn.Conv2d(entering, leaving, kernel, padding=kernel // 2), activation(spec.activation)]
        self.layers = nn.Sequential(*layers)
        last = spec.kernels[-1]
        self.head = nn.Conv2d(widths[-1], channels, last, padding=last // 2)
        init_weights(self, "he_fan_in")
        self._residual = spec.residual
        if spec.residual:  # begin with the image as it is
            nn.init.zeros_(self.head.weight)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        image_bchw: Tensor = self.head(self.layers(x_bchw))
        return image_bchw + x_bchw if self._residual else image_bchw


def build(spec: SRCNNSpec, data_spec: DataSpec) -> SRCNN:
    """The network of ``spec``: (b, c, h, w) -> (b, c, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images that it is for.
    """
    return SRCNN(spec, data_spec.in_channels)
