"""Arguments of the network for super-resolution. Torch-free: the network is in ``expflow.architectures.srcnn``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from expflow.architectures.specs.blocks import Activation
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelOutput, ModelSpec
from expflow.config.spec import FieldError, identity

Channels = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
Kernel = Annotated[int, Field(ge=1, le=31)]


class SRCNNSpec(ModelSpec):
    """Convolutions that keep an image's size and sharpen it (Dong et al. 2014, SRCNN).

    As it stands the paper's 9-1-5: 8,032 weights and 97 biases for images of one channel.
    """

    build: ClassVar[str] = "expflow.architectures.srcnn:build"
    gives: ClassVar[ModelOutput] = "images"

    channels: tuple[Channels, ...] = identity((64, 32), description="Channels of each hidden layer.", min_length=1)
    kernels: tuple[Kernel, ...] = identity(
        (9, 1, 5), description="Height and width of the filters of each layer, the last one included; odd."
    )
    residual: bool = identity(
        False, description="Whether the network names what is to be added to its image (Kim et al. 2016, VDSR)."
    )
    activation: Activation = identity("relu", description="Non-linearity after each hidden layer.")

    @model_validator(mode="after")
    def _has_a_kernel_for_each_layer(self) -> Self:
        if len(self.kernels) != len(self.channels) + 1:
            message = f"expected {len(self.channels) + 1}, one more than channels; found {len(self.kernels)}"
            raise FieldError("kernels", message)
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise FieldError("kernels", f"expected odd numbers, found {even[0]}")
        return self
