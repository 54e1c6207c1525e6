"""Linear classifier: one template per class, s = W x + b."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from expflow.architectures.specs import linear as specs
from expflow.data.dataspec import DataSpec


def build(spec: specs.Linear, data_spec: DataSpec) -> nn.Sequential:
    """``flatten`` and ``head`` for the images and classes of ``data_spec``; ``spec`` has no arguments of its own."""
    features = math.prod(data_spec.image_shape)
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), head=nn.Linear(features, data_spec.num_classes)))
