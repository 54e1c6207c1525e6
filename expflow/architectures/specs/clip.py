"""Arguments of the network with a tower for images and one for texts. Torch-free: it is in
``expflow.architectures.clip``.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from expflow.architectures.specs import patches
from expflow.architectures.specs.backbone import WithBackboneSpec
from expflow.architectures.specs.blocks import Activation
from expflow.architectures.specs.limits import MAX_CHANNELS, MAX_LAYERS
from expflow.architectures.specs.nearest import divisors, nearest_legal
from expflow.config.component_specs import ModelOutput
from expflow.config.spec import FieldError, identity


class CLIPSpec(WithBackboneSpec):
    """A classification network of ours for images and a transformer for texts, into one space (Radford et al. 2021).

    Every key that is none of these is one of the backbone's. As it stands the text tower is that of the paper's B/32,
    whose images go through `backbone: vit, patch: 32, norm_first: true, patch_bias: false`. The image tower is taken
    over into the classification network with init.
    """

    build: ClassVar[str] = "expflow.architectures.clip:build"
    gives: ClassVar[ModelOutput] = "embeddings"

    embedding: int = identity(512, description="Features of the space that both meet in.", ge=1, le=MAX_CHANNELS)
    text_width: int = identity(512, description="Features of each token of a text.", ge=1, le=MAX_CHANNELS)
    text_depth: int = identity(12, description="Layers of the text tower.", ge=1, le=MAX_LAYERS)
    text_heads: int = identity(
        8, description="Attentions side by side in each of them; must divide text_width.", ge=1, le=MAX_CHANNELS
    )
    text_activation: Activation = patches.activation("gelu")

    @model_validator(mode="after")
    def _text_heads_divide_its_width(self) -> Self:
        if self.text_width % self.text_heads:
            legal = nearest_legal(self.text_heads, divisors(self.text_width))
            message = f"{self.text_heads} heads do not divide a width of {self.text_width}; nearest: {legal}"
            raise FieldError("text_heads", message)
        return self
