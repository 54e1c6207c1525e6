"""ZFNet (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", figure 3 and table 3)."""

from __future__ import annotations

from torch import nn

from expflow.architectures.convnet import Conv, Pool, build_layout
from expflow.architectures.specs.zfnet import ZFNetSpec
from expflow.data.dataspec import DataSpec

WIDTHS = {"paper": (384, 384, 256), "lecture": (512, 1024, 512)}
"""Filters of convolutions 3, 4 and 5; the larger ones are the paper's experiment of table 3, which won ILSVRC 2013."""


def layout(widths: str) -> list[Conv | Pool]:
    """The five convolutions and three pools; sizes from 224: 110, 55, 26, 13, 6.

    Args:
        widths: A key of :data:`WIDTHS`.
    """
    third, fourth, fifth = WIDTHS[widths]
    return [
        Conv(96, kernel=7, stride=2, padding=1, responds=True),
        Pool(kernel=3, stride=2, padding=1),
        Conv(256, kernel=5, stride=2, responds=True),
        Pool(kernel=3, stride=2, padding=1),
        Conv(third, kernel=3, padding=1),
        Conv(fourth, kernel=3, padding=1),
        Conv(fifth, kernel=3, padding=1),
        Pool(kernel=3, stride=2),
    ]


def build(spec: ZFNetSpec, data_spec: DataSpec) -> nn.Sequential:
    """ZFNet: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The images are too small; the message has the smallest legal size.

    Source:
        Zeiler and Fergus 2014, figure 3.
    """
    return build_layout(layout(spec.widths), spec, data_spec)
