"""Arguments of DeconvNet and SegNet. Torch-free: the networks are in ``expflow.architectures.unpooling``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from expflow.architectures.specs.blocks import Activation, Init, Norm
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelOutput, ModelSpec
from expflow.config.spec import FieldError, identity

Positive = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]

Unpool = Literal["indices", "corner", "nearest"]
"""Where unpooling puts a value of a window of 2x2."""


class UnpoolingSpec(ModelSpec):
    """Base of the specs of VGG encoders whose pooling a mirrored decoder undoes; no component by itself."""

    gives: ClassVar[ModelOutput] = "maps"

    depth: Literal[11, 13, 16, 19] | None = identity(
        None, description="Layers with weights of the VGG net that the encoder is: 11, 13, 16 (as in the paper) or 19."
    )
    stages: tuple[tuple[Positive, Positive], ...] | None = identity(
        None,
        description="Instead of depth: [n, m] for each stage, n convolutions of m channels; each stage halves the"
        " image.",
        min_length=1,
    )
    unpool: Unpool = identity(
        "indices",
        description="Where a value goes when a map is doubled: indices: where pooling found its maximum, the rest is 0;"
        " corner: into the upper left pixel of its window, the rest is 0; nearest: into all four.",
    )
    norm: Norm = identity("batch", description="Normalisation of the convolutions' maps.")
    activation: Activation = identity("relu", description="Non-linearity after each convolution.")
    init: Init = identity("he_fan_in", description="How weights are drawn.")

    @model_validator(mode="after")
    def _has_one_layout(self) -> Self:
        if self.depth is None and self.stages is None:
            raise FieldError("depth", "say depth (11, 13, 16 or 19) or stages ([[n, m], …])")
        if self.depth is not None and self.stages is not None:
            raise FieldError("stages", f"depth: {self.depth} has its own stages; say one of the two")
        return self


class DeconvNetSpec(UnpoolingSpec):
    """A VGG net down to one pixel, and its mirror image of unpooling and deconvolutions (Noh et al. 2015)."""

    build: ClassVar[str] = "expflow.architectures.unpooling:build_deconvnet"

    head: tuple[Positive, ...] = identity(
        (4096, 4096),
        description="Channels of each layer between encoder and decoder, which are VGG's fully connected ones.",
        min_length=1,
    )
    kernel: int = identity(
        7,
        description="Height and width of the first layer behind the stages and of the deconvolution that undoes it: the"
        " size that the map has there (7 of 224 pixels after five stages), or less.",
        ge=1,
        le=31,
    )


class SegNetSpec(UnpoolingSpec):
    """A VGG net's convolutions, and a decoder that unpools and convolves its maps (Badrinarayanan et al. 2017)."""

    build: ClassVar[str] = "expflow.architectures.unpooling:build_segnet"
