"""Residual networks (He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385).

One class for all of the family: a layout is data (a stem and a list of stages), a block is a list of convolutions, and
a shortcut a function of the shapes it connects. ``shortcut: none`` is the paper's plain network.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from expflow.architectures.blocks import SqueezeExcitation, StochasticDepth, activation, dropout, init_weights, norm2d
from expflow.architectures.convolutions import convolution, make_stem
from expflow.architectures.specs.resnet import ResNetSpec, ResolvedStage
from expflow.data.dataspec import DataSpec


def basic(channels_in: int, stage: ResolvedStage, stride: int, spec: ResNetSpec) -> list[nn.Conv2d]:
    """The convolutions of a basic block, two 3x3: 18 HWC² multiply-adds for C channels in and out.

    Args:
        channels_in: Channels that enter.
        stage: Channels of the convolutions.
        stride: Stride of the first one.
        spec: The norm beside them.

    Source:
        He et al. 2016, figure 2.
    """
    return [
        convolution(channels_in, stage.inner, 3, stride, norm=spec.norm),
        convolution(stage.inner, stage.channels, 3, norm=spec.norm),
    ]


def bottleneck(channels_in: int, stage: ResolvedStage, stride: int, spec: ResNetSpec) -> list[nn.Conv2d]:
    """The convolutions of a bottleneck, 1x1, 3x3 and 1x1: 17 HWC² multiply-adds for C inner channels, 4C in and out.

    Args:
        channels_in: Channels that enter.
        stage: Channels of the convolutions.
        stride: Stride of the block.
        spec: Which convolution has the stride, groups, and the norm beside them.

    Source:
        He et al. 2016, figure 5; with groups Xie et al. 2017 (ResNeXt), figure 3c.
    """
    first, middle = (stride, 1) if spec.stride_in == "1x1" else (1, stride)
    return [
        convolution(channels_in, stage.inner, 1, first, norm=spec.norm),
        convolution(stage.inner, stage.inner, 3, middle, norm=spec.norm, groups=spec.groups),
        convolution(stage.inner, stage.channels, 1, norm=spec.norm),
    ]


BRANCHES = {"basic": basic, "bottleneck": bottleneck}


class PadShortcut(nn.Module):
    """Shortcut without parameters: every ``stride``-th pixel, new channels filled with zeros.

    Args:
        channels_in: Channels that enter.
        channels: Channels that leave; not fewer.
        stride: Pixels between two that stay.

    Source:
        He et al. 2016, section 3.3, option A.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, channels - channels_in

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, channels, ceil(h / stride), ceil(w / stride))."""
        x_bchw = x_bchw[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x_bchw, (0, 0, 0, 0, 0, self.new_channels))


def make_shortcut(channels_in: int, channels: int, stride: int, spec: ResNetSpec) -> nn.Module | None:
    """The shortcut around a block.

    Args:
        channels_in: Channels that enter the block.
        channels: Channels that leave it.
        stride: Stride of the block.
        spec: Kind of shortcut, norm, and whether there is pre-activation.

    Returns:
        None for a plain net, the identity where shapes agree, else option A (padding) or B (projection) of the paper.

    Source:
        He et al. 2016, section 3.3.
    """
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

    f is the activation. Dropout before the last convolution, squeeze-and-excitation after it and stochastic depth are
    there where they are asked for.

    Args:
        channels_in: Channels that enter.
        stage: Channels of the convolutions, and those that leave.
        stride: Stride of the block.
        spec: Kind of block and of shortcut, and what it is made of.
        drop: Probability to skip the convolutions for a sample (stochastic depth).

    Source:
        He et al. 2016, figure 2.
    """

    def __init__(self, channels_in: int, stage: ResolvedStage, stride: int, spec: ResNetSpec, drop: float) -> None:
        super().__init__()
        convolutions = BRANCHES[spec.block](channels_in, stage, stride, spec)
        self.convolutions = len(convolutions)
        for number, conv in enumerate(convolutions, start=1):
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", norm2d(spec.norm, self.normed_channels(conv)))
        self.activation, self.dropout = activation(spec.activation), dropout(spec.dropout)
        squeeze = stage.channels // spec.se_ratio if spec.se_ratio else 0
        self.excite = SqueezeExcitation(stage.channels, squeeze) if squeeze else nn.Identity()
        self.stochastic_depth = StochasticDepth(drop) if drop else nn.Identity()
        self.shortcut = make_shortcut(channels_in, stage.channels, stride, spec)

    @staticmethod
    def normed_channels(conv: nn.Conv2d) -> int:
        """Channels of the norm that goes with a convolution.

        Args:
            conv: The convolution.
        """
        return conv.out_channels

    def layer(self, kind: str, number: int) -> nn.Module:
        """A convolution or a norm.

        Args:
            kind: ``conv`` or ``bn``.
            number: Which one, from 1.
        """
        module: nn.Module = getattr(self, f"{kind}{number}")
        return module

    def begin_as_shortcut(self) -> None:
        """Lets the convolutions add nothing at first: the last norm's scale is 0, or without one the last weights."""
        last = self.layer("bn", self.convolutions)
        if getattr(last, "weight", None) is None:
            last = self.layer("conv", self.convolutions)
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]

    def branch(self, x_bchw: Tensor) -> Tensor:
        """F(x), (b, channels_in, h, w) -> (b, channels, h', w').

        Args:
            x_bchw: What enters the block; with pre-activation, after the first norm and activation.
        """
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
    """Norm and activation before each convolution, and nothing after the sum.

    Where the shapes change, and in the first block of a net, the shortcut starts after the first activation.

    Args:
        channels_in: Channels that enter.
        stage: Channels of the convolutions, and those that leave.
        stride: Stride of the block.
        spec: Kind of block and of shortcut, and what it is made of.
        drop: Probability to skip the convolutions for a sample (stochastic depth).
        first: Whether it is the first block of the net.

    Source:
        He et al. 2016b, "Identity Mappings in Deep Residual Networks", figure 4e, section 3.2 and appendix.
    """

    def __init__(
        self, channels_in: int, stage: ResolvedStage, stride: int, spec: ResNetSpec, drop: float, *, first: bool
    ) -> None:
        super().__init__(channels_in, stage, stride, spec, drop)
        self.splits_late = first or not isinstance(self.shortcut, nn.Identity)

    @staticmethod
    def normed_channels(conv: nn.Conv2d) -> int:
        """Channels of the norm that goes with a convolution, which is before it."""
        return conv.in_channels

    def begin_as_shortcut(self) -> None:
        """Lets the convolutions add nothing at first: the last one's weights are 0."""
        nn.init.zeros_(self.layer("conv", self.convolutions).weight)  # type: ignore[arg-type]

    def branch(self, x_bchw: Tensor) -> Tensor:
        """F(x) of what went through the first norm and activation."""
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
    """Residual network: (b, c, h, w) -> (b, classes).

    Its children are ``stem``, ``layer1`` … one per stage, ``pool``, ``flatten`` and ``head``; freezing addresses these
    names. With pre-activation, ``norm`` and ``activation`` stand before ``pool``. Weights of convolutions are drawn by
    ``spec.init``, by default as in He et al. 2015, section 2.2 (normal, variance 2 / fan-out); with ``zero_init`` each
    block that a shortcut leads around begins as that shortcut.

    Args:
        spec: Stages, kind of block and of shortcut, and what they are made of.
        channels_in: Channels of the images.
        num_classes: Scores that it gives.

    Source:
        He et al. 2016, table 1 and section 4.2.
    """

    def __init__(self, spec: ResNetSpec, channels_in: int, num_classes: int) -> None:
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


def make_blocks(spec: ResNetSpec) -> list[list[Block]]:
    """The blocks of each stage; the probability to skip one grows linearly with its number.

    Args:
        spec: Stages, kind of block and stochastic depth.

    Source:
        Huang et al. 2016, equation 4, for stochastic depth.
    """
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


def build(spec: ResNetSpec, data_spec: DataSpec) -> ResNet:
    """The residual network of ``spec``: (b, c, h, w) -> (b, classes), for images of any size.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Source:
        He et al. 2016, table 1 and section 4.2.
    """
    return ResNet(spec, data_spec.in_channels, data_spec.num_classes)
