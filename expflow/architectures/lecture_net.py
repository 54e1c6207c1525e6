"""The two-convolution net that courses give as first PyTorch code: 10 and 20 filters of 5x5, 50 hidden units.

It ends in scores; the code in the lectures adds log-softmax, which the loss cross_entropy contains.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from expflow.architectures.blocks import activation, dropout, init_weights, pool2d
from expflow.architectures.map_sizes import map_size
from expflow.architectures.specs.lecture_net import LectureNetSpec
from expflow.data.dataspec import DataSpec


def build(spec: LectureNetSpec, data_spec: DataSpec) -> nn.Sequential:
    """The net of the lectures: (b, c, h, w) -> (b, classes).

    Its layers with weights are ``conv1``, ``conv2``, ``fc1`` and ``head``.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small; the message has the smallest legal size.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(data_spec.in_channels, 10, 5),
        pool1=pool2d(spec.pool, 2),
        activation1=activation(spec.activation),
        conv2=nn.Conv2d(10, 20, 5),
        dropout2=nn.Dropout2d(spec.dropout),
        pool2=pool2d(spec.pool, 2),
        activation2=activation(spec.activation),
    )
    features = 20 * math.prod(map_size(spec.name, parts.values(), data_spec))
    parts |= OrderedDict(
        flatten=nn.Flatten(),
        fc1=nn.Linear(features, 50),
        activation3=activation(spec.activation),
        dropout3=dropout(spec.dropout),
        head=nn.Linear(50, data_spec.num_classes),
    )
    network = nn.Sequential(parts)
    init_weights(network, spec.init)
    return network
