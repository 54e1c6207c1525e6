"""ConvMixer (Trockman and Kolter 2022, "Patches Are All You Need?", arXiv 2201.09792)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from expflow.architectures.blocks import activation, dropout, init_weights, norm2d
from expflow.architectures.patches import patch_grid
from expflow.architectures.specs import convmixer as specs
from expflow.data.dataspec import DataSpec


class Shortcut(nn.Module):
    """The sum of what ``inner`` makes of a map and of the map itself."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        y_bchw: Tensor = self.inner(x_bchw)
        return x_bchw + y_bchw


class ConvMixer(nn.Sequential):
    """``stem``, ``layers``, ``pool``, ``flatten``, ``drop``, ``head``; (b, c, h, w) -> (b, classes).

    A layer (section 2 of the paper) mixes places with a depthwise convolution, around which a shortcut leads, and
    channels with a 1x1 one; the image keeps its size in patches throughout.
    """

    def __init__(self, spec: specs.ConvMixer, channels: int, num_classes: int) -> None:
        width = spec.width

        def activated(convolution: nn.Conv2d) -> nn.Sequential:
            return nn.Sequential(convolution, activation(spec.activation), norm2d(spec.norm, width))

        def layer() -> nn.Sequential:
            places = activated(nn.Conv2d(width, width, spec.kernel, groups=width, padding="same"))
            return nn.Sequential(Shortcut(places), activated(nn.Conv2d(width, width, 1)))

        parts: OrderedDict[str, nn.Module] = OrderedDict(
            stem=activated(nn.Conv2d(channels, width, spec.patch, stride=spec.patch)),
            layers=nn.Sequential(*(layer() for _ in range(spec.depth))),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            drop=dropout(spec.dropout),
            head=nn.Linear(width, num_classes),
        )
        super().__init__(parts)
        init_weights(self, spec.init)


def build(spec: specs.ConvMixer, data_spec: DataSpec) -> ConvMixer:
    """The ConvMixer of ``spec``; raises :class:`UserError` where its patches do not tile the image."""
    patch_grid(spec.patch, data_spec)
    return ConvMixer(spec, data_spec.in_channels, data_spec.num_classes)
