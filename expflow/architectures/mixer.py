"""MLP-Mixer (Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from expflow.architectures.attention import EPSILON, FeedForward
from expflow.architectures.blocks import StochasticDepth
from expflow.architectures.patches import TokenNet
from expflow.architectures.specs.mixer import MixerSpec
from expflow.data.dataspec import DataSpec


class MixerLayer(nn.Module):
    """One perceptron mixes the tokens of each channel, the next the channels of each token.

    Args:
        spec: Widths, activation and dropout.
        tokens: Patches of an image.
        skip: Probability to skip a part for a sample (stochastic depth).

    Source:
        Tolstikhin et al. 2021, figure 1 and section 2.
    """

    def __init__(self, spec: MixerSpec, tokens: int, skip: float) -> None:
        super().__init__()
        act, drop = spec.activation, spec.dropout
        self.norm1, self.norm2 = (nn.LayerNorm(spec.width, eps=EPSILON) for _ in range(2))
        self.token_mixing = FeedForward(tokens, spec.token_hidden, act=act, drop=drop)
        self.channel_mixing = FeedForward(spec.width, spec.channel_hidden, act=act, drop=drop)
        self.skip = StochasticDepth(skip)

    def forward(self, x_btw: Tensor) -> Tensor:
        """(b, t, w) -> (b, t, w)."""
        mixed_bwt = self.token_mixing(self.norm1(x_btw).transpose(1, 2))
        x_btw = x_btw + self.skip(mixed_bwt.transpose(1, 2))
        x_btw = x_btw + self.skip(self.channel_mixing(self.norm2(x_btw)))
        return x_btw


def build(spec: MixerSpec, data_spec: DataSpec) -> TokenNet:
    """The mixer of ``spec``: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: Patches do not tile the images; the message has the nearest that do.

    Source:
        Tolstikhin et al. 2021, section 2.
    """
    return TokenNet(spec, data_spec, partial(MixerLayer, spec))
