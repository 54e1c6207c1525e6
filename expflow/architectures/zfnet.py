"""ZFNet (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", figure 3 and table 3)."""

from __future__ import annotations

from torch import nn

from expflow.architectures.convnet import Conv, Pool, build_layout
from expflow.architectures.specs import zfnet as specs
from expflow.data.dataspec import DataSpec

WIDTHS = {"paper": (384, 384, 256), "lecture": (512, 1024, 512)}
"""Filters of convolutions 3, 4 and 5; the larger ones are the paper's experiment of table 3, which won ILSVRC 2013."""


def layout(widths: str) -> list[Conv | Pool]:
    """Five convolutions; sizes from 224: 110, 55, 26, 13, 6."""
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


def build(spec: specs.ZFNet, data_spec: DataSpec) -> nn.Sequential:
    """ZFNet as ``spec`` says for the images and classes of ``data_spec``.

    Raises :class:`UserError` with the smallest legal size where the images are too small.
    """
    return build_layout(layout(spec.widths), spec, data_spec)
