"""Densely connected networks (Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv 1608.06993).

In a dense block each layer reads the channels of all layers before it: L layers have L(L + 1) / 2 connections.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from expflow.architectures.blocks import activation, dropout, init_weights, norm2d
from expflow.architectures.convolutions import convolution, make_stem
from expflow.architectures.specs import densenet as specs
from expflow.architectures.windows import map_size
from expflow.data.dataspec import DataSpec


class DenseLayer(nn.Sequential):
    """H of equation 2: norm, activation, 3x3 convolution to ``growth`` channels; a 1x1 of the same kind before it."""

    def __init__(self, channels_in: int, spec: specs.DenseNet) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        widths = [(spec.bottleneck * spec.growth, 1), (spec.growth, 3)]
        for number, (channels, kernel) in enumerate((each for each in widths if each[0]), start=1):
            parts[f"norm{number}"] = norm2d(spec.norm, channels_in)
            parts[f"activation{number}"] = activation(spec.activation)
            parts[f"conv{number}"] = convolution(channels_in, channels, kernel, norm=spec.norm)
            channels_in = channels
        parts["dropout"] = dropout(spec.dropout)
        super().__init__(parts)


class DenseBlock(nn.Sequential):
    """``layer1`` … that each read the input of the block and all that those before them made."""

    def __init__(self, layers: int, channels_in: int, spec: specs.DenseNet) -> None:
        made = (DenseLayer(channels_in + index * spec.growth, spec) for index in range(layers))
        super().__init__(OrderedDict((f"layer{number}", each) for number, each in enumerate(made, start=1)))

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, channels_in + layers * growth, h, w)."""
        read = [x_bchw]
        for layer in self:
            read.append(layer(torch.cat(read, 1)))
        return torch.cat(read, 1)


class Transition(nn.Sequential):
    """To another number of channels (1x1 convolution) and half the size (average pooling)."""

    def __init__(self, channels_in: int, channels: int, spec: specs.DenseNet) -> None:
        super().__init__(
            OrderedDict(
                norm=norm2d(spec.norm, channels_in),
                activation=activation(spec.activation),
                conv=convolution(channels_in, channels, 1, norm=spec.norm),
                pool=nn.AvgPool2d(2),
            )
        )


class DenseNet(nn.Sequential):
    """``stem``, ``block1``, ``transition1``, ``block2`` …, ``norm``, ``activation``, ``pool``, ``flatten``, ``head``.

    Freezing addresses these names.
    """

    def __init__(self, spec: specs.DenseNet, channels_in: int, num_classes: int) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        channels = spec.stem_channels
        bare = spec.stem == "cifar"  # every layer begins with a norm; only pooling needs one before it
        parts["stem"] = make_stem(spec.stem, channels_in, channels, norm=spec.norm, act=spec.activation, bare=bare)
        for number, layers in enumerate(spec.blocks, start=1):
            parts[f"block{number}"] = DenseBlock(layers, channels, spec)
            channels += layers * spec.growth
            if number < len(spec.blocks):
                kept = max(1, int(channels * spec.compression))
                parts[f"transition{number}"] = Transition(channels, kept, spec)
                channels = kept
        parts["norm"], parts["activation"] = norm2d(spec.norm, channels), activation(spec.activation)
        parts["pool"], parts["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        parts["head"] = nn.Linear(channels, num_classes)
        super().__init__(parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_weights(module, spec.init)


def build(spec: specs.DenseNet, data_spec: DataSpec) -> DenseNet:
    """The dense network of ``spec`` for the images and classes of ``data_spec``.

    Raises :class:`UserError` with the smallest legal size where transitions would leave nothing of the images.
    """
    network = DenseNet(spec, data_spec.in_channels, data_spec.num_classes)
    map_size(spec.name, [network], data_spec, advice="; or take stem: cifar, or fewer blocks")
    return network
