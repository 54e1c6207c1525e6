"""Names of the building blocks that families let the user choose. Torch-free: the modules are in
``expflow.architectures.blocks``.
"""

from __future__ import annotations

from typing import Literal

Activation = Literal[
    "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hard_swish", "softplus"
]
"""Non-linearities."""

Norm = Literal["none", "batch", "layer", "group", "instance", "local_response"]
"""Normalisations of feature maps."""

FeatureNorm = Literal["none", "batch", "layer"]
"""Normalisations of feature vectors: those that need no image."""

Pool = Literal["max", "average"]
"""What a pooling window keeps."""

Init = Literal["torch", "he_fan_in", "he_fan_out", "xavier", "normal", "orthogonal"]
"""How weights are drawn; torch: as each torch layer does by itself (uniform, variance 1 / (3 fan-in))."""
