"""Vision Transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", arXiv 2010.11929)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expflow.architectures.attention import EPSILON, EncoderLayer, Positions
from expflow.architectures.blocks import dropout
from expflow.architectures.patches import PatchEmbedding, draw_weights, patch_grid, stochastic_depth_rates
from expflow.architectures.specs.vit import ViTSpec
from expflow.data.dataspec import DataSpec


class ViT(nn.Module):
    """Vision transformer: (b, c, h, w) -> (b, classes).

    Its children are ``patches``, ``positions``, ``layers``, ``norm`` and ``head``; freezing addresses these names.
    With ``cls`` pooling a learned token in front of the patches gathers what the head sees; with ``average`` the head
    sees the mean of all patches.

    Args:
        spec: Depth, widths and variants.
        channels: Channels of the images.
        patches: Patches of an image.
        num_classes: Scores that it gives.

    Source:
        Dosovitskiy et al. 2021, section 3.1.
    """

    def __init__(self, spec: ViTSpec, channels: int, patches: int, num_classes: int) -> None:
        super().__init__()
        width, extra = spec.width, int(spec.pooling == "cls")
        self.patches = PatchEmbedding(channels, width, spec.patch, bias=spec.patch_bias)
        self.cls = nn.Parameter(torch.randn(1, 1, width) * EPSILON) if extra else None
        self.positions = Positions(spec.positions, patches + extra, width)
        self.first = nn.LayerNorm(width, eps=EPSILON) if spec.norm_first else nn.Identity()
        self.drop = dropout(spec.dropout)
        self.layers = nn.Sequential(
            *(
                EncoderLayer(
                    width,
                    spec.heads,
                    spec.hidden,
                    act=spec.activation,
                    drop=spec.dropout,
                    skip=skip,
                    norm_place=spec.norm_place,
                )
                for skip in stochastic_depth_rates(spec.stochastic_depth, spec.depth)
            )
        )
        self.norm = nn.LayerNorm(width, eps=EPSILON) if spec.norm_place == "pre" else nn.Identity()
        self.head: nn.Module = nn.Linear(width, num_classes)
        draw_weights(self, spec.init)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, classes)."""
        x_btw = self.patches(x_bchw)
        if self.cls is not None:
            x_btw = torch.cat([self.cls.expand(len(x_btw), -1, -1), x_btw], dim=1)
        x_btw = self.norm(self.layers(self.drop(self.first(self.positions(x_btw)))))
        scores_bk: Tensor = self.head(x_btw[:, 0] if self.cls is not None else x_btw.mean(dim=1))
        return scores_bk


def build(spec: ViTSpec, data_spec: DataSpec) -> ViT:
    """The vision transformer of ``spec``: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: Patches do not tile the images; the message has the nearest that do.

    Source:
        Dosovitskiy et al. 2021, section 3.1.
    """
    rows, columns = patch_grid(spec.patch, data_spec)
    return ViT(spec, data_spec.in_channels, rows * columns, data_spec.num_classes)
