"""Arguments of the small net of lecture code. Torch-free: the network is in ``expflow.architectures.lecture_net``."""

from __future__ import annotations

from typing import ClassVar

from expflow.architectures.specs.blocks import Activation, Init, Pool
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity


class LectureNetSpec(ModelSpec):
    """Two 5x5 convolutions and two fully connected layers: the first net that courses show for MNIST."""

    build: ClassVar[str] = "expflow.architectures.lecture_net:build"

    activation: Activation = identity("relu", description="Non-linearity after each pooling and the hidden layer.")
    pool: Pool = identity("max", description="What a pooling window keeps.")
    dropout: float = identity(
        0.5,
        description="Share dropped of the second convolution's maps (whole maps) and of the hidden units.",
        ge=0,
        lt=1,
    )
    init: Init = identity("torch", description="How weights are drawn.")
