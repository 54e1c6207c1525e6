"""The network of masked autoencoders (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners").

Shapes in names: b samples, t patches of an image, k of them that are seen, w features, p values of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expflow.architectures.attention import EPSILON, EncoderLayer, Positions
from expflow.architectures.patches import draw_weights, patch_grid
from expflow.architectures.specs.mae import MAESpec
from expflow.architectures.vit import ViT
from expflow.data.dataspec import DataSpec


def patches_of(image_bchw: Tensor, patch: int) -> Tensor:
    """(b, c, h, w) images -> (b, t, p) the pixels of their patches, row by row.

    Args:
        image_bchw: Images that patches tile.
        patch: Height and width of a patch.
    """
    b, c, h, w = image_bchw.shape
    cut = image_bchw.reshape(b, c, h // patch, patch, w // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch * patch)


def image_of(patches_btp: Tensor, patch: int, shape: tuple[int, ...]) -> Tensor:
    """(b, t, p) pixels of patches -> (b, c, h, w), what :func:`patches_of` undoes.

    Args:
        patches_btp: The pixels.
        patch: Height and width of a patch.
        shape: (c, h, w).
    """
    c, h, w = shape
    cut = patches_btp.reshape(len(patches_btp), h // patch, w // patch, c, patch, patch)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(-1, c, h, w)


class MaskDecoder(nn.Module):
    """Tokens of the patches that were seen -> pixels of all patches.

    Args:
        spec: Width, depth and heads.
        tokens: Patches of an image, and one more where there is a class token.
        values: p.
    """

    def __init__(self, spec: MAESpec, tokens: int, values: int) -> None:
        super().__init__()
        width = spec.decoder_width
        self.embed = nn.Linear(spec.width, width)
        self.masked = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = Positions(spec.positions, tokens, width)
        hidden = max(1, round(width * spec.mlp_ratio))
        self.layers = nn.Sequential(
            *(
                EncoderLayer(width, spec.decoder_heads, hidden, act=spec.activation, norm_place=spec.norm_place)
                for _ in range(spec.decoder_depth)
            )
        )
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.pixels = nn.Linear(width, values)

    def forward(self, seen_bkw: Tensor, order_bt: Tensor | None, patches: int) -> Tensor:
        """(b, k, w) tokens, those of the class token first, -> (b, t, p).

        ``order_bt`` says which patches the tokens are of: the first k are seen.
        """
        x_bkw = self.embed(seen_bkw)
        extra = self.positions.table_tw.shape[0] - patches
        missing = patches + extra - x_bkw.shape[1]
        x_btw = torch.cat([x_bkw[:, extra:], self.masked.expand(len(x_bkw), missing, -1)], 1)
        if order_bt is not None:
            places = order_bt.argsort(1)[..., None].expand(-1, -1, x_btw.shape[2])
            x_btw = x_btw.gather(1, places)
        x_btw = torch.cat([x_bkw[:, :extra], x_btw], 1) if extra else x_btw
        x_btw = self.norm(self.layers(self.positions(x_btw)))
        pixels_btp: Tensor = self.pixels(x_btw[:, extra:])
        return pixels_btp


class MAE(ViT):
    """(b, c, h, w) and an order of its patches -> (b, c, h, w), of which the network saw the first patches alone.

    Its children are those of :class:`~expflow.architectures.vit.ViT` by the same names; ``head`` is the decoder.

    Args:
        spec: Encoder and decoder.
        image_shape: (c, h, w) of the image.
        patches: t.

    Source:
        He et al. 2022, section 3.
    """

    def __init__(self, spec: MAESpec, image_shape: tuple[int, ...], patches: int) -> None:
        super().__init__(spec, image_shape[0], patches, 1)
        extra = int(self.cls is not None)
        self.head = MaskDecoder(spec, patches + extra, image_shape[0] * spec.patch**2)
        draw_weights(self.head, spec.init)
        self.patch, self.number = spec.patch, patches
        self._shape = image_shape

    def encoded(self, x_bchw: Tensor, order_bt: Tensor | None = None, kept: int = 0) -> Tensor:
        """(b, c, h, w) -> (b, k, w) tokens, the class token's first where there is one.

        Args:
            x_bchw: Normalised images.
            order_bt: An order of the patches of each image; None where all are seen.
            kept: How many of them, the first ones, are seen.
        """
        x_btw, extra = self.patches(x_bchw), int(self.cls is not None)
        x_btw = x_btw + self.positions.table_tw[extra:]
        if order_bt is not None:
            seen = order_bt[:, :kept, None].expand(-1, -1, x_btw.shape[2])
            x_btw = x_btw.gather(1, seen)
        if self.cls is not None:
            first = (self.cls + self.positions.table_tw[:1]).expand(len(x_btw), -1, -1)
            x_btw = torch.cat([first, x_btw], 1)
        tokens_bkw: Tensor = self.norm(self.layers(self.drop(self.first(x_btw))))
        return tokens_bkw

    def features(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, w), what the head of a :class:`~expflow.architectures.vit.ViT` would see.

        Args:
            x_bchw: Normalised images.
        """
        tokens_bkw = self.encoded(x_bchw)
        return tokens_bkw[:, 0] if self.cls is not None else tokens_bkw.mean(1)

    def forward(self, x_bchw: Tensor, order_bt: Tensor | None = None, kept: int = 0) -> Tensor:
        """(b, c, h, w) normalised images, (b, t) orders, and how many patches are seen, -> (b, c, h, w)."""
        pixels_btp = self.head(self.encoded(x_bchw, order_bt, kept), order_bt, self.number)
        return image_of(pixels_btp, self.patch, self._shape)


def build(spec: MAESpec, data_spec: DataSpec) -> MAE:
    """The masked autoencoder of ``spec``: (b, c, h, w) -> (b, c, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images that it is for.

    Raises:
        UserError: Patches do not tile the images; the message has the nearest that do.

    Source:
        He et al. 2022, section 3.
    """
    rows, columns = patch_grid(spec.patch, data_spec)
    return MAE(spec, data_spec.image_shape, rows * columns)
