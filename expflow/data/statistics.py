"""What a build counts along the way, in integers, so that no order of adding and no number of workers changes it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SIDES = (16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048, 4096)
"""Edges of the histogram over the images' shorter sides, in pixels; a side counts for the largest edge it reaches."""


@dataclass
class Counts:
    """Counted over samples that were written; ``add`` another's to it.

    ``classes`` counts labels by split; ``pixels`` (channels, 256) counts the values of the training images' pixels;
    ``sides`` counts images by the edge of :data:`SIDES` that their shorter side reaches, ``kinds`` by format and mode;
    ``anew`` were encoded again, all others copied. ``bad`` are the images that were left out, with the reason.
    """

    classes: dict[str, Counter[int]] = field(default_factory=dict)
    pixels: NDArray[np.int64] | None = None
    sides: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    anew: int = 0
    bytes: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)

    def image(
        self, split: str, label: int, histogram: NDArray[np.int64], width: int, height: int, kind: str, *, anew: bool
    ) -> None:
        """Count one image and its class."""
        self.label(split, label)
        shorter = min(width, height)
        self.sides[max((edge for edge in SIDES if edge <= shorter), default=0)] += 1
        self.kinds[kind] += 1
        self.anew += anew
        if split == "train":
            self.pixels = histogram if self.pixels is None else self.pixels + histogram

    def label(self, split: str, label: int) -> None:
        """Count one sample of a class."""
        self.classes.setdefault(split, Counter())[label] += 1

    def add(self, other: Counts) -> None:
        """Count everything that ``other`` counted as well."""
        for split, counted in other.classes.items():
            self.classes.setdefault(split, Counter()).update(counted)
        if other.pixels is not None:
            self.pixels = other.pixels if self.pixels is None else self.pixels + other.pixels
        self.sides.update(other.sides)
        self.kinds.update(other.kinds)
        self.anew += other.anew
        self.bytes += other.bytes
        self.bad += other.bad

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel of the training images scaled to 0..1; a constant channel gets std 1. Empty without images."""
        rows = self.pixels.tolist() if self.pixels is not None else []
        means, stds = [], []
        for row in rows:
            n = sum(row)
            total = sum(count * value for value, count in enumerate(row))
            squares = sum(count * value * value for value, count in enumerate(row))
            means.append(total / n / 255)
            stds.append(((n * squares - total * total) / n**2) ** 0.5 / 255 or 1.0)
        return tuple(means), tuple(stds)

    def to_json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` reads it back."""
        return {
            "classes": {
                split: {str(label): n for label, n in sorted(each.items())} for split, each in self.classes.items()
            },
            "pixels": self.pixels.tolist() if self.pixels is not None else None,
            "sides": {str(side): count for side, count in sorted(self.sides.items())},
            "kinds": dict(sorted(self.kinds.items())),
            "anew": self.anew,
            "bytes": self.bytes,
            "bad": [list(each) for each in self.bad],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` described. Raises KeyError, TypeError or ValueError where it is none."""
        pixels = data["pixels"]
        return cls(
            classes={
                split: Counter({int(label): count for label, count in each.items()})
                for split, each in data["classes"].items()
            },
            pixels=np.asarray(pixels, dtype=np.int64) if pixels is not None else None,
            sides=Counter({int(side): count for side, count in data["sides"].items()}),
            kinds=Counter(data["kinds"]),
            anew=data["anew"],
            bytes=data["bytes"],
            bad=[(name, reason) for name, reason in data["bad"]],
        )


def histogram_of(image_hwc: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value is there, per channel: (channels, 256)."""
    planes = image_hwc.reshape(-1, image_hwc.shape[2]).T
    return np.stack([np.bincount(plane, minlength=256) for plane in planes]).astype(np.int64)


class Content:
    """A hash over the decoded values of all samples, in order: it does not depend on who encoded them."""

    def __init__(self) -> None:
        self._hash, self._split = hashlib.sha256(), ""

    def add(self, split: str, values: Mapping[str, Any]) -> None:
        """Add one sample; ``values["image"]``, where there is one, is (height, width, channels) uint8."""
        self._hash.update(split.encode())
        for name in sorted(values):
            value = np.ascontiguousarray(values[name])
            self._hash.update(f"{name}{value.shape}{value.dtype}".encode())
            self._hash.update(value.tobytes())

    def add_digests(self, split: str, digests: bytes) -> None:
        """Add samples that are kept as files: the sha256 of each one's bytes, one behind the other."""
        self._hash.update((b"" if split == self._split else f"\0{split}\0".encode()) + digests)
        self._split = split

    def hexdigest(self) -> str:
        """The sha256 over all samples."""
        return self._hash.hexdigest()
