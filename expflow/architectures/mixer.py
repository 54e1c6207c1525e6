"""MLP-Mixer (Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from expflow.architectures.attention import EPSILON, FeedForward
from expflow.architectures.blocks import StochasticDepth
from expflow.architectures.patches import TokenNet
from expflow.architectures.specs import mixer as specs
from expflow.data.dataspec import DataSpec


class MixerLayer(nn.Module):
    """One perceptron mixes the tokens of each channel, the next the channels of each token (figure 1 of the paper)."""

    def __init__(self, spec: specs.Mixer, tokens: int, skip: float) -> None:
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


def build(spec: specs.Mixer, data_spec: DataSpec) -> TokenNet:
    """The mixer of ``spec``; raises :class:`UserError` where its patches do not tile the image."""
    return TokenNet(spec, data_spec, partial(MixerLayer, spec))
