"""What convolutions and pooling leave of an image, so that one that is too small is refused with the smallest legal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

Window = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d
"""What slides over an image."""


def _first(value: Any) -> int:
    """The height of what torch keeps as one number or as a pair."""
    return int(value[0] if isinstance(value, tuple) else value)


def output_size(window: Window, size: int) -> int:
    """Rows that ``window`` makes of ``size`` rows: (W - K + 2P) / S + 1 rounded down, 0 or less where it fits nowhere.

    Pooling in ceil mode rounds up, but no window begins outside of the image. Windows are square.
    """
    kernel, stride, padding = _first(window.kernel_size), _first(window.stride), _first(window.padding)
    steps, rest = divmod(size - kernel + 2 * padding, stride)
    if getattr(window, "ceil_mode", False) and rest and (steps + 1) * stride < size + padding:
        steps += 1
    return steps + 1


def windows_of(parts: Iterable[nn.Module]) -> list[Window]:
    """The windows in ``parts``, which an image passes in this order, one after the other."""
    return [each for part in parts for each in part.modules() if isinstance(each, Window)]


def _left(windows: Iterable[Window], size: int) -> int:
    for window in windows:
        size = output_size(window, size)
        if size < 1:
            return 0
    return size


def smallest_size(windows: Iterable[Window]) -> int:
    """The smallest height of an image of which every one of ``windows`` leaves at least one row."""
    windows, size = list(windows), 1
    while not _left(windows, size):
        size += 1
    return size


def map_size(name: str, parts: Iterable[nn.Module], data_spec: DataSpec, advice: str = "") -> tuple[int, int]:
    """(height, width) that the windows in ``parts`` leave of an image of ``data_spec``.

    Raises :class:`UserError` with the smallest legal size, and with ``advice``, where nothing would be left.
    """
    windows = windows_of(parts)
    height, width = data_spec.image_size
    left = _left(windows, height), _left(windows, width)
    if not all(left):
        least = smallest_size(windows)
        raise UserError(
            f"model {name} cannot take images of {height}x{width} pixels: its convolutions and pooling would leave"
            f" nothing of them; the smallest that it takes: {least}x{least}{advice}"
        )
    return left
