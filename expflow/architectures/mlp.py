"""Multi-layer perceptron on the flattened image."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from expflow.architectures.blocks import activation, dropout, init_weights, norm1d
from expflow.architectures.specs.mlp import MLPSpec
from expflow.data.dataspec import DataSpec


class MLP(nn.Sequential):
    """Hidden layers of equal width: (b, c, h, w) -> (b, classes).

    Its children are ``flatten``, ``hidden1`` … each with its norm, activation and dropout, and ``head``.

    Args:
        spec: Depth, width and what the hidden layers are made of.
        features: Values of one sample.
        num_classes: Scores that it gives.
    """

    def __init__(self, spec: MLPSpec, features: int, num_classes: int) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for number in range(1, spec.depth + 1):
            parts[f"hidden{number}"] = nn.Linear(features, spec.hidden)
            if spec.norm != "none":
                parts[f"norm{number}"] = norm1d(spec.norm, spec.hidden)
            parts[f"activation{number}"] = activation(spec.activation)
            if spec.dropout:
                parts[f"dropout{number}"] = dropout(spec.dropout)
            features = spec.hidden
        parts["head"] = nn.Linear(features, num_classes)
        super().__init__(parts)
        init_weights(self, spec.init)


def build(spec: MLPSpec, data_spec: DataSpec) -> MLP:
    """The perceptron of ``spec``: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.
    """
    return MLP(spec, math.prod(data_spec.image_shape), data_spec.num_classes)
