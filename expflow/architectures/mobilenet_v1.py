"""MobileNet v1 (Howard et al. 2017, "MobileNets", arXiv 1704.04861): depthwise-separable convolutions."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from expflow.architectures.blocks import activation
from expflow.architectures.convolutions import convolution_norm, with_head
from expflow.architectures.specs.mobilenet_v1 import MobileNetV1Spec
from expflow.data.dataspec import DataSpec

Parts = OrderedDict[str, nn.Module]

STEM = 32
LEAST = 8
"""Channels that every layer keeps, however small the width factor."""


def body_layout(depth: int) -> list[tuple[int, int]]:
    """(channels, stride) of the blocks after the stem.

    Args:
        depth: Repeated blocks of 512 channels; 5 in the paper.

    Source:
        Howard et al. 2017, table 1.
    """
    return [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *depth * [(512, 1)], (1024, 2), (1024, 1)]


def scaled_channels(channels: int, width_factor: float) -> int:
    """``width_factor`` times as many channels, but not fewer than 8.

    Args:
        channels: The paper's channels of a layer.
        width_factor: The paper's alpha.
    """
    return max(LEAST, int(channels * width_factor))


def separable_block(channels_in: int, channels: int, stride: int, norm: str, act: str) -> Parts:
    """3x3 in each channel by itself, then 1x1 across channels: (9C + C²) HW multiply-adds instead of 9C²HW.

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave.
        stride: Stride of the 3x3 convolution.
        norm: Name of the normalisation.
        act: Name of the activation.

    Source:
        Howard et al. 2017, section 3.1.
    """
    parts: Parts = OrderedDict()
    parts["depthwise"], parts["norm1"] = convolution_norm(
        channels_in, channels_in, 3, stride, norm=norm, groups=channels_in
    )
    parts["activation1"] = activation(act)
    parts["pointwise"], parts["norm2"] = convolution_norm(channels_in, channels, 1, norm=norm)
    parts["activation2"] = activation(act)
    return parts


def full_block(channels_in: int, channels: int, stride: int, norm: str, act: str) -> Parts:
    """One 3x3 convolution with its norm and activation.

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave.
        stride: Stride of the convolution.
        norm: Name of the normalisation.
        act: Name of the activation.
    """
    parts: Parts = OrderedDict()
    parts["conv"], parts["norm"] = convolution_norm(channels_in, channels, 3, stride, norm=norm)
    parts["activation"] = activation(act)
    return parts


BLOCKS = {"separable": separable_block, "full": full_block}


def build(spec: MobileNetV1Spec, data_spec: DataSpec) -> nn.Sequential:
    """MobileNet v1: (b, c, h, w) -> (b, classes), for images of any size.

    Its children are ``stem``, ``block1`` …, ``pool``, ``flatten``, ``dropout`` and ``head``.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Source:
        Howard et al. 2017, table 1.
    """
    channels = scaled_channels(STEM, spec.width_factor)
    stride = 2 if spec.stem == "imagenet" else 1
    parts: Parts = OrderedDict()
    parts["stem"] = nn.Sequential(full_block(data_spec.in_channels, channels, stride, spec.norm, spec.activation))
    for number, (width, stride) in enumerate(body_layout(spec.depth), start=1):
        after = scaled_channels(width, spec.width_factor)
        block = BLOCKS[spec.convolution](channels, after, stride, spec.norm, spec.activation)
        parts[f"block{number}"], channels = nn.Sequential(block), after
    return with_head(parts, channels, data_spec.num_classes, drop=spec.dropout, init=spec.init)
