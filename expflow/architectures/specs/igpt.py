"""Arguments of image GPT. Torch-free: the network is in ``expflow.architectures.igpt``."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from expflow.architectures.specs import patches
from expflow.architectures.specs.blocks import Activation
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.architectures.specs.nearest import divisors, nearest_legal
from expflow.config.component_specs import ModelOutput, ModelSpec
from expflow.config.spec import FieldError, identity


class IGPTSpec(ModelSpec):
    """A transformer that says of each pixel what the next one is, in the colours of a palette (Chen et al. 2020).

    As it stands the paper's iGPT-S. M: depth 36, width 1024; L: depth 48, width 1536, heads 16.
    """

    build: ClassVar[str] = "expflow.architectures.igpt:build"
    gives: ClassVar[ModelOutput] = "pixels"

    depth: int = patches.depth(24)
    width: int = patches.width(512)
    heads: int = identity(
        8, description="Attentions side by side in each layer; must divide the width.", ge=1, le=MAX_CHANNELS
    )
    activation: Activation = patches.activation("gelu")
    dropout: float = patches.dropout()

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            legal = nearest_legal(self.heads, divisors(self.width))
            raise FieldError("heads", f"{self.heads} heads do not divide a width of {self.width}; nearest: {legal}")
        return self
