"""The transformer (Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762), from one text to another.

Shapes in names: b samples, s tokens of the source, t of the target, w features, v tokens of the target's vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from expflow.architectures.attention import EPSILON, EncoderLayer, FeedForward, MultiHeadAttention, Positions
from expflow.architectures.blocks import dropout
from expflow.architectures.specs.transformer import TransformerSpec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.kinds.text import PAD
from expflow.errors import UserError

SOURCE, TARGET = "source", "target"


class DecoderLayer(nn.Module):
    """Self-attention, attention to the source, feed-forward, each with a shortcut and a layer norm.

    Args:
        spec: Width, heads, hidden units, activation, dropout and place of the norms.

    Source:
        Vaswani et al. 2017, section 3.1.
    """

    def __init__(self, spec: TransformerSpec) -> None:
        super().__init__()
        width = spec.width
        self.pre = spec.norm_place == "pre"
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=EPSILON) for _ in range(3))
        self.attention = MultiHeadAttention(width, spec.heads, spec.dropout)
        self.source_attention = MultiHeadAttention(width, spec.heads, spec.dropout)
        self.feed_forward = FeedForward(width, spec.hidden, act=spec.activation, drop=spec.dropout)
        self.drop = dropout(spec.dropout)

    def forward(self, x_btw: Tensor, source_bsw: Tensor, seen: Tensor, source_seen: Tensor) -> Tensor:
        """(b, t, w), the encoder's (b, s, w), and what may be seen of both, -> (b, t, w)."""
        if self.pre:
            x_btw = x_btw + self.drop(self.attention(self.norm1(x_btw), seen=seen))
            x_btw = x_btw + self.drop(self.source_attention(self.norm2(x_btw), source_bsw, source_seen))
            decoded: Tensor = x_btw + self.feed_forward(self.norm3(x_btw))
            return decoded
        x_btw = self.norm1(x_btw + self.drop(self.attention(x_btw, seen=seen)))
        x_btw = self.norm2(x_btw + self.drop(self.source_attention(x_btw, source_bsw, source_seen)))
        output: Tensor = self.norm3(x_btw + self.feed_forward(x_btw))
        return output


class TokenEmbedding(nn.Module):
    """Tokens with their positions: (b, t) -> (b, t, w).

    Args:
        spec: Width, positions and dropout.
        tokens: Longest text.
        vocabulary: Different tokens.
    """

    def __init__(self, spec: TransformerSpec, tokens: int, vocabulary: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, spec.width)
        nn.init.normal_(self.table.weight, std=spec.width**-0.5)
        self.positions = None if spec.positions == "none" else Positions(spec.positions, tokens, spec.width)
        self.drop = dropout(spec.dropout)
        self._scale = math.sqrt(spec.width)

    def forward(self, tokens_bt: Tensor) -> Tensor:
        """(b, t) -> (b, t, w), times the square root of w (section 3.4)."""
        x_btw = self.table(tokens_bt) * self._scale
        if self.positions is not None:
            x_btw = x_btw + self.positions.table_tw[: tokens_bt.shape[1]]
        output: Tensor = self.drop(x_btw)
        return output


class Transformer(nn.Module):
    """(b, s) and (b, t) tokens -> (b, t, v) scores of the token that follows each of the target's.

    Args:
        spec: Width, depth and variants.
        source: The source's longest text and vocabulary.
        target: The target's.
    """

    def __init__(self, spec: TransformerSpec, source: FieldSpec, target: FieldSpec) -> None:
        super().__init__()
        self.source_tokens = TokenEmbedding(spec, source.shape[0], len(source.vocabulary))
        self.target_tokens = TokenEmbedding(spec, target.shape[0] + 1, len(target.vocabulary))
        self.encoder = nn.ModuleList(
            EncoderLayer(
                spec.width,
                spec.heads,
                spec.hidden,
                act=spec.activation,
                drop=spec.dropout,
                norm_place=spec.norm_place,
            )
            for _ in range(spec.depth)
        )
        self.decoder = nn.ModuleList(DecoderLayer(spec) for _ in range(spec.depth))
        pre = spec.norm_place == "pre"
        self.encoder_norm, self.decoder_norm = (
            nn.LayerNorm(spec.width, eps=EPSILON) if pre else nn.Identity() for _ in range(2)
        )
        self.head = nn.Linear(spec.width, len(target.vocabulary))
        self._causal, self._lengths = spec.causal, (source.shape[0], target.shape[0])
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def encoded(self, source_bs: Tensor) -> tuple[Tensor, Tensor]:
        """(b, s) tokens -> (b, s, w), and which of them are no padding (b, 1, 1, s).

        Args:
            source_bs: Tokens of the source.
        """
        seen = (source_bs != PAD)[:, None, None]
        x_bsw = self.source_tokens(source_bs)
        for layer in self.encoder:
            x_bsw = layer(x_bsw, seen)
        return self.encoder_norm(x_bsw), seen

    def decoded(self, target_bt: Tensor, source_bsw: Tensor, source_seen: Tensor) -> Tensor:
        """(b, t) tokens and what :meth:`encoded` gave -> (b, t, v) scores of the tokens that follow them.

        Args:
            target_bt: Tokens of the target so far, the start first.
            source_bsw: The encoded source.
            source_seen: Which of it is no padding.
        """
        seen = (target_bt != PAD)[:, None, None]
        if self._causal:
            length = target_bt.shape[1]
            seen = seen & torch.ones(length, length, dtype=torch.bool, device=target_bt.device).tril()
        x_btw = self.target_tokens(target_bt)
        for layer in self.decoder:
            x_btw = layer(x_btw, source_bsw, seen, source_seen)
        scores_btv: Tensor = self.head(self.decoder_norm(x_btw))
        return scores_btv

    def forward(self, source_bs: Tensor, target_bt: Tensor) -> Tensor:
        """(b, s) and (b, t) tokens -> (b, t, v)."""
        return self.decoded(target_bt, *self.encoded(source_bs))


def text_fields(data_spec: DataSpec) -> tuple[FieldSpec, FieldSpec]:
    """The fields of the texts that are read and written.

    Args:
        data_spec: The data.

    Raises:
        UserError: They have none.
    """
    fields = [data_spec.fields.get(name) for name in (SOURCE, TARGET)]
    if any(field is None or field.kind != "text" for field in fields):
        have = ", ".join(data_spec.fields) or "none"
        raise UserError(f"sequences need data with the text fields source and target; these have {have}")
    return fields[0], fields[1]  # type: ignore[return-value]  # neither is None


def build(spec: TransformerSpec, data_spec: DataSpec) -> Transformer:
    """The transformer of ``spec``: (b, s) and (b, t) tokens -> (b, t, v).

    Args:
        spec: What the user chose.
        data_spec: The texts that it is for.

    Raises:
        UserError: The data have no texts.
    """
    return Transformer(spec, *text_fields(data_spec))
