"""A palette of colours: the centres of k-means on the pixels of training images.

It is computed when shards are built, from the same pixels in the same order on every machine, and stands in the
manifest: the same images with another palette are other data.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

MOST_IMAGES, MOST_PIXELS = 1000, 256
"""Training images that are looked at, the first ones, and pixels of each, evenly spread."""

_ROUNDS, _CHUNK = 25, 4096


def palette_of(images_chw: Iterable[NDArray[np.uint8]], colours: int) -> tuple[tuple[int, ...], ...]:
    """Return at most so many colours, the darkest first; fewer where the images have fewer.

    Args:
        images_chw: images, (channels, height, width) uint8.
        colours: how many.

    Source:
        Chen et al. 2020, "Generative Pretraining from Pixels", section 4.1: k-means, k = 512, of the colours.
    """
    parts = []
    for image in images_chw:
        pixels = image.reshape(len(image), -1).T
        parts.append(pixels[:: max(1, len(pixels) // MOST_PIXELS)])
    known, counts = np.unique(np.concatenate(parts), axis=0, return_counts=True)
    centres = known.astype(np.float64)
    if len(known) > colours:
        centres = _lloyd(known.astype(np.float64), counts.astype(np.float64), colours)
    rounded = np.unique(np.rint(centres).astype(np.int64), axis=0)
    order = np.argsort(rounded.sum(1), kind="stable")
    return tuple(tuple(int(value) for value in colour) for colour in rounded[order])


def _lloyd(points_nc: NDArray[np.float64], counts_n: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Centres of k-means (Lloyd 1982), begun as by k-means++ (Arthur and Vassilvitskii 2007), with a fixed seed."""
    random = np.random.default_rng(0)
    centres = points_nc[[int(counts_n.argmax())]]
    nearest = ((points_nc - centres[0]) ** 2).sum(1)
    while len(centres) < number:
        share = nearest * counts_n
        chosen = points_nc[random.choice(len(points_nc), p=share / share.sum())]
        centres = np.concatenate([centres, chosen[None]])
        nearest = np.minimum(nearest, ((points_nc - chosen) ** 2).sum(1))
    for _ in range(_ROUNDS):
        places = _nearest(points_nc, centres)
        weights = np.bincount(places, counts_n, number)
        sums = np.stack([np.bincount(places, counts_n * channel, number) for channel in points_nc.T], 1)
        moved = np.where(weights[:, None] > 0, sums / np.maximum(weights, 1)[:, None], centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _nearest(points_nc: NDArray[np.float64], centres_kc: NDArray[np.float64]) -> NDArray[np.int64]:
    parts = [
        ((points_nc[first : first + _CHUNK, None] - centres_kc) ** 2).sum(2).argmin(1)
        for first in range(0, len(points_nc), _CHUNK)
    ]
    return np.concatenate(parts)
