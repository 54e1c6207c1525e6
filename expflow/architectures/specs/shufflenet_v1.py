"""Arguments of ShuffleNet v1. Torch-free: the network is in ``expflow.architectures.shufflenet_v1``."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.architectures.specs.blocks import Activation, Init, Norm
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity


class ShuffleNetV1Spec(ModelSpec):
    """Grouped 1x1 convolutions with shuffled channels (Zhang et al. 2018, "ShuffleNet", arXiv 1707.01083)."""

    build: ClassVar[str] = "expflow.architectures.shufflenet_v1:build"

    groups: Literal[1, 2, 3, 4, 8] = identity(
        3, description="Groups of the 1x1 convolutions; more groups have more channels at about the same cost."
    )
    width_factor: float = identity(
        1.0, description="Factor on the channels (the paper's s), rounded so that the groups divide them.", gt=0
    )
    shuffle: bool = identity(True, description="Mix channels among the groups; without it groups never meet.")
    stem: Literal["imagenet", "cifar"] = identity(
        "imagenet",
        description="3x3 convolution of stride 2 and max pooling (imagenet), or 3x3 at full size for small images"
        " (cifar).",
    )
    activation: Activation = identity("relu", description="Non-linearity.")
    norm: Norm = identity("batch", description="Normalisation after each convolution; with none those have biases.")
    init: Init = identity("he_fan_in", description="How weights of convolutions are drawn.")
    dropout: float = identity(0.0, description="Dropout before the classifier.", ge=0, lt=1)
