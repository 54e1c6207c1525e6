"""AlexNet (Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 3.5).

The paper says 224x224; its own arithmetic (55x55 maps after an 11x11 kernel at stride 4) needs 227x227 without padding.
"""

from __future__ import annotations

from torch import nn

from expflow.architectures.convnet import Conv, Pool, build_layout
from expflow.architectures.specs.alexnet import AlexNetSpec
from expflow.data.dataspec import DataSpec


def layout(streams: int) -> list[Conv | Pool]:
    """The five convolutions and three pools; the third convolution alone connects the two streams.

    Args:
        streams: 2 for the paper's two groups of channels (one on each of its GPUs), 1 for one.
    """
    return [
        Conv(96, kernel=11, stride=4, responds=True),
        Pool(kernel=3, stride=2),
        Conv(256, kernel=5, padding=2, groups=streams, responds=True),
        Pool(kernel=3, stride=2),
        Conv(384, kernel=3, padding=1),
        Conv(384, kernel=3, padding=1, groups=streams),
        Conv(256, kernel=3, padding=1, groups=streams),
        Pool(kernel=3, stride=2),
    ]


def build(spec: AlexNetSpec, data_spec: DataSpec) -> nn.Sequential:
    """AlexNet: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small; the message has the smallest legal size.

    Source:
        Krizhevsky et al. 2012, section 3.5.
    """
    return build_layout(layout(spec.streams), spec, data_spec)
