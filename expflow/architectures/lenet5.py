"""LeNet-5 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", section II.B).

The output is a linear layer instead of the paper's radial basis functions, and subsampling has no trained scale and
bias; so have the counts that are usually printed (61,706 parameters).
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from expflow.architectures.blocks import activation, init_weights, pool2d
from expflow.architectures.map_sizes import map_size, smallest_image_size, window_layers
from expflow.architectures.specs.lenet5 import LeNet5Spec
from expflow.data.dataspec import DataSpec

KERNEL = 5

C3_TABLE: tuple[tuple[int, ...], ...] = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip
"""Table I: which of the six maps of S2 each of the 16 maps of C3 sees. It breaks the symmetry between the maps."""


class TableConv(nn.Module):
    """Convolution whose output maps each see only some of the input maps.

    Args:
        table: For each output map the numbers of the input maps that it sees.
        kernel: Height and width of a filter in pixels.

    Source:
        LeCun et al. 1998, table I.
    """

    def __init__(self, table: tuple[tuple[int, ...], ...], kernel: int) -> None:
        super().__init__()
        self.table = table
        self.maps = nn.ModuleList(nn.Conv2d(len(seen), 1, kernel) for seen in table)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, maps, h - kernel + 1, w - kernel + 1)."""
        return torch.cat([conv(x_bchw[:, seen]) for conv, seen in zip(self.maps, self.table, strict=True)], dim=1)


def convolutions(spec: LeNet5Spec, in_channels: int) -> OrderedDict[str, nn.Module]:
    """C1 to C5 in the paper's names; from 32x32 the sizes are 28, 14, 10, 5, 1.

    Args:
        spec: Activation, kind of pooling, padding, and which maps C3 sees.
        in_channels: Channels of the images.
    """
    full = spec.c3 == "full"
    return OrderedDict(
        c1=nn.Conv2d(in_channels, 6, KERNEL, padding=spec.padding),
        activation1=activation(spec.activation),
        s2=pool2d(spec.pool, 2),
        c3=nn.Conv2d(6, 16, KERNEL) if full else TableConv(C3_TABLE, KERNEL),
        activation3=activation(spec.activation),
        s4=pool2d(spec.pool, 2),
        c5=nn.Conv2d(16, 120, KERNEL),
        activation5=activation(spec.activation),
    )


def _pixels_left(spec: LeNet5Spec, data_spec: DataSpec) -> int:
    """Pixels that C5 leaves. C3 counts as if it were full: the table's 16 convolutions lie side by side."""
    chain = convolutions(spec.model_copy(update={"c3": "full"}), 1).values()
    missing = smallest_image_size(window_layers(chain)) - min(data_spec.image_size)
    return math.prod(map_size(spec.name, chain, data_spec, f", or padding: {spec.padding + (missing + 1) // 2}"))


def build(spec: LeNet5Spec, data_spec: DataSpec) -> nn.Sequential:
    """LeNet-5: (b, c, h, w) -> (b, classes).

    Its layers are ``c1``, ``s2``, ``c3``, ``s4``, ``c5``, ``f6`` as in the paper, and ``head``.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small; the message has the smallest legal size, and the padding that would do.

    Source:
        LeCun et al. 1998, section II.B.
    """
    parts = convolutions(spec, data_spec.in_channels)
    parts["flatten"] = nn.Flatten()
    parts["f6"] = nn.Linear(120 * _pixels_left(spec, data_spec), 84)
    parts["activation6"] = activation(spec.activation)
    parts["head"] = nn.Linear(84, data_spec.num_classes)
    network = nn.Sequential(parts)
    init_weights(network, spec.init)
    return network
