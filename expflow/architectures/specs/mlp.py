"""Arguments of multi-layer perceptrons. Torch-free: the networks are in ``expflow.architectures.mlp``."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.config.spec import Spec, identity


class MLP(Spec):
    """Multi-layer perceptron: hidden layers of equal width on the flattened image."""

    build: ClassVar[str] = "expflow.architectures.mlp:build"

    depth: int = identity(1, description="Hidden layers.", ge=1)
    hidden: int = identity(64, description="Units of each hidden layer.", ge=1)
    activation: Literal["relu", "tanh", "sigmoid"] = identity(
        "relu", description="Non-linearity after each hidden layer."
    )
