"""Arguments of U-Nets. Torch-free: the network is in ``expflow.architectures.unet``."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.architectures.specs.blocks import Activation, Init, Norm
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelOutput, ModelSpec
from expflow.config.spec import identity


class UNetSpec(ModelSpec):
    """Encoder and decoder with skip connections between maps of one size (Ronneberger et al. 2015)."""

    build: ClassVar[str] = "expflow.architectures.unet:build"
    gives: ClassVar[ModelOutput] = "maps"

    depth: int = identity(4, description="How often the maps are halved, and then doubled again.", ge=1, le=8)
    width: int = identity(
        64, description="Channels of the first maps; each halving doubles them.", ge=1, le=MAX_CHANNELS
    )
    skip: bool = identity(
        True, description="Whether the decoder sees the encoder's maps of its size beside what it has doubled."
    )
    norm: Norm = identity("none", description="Normalisation of the convolutions' maps; none in the paper.")
    activation: Activation = identity("relu", description="Non-linearity after each convolution.")
    up: Literal["transposed", "bilinear"] = identity(
        "transposed", description="How maps are doubled: by a transposed 2x2 convolution, or bilinear and a 1x1 one."
    )
    init: Init = identity("he_fan_in", description="How weights are drawn.")
