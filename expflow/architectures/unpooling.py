"""DeconvNet and SegNet: a VGG encoder, and a decoder that undoes its pooling by the places of the maxima.

Sources: Noh et al. 2015, "Learning Deconvolution Network for Semantic Segmentation", figure 2; Badrinarayanan et al.
2017, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation", figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.blocks import activation, init_weights, norm2d
from expflow.architectures.convolutions import WITHOUT_BIAS, convolution_norm
from expflow.architectures.specs.unpooling import DeconvNetSpec, SegNetSpec, Unpool, UnpoolingSpec
from expflow.architectures.vgg import CHANNELS, DEPTHS
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


def unpooled(x_bchw: Tensor, indices_bchw: Tensor, size: tuple[int, int], how: Unpool) -> Tensor:
    """A map before pooling in windows of 2x2, as far as what is left tells it: (b, c, h, w) -> (b, c, *size).

    Args:
        x_bchw: The map after pooling, or what became of it.
        indices_bchw: Where in a flattened map of ``size`` each maximum was.
        size: (height, width) before pooling, in pixels.
        how: Where each value goes.

    Source:
        Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 2.1, for ``indices``.
    """
    height, width = size
    rest = (
        0,
        width - 2 * x_bchw.shape[3],
        0,
        height - 2 * x_bchw.shape[2],
    )  # an odd side lost a row when it was halved
    if how == "nearest":
        doubled = x_bchw.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return functional.pad(doubled, rest) if any(rest) else doubled
    if how == "corner":
        zeros = x_bchw.new_zeros(*x_bchw.shape[:2], *size)
        zeros[..., : 2 * x_bchw.shape[2] : 2, : 2 * x_bchw.shape[3] : 2] = x_bchw
        return zeros
    # torch's own max_unpool2d counts as one whose result may differ from run to run, and these indices are distinct
    flat = x_bchw.new_zeros(*x_bchw.shape[:2], height * width)
    return flat.scatter(2, indices_bchw.flatten(2), x_bchw.flatten(2)).view(*x_bchw.shape[:2], height, width)


def _layers(pairs: Sequence[tuple[int, int]], spec: UnpoolingSpec, *, transposed: bool = False) -> nn.Sequential:
    """3x3 convolutions with norm and activation, one for each pair of channels in and out."""
    layers: list[nn.Module] = []
    for entering, leaving in pairs:
        if transposed:
            bias = spec.norm in WITHOUT_BIAS
            layers += [nn.ConvTranspose2d(entering, leaving, 3, padding=1, bias=bias), norm2d(spec.norm, leaving)]
        else:
            layers += convolution_norm(entering, leaving, 3, norm=spec.norm)
        layers.append(activation(spec.activation))
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))


def stages_of(spec: UnpoolingSpec) -> tuple[tuple[int, int], ...]:
    """(convolutions, channels) of each stage of the encoder.

    Args:
        spec: What the user chose.
    """
    return spec.stages or tuple(zip(DEPTHS[spec.depth or 16], CHANNELS, strict=True))


class UnpoolingNet(nn.Module):
    """(b, c, h, w) -> (b, classes, h, w): stages that pool, ``middle``, stages that unpool, ``head``.

    Args:
        spec: Stages, norm, activation and kind of unpooling.
        channels_in: Channels of the image.
        classes: Scores of each pixel.
        middle: What stands between encoder and decoder; it keeps size and channels.
        transposed: Whether the decoder's convolutions are transposed ones.
        last_layer: Whether the decoder has one more layer before the head, which then sees single pixels; else its last
            convolution is the head.
    """

    def __init__(
        self,
        spec: UnpoolingSpec,
        channels_in: int,
        classes: int,
        *,
        middle: nn.Module,
        transposed: bool,
        last_layer: bool,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        entering = channels_in
        stages = stages_of(spec)
        for convolutions, channels in stages:
            widths = [entering, *[channels] * convolutions]
            self.encoder.append(_layers(list(pairwise(widths)), spec))
            entering = channels
        self.middle = middle
        for number in reversed(range(len(stages))):
            convolutions, channels = stages[number]
            leaving = stages[number - 1][1] if number else channels
            pairs = [*[(channels, channels)] * (convolutions - 1), (channels, leaving)]
            if number == 0 and not last_layer:
                pairs.pop()
            self.decoder.append(_layers(pairs, spec, transposed=transposed))
        kernel = 1 if last_layer else 3
        self.head = nn.Conv2d(stages[0][1], classes, kernel, padding=kernel // 2)
        self._unpool: Unpool = spec.unpool
        init_weights(self, spec.init)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, classes, h, w)."""
        places: list[tuple[Tensor, tuple[int, int]]] = []
        for block in self.encoder:
            x_bchw = block(x_bchw)
            size = (x_bchw.shape[2], x_bchw.shape[3])
            x_bchw, indices = functional.max_pool2d(x_bchw, 2, return_indices=True)
            places.append((indices, size))
        x_bchw = self.middle(x_bchw)
        for block in self.decoder:
            indices, size = places.pop()
            x_bchw = block(unpooled(x_bchw, indices, size, self._unpool))
        scores: Tensor = self.head(x_bchw)
        return scores


def _middle(spec: DeconvNetSpec, channels: int) -> nn.Sequential:
    """VGG's fully connected layers as convolutions, and the deconvolution that undoes the first; it keeps shapes."""
    layers: list[nn.Module] = []
    entering, bias = channels, spec.norm in WITHOUT_BIAS
    for number, units in enumerate(spec.head):
        kernel = 1 if number else spec.kernel
        layers += [nn.Conv2d(entering, units, kernel, bias=bias), norm2d(spec.norm, units), activation(spec.activation)]
        entering = units
    layers.append(nn.ConvTranspose2d(entering, channels, spec.kernel, bias=bias))
    layers += [norm2d(spec.norm, channels), activation(spec.activation)]
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))


def _check_size(spec: UnpoolingSpec, data_spec: DataSpec, smallest: int, change: str) -> None:
    if min(data_spec.image_size) < smallest:
        height, width = data_spec.image_size
        raise UserError(
            f"model {spec.name}: images of {height}x{width} are smaller than the {smallest} pixels that its stages"
            f" need; use {change}, or larger images"
        )


def build_deconvnet(spec: DeconvNetSpec, data_spec: DataSpec) -> UnpoolingNet:
    """The deconvolution network of ``spec``: (b, c, h, w) -> (b, classes, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small for its stages.

    Source:
        Noh et al. 2015, figure 2.
    """
    stages = stages_of(spec)
    _check_size(spec, data_spec, spec.kernel * 2 ** len(stages), "fewer stages or a smaller kernel")
    middle = _middle(spec, stages[-1][1])
    return UnpoolingNet(
        spec, data_spec.in_channels, data_spec.num_classes, middle=middle, transposed=True, last_layer=True
    )


def build_segnet(spec: SegNetSpec, data_spec: DataSpec) -> UnpoolingNet:
    """The SegNet of ``spec``: (b, c, h, w) -> (b, classes, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small for its stages.

    Source:
        Badrinarayanan et al. 2017, figure 2.
    """
    _check_size(spec, data_spec, 2 ** len(stages_of(spec)), "fewer stages")
    channels, classes = data_spec.in_channels, data_spec.num_classes
    return UnpoolingNet(spec, channels, classes, middle=nn.Identity(), transposed=False, last_layer=False)
