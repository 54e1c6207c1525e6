"""What residual, dense and mobile nets share: padded convolutions beside a norm, stems, and heads."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from expflow.architectures.blocks import activation, dropout, init_weights, norm2d

WITHOUT_BIAS = ("none", "local_response")
"""Norms that add no bias of their own, so that the convolution beside them has one."""


def convolution(
    channels_in: int, channels: int, kernel: int, stride: int = 1, *, norm: str, groups: int = 1
) -> nn.Conv2d:
    """A convolution padded to keep the image size at stride 1; it has a bias only where the norm beside it has none.

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave.
        kernel: Height and width of a filter in pixels; odd.
        stride: Pixels between two positions.
        norm: Name of the normalisation beside it.
        groups: Groups of filters that see a part of the channels each.
    """
    bias = norm in WITHOUT_BIAS
    return nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=bias)


def convolution_norm(
    channels_in: int, channels: int, kernel: int, stride: int = 1, *, norm: str, groups: int = 1
) -> tuple[nn.Conv2d, nn.Module]:
    """A :func:`convolution` and the norm of what leaves it.

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave.
        kernel: Height and width of a filter in pixels; odd.
        stride: Pixels between two positions.
        norm: Name of the normalisation.
        groups: Groups of filters that see a part of the channels each.
    """
    return convolution(channels_in, channels, kernel, stride, norm=norm, groups=groups), norm2d(norm, channels)


def make_stem(kind: str, channels_in: int, channels: int, *, norm: str, act: str, bare: bool = False) -> nn.Sequential:
    """The first layers of a net: (b, channels_in, h, w) -> (b, channels, h', w').

    Args:
        kind: ``imagenet``: a 7x7 convolution of stride 2 and max pooling, h' = h / 4; ``deep``: three 3x3 in place of
            the 7x7; ``cifar``: one 3x3, h' = h.
        channels_in: Channels of the image.
        channels: Channels that leave.
        norm: Name of the normalisation.
        act: Name of the activation.
        bare: Whether norm and activation after the last convolution are left out, because the first block has them.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if kind == "deep":
        for number, (before, after, stride) in enumerate(_deep(channels_in, channels), start=1):
            parts[f"conv{number}"], parts[f"bn{number}"] = convolution_norm(before, after, 3, stride, norm=norm)
            parts[f"activation{number}"] = activation(act)
        parts["conv"], last_norm = convolution_norm(max(1, channels // 2), channels, 3, norm=norm)
    elif kind == "imagenet":
        parts["conv"], last_norm = convolution_norm(channels_in, channels, 7, 2, norm=norm)
    else:
        parts["conv"], last_norm = convolution_norm(channels_in, channels, 3, norm=norm)
    if not bare:
        parts["bn"], parts["activation"] = last_norm, activation(act)
    if kind != "cifar":
        parts["pool"] = nn.MaxPool2d(3, 2, padding=1)
    return nn.Sequential(parts)


def _deep(channels_in: int, channels: int) -> list[tuple[int, int, int]]:
    """Channels in, channels out and stride of the deep stem's convolutions but the last."""
    half = max(1, channels // 2)
    return [(channels_in, half, 2), (half, half, 1)]


def with_head(
    parts: OrderedDict[str, nn.Module], channels: int, num_classes: int, *, drop: float, init: str
) -> nn.Sequential:
    """A network of ``parts`` and, behind them, ``pool``, ``flatten``, ``dropout`` and ``head``.

    Args:
        parts: Layers by name, (b, c, h, w) -> (b, channels, h', w'); the head is added to them.
        channels: Channels that leave them.
        num_classes: Scores that leave the head.
        drop: Probability to drop a value that the head sees.
        init: How convolutions are drawn; the head is drawn as torch draws linear layers.
    """
    parts["pool"], parts["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    parts["dropout"] = dropout(drop)
    parts["head"] = nn.Linear(channels, num_classes)
    network = nn.Sequential(parts)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            init_weights(module, init)
    return network
