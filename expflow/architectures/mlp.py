"""Multi-layer perceptron on the flattened image."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from expflow.architectures.specs import mlp as specs
from expflow.data.dataspec import DataSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class MLP(nn.Sequential):
    """``flatten``, ``hidden1`` … each with its activation, ``head``; (b, …) of ``features`` values -> (b, classes)."""

    def __init__(self, features: int, hidden: int, depth: int, num_classes: int, activation: type[nn.Module]) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for number in range(1, depth + 1):
            parts[f"hidden{number}"] = nn.Linear(features, hidden)
            parts[f"activation{number}"] = activation()
            features = hidden
        parts["head"] = nn.Linear(features, num_classes)
        super().__init__(parts)


def build(spec: specs.MLP, data_spec: DataSpec) -> MLP:
    """The perceptron of ``spec`` for the images and classes of ``data_spec``."""
    features = math.prod(data_spec.image_shape)
    return MLP(features, spec.hidden, spec.depth, data_spec.num_classes, ACTIVATIONS[spec.activation])
