"""The pieces of a Transformer (Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762).

Shapes in names: b samples, h heads, t tokens, d features of one head, w features of the model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expflow.architectures.blocks import StochasticDepth, activation, dropout
from expflow.architectures.specs.nearest import divisors, nearest_legal
from expflow.errors import UserError

EPSILON = 1e-6
"""Added to the variance in layer norm, as ViT and its relatives do; torch's own default is 1e-5."""


class MultiHeadAttention(nn.Module):
    """Attention of several heads, each on its own projection to ``width / heads`` features: of tokens to each other, or
    to those of another sequence.

    4 width^2 + 4 width parameters.

    Args:
        width: Features of a token.
        heads: Attentions side by side; must divide ``width``.
        dropout: Probability to drop a weight of the attention, in train mode.

    Raises:
        UserError: ``heads`` does not divide ``width``; the message has the nearest that does.

    Source:
        Vaswani et al. 2017, sections 3.2.1 (equation 1) and 3.2.2.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            legal = nearest_legal(heads, divisors(width))
            raise UserError(f"{width} features cannot be split evenly among {heads} heads; nearest: {legal}")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)

    def _split(self, x_btw: Tensor) -> Tensor:
        """(b, t, w) -> (b, h, t, w / h)."""
        x_bthd = x_btw.view(*x_btw.shape[:2], self.heads, -1)
        return x_bthd.transpose(1, 2)

    def forward(self, x_btw: Tensor, other_bsw: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """(b, t, w) -> (b, t, w), by torch's own kernel, which saves memory.

        ``other_bsw`` are the tokens that are attended to, by default the same; ``seen``, which is broadcast to
        (b, h, t, s), says which of them a token may see, by default all.
        """
        other_bsw = x_btw if other_bsw is None else other_bsw
        q_bhtd = self._split(self.query(x_btw))
        k_bhsd, v_bhsd = self._split(self.key(other_bsw)), self._split(self.value(other_bsw))
        drop = self.dropout if self.training else 0.0
        context_bhtd = nn.functional.scaled_dot_product_attention(
            q_bhtd, k_bhsd, v_bhsd, attn_mask=seen, dropout_p=drop
        )
        y_btw: Tensor = self.output(context_bhtd.transpose(1, 2).flatten(2))
        return y_btw

    def extended(self, x_b1w: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(b, 1, w) the newest token -> (b, 1, w), attending to all so far and itself; and their keys and values.

        Args:
            x_b1w: The newest token.
            past: Keys and values (b, h, t, d) of those before it; None where there are none.
        """
        k_bhsd, v_bhsd = self._split(self.key(x_b1w)), self._split(self.value(x_b1w))
        if past is not None:
            k_bhsd, v_bhsd = torch.cat([past[0], k_bhsd], 2), torch.cat([past[1], v_bhsd], 2)
        context = nn.functional.scaled_dot_product_attention(self._split(self.query(x_b1w)), k_bhsd, v_bhsd)
        y_b1w: Tensor = self.output(context.transpose(1, 2).flatten(2))
        return y_b1w, (k_bhsd, v_bhsd)


class FeedForward(nn.Sequential):
    """Two linear layers, applied to each token alone: (…, w) -> (…, w).

    Args:
        width: Features of a token.
        hidden: Hidden units.
        act: Activation between the layers; ReLU in the paper.
        drop: Probability to drop a value after each layer.

    Source:
        Vaswani et al. 2017, section 3.3.
    """

    def __init__(self, width: int, hidden: int, *, act: str = "relu", drop: float = 0.0) -> None:
        super().__init__(
            nn.Linear(width, hidden), activation(act), dropout(drop), nn.Linear(hidden, width), dropout(drop)
        )


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with a shortcut around it and a layer norm: (b, t, w) -> (b, t, w).

    Args:
        width: Features of a token.
        heads: Attentions side by side; must divide ``width``.
        hidden: Hidden units of the feed-forward.
        act: Activation of the feed-forward.
        drop: Probability to drop a value.
        skip: Probability to skip a part for a sample (stochastic depth).
        norm_place: ``post``: after the sum, as in the paper; ``pre``: before each part, which trains without warm-up
            (Xiong et al. 2020, arXiv 2002.04745).

    Source:
        Vaswani et al. 2017, section 3.1.
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

    def forward(self, x_btw: Tensor, seen: Tensor | None = None) -> Tensor:
        """(b, t, w) -> (b, t, w); ``seen`` as of the attention."""
        if self.pre:
            x_btw = x_btw + self.skip(self.drop(self.attention(self.norm1(x_btw), seen=seen)))
            x_btw = x_btw + self.skip(self.feed_forward(self.norm2(x_btw)))
            return x_btw
        x_btw = self.norm1(x_btw + self.skip(self.drop(self.attention(x_btw, seen=seen))))
        x_btw = self.norm2(x_btw + self.skip(self.feed_forward(x_btw)))
        return x_btw


def sine_positions(tokens: int, width: int) -> Tensor:
    """(t, w): sines in even and cosines in odd columns, of wavelengths from 2 pi to 10000 * 2 pi.

    Args:
        tokens: Rows of the table.
        width: Features of a token.

    Source:
        Vaswani et al. 2017, section 3.5.
    """
    position_t1 = torch.arange(tokens, dtype=torch.float32)[:, None]
    even_w = torch.arange(0, width, 2, dtype=torch.float32)
    angle_tw = position_t1 / 10_000 ** (even_w / width)
    return torch.stack([angle_tw.sin(), angle_tw.cos()], dim=-1).flatten(1)[:, :width]


class Positions(nn.Module):
    """Adds the encoding of its position to each token: (b, t, w) -> (b, t, w).

    Args:
        kind: ``learned``: a vector of parameters for each position; any other: the fixed :func:`sine_positions`.
        tokens: Positions.
        width: Features of a token.
    """

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
