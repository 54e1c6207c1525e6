"""Users of a small source with ``data.split_seed: trial``: every seed draws train and val anew from the same images.

Two learners see images of two classes, each its own half of what is in them; both halves are alike, so that no learner
is better on other images, while one may well be better on those at hand. They are least squares, in closed form, so
that thousands of users train 30 seeds each; the luck of a seed is noise on what is trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_BLOCK = 100
_RIDGE = 1e-2


@dataclass(frozen=True)
class SmallSource:
    """A source whose val split decides.

    Attributes:
        train: Images to train on.
        val: Images to measure on.
        features: Numbers that each learner sees of an image: 5 are learned surely, 40 follow the images at hand.
        strength: How far apart the classes are.
        noise: Standard deviation of what a seed adds to its training images.
    """

    train: int
    val: int
    features: int
    strength: float
    noise: float

    @property
    def overlap(self) -> float:
        """As of :func:`~expflow.intervals.mean_error`."""
        return self.val / self.train


SOURCES = tuple(
    SmallSource(train, val, features, strength, noise)
    for train, val in ((212, 60), (180, 20))
    for features, strength, noise in ((5, 1.5, 0.0), (5, 1.5, 0.5), (40, 2.0, 0.0))
)


def split_differences(rng: np.random.Generator, users: int, seeds: int, source: SmallSource) -> Floats:
    """(users, seeds) differences of val accuracy, each user with images of their own.

    Args:
        rng: The generator.
        users: How many users.
        seeds: How many splits each of them draws.
        source: The source.
    """
    blocks = [_block(rng, min(_BLOCK, users - start), seeds, source) for start in range(0, users, _BLOCK)]
    return np.concatenate(blocks)


def _block(rng: np.random.Generator, users: int, seeds: int, source: SmallSource) -> Floats:
    images, train = source.train + source.val, source.train
    labels = rng.choice([-1.0, 1.0], (users, images))
    centres = source.strength / math.sqrt(source.features) * labels[:, None, :, None]
    pool = rng.standard_normal((users, 2, images, source.features)) + centres  # axis 1: what each learner sees
    differences = np.empty((users, seeds))
    for seed in range(seeds):
        order = rng.permuted(np.broadcast_to(np.arange(images), (users, images)), axis=1)
        drawn = np.take_along_axis(pool, order[:, None, :, None], axis=2)
        truth = np.take_along_axis(labels, order, axis=1)[:, None, :, None]
        seen = drawn[:, :, :train] + source.noise * rng.standard_normal((users, 2, train, source.features))
        gram = seen.swapaxes(2, 3) @ seen + _RIDGE * np.eye(source.features)
        weights = np.linalg.solve(gram, seen.swapaxes(2, 3) @ truth[:, :, :train])
        hits = np.sign(drawn[:, :, train:] @ weights) == truth[:, :, train:]
        accuracy = hits.mean(axis=(2, 3))
        differences[:, seed] = accuracy[:, 0] - accuracy[:, 1]
    return differences
