"""An encoder-decoder over a classification network of ours, whose weights it can begin with.

The encoder's layers have the names that they have in the classification network, and the decoder is called ``head``: so
``init.from`` takes over all but the head, and ``freeze: backbone`` leaves the decoder alone to be trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.blocks import activation, init_weights
from expflow.architectures.building import build as build_network
from expflow.architectures.convolutions import convolution_norm
from expflow.architectures.operation_observer import OperationObserver
from expflow.architectures.specs.encoder_decoder import EncoderDecoderSpec
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


@dataclass(frozen=True)
class EncoderMap:
    """A map that the encoder offers to the decoder.

    Attributes:
        layer: The child whose output it is.
        channels: Its channels.
        size: Its (height, width) in pixels.
    """

    layer: str
    channels: int
    size: tuple[int, int]


def encoder_maps(spec: Spec, data_spec: DataSpec) -> list[EncoderMap]:
    """The last map of each size that a network makes of an image, the largest first; found on the meta device.

    Args:
        spec: The network.
        data_spec: The images that it is for.

    Raises:
        UserError: It is no row of layers that makes maps of an image.
    """
    with torch.device("meta"), torch.no_grad(), OperationObserver():
        network = build_network(spec, data_spec).eval()
        x_bchw = torch.zeros(1, *data_spec.image_shape)
        maps: dict[tuple[int, int], EncoderMap] = {}
        for layer, module in network.named_children() if isinstance(network, nn.Sequential) else ():
            if isinstance(module, nn.AdaptiveAvgPool2d | nn.Flatten):
                break
            x_bchw = module(x_bchw)
            if x_bchw.ndim != 4:
                break
            size = (x_bchw.shape[2], x_bchw.shape[3])
            maps[size] = EncoderMap(layer, x_bchw.shape[1], size)
    if not maps:
        raise UserError(
            f"model encoder_decoder: {spec.name} makes no maps of an image layer by layer; choose a convolutional"
            " network such as resnet, vgg, densenet or mobilenet_v1"
        )
    return list(maps.values())


class Decoder(nn.Module):
    """The encoder's maps -> (b, classes, h, w).

    Args:
        spec: Width, skips, norm and activation.
        maps: The encoder's maps, the largest first.
        classes: Scores of each pixel.
    """

    def __init__(self, spec: EncoderDecoderSpec, maps: list[EncoderMap], classes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        entering, width = maps[-1].channels, spec.decoder_width
        for number, offered in enumerate(reversed(maps)):
            beside = offered.channels if number and spec.decoder_skips else 0
            layers: list[nn.Module] = []
            for before, after in pairwise((entering + beside, width, width)):
                layers += [
                    *convolution_norm(before, after, 3, norm=spec.decoder_norm),
                    activation(spec.decoder_activation),
                ]
            self.blocks.append(nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity))))
            entering = width
        self.score = nn.Conv2d(width, classes, 1)
        self._skips = spec.decoder_skips

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps, the largest first, and the image's (height, width) -> (b, classes, h, w)."""
        x_bchw = self.blocks[0](maps[-1])
        for block, beside in zip(list(self.blocks)[1:], reversed(maps[:-1]), strict=True):
            x_bchw = functional.interpolate(x_bchw, size=beside.shape[2:], mode="bilinear", align_corners=False)
            x_bchw = block(torch.cat([beside, x_bchw], 1) if self._skips else x_bchw)
        scores: Tensor = self.score(x_bchw)
        if scores.shape[2:] == size:
            return scores
        return functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)


class MapEncoder(nn.Module):
    """A classification network up to its last map; its children are that network's layers by their own names.

    Args:
        network: The classification network, a row of layers.
        maps: What of it is offered.

    Attributes:
        left_out: Layers of the classification network behind its last map; their weights are not taken over.
    """

    def __init__(self, network: nn.Module, maps: Sequence[EncoderMap]) -> None:
        super().__init__()
        children = dict(network.named_children())
        names = list(children)
        used = names[: names.index(maps[-1].layer) + 1]
        for name in used:
            self.add_module(name, children[name])
        self.left_out = tuple(name for name in names if name not in used)
        self._used, self._offered = tuple(used), frozenset(offered.layer for offered in maps)

    def encoded(self, x_bchw: Tensor) -> list[Tensor]:
        """The offered maps of images, the largest first.

        Args:
            x_bchw: Normalised images.
        """
        maps: list[Tensor] = []
        for name in self._used:
            x_bchw = getattr(self, name)(x_bchw)
            if name in self._offered:
                maps.append(x_bchw)
        return maps


class EncoderDecoder(MapEncoder):
    """(b, c, h, w) -> (b, classes, h, w).

    Its children are the encoder's layers by their own names, and ``head``, the decoder.

    Args:
        spec: The decoder's width, skips, norm and activation.
        network: The classification network, a row of layers.
        maps: What of it is offered to the decoder.
        classes: Scores of each pixel.
    """

    def __init__(self, spec: EncoderDecoderSpec, network: nn.Module, maps: list[EncoderMap], classes: int) -> None:
        super().__init__(network, maps)
        self.head = Decoder(spec, maps, classes)
        init_weights(self.head, "he_fan_in")

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, classes, h, w)."""
        scores: Tensor = self.head(self.encoded(x_bchw), (x_bchw.shape[2], x_bchw.shape[3]))
        return scores


def build(spec: EncoderDecoderSpec, data_spec: DataSpec) -> EncoderDecoder:
    """The encoder-decoder of ``spec``: (b, c, h, w) -> (b, classes, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The backbone makes no maps, or the images are too small for it.
    """
    backbone = spec.backbone_spec()
    maps = encoder_maps(backbone, data_spec)
    return EncoderDecoder(spec, build_network(backbone, data_spec), maps, data_spec.num_classes)
