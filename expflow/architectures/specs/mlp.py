"""Arguments of multi-layer perceptrons. Torch-free: the networks are in ``expflow.architectures.mlp``."""

from __future__ import annotations

from typing import ClassVar

from expflow.architectures.specs.blocks import Activation, FeatureNorm, Init
from expflow.architectures.specs.limits import MAX_CHANNELS, MAX_LAYERS
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity


class MLPSpec(ModelSpec):
    """Multi-layer perceptron: hidden layers of equal width on the flattened image."""

    build: ClassVar[str] = "expflow.architectures.mlp:build"

    depth: int = identity(1, description="Hidden layers.", ge=1, le=MAX_LAYERS)
    hidden: int = identity(64, description="Units of each hidden layer.", ge=1, le=MAX_CHANNELS)
    activation: Activation = identity("relu", description="Non-linearity after each hidden layer.")
    norm: FeatureNorm = identity("none", description="Normalisation before each non-linearity.")
    dropout: float = identity(0.0, description="Share of units dropped after each hidden layer.", ge=0, lt=1)
    init: Init = identity("torch", description="How weights are drawn.")
