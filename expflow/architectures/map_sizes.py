"""Sizes of feature maps after convolutions and pooling, so that too small images are refused with the smallest legal.

A window is what a convolution or a pool slides over an image.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

WindowLayer = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d
"""A layer that slides a window over an image."""


def _first(value: Any) -> int:
    """The height of what torch keeps as one number or as a pair."""
    return int(value[0] if isinstance(value, tuple) else value)


def output_size(window: WindowLayer, size: int) -> int:
    """Rows that a layer makes of ``size`` rows: (W - K + 2P) / S + 1 rounded down, 0 or less where it fits nowhere.

    Pooling in ceil mode rounds up, but no window begins outside of the image.

    Args:
        window: A convolution or a pool of square windows.
        size: Rows of pixels that it is given.
    """
    kernel, stride, padding = _first(window.kernel_size), _first(window.stride), _first(window.padding)
    steps, rest = divmod(size - kernel + 2 * padding, stride)
    if getattr(window, "ceil_mode", False) and rest and (steps + 1) * stride < size + padding:
        steps += 1
    return steps + 1


def window_layers(parts: Iterable[nn.Module]) -> list[WindowLayer]:
    """The convolutions and pools in ``parts``, in order.

    Args:
        parts: Modules that an image passes one after the other; likewise their children.
    """
    return [module for part in parts for module in part.modules() if isinstance(module, WindowLayer)]


def _rows_left(windows: Iterable[WindowLayer], size: int) -> int:
    """Rows that all of ``windows``, one after the other, leave of ``size`` rows; 0 where one fits nowhere."""
    for window in windows:
        size = output_size(window, size)
        if size < 1:
            return 0
    return size


def smallest_image_size(windows: Iterable[WindowLayer]) -> int:
    """The smallest height in pixels of an image of which every layer leaves at least one row.

    Args:
        windows: Convolutions and pools that the image passes one after the other.
    """
    windows, size = list(windows), 1
    while not _rows_left(windows, size):
        size += 1
    return size


def map_size(name: str, parts: Iterable[nn.Module], data_spec: DataSpec, advice: str = "") -> tuple[int, int]:
    """(height, width) that the convolutions and pools in ``parts`` leave of an image.

    Args:
        name: The model's name, for messages.
        parts: Modules that the image passes one after the other.
        data_spec: The images.
        advice: What a message adds to the smallest legal size.

    Raises:
        UserError: Nothing would be left of the images; the message has the smallest legal size.
    """
    windows = window_layers(parts)
    height, width = data_spec.image_size
    left = _rows_left(windows, height), _rows_left(windows, width)
    if not all(left):
        least = smallest_image_size(windows)
        raise UserError(
            f"model {name} cannot take images of {height}x{width} pixels: its convolutions and pooling would leave"
            f" nothing of them; the smallest that it takes: {least}x{least}{advice}"
        )
    return left
