"""Which images and numbers a network of a package takes: nobody says it, so it is tried, on the meta device."""

from __future__ import annotations

from dataclasses import replace

import torch

from expflow.architectures import build
from expflow.architectures.operations import Watch
from expflow.architectures.packages import usual_shape
from expflow.architectures.specs.adapters import Adapter
from expflow.data.dataspec import DataSpec

REACH = 17
"""How far from a given number another is looked for."""

STEPS = (4, 8, 16, 32, 64)
"""Sizes of images often have to be multiples of one of these."""


def takes(spec: Adapter, data_spec: DataSpec, size: int) -> bool:
    """Whether the network is built for, and gives scores of, one square image of ``size`` pixels."""
    channels, field = data_spec.in_channels, data_spec.fields["image"]
    square = replace(data_spec, fields={**data_spec.fields, "image": replace(field, shape=(channels, size, size))})
    try:
        with torch.device("meta"), torch.no_grad(), Watch():
            build(spec, square).eval()(torch.zeros(1, channels, size, size))
    except Exception:  # noqa: BLE001 (whatever the package raises means no)
        return False
    return True


def advice(spec: Adapter, data_spec: DataSpec) -> str:
    """For the end of a message that a network is refused: the nearest legal size of the image, else the nearest legal
    values of the argument that is wrong; nothing where neither is found.
    """
    if not takes(spec, data_spec, usual_shape(spec.source)[1]):
        return _about_arguments(spec, data_spec)
    size = _nearest_size(spec, data_spec)
    return f"; nearest legal size: {size}x{size} (data.image_size: {size})"


def _about_arguments(spec: Adapter, data_spec: DataSpec) -> str:
    """Tries the whole numbers around each of those that the user gave."""
    size = max(data_spec.image_size)
    for key, given in spec.arguments.items():
        if type(given) is not int:
            continue

        def legal(value: int, key: str = key) -> bool:
            return takes(spec.model_copy(update={key: value}), data_spec, size)

        below = next((each for each in range(given - 1, max(0, given - REACH), -1) if legal(each)), None)
        above = next((each for each in range(given + 1, given + REACH) if legal(each)), None)
        if found := [str(each) for each in (below, above) if each is not None]:
            return f"; nearest legal {key}: {' and '.join(found)}"
    return ""


def _nearest_size(spec: Adapter, data_spec: DataSpec) -> int:
    """The legal size next to an illegal one, of a network that takes its usual size.

    The smallest size from which on it takes images is found by bisection; that, the multiples of :data:`STEPS` on both
    sides and the usual size are the candidates.
    """
    size, usual = max(data_spec.image_size), usual_shape(spec.source)[1]
    candidates = {size // step * step + more for step in STEPS for more in (0, step)}
    if size < usual:
        candidates.add(_smallest(spec, data_spec, size, usual))
    for each in sorted(candidates - {0, usual}, key=lambda each: (abs(each - size), each)):
        if abs(each - size) >= abs(usual - size):
            break
        if takes(spec, data_spec, each):
            return each
    return usual


def _smallest(spec: Adapter, data_spec: DataSpec, illegal: int, legal: int) -> int:
    while legal - illegal > 1:
        middle = (illegal + legal) // 2
        if takes(spec, data_spec, middle):
            legal = middle
        else:
            illegal = middle
    return legal
