"""Arguments of ConvMixers. Torch-free: the networks are in ``expflow.architectures.convmixer``."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from expflow.architectures.specs import patches
from expflow.architectures.specs.blocks import Activation, Init, Norm
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import FieldError, identity


class ConvMixerSpec(ModelSpec):
    """ConvMixer: depthwise and 1x1 convolutions on patches (Trockman and Kolter 2022, arXiv 2201.09792).

    As it stands ConvMixer-768/32 (with ReLU 21,110,248 parameters); 1536/20: width 1536, depth 20, kernel 9.
    """

    build: ClassVar[str] = "expflow.architectures.convmixer:build"

    patch: int = patches.patch(7)
    depth: int = patches.depth(32)
    width: int = identity(
        768, description="Channels of every map after the patches are embedded.", ge=1, le=MAX_CHANNELS
    )
    kernel: int = identity(7, description="Height and width of the depthwise convolutions; odd.", ge=1, le=MAX_CHANNELS)
    activation: Activation = patches.activation("gelu")
    norm: Norm = identity("batch", description="Normalisation after each convolution.")
    dropout: float = identity(0.0, description="Probability to drop a value that the head sees.", ge=0, lt=1)
    init: Init = identity("torch", description="How the weights of convolutions and of the head are drawn.")

    @model_validator(mode="after")
    def _kernel_has_a_middle(self) -> Self:
        if self.kernel % 2 == 0:
            legal = f"{self.kernel - 1} and {self.kernel + 1}"
            raise FieldError("kernel", f"a kernel of {self.kernel} has no middle pixel; nearest: {legal}")
        return self
