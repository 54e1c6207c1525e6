"""Seeds that failed, diverged or lie far out: they are part of what is said of a contrast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr

from expflow.intervals import deviation
from expflow.ledger.header import Header
from expflow.ledger.trial_values import counted_value
from expflow.metrics import sample_step
from expflow.report.contrast_terms import Comparison, Side

FEWEST_FOR_FAR_OUT = 5
"""Of fewer seeds no one can be told from the others."""

FAR_OUT_LEVEL = 0.01
"""How often seeds of a normal distribution are called far out, a side at a time."""


@dataclass(frozen=True)
class SideSeeds:
    """What became of the seeds of one side.

    Attributes:
        planned: How many trials were planned.
        lost: How many of them ended without a value: failed, diverged, or stopped early.
        far_out: The seeds whose value lies far from the others'.
    """

    planned: int
    lost: int
    far_out: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every seed gave a value, and none of them lies far out."""
        return not self.lost and not self.far_out


def side_seeds(comparison: Comparison, side: Side, seeds: Sequence[int], header: Header) -> SideSeeds:
    """What became of the seeds of one side of a comparison.

    Args:
        comparison: The configs.
        side: ``of`` or ``against``.
        seeds: The planned seeds.
        header: The sweep's header, which knows the number of samples.
    """
    metric = comparison.contrast["metric"]
    planned, lost, far_out = 0, 0, set[int]()
    for config in comparison.of_side(side):
        trials = [trial for trial in config.trials if trial.seed in seeds]
        values = {trial.seed: counted_value(trial, metric, header) for trial in trials if trial.ended}
        planned += len(trials)
        lost += sum(value is None for value in values.values())
        known = {seed: value for seed, value in values.items() if value is not None}
        step = sample_step(metric, header.measured_on(metric))
        outer = far_out_places(list(known.values()), step or 0.0)
        far_out |= {list(known)[place] for place in outer}
    return SideSeeds(planned, lost, tuple(sorted(far_out)))


def far_out_places(values: Sequence[float], resolution: float = 0.0) -> list[int]:
    """Which values lie far from all others: Grubbs' test of each one, corrected for their number.

    Args:
        values: One for each seed.
        resolution: The smallest step between two values; the others' deviation is at least this.

    Source: F. E. Grubbs, Technometrics 11, 1969, with the deviation of the others (externally studentized).
    """
    n = len(values)
    if n < FEWEST_FOR_FAR_OUT:
        return []
    places = []
    for place, value in enumerate(values):
        others = [*values[:place], *values[place + 1 :]]
        spread = max(deviation(others), resolution) * math.sqrt(1 + 1 / (n - 1))
        distance = abs(value - math.fsum(others) / (n - 1))
        if distance > 0 and (spread == 0 or 2 * n * float(stdtr(n - 2, -distance / spread)) < FAR_OUT_LEVEL):
            places.append(place)
    return places


def fisher_test(lost: int, planned: int, other_lost: int, other_planned: int) -> float:
    """Exact two-sided test of two counts of failures.

    Args:
        lost: Failures of the one side.
        planned: Trials of the one side.
        other_lost: Failures of the other side.
        other_planned: Trials of the other side.

    Source: R. A. Fisher, Journal of the Royal Statistical Society 98, 1935; two-sided as the sum of all tables that
    are no more likely.
    """
    total, failures = planned + other_planned, lost + other_lost
    ways = [math.comb(planned, k) * math.comb(other_planned, failures - k) for k in range(failures + 1)]
    as_seen = math.comb(planned, lost) * math.comb(other_planned, other_lost)
    return min(1.0, sum(count for count in ways if count <= as_seen) / math.comb(total, failures))
