"""Image GPT (Chen et al. 2020, "Generative Pretraining from Pixels").

Shapes in names: b samples, t pixels in the order of reading, w features, k colours of the palette.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expflow.architectures.attention import FeedForward, MultiHeadAttention
from expflow.architectures.blocks import dropout
from expflow.architectures.specs.igpt import IGPTSpec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import UserError

EPSILON = 1e-5
"""Added to the mean square in norms, as in the authors' code."""

Past = tuple[Tensor, Tensor]
"""Keys and values of all pixels so far, (b, heads, t, features of a head)."""


class PixelLayer(nn.Module):
    """Self-attention and feed-forward behind a norm each, with shortcuts; norms divide by the root mean square alone.

    Args:
        spec: Width, heads, activation and dropout.

    Source:
        Chen et al. 2020, section 3.3, and the authors' code for the norms.
    """

    def __init__(self, spec: IGPTSpec) -> None:
        super().__init__()
        width = spec.width
        self.norm1, self.norm2 = (nn.RMSNorm(width, eps=EPSILON) for _ in range(2))
        self.attention = MultiHeadAttention(width, spec.heads, spec.dropout)
        self.feed_forward = FeedForward(width, 4 * width, act=spec.activation, drop=spec.dropout)
        self.drop = dropout(spec.dropout)

    def forward(self, x_btw: Tensor, seen: Tensor) -> Tensor:
        """(b, t, w), and what each pixel may see (t, t), -> (b, t, w)."""
        x_btw = x_btw + self.drop(self.attention(self.norm1(x_btw), seen=seen))
        output: Tensor = x_btw + self.feed_forward(self.norm2(x_btw))
        return output

    def next_pixel(self, x_b1w: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """(b, 1, w) of the newest pixel, and what is kept of those before it -> (b, 1, w), and what is kept of all.

        Args:
            x_b1w: The newest pixel.
            past: None before the first one.
        """
        attended, past = self.attention.extended(self.norm1(x_b1w), past)
        x_b1w = x_b1w + attended
        return x_b1w + self.feed_forward(self.norm2(x_b1w)), past


class IGPT(nn.Module):
    """(b, t) colours before each pixel, the start first, -> (b, t, k) scores of its own.

    Args:
        spec: Width, depth and variants.
        pixels: t.
        colours: k; the token behind the last colour is the start.
    """

    def __init__(self, spec: IGPTSpec, pixels: int, colours: int) -> None:
        super().__init__()
        self.table = nn.Embedding(colours + 1, spec.width)
        self.positions = nn.Parameter(torch.randn(pixels, spec.width) * 0.02)
        self.drop = dropout(spec.dropout)
        self.layers = nn.ModuleList(PixelLayer(spec) for _ in range(spec.depth))
        self.norm = nn.RMSNorm(spec.width, eps=EPSILON)
        self.head = nn.Linear(spec.width, colours, bias=False)
        self.start = colours
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, before_bt: Tensor) -> Tensor:
        """(b, t) -> (b, t, k)."""
        length = before_bt.shape[1]
        seen = torch.ones(length, length, dtype=torch.bool, device=before_bt.device).tril()
        x_btw = self.drop(self.table(before_bt) + self.positions[:length])
        for layer in self.layers:
            x_btw = layer(x_btw, seen)
        scores_btk: Tensor = self.head(self.norm(x_btw))
        return scores_btk

    def next_scores(self, before_b: Tensor, place: int, pasts: list[Past]) -> Tensor:
        """(b,) the colour before a pixel -> (b, k) scores of its own; what earlier pixels left is kept in ``pasts``.

        Args:
            before_b: The colours.
            place: Which pixel, from 0.
            pasts: Empty at the first pixel; changed in place.
        """
        x_b1w = self.table(before_b)[:, None] + self.positions[place]
        for number, layer in enumerate(self.layers):
            past = pasts[number] if place else None
            x_b1w, past = layer.next_pixel(x_b1w, past)  # type: ignore[operator]
            pasts[number : number + 1] = [past]
        scores_bk: Tensor = self.head(self.norm(x_b1w))[:, 0]
        return scores_bk


def palette_field(data_spec: DataSpec) -> FieldSpec:
    """The field of images that have a palette.

    Args:
        data_spec: The data.

    Raises:
        UserError: There are no images, or they have no palette.
    """
    field = data_spec.fields.get("image")
    if field is None or not field.palette:
        raise UserError(
            "pixels are named by the colours of a palette, and these data have none: write data.palette, such as 16"
            " (prepared shards of others take none)"
        )
    return field


def build(spec: IGPTSpec, data_spec: DataSpec) -> IGPT:
    """The image GPT of ``spec``: (b, t) -> (b, t, k).

    Args:
        spec: What the user chose.
        data_spec: The images that it is for, with their palette.

    Raises:
        UserError: There are no images, or they have no palette.

    Source:
        Chen et al. 2020, section 3.3.
    """
    field = palette_field(data_spec)
    return IGPT(spec, field.shape[1] * field.shape[2], len(field.palette))
