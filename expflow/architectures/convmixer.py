"""ConvMixer (Trockman and Kolter 2022, "Patches Are All You Need?", arXiv 2201.09792)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from expflow.architectures.blocks import activation, dropout, init_weights, norm2d
from expflow.architectures.patches import patch_grid
from expflow.architectures.specs.convmixer import ConvMixerSpec
from expflow.data.dataspec import DataSpec


class Residual(nn.Module):
    """Adds to a map what a module makes of it: (b, c, h, w) -> (b, c, h, w).

    Args:
        inner: Keeps the shape of the map.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        y_bchw: Tensor = self.inner(x_bchw)
        return x_bchw + y_bchw


class ConvMixer(nn.Sequential):
    """ConvMixer: (b, c, h, w) -> (b, classes).

    Its children are ``stem``, ``layers``, ``pool``, ``flatten``, ``drop`` and ``head``. A layer mixes places with a
    depthwise convolution, around which a shortcut leads, and channels with a 1x1 one; the image keeps its size in
    patches throughout.

    Args:
        spec: Patch size, depth, width and kernel.
        channels: Channels of the images.
        num_classes: Scores that it gives.

    Source:
        Trockman and Kolter 2022, section 2.
    """

    def __init__(self, spec: ConvMixerSpec, channels: int, num_classes: int) -> None:
        width = spec.width

        def activated(convolution: nn.Conv2d) -> nn.Sequential:
            return nn.Sequential(convolution, activation(spec.activation), norm2d(spec.norm, width))

        def layer() -> nn.Sequential:
            places = activated(nn.Conv2d(width, width, spec.kernel, groups=width, padding="same"))
            return nn.Sequential(Residual(places), activated(nn.Conv2d(width, width, 1)))

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


def build(spec: ConvMixerSpec, data_spec: DataSpec) -> ConvMixer:
    """The ConvMixer of ``spec``: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: Patches do not tile the images; the message has the nearest that do.

    Source:
        Trockman and Kolter 2022, section 2.
    """
    patch_grid(spec.patch, data_spec)
    return ConvMixer(spec, data_spec.in_channels, data_spec.num_classes)
