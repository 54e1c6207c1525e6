"""Operations on the edges of a cell, all of them (b, width, h, w) -> (b, width, h / stride, w / stride).

Source:
    Liu et al. 2019, "DARTS: Differentiable Architecture Search", section 3.1.1: ReLU, convolution, batch norm, with
    separable convolutions applied twice; Zoph et al. 2018, appendix A.4, of which the other operations are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.blocks import activation


class FactorizedReduction(nn.Module):
    """Halves height and width: two 1x1 convolutions of stride 2, the second moved by a pixel, side by side.

    Args:
        channels: Channels that enter.
        width: Channels that leave; even.
        act: Name of the activation.
    """

    def __init__(self, channels: int, width: int, act: str) -> None:
        super().__init__()
        self.activation = activation(act)
        self.conv1 = nn.Conv2d(channels, width // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(channels, width - width // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels, h, w) -> (b, width, h / 2, w / 2), halves rounded up."""
        x_bchw = self.activation(x_bchw)
        moved_bchw = functional.pad(x_bchw, (-1, 1, -1, 1))
        normed: Tensor = self.norm(torch.cat([self.conv1(x_bchw), self.conv2(moved_bchw)], 1))
        return normed


def pointwise(channels: int, width: int, act: str) -> nn.Sequential:
    """Activation, 1x1 convolution and batch norm: (b, channels, h, w) -> (b, width, h, w).

    Args:
        channels: Channels that enter.
        width: Channels that leave.
        act: Name of the activation.
    """
    return nn.Sequential(activation(act), nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))


def _skip(width: int, stride: int, act: str) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduction(width, width, act)


def _max_pool(side: int) -> Callable[[int, int, str], nn.Module]:
    return lambda width, stride, act: nn.MaxPool2d(side, stride, side // 2)


def _average_pool(side: int) -> Callable[[int, int, str], nn.Module]:
    return lambda width, stride, act: nn.AvgPool2d(side, stride, side // 2, count_include_pad=False)


def _depthwise(width: int, side: int, stride: int, act: str, dilation: int = 1) -> list[nn.Module]:
    edge = dilation * (side // 2)
    return [
        activation(act),
        nn.Conv2d(width, width, side, stride, edge, dilation, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
    ]


def _separable(side: int) -> Callable[[int, int, str], nn.Module]:
    return lambda width, stride, act: nn.Sequential(
        *_depthwise(width, side, stride, act), *_depthwise(width, side, 1, act)
    )


def _dilated(side: int) -> Callable[[int, int, str], nn.Module]:
    return lambda width, stride, act: nn.Sequential(*_depthwise(width, side, stride, act, dilation=2))


def _convolution(side: int) -> Callable[[int, int, str], nn.Module]:
    return lambda width, stride, act: nn.Sequential(
        activation(act), nn.Conv2d(width, width, side, stride, side // 2, bias=False), nn.BatchNorm2d(width)
    )


def _rows_then_columns(side: int) -> Callable[[int, int, str], nn.Module]:
    return lambda width, stride, act: nn.Sequential(
        activation(act),
        nn.Conv2d(width, width, (1, side), (1, stride), (0, side // 2), bias=False),
        nn.Conv2d(width, width, (side, 1), (stride, 1), (side // 2, 0), bias=False),
        nn.BatchNorm2d(width),
    )


_MAKERS: dict[str, Callable[[int, int, str], nn.Module]] = {
    "skip_connect": _skip,
    "conv_1x3_3x1": _rows_then_columns(3),
    "conv_1x7_7x1": _rows_then_columns(7),
    "dil_conv_3x3": _dilated(3),
    "dil_conv_5x5": _dilated(5),
    "avg_pool_3x3": _average_pool(3),
    "max_pool_3x3": _max_pool(3),
    "max_pool_5x5": _max_pool(5),
    "max_pool_7x7": _max_pool(7),
    "conv_1x1": _convolution(1),
    "conv_3x3": _convolution(3),
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "sep_conv_7x7": _separable(7),
}
"""Name of an operation -> its maker, called with width, stride and the activation's name."""


def make_operation(name: str, width: int, stride: int, act: str) -> nn.Module:
    """An operation: (b, width, h, w) -> (b, width, h / stride, w / stride).

    Args:
        name: One of :data:`expflow.config.child_space.OPERATIONS`.
        width: Channels of the maps.
        stride: 1, or 2 where it halves height and width.
        act: Name of the activation.
    """
    return _MAKERS[name](width, stride, act)
