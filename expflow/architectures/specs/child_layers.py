"""Children of the layer space as text: filter height, width, stride, number of filters and skip connections by layer.

``3x5 s2 n24 +1`` is a layer of 24 filters, 3 pixels high and 5 wide, with a stride of 2, which reads the output of
layer 1 beside that of the layer before it. Layers are separated by commas, and numbered from 1.

Source:
    Zoph and Le 2017, "Neural Architecture Search with Reinforcement Learning", sections 3.1 and 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_LAYERS = 64
MAX_SIDE = 99
"""Most layers of a child, and the longest side of a filter in pixels."""

_LAYER = re.compile(r"(\d+)x(\d+)(?: s(\d+))? n(\d+)((?: ?\+\d+)*)")
_FORM = "HEIGHTxWIDTH sSTRIDE nFILTERS +SKIP, such as 3x5 s2 n24 +1"


@dataclass(frozen=True)
class ChildLayer:
    """One layer of a child.

    Attributes:
        height: Height of a filter in pixels.
        width: Width of a filter in pixels.
        stride: Pixels between two positions.
        filters: Number of filters.
        skips: Numbers of earlier layers, from 1, whose outputs it reads beside that of the layer before it.
    """

    height: int
    width: int
    stride: int
    filters: int
    skips: tuple[int, ...] = ()

    def __str__(self) -> str:
        """The layer as the text of a child has it."""
        skips = "".join(f" +{number}" for number in self.skips)
        return f"{self.height}x{self.width} s{self.stride} n{self.filters}{skips}"


def parse_layers(text: str) -> tuple[ChildLayer, ...]:
    """The layers of a child, checked.

    Args:
        text: The child as text.

    Raises:
        ValueError: It is not written so, or no network has such layers.
    """
    return _checked(tuple(_parse_layer(part.strip()) for part in text.split(",")))


def canonical_layers(value: Any) -> str:
    """The one text of a child, however it was described.

    Args:
        value: Its text; a list of layers, each as text or a mapping; or a mapping of their numbers to mappings, with a
            key ``count`` where fewer of them are used.

    Raises:
        ValueError: It describes no child.
    """
    if isinstance(value, str):
        return layers_text(parse_layers(value))
    if isinstance(value, Mapping):
        numbered = {int(key): layer for key, layer in value.items() if str(key).isdigit()}
        count = value.get("count", len(numbered))
        wrong = sorted(str(key) for key in value if key != "count" and not str(key).isdigit())
        if wrong or not isinstance(count, int) or sorted(numbered)[:count] != list(range(1, count + 1)):
            raise ValueError(f"expected layers numbered from 1, found {', '.join(map(str, value)) or 'none'}")
        value = [numbered[number] for number in range(1, count + 1)]
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected layers as text, a list or a mapping of their numbers, found {value!r}")
    layers = tuple(_parse_layer(layer) if isinstance(layer, str) else _layer_of(layer) for layer in value)
    return layers_text(_checked(layers))


def layers_text(layers: tuple[ChildLayer, ...]) -> str:
    """The text of a child.

    Args:
        layers: Its layers in order.
    """
    return ", ".join(map(str, layers))


def configuration_string(layer: ChildLayer) -> list[str]:
    """A layer in the words of a controller's configuration string: ``Filter height: 3``, ``Num filters: 24``.

    Args:
        layer: The layer.
    """
    words = [
        f"Filter height: {layer.height}",
        f"Filter width: {layer.width}",
        f"Stride: {layer.stride}",
        f"Num filters: {layer.filters}",
    ]
    return [*words, *(f"Skip from layer: {number}" for number in layer.skips)]


def _parse_layer(text: str) -> ChildLayer:
    match = _LAYER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no layer; expected {_FORM}")
    height, width, stride, filters = (int(number or 1) for number in match.groups()[:4])
    return ChildLayer(height, width, stride, filters, tuple(map(int, re.findall(r"\d+", match[5]))))


def _layer_of(fields: Any) -> ChildLayer:
    """A layer described by a mapping: searched keys give each of its numbers by itself."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"{fields!r} is no layer; expected {_FORM}, or a mapping of height, width, stride and filters")
    skips = {key: value for key, value in fields.items() if re.fullmatch(r"skip\d+", str(key))}
    known = ("height", "width", "stride", "filters")
    if wrong := [str(key) for key in fields if key not in known and key not in skips]:
        raise ValueError(f"unknown key {wrong[0]!r} of a layer; expected one of: {', '.join(known)}, skip1, skip2, …")
    if missing := [key for key in ("height", "width", "filters") if key not in fields]:
        raise ValueError(f"a layer without {missing[0]}")
    numbers = [fields.get(key, 1) for key in known]
    if any(not isinstance(number, int) or isinstance(number, bool) for number in numbers):
        raise ValueError(f"expected whole numbers, found {', '.join(map(str, numbers))}")
    height, width, stride, filters = numbers
    return ChildLayer(height, width, stride, filters, tuple(int(str(key)[4:]) for key, on in skips.items() if on))


def _checked(layers: tuple[ChildLayer, ...]) -> tuple[ChildLayer, ...]:
    """The layers with their skip connections in order, each once; that of the layer before is there anyway."""
    if not 1 <= len(layers) <= MAX_LAYERS:
        raise ValueError(f"{len(layers)} layers; a child has 1 to {MAX_LAYERS}")
    for number, layer in enumerate(layers, start=1):
        if not (1 <= layer.height <= MAX_SIDE and 1 <= layer.width <= MAX_SIDE and layer.stride >= 1):
            raise ValueError(f"layer {number} ({layer}): sides are 1 to {MAX_SIDE} pixels, a stride is at least 1")
        if not 1 <= layer.filters <= 100_000:
            raise ValueError(f"layer {number} ({layer}): filters are 1 to 100,000")
        if far := [skip for skip in layer.skips if not 1 <= skip < number]:
            raise ValueError(f"layer {number} ({layer}): layer {far[0]} is not before it")
    return tuple(
        ChildLayer(
            layer.height,
            layer.width,
            layer.stride,
            layer.filters,
            tuple(sorted({skip for skip in layer.skips if skip != number - 1})),
        )
        for number, layer in enumerate(layers, start=1)
    )
