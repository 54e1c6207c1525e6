"""Residual networks (He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385).

One class for all of the family: a layout is data (a stem and a list of stages), a block is a list of convolutions, and
a shortcut a function of the shapes it connects. ``shortcut: none`` is the paper's plain network.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from expflow.architectures.blocks import SqueezeExcitation, StochasticDepth, activation, dropout, init_weights, norm2d
from expflow.architectures.convolutions import convolution, make_stem
from expflow.architectures.specs import resnet as specs
from expflow.data.dataspec import DataSpec


def basic(channels_in: int, stage: specs.Stage, stride: int, spec: specs.ResNet) -> list[nn.Conv2d]:
    """Two 3x3 convolutions (figure 2 of the paper): 18 HWC² multiply-adds for C channels in and out."""
    return [
        convolution(channels_in, stage.inner, 3, stride, norm=spec.norm),
        convolution(stage.inner, stage.channels, 3, norm=spec.norm),
    ]


def bottleneck(channels_in: int, stage: specs.Stage, stride: int, spec: specs.ResNet) -> list[nn.Conv2d]:
    """1x1, 3x3 and 1x1 (figure 5 of the paper): 17 HWC² multiply-adds for C inner channels, 4C in and out.

    With groups it is the block of ResNeXt (Xie et al. 2017, figure 3c).
    """
    first, middle = (stride, 1) if spec.stride_in == "1x1" else (1, stride)
    return [
        convolution(channels_in, stage.inner, 1, first, norm=spec.norm),
        convolution(stage.inner, stage.inner, 3, middle, norm=spec.norm, groups=spec.groups),
        convolution(stage.inner, stage.channels, 1, norm=spec.norm),
    ]


BRANCHES = {"basic": basic, "bottleneck": bottleneck}


class PadShortcut(nn.Module):
    """Option A of the paper (section 3.3): every ``stride``-th pixel, new channels filled with zeros; no parameters."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, channels - channels_in

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, channels, ceil(h / stride), ceil(w / stride))."""
        x_bchw = x_bchw[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x_bchw, (0, 0, 0, 0, 0, self.new_channels))


def make_shortcut(channels_in: int, channels: int, stride: int, spec: specs.ResNet) -> nn.Module | None:
    """What leads around a block: None for a plain net, the identity where shapes agree, else option A or B."""
    if spec.shortcut == "none":
        return None
    if channels_in == channels and stride == 1:
        return nn.Identity()
    if spec.shortcut == "pad":
        return PadShortcut(channels_in, channels, stride)
    if spec.preactivation:  # its input is normalised already (He et al. 2016b, figure 1b)
        return nn.Conv2d(channels_in, channels, 1, stride, bias=False)
    return nn.Sequential(convolution(channels_in, channels, 1, stride, norm=spec.norm), norm2d(spec.norm, channels))


class Block(nn.Module):
    """Convolutions ``conv1`` … with norms ``bn1`` …, and a shortcut around them: y = f(F(x) + shortcut(x)).

    f is the activation (figure 2 of the paper). The rest is there where ``spec`` asks for it: dropout before the last
    convolution, squeeze-and-excitation after it, stochastic depth of probability ``drop``.
    """

    def __init__(self, channels_in: int, stage: specs.Stage, stride: int, spec: specs.ResNet, drop: float) -> None:
        super().__init__()
        convolutions = BRANCHES[spec.block](channels_in, stage, stride, spec)
        self.convolutions = len(convolutions)
        for number, conv in enumerate(convolutions, start=1):
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", norm2d(spec.norm, self.normed(conv)))
        self.activation, self.dropout = activation(spec.activation), dropout(spec.dropout)
        squeeze = stage.channels // spec.se_ratio if spec.se_ratio else 0
        self.excite = SqueezeExcitation(stage.channels, squeeze) if squeeze else nn.Identity()
        self.stochastic_depth = StochasticDepth(drop) if drop else nn.Identity()
        self.shortcut = make_shortcut(channels_in, stage.channels, stride, spec)

    @staticmethod
    def normed(conv: nn.Conv2d) -> int:
        """Channels of the norm that goes with ``conv``."""
        return conv.out_channels

    def layer(self, kind: str, number: int) -> nn.Module:
        """``conv`` or ``bn`` of that number, from 1."""
        module: nn.Module = getattr(self, f"{kind}{number}")
        return module

    def begin_as_shortcut(self) -> None:
        """Let the convolutions add nothing at first: the last norm's scale is 0, or without one the last weights."""
        last = self.layer("bn", self.convolutions)
        if getattr(last, "weight", None) is None:
            last = self.layer("conv", self.convolutions)
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]

    def branch(self, x_bchw: Tensor) -> Tensor:
        """F(x): a norm after each convolution, and activations between them."""
        for number in range(1, self.convolutions + 1):
            if number > 1:
                x_bchw = self.activation(x_bchw)
            if number == self.convolutions:
                x_bchw = self.dropout(x_bchw)
            x_bchw = self.layer("bn", number)(self.layer("conv", number)(x_bchw))
        y_bchw: Tensor = self.stochastic_depth(self.excite(x_bchw))
        return y_bchw

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, channels, ceil(h / stride), ceil(w / stride))."""
        y_bchw = self.branch(x_bchw)
        if self.shortcut is not None:
            y_bchw = y_bchw + self.shortcut(x_bchw)
        out_bchw: Tensor = self.activation(y_bchw)
        return out_bchw


class PreactivationBlock(Block):
    """Norm and activation before each convolution, and nothing after the sum (He et al. 2016b, figure 4e).

    Where the shapes change, and in the ``first`` block of a net, the shortcut starts after the first activation
    (section 3.2 and appendix of that paper).
    """

    def __init__(
        self, channels_in: int, stage: specs.Stage, stride: int, spec: specs.ResNet, drop: float, *, first: bool
    ) -> None:
        super().__init__(channels_in, stage, stride, spec, drop)
        self.splits_late = first or not isinstance(self.shortcut, nn.Identity)

    @staticmethod
    def normed(conv: nn.Conv2d) -> int:
        """Channels of the norm that goes with ``conv``."""
        return conv.in_channels

    def begin_as_shortcut(self) -> None:
        """Let the convolutions add nothing at first: the last one's weights are 0."""
        nn.init.zeros_(self.layer("conv", self.convolutions).weight)  # type: ignore[arg-type]

    def branch(self, x_bchw: Tensor) -> Tensor:
        """F(x) of an ``x_bchw`` that went through the first norm and activation."""
        for number in range(1, self.convolutions + 1):
            if number > 1:
                x_bchw = self.activation(self.layer("bn", number)(x_bchw))
            if number == self.convolutions:
                x_bchw = self.dropout(x_bchw)
            x_bchw = self.layer("conv", number)(x_bchw)
        y_bchw: Tensor = self.stochastic_depth(self.excite(x_bchw))
        return y_bchw

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, channels, ceil(h / stride), ceil(w / stride))."""
        activated_bchw = self.activation(self.layer("bn", 1)(x_bchw))
        y_bchw = self.branch(activated_bchw)
        if self.shortcut is not None:
            y_bchw = y_bchw + self.shortcut(activated_bchw if self.splits_late else x_bchw)
        return y_bchw


class ResNet(nn.Sequential):
    """``stem``, ``layer1`` … one per stage, ``pool``, ``flatten``, ``head``; those names are what freezing addresses.

    With pre-activation, ``norm`` and ``activation`` stand before ``pool``. Weights of convolutions are drawn by
    ``spec.init``, by default as in He et al. 2015, section 2.2 (normal, variance 2 / fan-out); with ``zero_init`` each
    block that a shortcut leads around begins as that shortcut.
    """

    def __init__(self, spec: specs.ResNet, channels_in: int, num_classes: int) -> None:
        late = spec.preactivation
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = make_stem(spec.stem, channels_in, spec.width, norm=spec.norm, act=spec.activation, bare=late)
        channels = spec.width
        for number, blocks in enumerate(make_blocks(spec), start=1):
            parts[f"layer{number}"] = nn.Sequential(*blocks)
            channels = spec.stages[number - 1].channels
        if late:
            parts["norm"], parts["activation"] = norm2d(spec.norm, channels), activation(spec.activation)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        parts["head"] = nn.Linear(channels, num_classes)
        super().__init__(parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_weights(module, spec.init)
        for module in self.modules():
            if spec.zero_init and isinstance(module, Block) and module.shortcut is not None:
                module.begin_as_shortcut()


def make_blocks(spec: specs.ResNet) -> list[list[Block]]:
    """The blocks of each stage; stochastic depth grows linearly with their number (Huang et al. 2016, equation 4)."""
    total, made, channels = sum(stage.blocks for stage in spec.stages), 0, spec.width
    stages = []
    for stage in spec.stages:
        blocks: list[Block] = []
        for index in range(stage.blocks):
            made += 1
            stride, drop = stage.stride if index == 0 else 1, spec.stochastic_depth * made / total
            if spec.preactivation:
                blocks.append(PreactivationBlock(channels, stage, stride, spec, drop, first=made == 1))
            else:
                blocks.append(Block(channels, stage, stride, spec, drop))
            channels = stage.channels
        stages.append(blocks)
    return stages


def build(spec: specs.ResNet, data_spec: DataSpec) -> ResNet:
    """The residual network of ``spec`` for the images and classes of ``data_spec``; images of any size will do."""
    return ResNet(spec, data_spec.in_channels, data_spec.num_classes)
