"""Arguments of the perceptron and the two-layer net. Torch-free: see ``expflow.architectures.perceptron``."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.architectures.specs.blocks import Activation, Init
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity


class PerceptronSpec(ModelSpec):
    """One perceptron per class on the flattened image (Rosenblatt 1958)."""

    build: ClassVar[str] = "expflow.architectures.perceptron:build"

    output: Literal["scores", "sigmoid"] = identity(
        "scores",
        description="scores: w·x + b, for cross-entropy and hinge losses; sigmoid: squeezed to 0..1, for squared loss."
        " The sign of the original has no gradient.",
    )
    init: Init = identity("torch", description="How weights are drawn.")


class TwoLayerSpec(ModelSpec):
    """Two-layer net W2 f(W1 x + b1) + b2 on the flattened image."""

    build: ClassVar[str] = "expflow.architectures.perceptron:build_two_layer"

    hidden: int = identity(64, description="Units of the hidden layer.", ge=1, le=MAX_CHANNELS)
    activation: Activation = identity("relu", description="Non-linearity f of the hidden layer.")
    init: Init = identity("torch", description="How weights are drawn.")
