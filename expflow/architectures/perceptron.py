"""Perceptron, sigmoid(w·x + b) for each class, and the two-layer net W2 f(W1 x + b1) + b2."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from expflow.architectures.blocks import activation, init_weights
from expflow.architectures.specs import perceptron as specs
from expflow.data.dataspec import DataSpec


def build(spec: specs.Perceptron, data_spec: DataSpec) -> nn.Sequential:
    """``flatten`` and ``head``, and ``sigmoid`` where ``spec`` wants it."""
    head = nn.Linear(math.prod(data_spec.image_shape), data_spec.num_classes)
    parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten(), head=head)
    if spec.output == "sigmoid":
        parts["sigmoid"] = nn.Sigmoid()
    network = nn.Sequential(parts)
    init_weights(network, spec.init)
    return network


def build_two_layer(spec: specs.TwoLayer, data_spec: DataSpec) -> nn.Sequential:
    """``flatten``, ``hidden``, ``activation`` and ``head`` for the images and classes of ``data_spec``."""
    network = nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            hidden=nn.Linear(math.prod(data_spec.image_shape), spec.hidden),
            activation=activation(spec.activation),
            head=nn.Linear(spec.hidden, data_spec.num_classes),
        )
    )
    init_weights(network, spec.init)
    return network
