"""What AlexNet, ZFNet and VGG let the user choose alike. Torch-free: the layers are in
``expflow.architectures.convnet``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from expflow.architectures.specs.blocks import Activation, Init, Norm, Pool
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity

Units = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]


class ConvNetSpec(ModelSpec):
    """Base of specs of convolutions and pooling, then fully connected layers; no component by itself."""

    head: tuple[Units, ...] = identity(
        (4096, 4096), description="Units of each fully connected layer before the one that scores the classes."
    )
    activation: Activation = identity("relu", description="Non-linearity after each convolution and hidden layer.")
    norm: Norm = identity("none", description="Normalisation of the convolutions' maps.")
    pool: Pool = identity("max", description="What a pooling window keeps.")
    dropout: float = identity(
        0.5, description="Share of values dropped after each hidden fully connected layer.", ge=0, lt=1
    )
    init: Init = identity("he_fan_in", description="How weights are drawn; normal: as the AlexNet paper does.")
