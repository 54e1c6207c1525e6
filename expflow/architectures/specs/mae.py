"""Arguments of masked autoencoders. Torch-free: the network is in ``expflow.architectures.mae``."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from expflow.architectures.specs.limits import MAX_CHANNELS, MAX_LAYERS
from expflow.architectures.specs.nearest import divisors, nearest_legal
from expflow.architectures.specs.vit import ViTSpec
from expflow.config.component_specs import ModelOutput
from expflow.config.spec import FieldError, identity


class MAESpec(ViTSpec):
    """A vision transformer that sees some patches of an image, and a small one that draws the others (He et al. 2022).

    Its keys are those of `vit`, and the decoder's. As it stands ViT-Base with the paper's decoder. The decoder is the
    head: the encoder is taken over into a `vit` of the same keys with init.
    """

    build: ClassVar[str] = "expflow.architectures.mae:build"
    gives: ClassVar[ModelOutput] = "patches"

    decoder_width: int = identity(512, description="Features of each token of the decoder.", ge=1, le=MAX_CHANNELS)
    decoder_depth: int = identity(8, description="Layers of the decoder.", ge=1, le=MAX_LAYERS)
    decoder_heads: int = identity(
        16, description="Attentions side by side in each of its layers; must divide its width.", ge=1, le=MAX_CHANNELS
    )

    @model_validator(mode="after")
    def _decoder_heads_divide_its_width(self) -> Self:
        if self.decoder_width % self.decoder_heads:
            legal = nearest_legal(self.decoder_heads, divisors(self.decoder_width))
            message = f"{self.decoder_heads} heads do not divide a width of {self.decoder_width}; nearest: {legal}"
            raise FieldError("decoder_heads", message)
        return self
