"""Linear classifier: one template per class, s = W x + b."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from expflow.architectures.specs.linear import LinearSpec
from expflow.data.dataspec import DataSpec


def build(spec: LinearSpec, data_spec: DataSpec) -> nn.Sequential:
    """The linear classifier: (b, c, h, w) -> (b, classes); its children are ``flatten`` and ``head``.

    Args:
        spec: Has no arguments of its own.
        data_spec: The images and classes that it is for.
    """
    features = math.prod(data_spec.image_shape)
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), head=nn.Linear(features, data_spec.num_classes)))
