"""Convolutions and pooling, then fully connected layers: the shape that AlexNet, ZFNet and VGG have in common.

A layout is a list of rows as the papers' tables have them; what can be chosen by name is in a :class:`ConvNetSpec`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from expflow.architectures.blocks import activation, dropout, init_weights, norm2d, pool2d
from expflow.architectures.map_sizes import map_size
from expflow.architectures.specs.convnet import ConvNetSpec
from expflow.data.dataspec import DataSpec

Parts = OrderedDict[str, nn.Module]


@dataclass(frozen=True)
class Conv:
    """A row of a layout: a convolution.

    Attributes:
        filters: Channels that leave it.
        kernel: Height and width of a filter in pixels.
        stride: Pixels between two positions.
        padding: Zeros added around the map, in pixels.
        groups: Groups of filters that see a part of the channels each.
        responds: Whether local response normalisation, where it is chosen, follows this layer.
    """

    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    responds: bool = False


@dataclass(frozen=True)
class Pool:
    """A row of a layout: pooling.

    Attributes:
        kernel: Height and width of a window in pixels.
        stride: Pixels between two windows.
        padding: Pixels added around the map.
        ceil: Whether the last window may reach over the border.
    """

    kernel: int
    stride: int
    padding: int = 0
    ceil: bool = False


def convolution(row: Conv, channels: int, number: int, spec: ConvNetSpec) -> Parts:
    """The layers of one row: convolution, normalisation and activation.

    Local response normalisation compares activations and so follows them (AlexNet, section 3.3); every other one comes
    first. The convolution keeps its bias under batch norm too, as torchvision's does.

    Args:
        row: The convolution.
        channels: Channels that enter it.
        number: Stands behind the layers' names, ``conv1``.
        spec: Normalisation and activation.
    """
    kind = spec.norm if spec.norm != "local_response" or row.responds else "none"
    conv = nn.Conv2d(channels, row.filters, row.kernel, row.stride, row.padding, groups=row.groups)
    parts: Parts = OrderedDict({f"conv{number}": conv, f"activation{number}": activation(spec.activation)})
    if kind != "none":
        parts[f"norm{number}"] = norm2d(kind, row.filters)
    if kind not in ("none", "local_response"):
        parts.move_to_end(f"activation{number}")
    return parts


def convolutions(layout: Sequence[Conv | Pool], channels: int, spec: ConvNetSpec) -> Parts:
    """The layers of a layout; a pool has the number of the convolution before it.

    Args:
        layout: Convolutions and pools in order.
        channels: Channels that enter the first one.
        spec: Normalisation, activation and kind of pooling.
    """
    parts: Parts = OrderedDict()
    number = 0
    for row in layout:
        if isinstance(row, Pool):
            parts[f"pool{number}"] = pool2d(spec.pool, row.kernel, row.stride, row.padding, ceil=row.ceil)
        else:
            number += 1
            parts |= convolution(row, channels, number, spec)
            channels = row.filters
    return parts


def classifier(features: int, num_classes: int, first: int, spec: ConvNetSpec) -> Parts:
    """Fully connected layers with dropout after each hidden one, and the ``head``.

    Args:
        features: Values of a sample that enter the first one.
        num_classes: Scores that leave the head.
        first: Number of the first layer, ``fc6``.
        spec: Hidden units, activation and dropout.
    """
    parts: Parts = OrderedDict(flatten=nn.Flatten())
    for number, units in enumerate(spec.head, start=first):
        parts[f"fc{number}"] = nn.Linear(features, units)
        parts[f"activation{number}"] = activation(spec.activation)
        parts[f"dropout{number}"] = dropout(spec.dropout)
        features = units
    parts["head"] = nn.Linear(features, num_classes)
    return parts


def network(parts: Parts, channels: int, first: int, spec: ConvNetSpec, data_spec: DataSpec) -> nn.Sequential:
    """The convolutional layers with the classifier that fits what they leave of an image: (b, c, h, w) -> (b, classes).

    Args:
        parts: The convolutional layers by name.
        channels: Channels that leave them.
        first: Number of the first fully connected layer.
        spec: What the classifier is made of, and how weights are drawn.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The layers leave nothing of the images; the message has the smallest legal size.
    """
    features = channels * math.prod(map_size(spec.name, parts.values(), data_spec))
    whole = nn.Sequential(parts | classifier(features, data_spec.num_classes, first, spec))
    init_weights(whole, spec.init)
    return whole


def build_layout(layout: Sequence[Conv | Pool], spec: ConvNetSpec, data_spec: DataSpec) -> nn.Sequential:
    """The network of a layout: (b, c, h, w) -> (b, classes).

    Its layers have the papers' names, ``conv1``, ``pool1`` … ``fc6``, and ``head`` for the last.

    Args:
        layout: Convolutions and pools in order.
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small; the message has the smallest legal size.
    """
    rows = [row for row in layout if isinstance(row, Conv)]
    parts = convolutions(layout, data_spec.in_channels, spec)
    return network(parts, rows[-1].filters, len(rows) + 1, spec, data_spec)
