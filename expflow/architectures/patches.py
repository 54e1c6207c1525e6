"""What nets on patches have in common: cutting the image, drawing weights, growing stochastic depth, averaging."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from expflow.architectures.attention import EPSILON
from expflow.architectures.blocks import init_weights
from expflow.architectures.specs.gmlp import GMLP
from expflow.architectures.specs.mixer import Mixer
from expflow.architectures.specs.nearest import divisors, nearest
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


def patch_grid(patch: int, data_spec: DataSpec) -> tuple[int, int]:
    """Rows and columns of patches. Raises :class:`UserError` where ``patch`` does not divide the image."""
    height, width = data_spec.image_size
    if height % patch or width % patch:
        legal = nearest(patch, divisors(math.gcd(height, width)))
        raise UserError(f"patches of {patch}x{patch} pixels do not tile an image of {height}x{width}; nearest: {legal}")
    return height // patch, width // patch


class PatchEmbedding(nn.Module):
    """Each patch becomes a token of ``width`` features: a linear layer on its pixels, computed by a convolution."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, tokens, width), row by row."""
        x_bwrc: Tensor = self.projection(x_bchw)
        return x_bwrc.flatten(2).transpose(1, 2)


def skip_rates(last: float, depth: int) -> list[float]:
    """Rates of stochastic depth, evenly from 0 to ``last`` (Huang et al. 2016, arXiv 1603.09382, section 3)."""
    return [last * number / max(depth - 1, 1) for number in range(depth)]


def draw_weights(network: nn.Module, scheme: str) -> None:
    """Draw the weights of convolutions and linear layers.

    truncated: normal with standard deviation 0.02, cut off at 2, biases 0, as in DeiT (Touvron et al. 2021, arXiv
    2012.12877); at small widths the signal then begins too weak to train soon.
    The others are those of :func:`init_weights`.
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
    """``patches``, ``layers``, ``norm``, mean over the tokens, ``head``; (b, c, h, w) -> (b, classes).

    ``layer`` makes one of the layers, of (tokens, probability to skip it). Raises :class:`UserError` where patches do
    not tile the image.
    """

    def __init__(self, spec: Mixer | GMLP, data_spec: DataSpec, layer: Callable[[int, float], nn.Module]) -> None:
        super().__init__()
        rows, columns = patch_grid(spec.patch, data_spec)
        self.patches = PatchEmbedding(data_spec.in_channels, spec.width, spec.patch)
        rates = skip_rates(spec.stochastic_depth, spec.depth)
        self.layers = nn.Sequential(*(layer(rows * columns, skip) for skip in rates))
        self.norm = nn.LayerNorm(spec.width, eps=EPSILON)
        self.head = nn.Linear(spec.width, data_spec.num_classes)
        draw_weights(self, spec.init)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, classes)."""
        scores_bk: Tensor = self.head(self.norm(self.layers(self.patches(x_bchw))).mean(dim=1))
        return scores_bk
