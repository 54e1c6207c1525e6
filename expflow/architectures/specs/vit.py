"""Arguments of vision transformers. Torch-free: the networks are in ``expflow.architectures.vit``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from expflow.architectures.specs import patches
from expflow.architectures.specs.blocks import Activation
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.architectures.specs.nearest import divisors, nearest_legal
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import FieldError, identity


class ViTSpec(ModelSpec):
    """Vision Transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", arXiv 2010.11929).

    As it stands ViT-Base/16. Large: depth 24, width 1024, heads 16; Huge: 32, 1280, 16 with patches of 14.
    """

    build: ClassVar[str] = "expflow.architectures.vit:build"

    patch: int = patches.patch(16)
    depth: int = patches.depth(12)
    width: int = patches.width(768)
    heads: int = identity(
        12, description="Attentions side by side in each layer; must divide the width.", ge=1, le=MAX_CHANNELS
    )
    mlp_ratio: float = identity(4.0, description="Hidden units of each feed-forward, in units of the width.", gt=0)
    positions: Literal["learned", "sine"] = identity(
        "learned", description="What is added to a token to say where it stands: a learned vector, or fixed sines."
    )
    pooling: Literal["cls", "average"] = identity(
        "cls", description="What the head sees: an extra learned token, or the mean of all patches."
    )
    norm_place: Literal["pre", "post"] = identity(
        "pre", description="Layer norm before each part (ViT), or after each sum (Vaswani et al. 2017)."
    )
    norm_first: bool = identity(
        False, description="Whether a layer norm stands before the first layer as well, as in CLIP's towers."
    )
    patch_bias: bool = identity(True, description="Whether the linear layer on patches has a bias; CLIP's has none.")
    activation: Activation = patches.activation("gelu")
    dropout: float = patches.dropout()
    stochastic_depth: float = patches.stochastic_depth()
    init: patches.PatchInit = patches.init()

    @property
    def hidden(self) -> int:
        """Hidden units of each feed-forward."""
        return max(1, round(self.width * self.mlp_ratio))

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            legal = nearest_legal(self.heads, divisors(self.width))
            raise FieldError("heads", f"{self.heads} heads do not divide a width of {self.width}; nearest: {legal}")
        return self
