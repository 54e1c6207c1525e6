"""What nets on patches share: cutting the image, drawing weights, rates of stochastic depth, averaging tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from expflow.architectures.attention import EPSILON
from expflow.architectures.blocks import init_weights
from expflow.architectures.specs.gmlp import GMLPSpec
from expflow.architectures.specs.mixer import MixerSpec
from expflow.architectures.specs.nearest import divisors, nearest_legal
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


def patch_grid(patch: int, data_spec: DataSpec) -> tuple[int, int]:
    """Rows and columns of the patches of an image.

    Args:
        patch: Height and width of a patch in pixels.
        data_spec: The images.

    Raises:
        UserError: ``patch`` does not divide the image; the message has the nearest that does.
    """
    height, width = data_spec.image_size
    if height % patch or width % patch:
        legal = nearest_legal(patch, divisors(math.gcd(height, width)))
        raise UserError(f"patches of {patch}x{patch} pixels do not tile an image of {height}x{width}; nearest: {legal}")
    return height // patch, width // patch


class PatchEmbedding(nn.Module):
    """Makes a token of each patch by a linear layer on its pixels, which is computed by a convolution.

    Args:
        channels: Channels of the image.
        width: Features of a token.
        patch: Height and width of a patch in pixels.
        bias: Whether the layer has a bias.

    Source:
        Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", equation 1.
    """

    def __init__(self, channels: int, width: int, patch: int, *, bias: bool = True) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, patch, stride=patch, bias=bias)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, tokens, width), row by row."""
        x_bwrc: Tensor = self.projection(x_bchw)
        return x_bwrc.flatten(2).transpose(1, 2)


def stochastic_depth_rates(last: float, depth: int) -> list[float]:
    """The probability to skip each layer, evenly from 0 at the first to ``last`` at the last.

    Args:
        last: Probability to skip the last layer.
        depth: Number of layers.

    Source:
        Huang et al. 2016, "Deep Networks with Stochastic Depth", arXiv 1603.09382, section 3.
    """
    return [last * number / max(depth - 1, 1) for number in range(depth)]


def draw_weights(network: nn.Module, scheme: str) -> None:
    """Draws the weights of convolutions and linear layers in place.

    Args:
        network: The network.
        scheme: ``truncated``: normal with standard deviation 0.02, cut off at 2, biases 0; at small widths the signal
            then begins too weak to train soon. Any other: as for :func:`~expflow.architectures.blocks.init_weights`.

    Source:
        Touvron et al. 2021 (DeiT), arXiv 2012.12877, for ``truncated``.
    """
    if scheme != "truncated":
        init_weights(network, scheme)
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class TokenNet(nn.Module):
    """Layers on the patches of an image, then the mean over them: (b, c, h, w) -> (b, classes).

    Its children are ``patches``, ``layers``, ``norm`` and ``head``; freezing addresses these names.

    Args:
        spec: Patch size, depth, width, stochastic depth and initialisation.
        data_spec: The images and classes that it is for.
        layer: Makes a layer from (number of tokens, probability to skip it for a sample).

    Raises:
        UserError: Patches do not tile the images; the message has the nearest that do.
    """

    def __init__(
        self, spec: MixerSpec | GMLPSpec, data_spec: DataSpec, layer: Callable[[int, float], nn.Module]
    ) -> None:
        super().__init__()
        rows, columns = patch_grid(spec.patch, data_spec)
        self.patches = PatchEmbedding(data_spec.in_channels, spec.width, spec.patch)
        rates = stochastic_depth_rates(spec.stochastic_depth, spec.depth)
        self.layers = nn.Sequential(*(layer(rows * columns, skip) for skip in rates))
        self.norm = nn.LayerNorm(spec.width, eps=EPSILON)
        self.head = nn.Linear(spec.width, data_spec.num_classes)
        draw_weights(self, spec.init)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, classes)."""
        scores_bk: Tensor = self.head(self.norm(self.layers(self.patches(x_bchw))).mean(dim=1))
        return scores_bk
