"""The pieces of a Transformer (Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762).

Shapes in names: b samples, h heads, q queries, k keys, t tokens, d features of one head, w features of the model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from expflow.architectures.blocks import StochasticDepth, activation, dropout
from expflow.architectures.specs.nearest import divisors, nearest
from expflow.errors import UserError

EPSILON = 1e-6
"""Added to the variance in layer norm, as ViT and its relatives do; torch's own default is 1e-5."""


def scaled_dot_product_attention(
    q_bhqd: Tensor, k_bhkd: Tensor, v_bhkd: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(d)) V (section 3.2.1, equation 1), and the weights (b, h, q, k) that it averages with.

    ``mask`` is true where a query may look, and broadcasts to (b, h, q, k); each query must see one key at least.
    """
    scores_bhqk = q_bhqd @ k_bhkd.transpose(-2, -1) / math.sqrt(q_bhqd.shape[-1])
    if mask is not None:
        scores_bhqk = scores_bhqk.masked_fill(~mask, float("-inf"))
    weights_bhqk = scores_bhqk.softmax(dim=-1)
    return weights_bhqk @ v_bhkd, weights_bhqk


def causal_mask(tokens: int, device: torch.device | None = None) -> Tensor:
    """(t, t), true where a token may look: at itself and at what came before it (section 3.2.3)."""
    return torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()


class MultiHeadAttention(nn.Module):
    """``heads`` attentions side by side, each on its own projection to ``width / heads`` features (section 3.2.2).

    4 width^2 + 4 width parameters. Raises :class:`UserError` where ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            legal = nearest(heads, divisors(width))
            raise UserError(f"{width} features cannot be split evenly among {heads} heads; nearest: {legal}")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)

    def _split(self, x_btw: Tensor) -> Tensor:
        """(b, t, w) -> (b, h, t, w / h)."""
        x_bthd = x_btw.view(*x_btw.shape[:2], self.heads, -1)
        return x_bthd.transpose(1, 2)

    def _project(self, x_bqw: Tensor, memory_bkw: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        source_bkw = x_bqw if memory_bkw is None else memory_bkw
        return self._split(self.query(x_bqw)), self._split(self.key(source_bkw)), self._split(self.value(source_bkw))

    def forward(self, x_bqw: Tensor, memory_bkw: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(b, q, w) -> (b, q, w).

        Self-attention, or cross-attention where ``memory_bkw`` gives the keys and values. ``mask`` as for
        :func:`scaled_dot_product_attention`, which this equals; torch's own kernel saves memory.
        """
        drop = self.dropout if self.training else 0.0
        context_bhqd = nn.functional.scaled_dot_product_attention(
            *self._project(x_bqw, memory_bkw), attn_mask=mask, dropout_p=drop
        )
        y_bqw: Tensor = self.output(context_bhqd.transpose(1, 2).flatten(2))
        return y_bqw

    def weights(self, x_bqw: Tensor, memory_bkw: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(b, h, q, k): how much each query takes from each key; for pictures of attention."""
        return scaled_dot_product_attention(*self._project(x_bqw, memory_bkw), mask)[1]


class FeedForward(nn.Sequential):
    """Two linear layers, applied to each token alone (section 3.3; ReLU there); (…, w) -> (…, w)."""

    def __init__(self, width: int, hidden: int, *, act: str = "relu", drop: float = 0.0) -> None:
        super().__init__(
            nn.Linear(width, hidden), activation(act), dropout(drop), nn.Linear(hidden, width), dropout(drop)
        )


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with a shortcut around it and a layer norm (section 3.1).

    ``norm_place``: post, after the sum as in the paper; pre, before each part, which trains without warm-up (Xiong et
    al. 2020, arXiv 2002.04745). ``skip``: probability to skip a part for a sample (stochastic depth).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        act: str = "relu",
        drop: float = 0.0,
        skip: float = 0.0,
        norm_place: str = "post",
    ) -> None:
        super().__init__()
        self.pre = norm_place == "pre"
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPSILON) for _ in range(2))
        self.attention = MultiHeadAttention(width, heads, drop)
        self.feed_forward = FeedForward(width, hidden, act=act, drop=drop)
        self.drop, self.skip = dropout(drop), StochasticDepth(skip)

    def forward(self, x_btw: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, t, w) -> (b, t, w); ``mask`` as for :class:`MultiHeadAttention`."""
        if self.pre:
            x_btw = x_btw + self.skip(self.drop(self.attention(self.norm1(x_btw), mask=mask)))
            x_btw = x_btw + self.skip(self.feed_forward(self.norm2(x_btw)))
            return x_btw
        x_btw = self.norm1(x_btw + self.skip(self.drop(self.attention(x_btw, mask=mask))))
        x_btw = self.norm2(x_btw + self.skip(self.feed_forward(x_btw)))
        return x_btw


def sine_positions(tokens: int, width: int) -> Tensor:
    """(t, w): sines in even and cosines in odd columns, of wavelengths from 2 pi to 10000 * 2 pi (section 3.5)."""
    position_t1 = torch.arange(tokens, dtype=torch.float32)[:, None]
    even_w = torch.arange(0, width, 2, dtype=torch.float32)
    angle_tw = position_t1 / 10_000 ** (even_w / width)
    return torch.stack([angle_tw.sin(), angle_tw.cos()], dim=-1).flatten(1)[:, :width]


class Positions(nn.Module):
    """Adds to each of ``tokens`` tokens what says where it stands: a learned vector, or fixed sines."""

    def __init__(self, kind: str, tokens: int, width: int) -> None:
        super().__init__()
        self.table_tw: Tensor
        if kind == "learned":
            self.table_tw = nn.Parameter(torch.randn(tokens, width) * 0.02)
        else:
            self.register_buffer("table_tw", sine_positions(tokens, width), persistent=False)

    def forward(self, x_btw: Tensor) -> Tensor:
        """(b, t, w) -> (b, t, w)."""
        return x_btw + self.table_tw
