"""Multi-layer perceptron on the flattened image."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from expflow.architectures.blocks import activation, dropout, init_weights, norm1d
from expflow.architectures.specs import mlp as specs
from expflow.data.dataspec import DataSpec


class MLP(nn.Sequential):
    """``flatten``, ``hidden1`` … each with its norm, activation and dropout, ``head``; (b, …) -> (b, classes).

    ``features`` is the number of values of one sample.
    """

    def __init__(self, spec: specs.MLP, features: int, num_classes: int) -> None:
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


def build(spec: specs.MLP, data_spec: DataSpec) -> MLP:
    """The perceptron of ``spec`` for the images and classes of ``data_spec``."""
    return MLP(spec, math.prod(data_spec.image_shape), data_spec.num_classes)
