"""gMLP (Liu et al. 2021, "Pay Attention to MLPs", arXiv 2105.08050)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from expflow.architectures.attention import EPSILON
from expflow.architectures.blocks import StochasticDepth, activation, dropout
from expflow.architectures.patches import TokenNet
from expflow.architectures.specs.gmlp import GMLPSpec
from expflow.data.dataspec import DataSpec


class SpatialGate(nn.Module):
    """One half of the features, weighted by a linear map over the tokens of the other half.

    Args:
        features: Features of a token; even.
        tokens: Patches of an image.

    Source:
        Liu et al. 2021, section 2.1.
    """

    def __init__(self, features: int, tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features // 2)
        self.spatial = nn.Linear(tokens, tokens)

    def forward(self, x_btf: Tensor) -> Tensor:
        """(b, t, f) -> (b, t, f / 2)."""
        kept_btf, gate_btf = x_btf.chunk(2, dim=-1)
        gate_bft: Tensor = self.spatial(self.norm(gate_btf).transpose(1, 2))
        return kept_btf * gate_bft.transpose(1, 2)


class GatedLayer(nn.Module):
    """Norm, widen, gate over the tokens, narrow, with a shortcut around.

    Args:
        spec: Widths, activation and dropout.
        tokens: Patches of an image.
        skip: Probability to skip the layer for a sample (stochastic depth).

    Source:
        Liu et al. 2021, figure 1.
    """

    def __init__(self, spec: GMLPSpec, tokens: int, skip: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(spec.width, eps=EPSILON)
        self.widen, self.act, self.drop = (
            nn.Linear(spec.width, spec.hidden),
            activation(spec.activation),
            dropout(spec.dropout),
        )
        self.gate = SpatialGate(spec.hidden, tokens)
        self.narrow = nn.Linear(spec.hidden // 2, spec.width)
        self.skip = StochasticDepth(skip)

    def forward(self, x_btw: Tensor) -> Tensor:
        """(b, t, w) -> (b, t, w)."""
        y_btf = self.gate(self.drop(self.act(self.widen(self.norm(x_btw)))))
        x_btw = x_btw + self.skip(self.drop(self.narrow(y_btf)))
        return x_btw


def build(spec: GMLPSpec, data_spec: DataSpec) -> TokenNet:
    """The gated perceptron of ``spec``: (b, c, h, w) -> (b, classes).

    Each gate begins as the constant 1 (weights near 0, bias 1), so that a layer begins as a plain perceptron.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: Patches do not tile the images; the message has the nearest that do.

    Source:
        Liu et al. 2021, section 2.
    """
    network = TokenNet(spec, data_spec, partial(GatedLayer, spec))
    for module in network.modules():
        if isinstance(module, SpatialGate):
            nn.init.normal_(module.spatial.weight, std=EPSILON)
            nn.init.ones_(module.spatial.bias)
    return network
