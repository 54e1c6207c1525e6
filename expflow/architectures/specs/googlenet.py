"""Arguments of GoogLeNet. Torch-free: the network is in ``expflow.architectures.googlenet``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from expflow.architectures.specs.blocks import Activation, Init, Norm, Pool
from expflow.architectures.specs.limits import MAX_LAYERS
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity

AtLeastOne = Annotated[int, Field(ge=1, le=MAX_LAYERS)]


class GoogLeNetSpec(ModelSpec):
    """GoogLeNet: a stem and three stages of inception modules (Szegedy et al. 2015, "Going Deeper with Convolutions").

    Its auxiliary classifiers give losses in training alone; the task's auxiliary_weight says how much they count.
    """

    build: ClassVar[str] = "expflow.architectures.googlenet:build"

    modules: tuple[AtLeastOne, AtLeastOne, AtLeastOne] = identity(
        (2, 5, 2),
        description="Inception modules of each stage. Fewer than in the paper: its last ones; more: its last repeated.",
    )
    auxiliary: bool = identity(
        True, description="Classifiers after the first and the last but one module of the middle stage, for training."
    )
    large_kernel: Literal[3, 5] = identity(
        5, description="Kernel of the third branch of each module; torchvision's net has 3 where the paper says 5."
    )
    activation: Activation = identity("relu", description="Non-linearity after each convolution.")
    norm: Norm = identity(
        "local_response",
        description="Normalisation after each convolution; local_response: twice in the stem alone, as in the paper.",
    )
    pool: Pool = identity("max", description="What the pooling windows keep; the last pooling averages always.")
    dropout: float = identity(0.4, description="Share of values dropped before the head.", ge=0, lt=1)
    init: Init = identity("he_fan_in", description="How weights are drawn.")
