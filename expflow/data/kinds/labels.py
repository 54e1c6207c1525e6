"""Several classes of one sample: for each class whether the sample is of it, (classes,) uint8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from expflow.data.dataspec import VOID
from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.shards.statistics import SampleCounts

_ANSWERS = {0: "0", 1: "1", VOID: "?"}
_VALUES = {ord(text): value for value, text in _ANSWERS.items()}


def _encode(labels_c: NDArray[np.uint8]) -> bytes:
    return "".join(_ANSWERS[int(value)] for value in labels_c).encode("ascii")


def _decode(content: bytes | memoryview) -> NDArray[np.uint8]:
    text = bytes(content).strip()
    if wrong := set(text) - _VALUES.keys():
        raise ValueError(f"expected 0, 1 or ? for each class, found {bytes(sorted(wrong))!r}")
    return np.array([_VALUES[character] for character in text], dtype=np.uint8)


class LabelsKind(FieldKind):
    """Which classes a sample is of: 1 yes, 0 no, 255 not known, which counts for nothing."""

    codecs: ClassVar = {"labels.txt": Codec(_encode, _decode)}

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count one sample for each of its classes."""
        for number in np.flatnonzero(np.asarray(value) == 1).tolist():
            counts.label(split, number)

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Write the names of its classes."""
        present = np.flatnonzero(_decode(content) == 1).tolist()
        drawing.words.append(" ".join(classes[number] for number in present if number < len(classes)) or "none")
