"""GoogLeNet (Szegedy et al. 2015, "Going Deeper with Convolutions", arXiv 1409.4842, table 1 and figure 3)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from expflow.architectures.blocks import activation, dropout, init_weights, norm2d, pool2d
from expflow.architectures.map_sizes import map_size
from expflow.architectures.outputs import WithAuxiliary
from expflow.architectures.specs.googlenet import GoogLeNetSpec
from expflow.data.dataspec import DataSpec


class Widths(NamedTuple):
    """A row of table 1: channels of an inception module.

    Attributes:
        one: Of the 1x1 branch.
        reduce3: Of the 1x1 reduction before the 3x3.
        three: Of the 3x3 branch.
        reduce5: Of the 1x1 reduction before the 5x5.
        five: Of the 5x5 branch.
        pooled: Of the 1x1 after pooling.
    """

    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    pooled: int

    @property
    def total(self) -> int:
        """Channels that leave the module."""
        return self.one + self.three + self.five + self.pooled


STAGES: tuple[tuple[Widths, ...], ...] = (
    (Widths(64, 96, 128, 16, 32, 32), Widths(128, 128, 192, 32, 96, 64)),
    (
        Widths(192, 96, 208, 16, 48, 64),
        Widths(160, 112, 224, 24, 64, 64),
        Widths(128, 128, 256, 24, 64, 64),
        Widths(112, 144, 288, 32, 64, 64),
        Widths(256, 160, 320, 32, 128, 128),
    ),
    (Widths(256, 160, 320, 32, 128, 128), Widths(384, 192, 384, 48, 128, 128)),
)
"""Inception 3a, 3b; 4a to 4e; 5a, 5b."""


def stage_widths(rows: Sequence[Widths], modules: int) -> list[Widths]:
    """The rows of a stage of any length that ends as the paper's does, so that the next stage sees the same channels.

    Args:
        rows: The paper's rows of the stage.
        modules: Modules wanted: fewer are the last ones, more repeat the last one.
    """
    return [*rows, *[rows[-1]] * (modules - len(rows))][-modules:]


def convolution(channels_in: int, channels: int, kernel: int, spec: GoogLeNetSpec, *, stride: int = 1) -> nn.Sequential:
    """``conv``, ``norm`` and ``activation``, keeping the size at stride 1; no bias where a norm has one.

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave.
        kernel: Height and width of a filter in pixels; odd.
        spec: Norm and activation.
        stride: Pixels between two positions.
    """
    plain = spec.norm in ("none", "local_response")
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, bias=plain)
    if not plain:
        parts["norm"] = norm2d(spec.norm, channels)
    parts["activation"] = activation(spec.activation)
    return nn.Sequential(parts)


def make_stem(in_channels: int, spec: GoogLeNetSpec) -> nn.Sequential:
    """From 224x224 to 192 channels of 28x28; pooling rounds up, or the sizes of table 1 would not come out.

    Args:
        in_channels: Channels of the images.
        spec: Norm, activation and kind of pooling.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv1"] = convolution(in_channels, 64, 7, spec, stride=2)
    parts["pool1"] = pool2d(spec.pool, 3, 2, ceil=True)
    if spec.norm == "local_response":
        parts["norm1"] = norm2d(spec.norm, 64)
    parts["conv2"] = convolution(64, 64, 1, spec)
    parts["conv3"] = convolution(64, 192, 3, spec)
    if spec.norm == "local_response":
        parts["norm3"] = norm2d(spec.norm, 192)
    parts["pool3"] = pool2d(spec.pool, 3, 2, ceil=True)
    return nn.Sequential(parts)


class Inception(nn.Module):
    """Four branches side by side, their channels joined: 1x1; 1x1, 3x3; 1x1, 5x5; pool, 1x1.

    Args:
        channels_in: Channels that enter.
        widths: Channels of the branches.
        spec: Norm, activation, kind of pooling and kernel of the third branch.

    Source:
        Szegedy et al. 2015, figure 2b.
    """

    def __init__(self, channels_in: int, widths: Widths, spec: GoogLeNetSpec) -> None:
        super().__init__()
        self.one = convolution(channels_in, widths.one, 1, spec)
        self.three = nn.Sequential(
            convolution(channels_in, widths.reduce3, 1, spec), convolution(widths.reduce3, widths.three, 3, spec)
        )
        self.five = nn.Sequential(
            convolution(channels_in, widths.reduce5, 1, spec),
            convolution(widths.reduce5, widths.five, spec.large_kernel, spec),
        )
        self.pooled = nn.Sequential(
            pool2d(spec.pool, 3, 1, padding=1), convolution(channels_in, widths.pooled, 1, spec)
        )

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, total of the widths, h, w)."""
        return torch.cat([self.one(x_bchw), self.three(x_bchw), self.five(x_bchw), self.pooled(x_bchw)], dim=1)


def auxiliary_head(channels: int, num_classes: int, spec: GoogLeNetSpec) -> nn.Sequential:
    """Classifier on the maps of an inner module: (b, channels, h, w) -> (b, classes).

    The paper's 5x5 average at stride 3 makes 4x4 of 14x14; here the average makes 4x4 of maps of any size.

    Args:
        channels: Channels of the maps.
        num_classes: Scores that it gives.
        spec: Norm and activation.

    Source:
        Szegedy et al. 2015, section 5.
    """
    return nn.Sequential(
        OrderedDict(
            pool=nn.AdaptiveAvgPool2d(4),
            conv=convolution(channels, 128, 1, spec),
            flatten=nn.Flatten(),
            fc=nn.Linear(128 * 4 * 4, 1024),
            activation=activation(spec.activation),
            dropout=nn.Dropout(0.7),
            head=nn.Linear(1024, num_classes),
        )
    )


class GoogLeNet(nn.Module):
    """GoogLeNet: (b, c, h, w) -> (b, classes).

    Its children are ``stem``, ``inception3`` to ``inception5`` with pooling between them, ``auxiliary`` heads and
    ``head``. In train mode the scores come with those of the auxiliary heads, where there are any; in eval mode alone.

    Args:
        spec: Modules of each stage, and what they are made of.
        in_channels: Channels of the images.
        num_classes: Scores that it gives.

    Source:
        Szegedy et al. 2015, table 1 and figure 3.
    """

    def __init__(self, spec: GoogLeNetSpec, in_channels: int, num_classes: int) -> None:
        super().__init__()
        rows = [stage_widths(stage, modules) for stage, modules in zip(STAGES, spec.modules, strict=True)]
        self.stem = make_stem(in_channels, spec)
        self.inception3, channels = self._stage(192, rows[0], spec)
        self.pool3 = pool2d(spec.pool, 3, 2, ceil=True)
        self.inception4, channels = self._stage(channels, rows[1], spec)
        self.pool4 = pool2d(spec.pool, 3, 2, ceil=True)
        self.inception5, channels = self._stage(channels, rows[2], spec)
        middle = spec.modules[1]
        self.after = tuple(sorted({1, max(1, middle - 1)})) if spec.auxiliary else ()
        self.auxiliary = nn.ModuleList(
            auxiliary_head(rows[1][number - 1].total, num_classes, spec) for number in self.after
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = dropout(spec.dropout)
        self.head = nn.Linear(channels, num_classes)
        init_weights(self, spec.init)

    @staticmethod
    def _stage(channels: int, rows: Sequence[Widths], spec: GoogLeNetSpec) -> tuple[nn.Sequential, int]:
        """Inception modules one after the other, and the channels that leave them."""
        entering = [channels, *[row.total for row in rows]]
        modules = [Inception(before, row, spec) for before, row in zip(entering, rows, strict=False)]
        return nn.Sequential(*modules), entering[-1]

    def forward(self, x_bchw: Tensor) -> Tensor | WithAuxiliary:
        """(b, c, h, w) -> (b, classes), in train mode with the auxiliary heads' scores."""
        x_bchw = self.pool3(self.inception3(self.stem(x_bchw)))
        inner: list[Tensor] = []
        for number, module in enumerate(self.inception4, start=1):
            x_bchw = module(x_bchw)
            if self.training and number in self.after:
                inner.append(self.auxiliary[len(inner)](x_bchw))
        x_bchw = self.inception5(self.pool4(x_bchw))
        scores: Tensor = self.head(self.dropout(self.flatten(self.pool(x_bchw))))
        return WithAuxiliary(scores, tuple(inner)) if inner else scores


def build(spec: GoogLeNetSpec, data_spec: DataSpec) -> GoogLeNet:
    """GoogLeNet: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small; the message has the smallest legal size.

    Source:
        Szegedy et al. 2015, table 1 and figure 3.
    """
    network = GoogLeNet(spec, data_spec.in_channels, data_spec.num_classes)
    map_size(spec.name, [network.stem, network.pool3, network.pool4], data_spec)
    return network
