"""Arguments of the U-Net of diffusion. Torch-free: the network is in ``expflow.architectures.ddpm_unet``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from expflow.architectures.specs.limits import MAX_CHANNELS, MAX_LAYERS
from expflow.config.component_specs import ModelOutput, ModelSpec
from expflow.config.spec import FieldError, identity

Factor = Annotated[int, Field(ge=1, le=64)]
Level = Annotated[int, Field(ge=0)]


class DDPMUNetSpec(ModelSpec):
    """U-Net of residual blocks that are told the step of a diffusion (Ho et al. 2020, appendix B).

    As it stands that of CIFAR-10, with 35,746,307 parameters for images of three channels.
    """

    build: ClassVar[str] = "expflow.architectures.ddpm_unet:build"
    gives: ClassVar[ModelOutput] = "noise"

    width: int = identity(128, description="Channels of the first level.", ge=4, le=MAX_CHANNELS)
    factors: tuple[Factor, ...] = identity(
        (1, 2, 2, 2),
        description="Channels of each level in units of the width; each level has half the pixels of the one before.",
        min_length=1,
        max_length=8,
    )
    blocks: int = identity(
        2, description="Residual blocks of a level on the way down; up it is one more.", ge=1, le=MAX_LAYERS
    )
    attention: tuple[Level, ...] = identity(
        (1,), description="Levels, from 0, whose blocks are followed by self-attention; 1 is 16x16 of 32x32 pixels."
    )
    dropout: float = identity(0.1, description="Probability to drop a value inside of a block.", ge=0, lt=1)

    @model_validator(mode="after")
    def _attends_to_its_levels(self) -> Self:
        if beyond := [level for level in self.attention if level >= len(self.factors)]:
            raise FieldError("attention", f"there is no level {beyond[0]}: factors has {len(self.factors)}, from 0")
        return self
