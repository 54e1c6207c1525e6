"""Numbers that belong to a sample, such as a measured size: (k,) float32."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.shards.statistics import SampleCounts


def _encode(numbers_k: NDArray[np.float32]) -> bytes:
    return json.dumps([float(number) for number in numbers_k]).encode("ascii")


def _decode(content: bytes | memoryview) -> NDArray[np.float32]:
    numbers = json.loads(bytes(content))
    plain = isinstance(numbers, list) and all(isinstance(number, int | float) for number in numbers)
    if not plain or not all(map(math.isfinite, numbers)):
        raise ValueError("expected a list of finite numbers")
    return np.array(numbers, dtype=np.float32)


class NumbersKind(FieldKind):
    """What a regression predicts of a sample."""

    codecs: ClassVar = {"numbers.json": Codec(_encode, _decode)}

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count nothing: there are no classes."""

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Write the numbers."""
        drawing.words.append(" ".join(f"{number:.3g}" for number in _decode(content).tolist()))
