"""McNemar's exact test: two classifiers on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr


@dataclass(frozen=True)
class McNemarTest:
    """Two classifiers on the same images.

    Attributes:
        n: Number of images.
        only_first: How many of them only the first classifier got right.
        only_second: How many only the second one got right.
        p: Exact two-sided probability of a split at least as uneven, were both equally good.
    """

    n: int
    only_first: int
    only_second: int
    p: float


def mcnemar_test(first: ArrayLike, second: ArrayLike) -> McNemarTest:
    """Exact test of two classifiers by their hits on the same images.

    Only images on which they disagree tell them apart; under the null hypothesis each falls to either side like a fair
    coin, so p is a binomial probability, doubled and at most 1.

    Args:
        first: (n,) whether the first classifier got each image right.
        second: (n,) the same of the second one, images in the same order.

    Raises:
        ValueError: The two are not of one length.

    Source: Q. McNemar, Psychometrika 12, 1947; T. G. Dietterich, Neural Computation 10, 1998, recommends the test for
    networks that are trained once.
    """
    left, right = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"hits of the same images are needed, found {left.shape} and {right.shape}")
    one, other = int((left & ~right).sum()), int((right & ~left).sum())
    p = 2 * float(bdtr(min(one, other), one + other, 0.5)) if one + other else 1.0
    return McNemarTest(left.size, one, other, min(1.0, p))
