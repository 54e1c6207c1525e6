"""Arguments of the transformer. Torch-free: the network is in ``expflow.architectures.transformer``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from expflow.architectures.specs import patches
from expflow.architectures.specs.blocks import Activation
from expflow.architectures.specs.limits import MAX_CHANNELS, MAX_LAYERS
from expflow.architectures.specs.nearest import divisors, nearest_legal
from expflow.config.component_specs import ModelOutput, ModelSpec
from expflow.config.spec import FieldError, identity


class TransformerSpec(ModelSpec):
    """Encoder-decoder that turns one text into another (Vaswani et al. 2017, "Attention Is All You Need").

    As it stands the paper's base model: 44,138,496 parameters beside the embeddings.
    """

    build: ClassVar[str] = "expflow.architectures.transformer:build"
    gives: ClassVar[ModelOutput] = "tokens"

    width: int = patches.width(512)
    depth: int = identity(6, description="Layers of the encoder, and of the decoder.", ge=1, le=MAX_LAYERS)
    heads: int = identity(
        8, description="Attentions side by side in each layer; must divide the width.", ge=1, le=MAX_CHANNELS
    )
    hidden: int = identity(2048, description="Hidden units of each feed-forward.", ge=1, le=65_536)
    positions: Literal["sine", "learned", "none"] = identity(
        "sine",
        description="What is added to a token to say where it stands: fixed sines, a learned vector, or nothing.",
    )
    causal: bool = identity(
        True, description="Whether a token of the target sees those before it alone; false lets it look ahead."
    )
    norm_place: Literal["pre", "post"] = identity(
        "post", description="Layer norm before each part, or, as in the paper, after each sum."
    )
    activation: Activation = patches.activation("relu")
    dropout: float = identity(
        0.1, description="Probability to drop a value, wherever the paper has dropout.", ge=0, lt=1
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            legal = nearest_legal(self.heads, divisors(self.width))
            raise FieldError("heads", f"{self.heads} heads do not divide a width of {self.width}; nearest: {legal}")
        return self
