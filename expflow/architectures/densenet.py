"""Densely connected networks (Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv 1608.06993).

In a dense block each layer reads the channels of all layers before it: L layers have L(L + 1) / 2 connections.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from expflow.architectures.blocks import activation, dropout, init_weights, norm2d
from expflow.architectures.convolutions import convolution, make_stem
from expflow.architectures.map_sizes import map_size
from expflow.architectures.specs.densenet import DenseNetSpec
from expflow.data.dataspec import DataSpec


class DenseLayer(nn.Sequential):
    """Norm, activation and 3x3 convolution, and a bottleneck of a 1x1 of the same kind before them.

    (b, channels_in, h, w) -> (b, growth, h, w).

    Args:
        channels_in: Channels that enter.
        spec: Growth, bottleneck, norm, activation and dropout.

    Source:
        Huang et al. 2017, section 3: H of equation 2, DenseNet-B.
    """

    def __init__(self, channels_in: int, spec: DenseNetSpec) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        widths = [(spec.bottleneck * spec.growth, 1), (spec.growth, 3)]
        for number, (channels, kernel) in enumerate((width for width in widths if width[0]), start=1):
            parts[f"norm{number}"] = norm2d(spec.norm, channels_in)
            parts[f"activation{number}"] = activation(spec.activation)
            parts[f"conv{number}"] = convolution(channels_in, channels, kernel, norm=spec.norm)
            channels_in = channels
        parts["dropout"] = dropout(spec.dropout)
        super().__init__(parts)


class DenseBlock(nn.Sequential):
    """``layer1`` …, each of which reads the input of the block and the outputs of all layers before it.

    Args:
        layers: Number of layers.
        channels_in: Channels that enter.
        spec: Growth and what a layer is made of.

    Source:
        Huang et al. 2017, section 3.
    """

    def __init__(self, layers: int, channels_in: int, spec: DenseNetSpec) -> None:
        made = (DenseLayer(channels_in + index * spec.growth, spec) for index in range(layers))
        super().__init__(OrderedDict((f"layer{number}", layer) for number, layer in enumerate(made, start=1)))

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, channels_in + layers * growth, h, w)."""
        read = [x_bchw]
        for layer in self:
            read.append(layer(torch.cat(read, 1)))
        return torch.cat(read, 1)


class Transition(nn.Sequential):
    """1x1 convolution and average pooling to half the size: (b, channels_in, h, w) -> (b, channels, h / 2, w / 2).

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave.
        spec: Norm and activation.

    Source:
        Huang et al. 2017, section 3.
    """

    def __init__(self, channels_in: int, channels: int, spec: DenseNetSpec) -> None:
        super().__init__(
            OrderedDict(
                norm=norm2d(spec.norm, channels_in),
                activation=activation(spec.activation),
                conv=convolution(channels_in, channels, 1, norm=spec.norm),
                pool=nn.AvgPool2d(2),
            )
        )


class DenseNet(nn.Sequential):
    """Densely connected network: (b, c, h, w) -> (b, classes).

    Its children are ``stem``, ``block1``, ``transition1``, ``block2`` …, ``norm``, ``activation``, ``pool``,
    ``flatten`` and ``head``; freezing addresses these names.

    Args:
        spec: Layout, growth, compression and what the layers are made of.
        channels_in: Channels of the images.
        num_classes: Scores that it gives.

    Source:
        Huang et al. 2017, section 3 and table 1.
    """

    def __init__(self, spec: DenseNetSpec, channels_in: int, num_classes: int) -> None:
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


def build(spec: DenseNetSpec, data_spec: DataSpec) -> DenseNet:
    """The dense network of ``spec``: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: Transitions would leave nothing of the images; the message has the smallest legal size.

    Source:
        Huang et al. 2017, section 3 and table 1.
    """
    network = DenseNet(spec, data_spec.in_channels, data_spec.num_classes)
    map_size(spec.name, [network], data_spec, advice="; or take stem: cifar, or fewer blocks")
    return network
