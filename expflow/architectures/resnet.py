"""Residual networks (He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385).

One class for all of the family: a layout is data (a stem and a list of stages), a block is a class, and a shortcut a
function of the shapes it connects. ``shortcut: none`` is the paper's plain network.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expflow.architectures.specs import resnet as specs
from expflow.data.dataspec import DataSpec


@dataclass(frozen=True)
class Stage:
    """``blocks`` blocks of ``width`` channels; the first one has ``stride``."""

    blocks: int
    width: int
    stride: int


def conv3x3(channels_in: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution that keeps the image size at stride 1; no bias, because batch norm follows."""
    return nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)


class PadShortcut(nn.Module):
    """Option A of the paper (section 3.3): every ``stride``-th pixel, new channels filled with zeros; no parameters."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, channels - channels_in

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, channels, ceil(h / stride), ceil(w / stride))."""
        x_bchw = x_bchw[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x_bchw, (0, 0, 0, 0, 0, self.new_channels))


def make_shortcut(kind: str, channels_in: int, channels: int, stride: int) -> nn.Module | None:
    """What leads around a block: None for a plain net, the identity where shapes agree, else option A or B."""
    if kind == "none":
        return None
    if channels_in == channels and stride == 1:
        return nn.Identity()
    if kind == "pad":
        return PadShortcut(channels_in, channels, stride)
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; the shortcut is added before the last ReLU (figure 2 of the paper)."""

    expansion = 1
    """Channels that leave the block, in units of its stage's width."""

    def __init__(self, channels_in: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels_in, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3x3(width, width), nn.BatchNorm2d(width)
        self.shortcut = make_shortcut(shortcut, channels_in, width * self.expansion, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The batch norm whose output the shortcut is added to."""
        return self.bn2

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, width, ceil(h / stride), ceil(w / stride))."""
        y_bchw = torch.relu_(self.bn1(self.conv1(x_bchw)))
        y_bchw = self.bn2(self.conv2(y_bchw))
        if self.shortcut is not None:
            y_bchw = y_bchw + self.shortcut(x_bchw)
        return torch.relu_(y_bchw)


class ResNet(nn.Sequential):
    """``stem``, ``layer1`` … one per stage, ``pool``, ``flatten``, ``head``; those names are what freezing addresses.

    ``stem`` ends in ``stem_channels`` channels. Weights of convolutions are drawn as in He et al. 2015, section 2.2
    (normal, variance 2 / fan-out); with ``zero_init`` each block that a shortcut leads around begins as that shortcut.
    """

    def __init__(
        self,
        stem: nn.Module,
        stem_channels: int,
        stages: Sequence[Stage],
        num_classes: int,
        *,
        shortcut: str,
        block: type[BasicBlock] = BasicBlock,
        zero_init: bool = False,
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
        channels = stem_channels
        for number, stage in enumerate(stages, start=1):
            blocks = []
            for index in range(stage.blocks):
                blocks.append(block(channels, stage.width, stage.stride if index == 0 else 1, shortcut))
                channels = stage.width * block.expansion
            parts[f"layer{number}"] = nn.Sequential(*blocks)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        parts["head"] = nn.Linear(channels, num_classes)
        super().__init__(parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if zero_init and isinstance(module, BasicBlock) and module.shortcut is not None:
                nn.init.zeros_(module.last_norm.weight)


def cifar_stages(depth: int, width: int) -> list[Stage]:
    """Three stages of 2n layers, n = (depth - 2) / 6, on full, half and quarter size (section 4.2 of the paper)."""
    blocks = (depth - 2) // 6
    return [Stage(blocks, width, 1), Stage(blocks, 2 * width, 2), Stage(blocks, 4 * width, 2)]


def build(spec: specs.ResNet, data_spec: DataSpec) -> ResNet:
    """The residual network of ``spec`` for the images and classes of ``data_spec``."""
    stem = nn.Sequential(
        OrderedDict(
            conv=conv3x3(data_spec.in_channels, spec.width),
            bn=nn.BatchNorm2d(spec.width),
            relu=nn.ReLU(inplace=True),
        )
    )
    stages = cifar_stages(spec.depth, spec.width)
    return ResNet(stem, spec.width, stages, data_spec.num_classes, shortcut=spec.shortcut, zero_init=spec.zero_init)
