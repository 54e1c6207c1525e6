"""Two towers, one for images and one for texts, that meet in one space (Radford et al. 2021, "Learning Transferable
Visual Models From Natural Language Supervision", arXiv 2103.00020).

Shapes in names: b samples, t tokens of a text, w features of a token, e features of the common space.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from expflow.architectures.attention import EncoderLayer, Positions
from expflow.architectures.building import build as build_network
from expflow.architectures.heads import heads_of
from expflow.architectures.specs.clip import CLIPSpec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.kinds.text import END
from expflow.errors import UserError

TEXT = "text"
"""Name of the field of the texts."""

FIRST_SCALE = 1 / 0.07
"""What cosines are multiplied with before anything is learned (section 2.5)."""

LARGEST_SCALE = 100.0
"""What they are never multiplied with more than (section 2.5)."""


class TextTower(nn.Module):
    """(b, t) tokens -> (b, e): a causal transformer, of which the features of a text's end count.

    Args:
        spec: Width, depth, heads, and e.
        tokens: Of the longest text.
        vocabulary: Different tokens.

    Source:
        Radford et al. 2021, section 2.4.
    """

    def __init__(self, spec: CLIPSpec, tokens: int, vocabulary: int) -> None:
        super().__init__()
        width = spec.text_width
        self.table = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.positions = Positions("learned", tokens, width)
        self.blocks = nn.ModuleList(
            EncoderLayer(width, spec.text_heads, 4 * width, act=spec.text_activation, norm_place="pre")
            for _ in range(spec.text_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, spec.embedding, bias=False)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.projection.weight, std=width**-0.5)

    def forward(self, tokens_bt: Tensor) -> Tensor:
        """(b, t) -> (b, e). What lies behind the end is seen by nothing that counts."""
        length = tokens_bt.shape[1]
        seen = torch.ones(length, length, dtype=torch.bool, device=tokens_bt.device).tril()
        x_btw = self.positions(self.table(tokens_bt))
        for block in self.blocks:
            x_btw = block(x_btw, seen)
        end_b = (tokens_bt == END).int().argmax(1)
        x_bw = self.norm(x_btw).gather(1, end_b[:, None, None].expand(-1, 1, x_btw.shape[2]))[:, 0]
        embedded_be: Tensor = self.projection(x_bw)
        return embedded_be


class CLIP(nn.Module):
    """Images and texts as vectors of length 1, (b, e) each.

    Its children are ``image``, a classification network whose ``head`` gives e numbers, and ``text``.

    Args:
        image: The tower for images.
        text: The tower for texts.
    """

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.image, self.text = image, text
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    def image_embedding(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) normalised images -> (b, e).

        Args:
            image_bchw: The images.
        """
        return nn.functional.normalize(self.image(image_bchw), dim=1)

    def text_embedding(self, tokens_bt: Tensor) -> Tensor:
        """(b, t) tokens -> (b, e).

        Args:
            tokens_bt: The texts.
        """
        return nn.functional.normalize(self.text(tokens_bt), dim=1)

    def forward(self, image_bchw: Tensor, tokens_bt: Tensor) -> tuple[Tensor, Tensor]:
        """(b, c, h, w) normalised images and (b, t) tokens -> (b, e) each."""
        return self.image_embedding(image_bchw), self.text_embedding(tokens_bt)


def _image_tower(spec: CLIPSpec, data_spec: DataSpec) -> nn.Module:
    """The backbone with a projection without bias in the place of its classifier."""
    features = tuple(map(str, range(spec.embedding)))
    network = build_network(spec.backbone_spec(), replace(data_spec, classes=features))
    heads = heads_of(network)
    head = network.get_submodule(heads[0])
    if len(heads) > 1 or not isinstance(head, nn.Linear):
        raise UserError(
            f"model clip: {spec.backbone} does not end in one linear layer; choose another, vit or resnet18 for example"
        )
    projection = nn.Linear(head.in_features, spec.embedding, bias=False)
    nn.init.normal_(projection.weight, std=head.in_features**-0.5)
    parent, _, name = heads[0].rpartition(".")
    setattr(network.get_submodule(parent), name, projection)
    return network


def text_field_of(data_spec: DataSpec) -> FieldSpec:
    """The field of the texts that stand beside images.

    Args:
        data_spec: The data.

    Raises:
        UserError: They have none, or no images.
    """
    field = data_spec.fields.get(TEXT)
    if field is None or field.kind != "text" or "image" not in data_spec.fields:
        have = ", ".join(data_spec.fields) or "none"
        raise UserError(f"pairs of image and text need data with the fields image and text; these have {have}")
    return field


def build(spec: CLIPSpec, data_spec: DataSpec) -> CLIP:
    """The two towers of ``spec``: (b, c, h, w) and (b, t) -> (b, e) and (b, e).

    Args:
        spec: What the user chose.
        data_spec: The images and texts that it is for.

    Raises:
        UserError: The data have no texts beside images, or the backbone has no linear layer at its end.

    Source:
        Radford et al. 2021, sections 2.3 and 2.4.
    """
    field = text_field_of(data_spec)
    return CLIP(_image_tower(spec, data_spec), TextTower(spec, field.shape[0], len(field.vocabulary)))
