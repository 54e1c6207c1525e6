"""Points of a sine with noise: the smallest data on which under- and overfitting can be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from expflow.data.augment import sample_random
from expflow.data.dataspec import FieldSpec
from expflow.data.source_spec import Origin
from expflow.data.sources.base import SampleRef, SampleSource
from expflow.data.specs import NoisyCurveSpec

SPLITS = ("train", "val", "test")
LEVELS = 256
"""Different values that x can have: those of a grey pixel, from 0 to 1."""

NOTE = "these points are made: sin(2 pi x) with normal noise, x being the grey of an image of one pixel"


@dataclass(frozen=True)
class PointDrawer:
    """Draws points, each from its number alone; it can be sent to other processes.

    Attributes:
        noise: standard deviation of what is added to the sine.
        seed: of the points.
    """

    noise: float
    seed: int

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Draw one point."""
        split, _, number = item.name.partition("-")
        key = sample_random.sample_key(self.seed, SPLITS.index(split), int(number))
        grey = sample_random.integer(key, 0, LEVELS)
        radius = math.sqrt(-2 * math.log(1 - sample_random.uniform(key, 1)))  # Box and Muller 1958
        noise = self.noise * radius * math.cos(2 * math.pi * sample_random.uniform(key, 2))
        value = math.sin(2 * math.pi * grey / (LEVELS - 1)) + noise
        return {"image": np.full((1, 1, 1), grey, np.uint8), "target": np.array([value], np.float32)}


def open_noisy_curve(spec: NoisyCurveSpec, origin: Origin) -> SampleSource:
    """Points of a sine with noise.

    Args:
        spec: the recipe's source.
        origin: not used: the points are made.
    """
    counts = {"train": spec.train_points, "val": spec.val_points, "test": spec.test_points}
    seed = int(spec.point_seed.partition(" ")[2] or 0) if isinstance(spec.point_seed, str) else spec.point_seed
    return SampleSource(
        classes=("t",),
        fields={"image": "png", "target": "numbers.json"},
        shapes={"image": FieldSpec((1, 1, 1), "uint8"), "target": FieldSpec((1,), "float32", kind="numbers")},
        splits={split: [SampleRef(f"{split}-{number}") for number in range(n)] for split, n in counts.items()},
        read=PointDrawer(spec.noise, seed),
        portable=True,
        notes=(NOTE,),
    )
