"""Classes: one number for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.shards.statistics import SampleCounts


def _encode(label: int) -> bytes:
    return str(int(label)).encode("ascii")


def _decode(content: bytes | memoryview) -> NDArray[np.int64]:
    return np.asarray(int(bytes(content)), dtype=np.int64)


class LabelKind(FieldKind):
    """The class of a whole sample."""

    codecs: ClassVar = {"cls": Codec(_encode, _decode)}

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count one sample of the class."""
        counts.label(split, int(value))

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Write the class's name."""
        number = int(_decode(content))
        drawing.words.append(classes[number] if number < len(classes) else str(number))
