"""FCN (Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", section 4).

The paper pads images by 100 pixels and cuts the border off the scores; here the layer behind the stages is padded,
which has as many weights and leaves every score in its place.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.blocks import activation, dropout, init_weights
from expflow.architectures.specs.fcn import FCNSpec
from expflow.architectures.vgg import CHANNELS, DEPTHS, stage
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


def bilinear_upsampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that begins as bilinear interpolation: (b, c, h, w) -> (b, c, factor h, factor w).

    Args:
        channels: Channels that enter and leave, each by itself at first.
        factor: How many times larger the map becomes; even.

    Source:
        Long et al. 2015, section 3.3.
    """
    layer = nn.ConvTranspose2d(channels, channels, 2 * factor, factor, factor // 2, bias=False)
    row = [1 - abs(place - (factor - 0.5)) / factor for place in range(2 * factor)]
    kernel = torch.tensor([[vertical * horizontal for horizontal in row] for vertical in row])
    with torch.no_grad():
        layer.weight.zero_().diagonal().copy_(kernel[..., None])  # the diagonal of the channels is the last dimension
    return layer


class FCN(nn.Module):
    """(b, c, h, w) -> (b, classes, h, w); a border that is no whole step of the last stage repeats what is beside it.

    Args:
        spec: What the user chose.
        channels_in: Channels of the image.
        classes: Scores of each pixel.
    """

    def __init__(self, spec: FCNSpec, channels_in: int, classes: int) -> None:
        super().__init__()
        layout = spec.stages or tuple(zip(DEPTHS[spec.depth or 16], CHANNELS, strict=True))
        self.stages = nn.ModuleList()
        for convs, channels in layout:
            self.stages.append(stage(convs, channels_in, channels, spec))
            channels_in = channels
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number, units in enumerate(spec.head, start=6):
            kernel = spec.kernel if number == 6 else 1
            parts[f"fc{number}"] = nn.Conv2d(channels_in, units, kernel, padding=kernel // 2)
            parts[f"activation{number}"] = activation(spec.activation)
            parts[f"dropout{number}"] = dropout(spec.dropout)
            channels_in = units
        parts["score"] = nn.Conv2d(channels_in, classes, 1)
        self.head = nn.Sequential(parts)
        before = [channels for _, channels in layout[-2 : -2 - spec.skips : -1]]
        self.scores = nn.ModuleList(nn.Conv2d(channels, classes, 1) for channels in before)
        init_weights(self, spec.init)
        for score in (self.head[-1], *self.scores):
            nn.init.zeros_(score.weight)  # as the paper does: at first no class is nearer than another
        self.doublings = nn.ModuleList(bilinear_upsampling(classes, 2) for _ in before)
        self.upsampling = bilinear_upsampling(classes, 2 ** (len(layout) - spec.skips))

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, classes, h, w)."""
        size = x_bchw.shape[-2:]
        maps: list[Tensor] = []  # torch.compile cannot trace `list[Tensor]()`
        for block in self.stages:
            x_bchw = block(x_bchw)
            maps.append(x_bchw)
        scores: Tensor = self.head(maps.pop())
        for doubling, score in zip(self.doublings, self.scores, strict=True):
            scores = doubling(scores)
            height, width = scores.shape[-2:]  # a map of odd size has a row more than twice the one after it
            scores = scores + score(maps.pop())[..., :height, :width]
        scores = self.upsampling(scores)
        missing = [size[axis] - scores.shape[axis] for axis in (-1, -2)]
        return functional.pad(scores, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else scores


def build(spec: FCNSpec, data_spec: DataSpec) -> FCN:
    """The fully convolutional network of ``spec``: (b, c, h, w) -> (b, classes, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small for its stages.

    Source:
        Long et al. 2015, section 4.
    """
    smallest = 2 ** len(spec.stages or CHANNELS)
    if min(data_spec.image_size) < smallest:
        height, width = data_spec.image_size
        raise UserError(
            f"model fcn: images of {height}x{width} are smaller than the {smallest} pixels that its stages make one of;"
            " use fewer stages, or larger images"
        )
    return FCN(spec, data_spec.in_channels, data_spec.num_classes)
