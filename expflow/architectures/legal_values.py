"""Which image sizes and numbers a package's network takes, found by trying them on the meta device.

The packages do not state it.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from expflow.architectures.building import build
from expflow.architectures.operation_observer import OperationObserver
from expflow.architectures.packages import usual_image_shape
from expflow.architectures.specs.package_models import PackageModelSpec
from expflow.data.dataspec import DataSpec

REACH = 17
"""How far from a given number another is looked for."""

STEPS = (4, 8, 16, 32, 64)
"""Sizes of images often have to be multiples of one of these."""


def accepts_image_size(spec: PackageModelSpec, data_spec: DataSpec, size: int) -> bool:
    """Whether the network can be built for one square image and gives scores of it.

    Args:
        spec: The network.
        data_spec: The data, whose channels and classes are kept.
        size: Height and width of the image in pixels.
    """
    channels, field = data_spec.in_channels, data_spec.fields["image"]
    square = replace(data_spec, fields={**data_spec.fields, "image": replace(field, shape=(channels, size, size))})
    try:
        with torch.device("meta"), torch.no_grad(), OperationObserver():
            build(spec, square).eval()(torch.zeros(1, channels, size, size))
    except Exception:  # noqa: BLE001 (whatever the package raises means no)
        return False
    return True


def suggest_legal_value(spec: PackageModelSpec, data_spec: DataSpec) -> str:
    """The end of a message that a network is refused: which value nearby would be legal.

    Args:
        spec: The network that is refused.
        data_spec: The data that it is refused for.

    Returns:
        The nearest legal image size, else the nearest legal values of the argument that is wrong; empty where neither
        is found.
    """
    if not accepts_image_size(spec, data_spec, usual_image_shape(spec.source)[1]):
        return _suggest_argument(spec, data_spec)
    size = _nearest_size(spec, data_spec)
    return f"; nearest legal size: {size}x{size} (data.image_size: {size})"


def _suggest_argument(spec: PackageModelSpec, data_spec: DataSpec) -> str:
    """Tries the whole numbers around each of those that the user gave."""
    size = max(data_spec.image_size)
    for key, given in spec.arguments.items():
        if type(given) is not int:
            continue

        def is_legal(value: int, key: str = key) -> bool:
            return accepts_image_size(spec.model_copy(update={key: value}), data_spec, size)

        below = next((value for value in range(given - 1, max(0, given - REACH), -1) if is_legal(value)), None)
        above = next((value for value in range(given + 1, given + REACH) if is_legal(value)), None)
        if legal := [str(value) for value in (below, above) if value is not None]:
            return f"; nearest legal {key}: {' and '.join(legal)}"
    return ""


def _nearest_size(spec: PackageModelSpec, data_spec: DataSpec) -> int:
    """The legal size next to an illegal one, of a network that takes its usual size.

    The smallest size from which on it takes images is found by bisection; that, the multiples of :data:`STEPS` on both
    sides and the usual size are the candidates.
    """
    size, usual = max(data_spec.image_size), usual_image_shape(spec.source)[1]
    candidates = {size // step * step + more for step in STEPS for more in (0, step)}
    if size < usual:
        candidates.add(_smallest_legal(spec, data_spec, size, usual))
    for candidate in sorted(candidates - {0, usual}, key=lambda candidate: (abs(candidate - size), candidate)):
        if abs(candidate - size) >= abs(usual - size):
            break
        if accepts_image_size(spec, data_spec, candidate):
            return candidate
    return usual


def _smallest_legal(spec: PackageModelSpec, data_spec: DataSpec, illegal: int, legal: int) -> int:
    """Bisects between an illegal size and a larger legal one."""
    while legal - illegal > 1:
        middle = (illegal + legal) // 2
        if accepts_image_size(spec, data_spec, middle):
            legal = middle
        else:
            illegal = middle
    return legal
