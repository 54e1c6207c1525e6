"""What a build counts along the way: mean and standard deviation of the training images, and a hash of everything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


class Statistics:
    """Sums over the samples that were written: integers, so that no order of adding changes them."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pixels = 0
        self._sum: list[int] = []
        self._squares: list[int] = []

    def add(self, split: str, values: Mapping[str, Any]) -> None:
        """Count one sample; ``values["image"]``, where there is one, is (height, width, channels) uint8."""
        self._hash.update(split.encode())
        for field in sorted(values):
            value = np.ascontiguousarray(values[field])
            self._hash.update(f"{field}{value.shape}{value.dtype}".encode())
            self._hash.update(value.tobytes())
        if split == "train" and "image" in values:
            self._add_image(values["image"].astype(np.int64))

    def _add_image(self, image_hwc: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        channels = image_hwc.shape[2]
        self._sum = self._sum or [0] * channels
        self._squares = self._squares or [0] * channels
        for channel in range(channels):
            plane = image_hwc[:, :, channel]
            self._sum[channel] += int(plane.sum())
            self._squares[channel] += int((plane * plane).sum())
        self._pixels += image_hwc.shape[0] * image_hwc.shape[1]

    def mean_and_std(self) -> dict[str, tuple[float, ...]]:
        """``mean`` and ``std`` per channel of the training images scaled to 0..1; a constant channel gets std 1."""
        n = self._pixels
        means = [total / n / 255 for total in self._sum]
        sums = zip(self._sum, self._squares, strict=True)
        variances = [(n * squares - total * total) / n**2 for total, squares in sums]
        stds = [variance**0.5 / 255 or 1.0 for variance in variances]
        return {"mean": tuple(means), "std": tuple(stds)}

    def content(self) -> str:
        """The sha256 over all samples."""
        return self._hash.hexdigest()
