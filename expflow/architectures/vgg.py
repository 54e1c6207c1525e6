"""VGG (Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition", table 1).

A VGG block is n convolutions of 3x3 with m channels, then pooling that halves the image; a net is a list of blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from expflow.architectures.blocks import pool2d
from expflow.architectures.convnet import Conv, Parts, Pool, build_layout, convolutions, network
from expflow.architectures.specs import vgg as specs
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


def stage(convs: int, channels_in: int, channels: int, spec: specs.VGG) -> nn.Sequential:
    """A VGG block: ``convs`` convolutions of ``channels`` channels, and pooling to half the size."""
    rows = [Conv(channels, kernel=3, padding=1, responds=True) for _ in range(convs)]
    parts = convolutions(rows, channels_in, spec)
    parts["pool"] = pool2d(spec.pool, 2)
    return nn.Sequential(parts)


def build_stages(stages: Sequence[tuple[int, int]], spec: specs.VGG, data_spec: DataSpec) -> nn.Sequential:
    """``stage1`` … one per block, ``flatten``, ``fc1`` …, ``head``."""
    parts: Parts = OrderedDict()
    channels_in = data_spec.in_channels
    for number, (convs, channels) in enumerate(stages, start=1):
        parts[f"stage{number}"] = stage(convs, channels_in, channels, spec)
        channels_in = channels
    return network(parts, channels_in, 1, spec, data_spec)


def build(spec: specs.VGG, data_spec: DataSpec) -> nn.Sequential:
    """The net of ``spec`` for the images and classes of ``data_spec``.

    Raises :class:`UserError` with the smallest legal size where the images are too small.
    """
    if spec.layers == "M":
        return build_layout(VGG_M, spec, data_spec)
    stages = spec.stages or tuple(zip(DEPTHS[spec.layers], CHANNELS, strict=True))  # type: ignore[index]
    return build_stages(stages, spec, data_spec)
