"""Users who ask again after more seeds: by expflow's rule, and by the one that it had at commit 1fd1caa.

The rules are those of expflow.report, written for many users at once; :func:`check` holds them against its functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from expflow.intervals import mean_error
from expflow.report.sequential import level_share, seeds_for
from expflow.report.statistics import ALPHA, paired_test, seeds_needed

FIRST, MOST = 3, 30
Floats = NDArray[np.float64]


def p_values(differences: Floats, overlap: float = 0.0) -> tuple[Floats, Floats]:
    """The t test of each row.

    Args:
        differences: (users, seeds).
        overlap: As of :func:`~expflow.intervals.mean_error`.

    Returns:
        (users,) two-sided p, and the sizes of the effects; p is 1 where all differences are equal.
    """
    n = differences.shape[1]
    means, spreads = differences.mean(axis=1), differences.std(axis=1, ddof=1)
    known = spreads > 1e-10
    effects = np.divide(means, spreads, out=np.zeros_like(means), where=known)
    p = np.where(known, 2 * stdtr(n - 1, -np.abs(effects) / mean_error(1.0, n, overlap)), 1.0)
    return p, np.abs(effects)


def check(differences: Floats, overlap: float = 0.0) -> None:
    """Hold :func:`p_values` against expflow's own test.

    Args:
        differences: (users, seeds).
        overlap: As of :func:`~expflow.intervals.mean_error`.

    Raises:
        AssertionError: They are not the same.
    """
    ours, _ = p_values(differences, overlap)
    for row, p in zip(differences, ours, strict=True):
        own = paired_test(row.tolist(), [0.0] * len(row), overlap=overlap).p
        if not math.isclose(1.0 if own is None else own, p, rel_tol=1e-9):
            raise AssertionError(f"simulated p {p}, expflow's {own}")


@dataclass(frozen=True)
class Advice:
    """Seeds that are asked for, as a table over effects: interpolated, since thousands of users ask."""

    effects: Floats
    seeds: Floats

    def at(self, effects: Floats) -> NDArray[np.int64]:
        """The seeds that are asked for after these effects."""
        nearest = np.searchsorted(self.effects, effects).clip(0, len(self.effects) - 1)
        return self.seeds[nearest].astype(np.int64)


_EFFECTS = np.geomspace(0.05, 30.0, 60)


@cache
def advice(n: int, analysis: int, overlap: float = 0.0) -> dict[str, Advice]:
    """What expflow advises after an analysis: the ends and the middle of its range, as tables."""
    alpha = ALPHA * level_share(analysis + 1)
    ranges = [seeds_for(effect, n, alpha, overlap=overlap) for effect in _EFFECTS]
    ends = {
        "low": [needed.low or MOST + 1 for needed in ranges],
        "middle": [needed.middle or MOST + 1 for needed in ranges],
        "high": [needed.high or MOST + 1 for needed in ranges],
    }
    return {end: Advice(_EFFECTS, np.asarray(counts, dtype=np.float64)) for end, counts in ends.items()}


@cache
def old_advice(n: int) -> Advice:
    """What expflow advised at 1fd1caa: seeds for power 0.8 at 5 %."""
    counts = [max(seeds_needed(effect) or MOST + 1, n + 1) for effect in _EFFECTS]
    return Advice(_EFFECTS, np.asarray(counts, dtype=np.float64))


def false_calls_extended(differences: Floats, which: str, overlap: float = 0.0) -> float:
    """Share of users who are told of a difference, each adding the seeds that an answer asks for.

    Args:
        differences: (users, 30) without a true difference.
        which: ``low``, ``middle`` or ``high``: which end of the range they follow; ``old`` for the rule of before.
        overlap: As of :func:`~expflow.intervals.mean_error`; the rule of before knows none.
    """
    users = len(differences)
    seeds, analysis = np.full(users, FIRST), np.ones(users, dtype=np.int64)
    called, open_ = np.zeros(users, bool), np.ones(users, bool)
    while open_.any():
        for n, k in sorted({(int(n), int(k)) for n, k in zip(seeds[open_], analysis[open_], strict=True)}):
            rows = np.flatnonzero(open_ & (seeds == n) & (analysis == k))
            p, effects = p_values(differences[rows, :n], 0.0 if which == "old" else overlap)
            share = 1.0 if which == "old" else level_share(k)
            resolved = p < ALPHA if which == "old" else p <= ALPHA * share
            called[rows] = resolved
            goes_on = ~resolved & (n < MOST)
            open_[rows] = goes_on
            if not goes_on.any():
                continue
            table = old_advice(n) if which == "old" else advice(n, k, overlap)[which]
            wanted = np.minimum(table.at(effects), MOST)
            seeds[rows] = np.where(goes_on, np.maximum(wanted, n + 1), seeds[rows])
            analysis[rows] = np.where(goes_on, k + 1, k)
    return float(called.mean())


def false_calls_adversary(differences: Floats, *, old: bool, overlap: float = 0.0) -> float:
    """Share of users who are told of a difference when they ask after every further seed.

    Args:
        differences: (users, seeds) without a true difference.
        old: Whether by the rule of before, which knows no overlap.
        overlap: As of :func:`~expflow.intervals.mean_error`.
    """
    called = np.zeros(len(differences), bool)
    for k, n in enumerate(range(FIRST, differences.shape[1] + 1), start=1):
        p, _ = p_values(differences[:, :n], 0.0 if old else overlap)
        called |= p < ALPHA if old else p <= ALPHA * level_share(k)
    return float(called.mean())
