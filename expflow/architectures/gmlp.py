"""gMLP (Liu et al. 2021, "Pay Attention to MLPs", arXiv 2105.08050)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from expflow.architectures.attention import EPSILON
from expflow.architectures.blocks import StochasticDepth, activation, dropout
from expflow.architectures.patches import TokenNet
from expflow.architectures.specs import gmlp as specs
from expflow.data.dataspec import DataSpec


class SpatialGate(nn.Module):
    """One half of the features, weighted by a linear map over the tokens of the other half (section 2.1)."""

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
    """Norm, widen, gate over the tokens, narrow, with a shortcut around (figure 1 of the paper)."""

    def __init__(self, spec: specs.GMLP, tokens: int, skip: float) -> None:
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


def build(spec: specs.GMLP, data_spec: DataSpec) -> TokenNet:
    """The gated perceptron of ``spec``; raises :class:`UserError` where its patches do not tile the image.

    Each gate begins as the constant 1 (weights near 0, bias 1), so that a layer begins as a plain perceptron.
    """
    network = TokenNet(spec, data_spec, partial(GatedLayer, spec))
    for module in network.modules():
        if isinstance(module, SpatialGate):
            nn.init.normal_(module.spatial.weight, std=EPSILON)
            nn.init.ones_(module.spatial.bias)
    return network
