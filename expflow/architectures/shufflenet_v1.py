"""ShuffleNet v1 (Zhang et al. 2018, "ShuffleNet", arXiv 1707.01083): grouped 1x1 convolutions, shuffled channels."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from expflow.architectures.blocks import activation
from expflow.architectures.convolutions import convolution_norm, with_head
from expflow.architectures.specs.shufflenet_v1 import ShuffleNetV1Spec
from expflow.data.dataspec import DataSpec

STEM = 24
CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Channels of the first stage by number of groups; each later stage doubles them (table 1 of the paper)."""

UNITS = (4, 8, 4)
"""Units of the three stages; the first of each halves the image."""

BOTTLENECK = 4
"""Times as many channels leave a unit as its 3x3 convolution has."""


def round_to_multiple(channels: float, multiple: int) -> int:
    """The multiple of ``multiple`` nearest to ``channels``, at least ``multiple`` itself.

    Args:
        channels: Wanted channels.
        multiple: What must divide them.
    """
    return max(1, round(channels / multiple)) * multiple


class ChannelShuffle(nn.Module):
    """Deals the channels of each group out to all groups: (b, c, h, w) -> (b, c, h, w).

    Args:
        groups: Groups of channels; must divide them.

    Source:
        Zhang et al. 2018, figure 1 and section 3.1.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, groups * n, h, w) -> the same shape, channels in the order n * groups."""
        b, channels, h, w = x_bchw.shape
        x_bgnhw = x_bchw.view(b, self.groups, channels // self.groups, h, w)
        return x_bgnhw.transpose(1, 2).reshape(b, channels, h, w)


class ShuffleUnit(nn.Module):
    """A bottleneck whose 1x1 convolutions are grouped and whose 3x3 is depthwise.

    At stride 1 the input is added; at stride 2 it is pooled and joined, so that the convolutions make only the
    channels that are missing.

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave.
        spec: Groups, norm and activation.
        stride: 1, or 2 to halve the size.
        grouped: Whether the first 1x1 has groups; in the net's first unit it has not.

    Source:
        Zhang et al. 2018, figure 2, b and c.
    """

    def __init__(self, channels_in: int, channels: int, spec: ShuffleNetV1Spec, *, stride: int, grouped: bool) -> None:
        super().__init__()
        inner, self.joins = channels // BOTTLENECK, stride == 2
        made = channels - channels_in if self.joins else channels
        first = spec.groups if grouped else 1
        self.conv1, self.norm1 = convolution_norm(channels_in, inner, 1, norm=spec.norm, groups=first)
        self.shuffle = ChannelShuffle(spec.groups) if spec.shuffle else nn.Identity()
        self.conv2, self.norm2 = convolution_norm(inner, inner, 3, stride, norm=spec.norm, groups=inner)
        self.conv3, self.norm3 = convolution_norm(inner, made, 1, norm=spec.norm, groups=spec.groups)
        self.activation = activation(spec.activation)
        self.shortcut = nn.AvgPool2d(3, 2, padding=1) if self.joins else nn.Identity()

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, channels, ceil(h / stride), ceil(w / stride))."""
        y_bchw = self.shuffle(self.activation(self.norm1(self.conv1(x_bchw))))
        y_bchw = self.norm3(self.conv3(self.norm2(self.conv2(y_bchw))))
        x_bchw = self.shortcut(x_bchw)
        out_bchw: Tensor = self.activation(torch.cat([x_bchw, y_bchw], 1) if self.joins else x_bchw + y_bchw)
        return out_bchw


def make_stem(channels_in: int, channels: int, spec: ShuffleNetV1Spec) -> nn.Sequential:
    """A 3x3 convolution; imagenet: of stride 2, and max pooling after it.

    Args:
        channels_in: Channels of the images.
        channels: Channels that leave.
        spec: Kind of stem, norm and activation.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    large = spec.stem == "imagenet"
    parts["conv"], parts["norm"] = convolution_norm(channels_in, channels, 3, 2 if large else 1, norm=spec.norm)
    parts["activation"] = activation(spec.activation)
    if large:
        parts["pool"] = nn.MaxPool2d(3, 2, padding=1)
    return nn.Sequential(parts)


def build(spec: ShuffleNetV1Spec, data_spec: DataSpec) -> nn.Sequential:
    """ShuffleNet v1: (b, c, h, w) -> (b, classes), for images of any size.

    Its children are ``stem``, ``stage1`` to ``stage3``, ``pool``, ``flatten``, ``dropout`` and ``head``.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Source:
        Zhang et al. 2018, table 1.
    """
    channels = round_to_multiple(STEM * spec.width_factor, spec.groups)
    width = round_to_multiple(CHANNELS[spec.groups] * spec.width_factor, BOTTLENECK * spec.groups)
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=make_stem(data_spec.in_channels, channels, spec))
    for number, units in enumerate(UNITS, start=1):
        stage = [ShuffleUnit(channels, width, spec, stride=2, grouped=number > 1)]
        stage += [ShuffleUnit(width, width, spec, stride=1, grouped=True) for _ in range(units - 1)]
        parts[f"stage{number}"] = nn.Sequential(*stage)
        channels, width = width, 2 * width
    return with_head(parts, channels, data_spec.num_classes, drop=spec.dropout, init=spec.init)
