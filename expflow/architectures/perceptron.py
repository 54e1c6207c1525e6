"""Perceptron, sigmoid(w·x + b) for each class, and the two-layer net W2 f(W1 x + b1) + b2."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from expflow.architectures.blocks import activation, init_weights
from expflow.architectures.specs.perceptron import PerceptronSpec, TwoLayerSpec
from expflow.data.dataspec import DataSpec


def build(spec: PerceptronSpec, data_spec: DataSpec) -> nn.Sequential:
    """One perceptron per class: (b, c, h, w) -> (b, classes).

    Its children are ``flatten``, ``head``, and ``sigmoid`` where ``spec`` asks for it.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Source:
        Rosenblatt 1958, "The Perceptron".
    """
    head = nn.Linear(math.prod(data_spec.image_shape), data_spec.num_classes)
    parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten(), head=head)
    if spec.output == "sigmoid":
        parts["sigmoid"] = nn.Sigmoid()
    network = nn.Sequential(parts)
    init_weights(network, spec.init)
    return network


def build_two_layer(spec: TwoLayerSpec, data_spec: DataSpec) -> nn.Sequential:
    """The two-layer net: (b, c, h, w) -> (b, classes).

    Its children are ``flatten``, ``hidden``, ``activation`` and ``head``.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.
    """
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
