"""What a build counts, in integers, so that neither the order of adding nor the number of workers changes a result."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from expflow.data.shards.passed_over import PassedOver

SIDES = (16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048, 4096)
"""Edges of the histogram over the images' shorter sides, in pixels; a side counts for the largest edge it reaches."""


@dataclass
class SampleCounts:
    """Counts over the samples that were written.

    Attributes:
        classes: split to the number of samples of each label.
        areas: split to the number of pixels of each class in the masks, void included.
        objects: split to the number of boxes of each class.
        pixels: (channels, 256), how often each value occurs in the training images; None without any.
        sides: number of images by the edge of :data:`SIDES` that their shorter side reaches.
        kinds: number of images by format and mode, such as ``JPEG RGB``.
        anew: number of images that were encoded again; all others were copied.
        bytes: size of the shards.
        bad: name and reason of each image that was left out.
        passed_over: files and members that were not read.
    """

    classes: dict[str, Counter[int]] = field(default_factory=dict)
    areas: dict[str, Counter[int]] = field(default_factory=dict)
    objects: dict[str, Counter[int]] = field(default_factory=dict)
    pixels: NDArray[np.int64] | None = None
    sides: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    anew: int = 0
    bytes: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)

    def image(
        self, split: str, histogram: NDArray[np.int64], width: int, height: int, kind: str, *, anew: bool
    ) -> None:
        """Count one image.

        Args:
            split: the split that it belongs to.
            histogram: (channels, 256), how often each value occurs in it.
            width: of the stored image, in pixels.
            height: of the stored image, in pixels.
            kind: its format and mode.
            anew: whether it was encoded again.
        """
        shorter = min(width, height)
        self.sides[max((edge for edge in SIDES if edge <= shorter), default=0)] += 1
        self.kinds[kind] += 1
        self.anew += anew
        if split == "train":
            self.pixels = histogram if self.pixels is None else self.pixels + histogram

    def label(self, split: str, label: int) -> None:
        """Count one sample of a class.

        Args:
            split: the split that it belongs to.
            label: its class.
        """
        self.classes.setdefault(split, Counter())[label] += 1

    def mask(self, split: str, pixels: NDArray[np.int64]) -> None:
        """Count one mask.

        Args:
            split: the split that it belongs to.
            pixels: (256,) how many pixels are of each class, and void.
        """
        present = np.flatnonzero(pixels)
        counted = dict(zip(present.tolist(), pixels[present].tolist(), strict=True))
        self.areas.setdefault(split, Counter()).update(counted)

    def objects_of(self, split: str, classes: Sequence[int]) -> None:
        """Count the objects of one image.

        Args:
            split: the split that it belongs to.
            classes: the class of each.
        """
        self.objects.setdefault(split, Counter()).update(classes)

    def by_class(self) -> tuple[Mapping[str, Mapping[int, int]], str]:
        """Return split to what is known of each class, and its unit: objects, pixels or samples."""
        known = ((self.objects, "object"), (self.areas, "pixel"), (self.classes, "sample"))
        return next(((counted, unit) for counted, unit in known if counted), (self.classes, "sample"))

    def add(self, other: SampleCounts) -> None:
        """Add other counts to these.

        Args:
            other: counts over other samples.
        """
        for split, counted in other.classes.items():
            self.classes.setdefault(split, Counter()).update(counted)
        for split, counted in other.areas.items():
            self.areas.setdefault(split, Counter()).update(counted)
        for split, counted in other.objects.items():
            self.objects.setdefault(split, Counter()).update(counted)
        if other.pixels is not None:
            self.pixels = other.pixels if self.pixels is None else self.pixels + other.pixels
        self.sides.update(other.sides)
        self.kinds.update(other.kinds)
        self.anew += other.anew
        self.bytes += other.bytes
        self.bad += other.bad
        self.passed_over.update(other.passed_over)

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation per channel of the training images scaled to 0..1.

        A constant channel has the standard deviation 1, so that one can divide by it. Both are empty without images.
        """
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
        """Return plain data that :meth:`from_json` reads back."""
        return {
            "classes": _counters_to_json(self.classes),
            **({"areas": _counters_to_json(self.areas)} if self.areas else {}),
            **({"objects": _counters_to_json(self.objects)} if self.objects else {}),
            "pixels": self.pixels.tolist() if self.pixels is not None else None,
            "sides": {str(side): count for side, count in sorted(self.sides.items())},
            "kinds": dict(sorted(self.kinds.items())),
            "anew": self.anew,
            "bytes": self.bytes,
            "bad": [[name, reason] for name, reason in self.bad],
            **({"passed_over": self.passed_over.to_json()} if self.passed_over.counts else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild the counts that :meth:`to_json` described.

        Args:
            data: the plain data. KeyError, TypeError or ValueError is raised where it is of another form.
        """
        pixels = data["pixels"]
        return cls(
            classes=_counters_from_json(data["classes"]),
            areas=_counters_from_json(data.get("areas", {})),
            objects=_counters_from_json(data.get("objects", {})),
            pixels=np.asarray(pixels, dtype=np.int64) if pixels is not None else None,
            sides=Counter({int(side): count for side, count in data["sides"].items()}),
            kinds=Counter(data["kinds"]),
            anew=data["anew"],
            bytes=data["bytes"],
            bad=[(name, reason) for name, reason in data["bad"]],
            passed_over=PassedOver.from_json(data.get("passed_over", {})),
        )


def _counters_to_json(counters: Mapping[str, Counter[int]]) -> dict[str, dict[str, int]]:
    return {split: {str(number): n for number, n in sorted(counted.items())} for split, counted in counters.items()}


def _counters_from_json(data: Mapping[str, Mapping[str, int]]) -> dict[str, Counter[int]]:
    return {split: Counter({int(number): n for number, n in counted.items()}) for split, counted in data.items()}


def pixel_histogram(image_hwc: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count how often each value occurs, per channel: (channels, 256).

    Args:
        image_hwc: (height, width, channels) uint8.
    """
    planes = image_hwc.reshape(-1, image_hwc.shape[2]).T
    return np.stack([np.bincount(plane, minlength=256) for plane in planes]).astype(np.int64)


class ContentHash:
    """A hash over the values of all samples, in order.

    Pixels enter it decoded, so that it does not depend on the encoder; image files that are kept enter it as bytes.
    """

    def __init__(self) -> None:
        self._hash, self._split = hashlib.sha256(), ""

    def add(self, split: str, values: Mapping[str, Any]) -> None:
        """Add one sample by its decoded values.

        Args:
            split: the split that it belongs to.
            values: maps each field to its value; an image is (height, width, channels) uint8.
        """
        self._hash.update(split.encode())
        for name in sorted(values):
            value = np.ascontiguousarray(values[name])
            self._hash.update(f"{name}{value.shape}{value.dtype}".encode())
            self._hash.update(value.tobytes())

    def add_digests(self, split: str, digests: bytes) -> None:
        """Add samples that are kept as files.

        Args:
            split: the split that they belong to.
            digests: the sha256 of each sample's bytes, concatenated.
        """
        self._hash.update((b"" if split == self._split else f"\0{split}\0".encode()) + digests)
        self._split = split

    def hexdigest(self) -> str:
        """Return the sha256 over all samples."""
        return self._hash.hexdigest()
