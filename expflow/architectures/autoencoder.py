"""An autoencoder (Hinton and Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks").

Its encoder is a classification network of ours up to its last map; a linear layer makes the code of that map, and a
decoder of growing maps the image of the code. The paper's layers are fully connected and pretrained one by one, which
convolutions with norms do without.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.blocks import activation, init_weights
from expflow.architectures.building import build as build_network
from expflow.architectures.convolutions import convolution_norm
from expflow.architectures.encoder_decoder import EncoderMap, MapEncoder, encoder_maps
from expflow.architectures.specs.autoencoder import AutoencoderSpec
from expflow.data.dataspec import DataSpec


class CodeDecoder(nn.Module):
    """The code of an encoder's last map, and the image of a code.

    Args:
        spec: Numbers of the code; width, norm and activation of the decoder.
        maps: The encoder's maps, the largest first; the decoder's have their sizes.
        image_shape: (c, h, w) of the image.
    """

    def __init__(self, spec: AutoencoderSpec, maps: list[EncoderMap], image_shape: tuple[int, ...]) -> None:
        super().__init__()
        smallest, width = maps[-1], spec.decoder_width
        self.code = nn.Linear(smallest.channels * math.prod(smallest.size), spec.code)
        self.spread = nn.Linear(spec.code, width * math.prod(smallest.size))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *convolution_norm(width, width, 3, norm=spec.decoder_norm), activation(spec.decoder_activation)
            )
            for _ in maps
        )
        self.image = nn.Conv2d(width, image_shape[0], 3, padding=1)
        self._sizes = [encoded.size for encoded in reversed(maps)] + [image_shape[1:]]
        self._width = width

    def encode(self, x_bchw: Tensor) -> Tensor:
        """The encoder's last map -> (b, code).

        Args:
            x_bchw: The map.
        """
        code_bk: Tensor = self.code(x_bchw.flatten(1))
        return code_bk

    def decode(self, code_bk: Tensor) -> Tensor:
        """(b, code) -> (b, c, h, w).

        Args:
            code_bk: Codes.
        """
        x_bchw = self.spread(code_bk).view(len(code_bk), self._width, *self._sizes[0])
        for block, (size, larger) in zip(self.blocks, pairwise(self._sizes), strict=True):
            x_bchw = block(x_bchw)
            if size != larger:
                x_bchw = functional.interpolate(x_bchw, size=larger, mode="bilinear", align_corners=False)
        image_bchw: Tensor = self.image(x_bchw)
        return image_bchw

    def forward(self, x_bchw: Tensor) -> Tensor:
        """The encoder's last map -> the image, (b, c, h, w)."""
        return self.decode(self.encode(x_bchw))


class Autoencoder(MapEncoder):
    """(b, c, h, w) -> (b, c, h, w), the image again, by way of a code of few numbers.

    Its children are the encoder's layers by their own names, and ``head``, code and decoder.

    Args:
        spec: The code and the decoder.
        network: The classification network, a row of layers.
        maps: Its last map of each size.
        image_shape: (c, h, w) of the image.
    """

    def __init__(
        self, spec: AutoencoderSpec, network: nn.Module, maps: list[EncoderMap], image_shape: tuple[int, ...]
    ) -> None:
        super().__init__(network, maps)
        self.head = CodeDecoder(spec, maps, image_shape)
        init_weights(self.head, "he_fan_in")

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w), both normalised."""
        image_bchw: Tensor = self.head(self.encoded(x_bchw)[-1])
        return image_bchw


def build(spec: AutoencoderSpec, data_spec: DataSpec) -> Autoencoder:
    """The autoencoder of ``spec``: (b, c, h, w) -> (b, c, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images that it is for.

    Raises:
        UserError: The backbone makes no maps, or the images are too small for it.
    """
    backbone = spec.backbone_spec()
    maps = encoder_maps(backbone, data_spec)
    return Autoencoder(spec, build_network(backbone, data_spec), maps, data_spec.image_shape)
