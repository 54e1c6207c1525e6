"""VGG (Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition", table 1).

A VGG block is n convolutions of 3x3 with m channels, then pooling that halves the image; a net is a list of blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from expflow.architectures.blocks import pool2d
from expflow.architectures.convnet import Conv, Parts, Pool, build_layout, convolutions, network
from expflow.architectures.specs.vgg import VGGSpec
from expflow.data.dataspec import DataSpec

CHANNELS = (64, 128, 256, 512, 512)
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each stage in configurations A, B, D and E; three fully connected layers make up the number."""

VGG_M: list[Conv | Pool] = [
    Conv(96, kernel=7, stride=2, responds=True),
    Pool(kernel=3, stride=2, ceil=True),
    Conv(256, kernel=5, stride=2, padding=1, responds=True),
    Pool(kernel=3, stride=2, ceil=True),
    Conv(512, kernel=3, padding=1),
    Conv(512, kernel=3, padding=1),
    Conv(512, kernel=3, padding=1),
    Pool(kernel=3, stride=2, ceil=True),
]
"""CNN-M of Chatfield et al. 2014, "Return of the Devil in the Details", table 1; sizes from 224: 109, 54, 26, 13, 6."""


def stage(convs: int, channels_in: int, channels: int, spec: VGGSpec) -> nn.Sequential:
    """A VGG block: (b, channels_in, h, w) -> (b, channels, h / 2, w / 2).

    Args:
        convs: 3x3 convolutions before the pooling.
        channels_in: Channels that enter.
        channels: Channels of each convolution.
        spec: Norm, activation and kind of pooling.
    """
    rows = [Conv(channels, kernel=3, padding=1, responds=True) for _ in range(convs)]
    parts = convolutions(rows, channels_in, spec)
    parts["pool"] = pool2d(spec.pool, 2)
    return nn.Sequential(parts)


def build_stages(stages: Sequence[tuple[int, int]], spec: VGGSpec, data_spec: DataSpec) -> nn.Sequential:
    """A VGG net of any stages: (b, c, h, w) -> (b, classes).

    Its children are ``stage1`` … one per block, ``flatten``, ``fc1`` …, and ``head``.

    Args:
        stages: (convolutions, channels) of each block.
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small; the message has the smallest legal size.
    """
    parts: Parts = OrderedDict()
    channels_in = data_spec.in_channels
    for number, (convs, channels) in enumerate(stages, start=1):
        parts[f"stage{number}"] = stage(convs, channels_in, channels, spec)
        channels_in = channels
    return network(parts, channels_in, 1, spec, data_spec)


def build(spec: VGGSpec, data_spec: DataSpec) -> nn.Sequential:
    """The VGG net of ``spec``: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small; the message has the smallest legal size.

    Source:
        Simonyan and Zisserman 2015, table 1; Chatfield et al. 2014, table 1, for VGG-M.
    """
    if spec.depth == "M":
        return build_layout(VGG_M, spec, data_spec)
    stages = spec.stages or tuple(zip(DEPTHS[spec.depth], CHANNELS, strict=True))  # type: ignore[index]
    return build_stages(stages, spec, data_spec)
