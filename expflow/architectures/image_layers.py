"""What networks that make or judge images share: how often maps are halved, norms, and how weights are drawn."""

from __future__ import annotations

import torch
from torch import nn

from expflow.architectures.specs.image_nets import JudgeSpec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

SLOPE = 0.2
"""Of leaky rectifiers below zero (Radford et al. 2016, section 3)."""

LARGEST_CORE = 7
"""Pixels: the side of the smallest maps lies from 4 to so many."""

STD = 0.02
"""Standard deviation of drawn weights (Radford et al. 2016, section 4)."""


def halvings(height: int, width: int) -> int:
    """How often maps are halved until the longer side has :data:`LARGEST_CORE` pixels or fewer; at least once.

    Args:
        height: Pixels.
        width: Pixels.
    """
    number = 1
    while -(-max(height, width) // 2**number) > LARGEST_CORE:
        number += 1
    return number


def map_norm(name: str, channels: int) -> list[nn.Module]:
    """The normalisation of maps as a list, which is empty for ``none``.

    Instance norm has no scale and shift, as in CycleGAN's networks; with ``instance_affine`` it has.

    Args:
        name: ``batch``, ``instance``, ``instance_affine`` or ``none``.
        channels: Channels of the maps.
    """
    if name == "none":
        return []
    if name == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.GroupNorm(channels, channels, affine=name == "instance_affine")]


def needs_bias(norm: str) -> bool:
    """Whether a convolution beside this norm has a bias: batch norm adds one of its own.

    Args:
        norm: ``batch``, ``instance``, ``instance_affine`` or ``none``.
    """
    return norm != "batch"


def draw_weights(network: nn.Module) -> None:
    """Draw all convolutions from N(0, 0.02), scales of batch norms from N(1, 0.02); biases become 0.

    Args:
        network: The network, changed in place.
    """
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.normal_(0.0, STD)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.weight.normal_(1.0, STD)
            else:
                continue
            if layer.bias is not None:
                layer.bias.zero_()


def judged_shape(spec: JudgeSpec, data_spec: DataSpec) -> tuple[int, int, int]:
    """(channels, height, width) of what a discriminator looks at.

    Args:
        spec: The discriminator.
        data_spec: The images.
    """
    channels, height, width = spec.input_shape(data_spec.image_shape)
    return channels, height, width


def check_sides(name: str, data_spec: DataSpec, factor: int, advice: str) -> None:
    """Require that both sides of the images are multiples of a number.

    Args:
        name: The network's name.
        data_spec: The images.
        factor: The number.
        advice: What to do where they are not.

    Raises:
        UserError: They are not.
    """
    height, width = data_spec.image_size
    if height % factor or width % factor:
        raise UserError(f"model {name}: images of {height}x{width} cannot be divided by {factor}; {advice}")
