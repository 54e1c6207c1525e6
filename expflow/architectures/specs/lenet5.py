"""Arguments of LeNet-5. Torch-free: the network is in ``expflow.architectures.lenet5``."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.architectures.specs.blocks import Activation, Init, Pool
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity


class LeNet5Spec(ModelSpec):
    """LeNet-5 for images of 32x32 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition")."""

    build: ClassVar[str] = "expflow.architectures.lenet5:build"

    c3: Literal["full", "table"] = identity(
        "full", description="Second convolution: full sees all six maps; table: those that the paper's table I names."
    )
    activation: Activation = identity("tanh", description="Non-linearity after each convolution and hidden layer.")
    pool: Pool = identity("average", description="Subsampling; average as in the paper, without its trained scale.")
    padding: int = identity(
        0, description="Zeros around the image, in pixels; 2 makes 32x32 of MNIST's 28x28.", ge=0, le=MAX_CHANNELS
    )
    init: Init = identity("torch", description="How weights are drawn.")
