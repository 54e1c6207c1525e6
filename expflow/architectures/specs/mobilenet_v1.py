"""Arguments of MobileNet v1. Torch-free: the network is in ``expflow.architectures.mobilenet_v1``."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.architectures.specs.blocks import Activation, Init, Norm
from expflow.architectures.specs.limits import MAX_LAYERS
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity


class MobileNetV1Spec(ModelSpec):
    """Depthwise-separable convolutions for phones (Howard et al. 2017, "MobileNets", arXiv 1704.04861)."""

    build: ClassVar[str] = "expflow.architectures.mobilenet_v1:build"

    width_factor: float = identity(
        1.0, description="Factor on the channels of every layer (the paper's alpha); at least 8 stay.", gt=0
    )
    depth: int = identity(
        5, description="Repeated blocks of 512 channels; 5 in the paper, 0 in its shallow net.", ge=0, le=MAX_LAYERS
    )
    convolution: Literal["separable", "full"] = identity(
        "separable",
        description="separable: 3x3 in each channel by itself, then 1x1 across; full: one 3x3 instead (table 4 of the"
        " paper).",
    )
    stem: Literal["imagenet", "cifar"] = identity(
        "imagenet", description="3x3 convolution of stride 2 (imagenet), or of stride 1 for small images (cifar)."
    )
    activation: Activation = identity("relu", description="Non-linearity.")
    norm: Norm = identity("batch", description="Normalisation after each convolution; with none those have biases.")
    init: Init = identity("he_fan_in", description="How weights of convolutions are drawn.")
    dropout: float = identity(0.0, description="Dropout before the classifier.", ge=0, lt=1)
