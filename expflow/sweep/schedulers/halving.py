"""Successive halving and hyperband over configs: at each rung the best share goes on, the others are stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence

from expflow.sweep.schedulers import Order, SchedulerContext
from expflow.sweep.schedulers.cohorts import Cohort, CohortMember, CohortScheduler
from expflow.sweep.schedulers.specs import HalvingSpec, HyperbandSpec, SuccessiveHalvingSpec


def rungs(first: float, reduction: float, most: float) -> tuple[float, ...]:
    """The times first, first * reduction, … below a trial's full budget.

    Args:
        first: The first rung's time.
        reduction: Factor between two rungs.
        most: The full budget.
    """
    times = []
    while first < most * (1 - 1e-9):
        times.append(first)
        first *= reduction
    return tuple(times)


def brackets(least: float, most: float, reduction: float) -> list[tuple[int, float]]:
    """Hyperband's brackets: how many configs each takes, and its first rung.

    The last bracket has no rung: its trials all run fully.

    Args:
        least: Time that every trial gets.
        most: The full budget; the paper's R is most / least.
        reduction: The paper's eta.

    Source:
        Li et al. 2018, Hyperband, algorithm 1.
    """
    steps = math.floor(math.log(most / least) / math.log(reduction) + 1e-9)
    return [(math.ceil((steps + 1) / (s + 1) * reduction**s), most / reduction**s) for s in range(steps, -1, -1)]


def _cohort(times: tuple[float, ...], reduction: float, size: int | None) -> Cohort:
    started: dict[int, int] = {}

    def decide(number: int, ranked: Sequence[CohortMember]) -> list[Order]:
        """The best 1/reduction of the members at the first rung, and never fewer than one, go on."""
        first = started.setdefault(0, len(ranked)) if number == 0 else started[0]
        keep = max(1, math.floor(first / reduction ** (number + 1) + 1e-9))
        return [Order(trial, "stop") for member in ranked[keep:] for trial in member.values if trial not in member.done]

    return Cohort(lambda number: times[number] if number < len(times) else None, size, decide)


def _most(spec: HalvingSpec, surroundings: SchedulerContext) -> float:
    return float(spec.max or surroundings.epochs)


def successive_halving(spec: SuccessiveHalvingSpec, surroundings: SchedulerContext) -> CohortScheduler:
    """One cohort of all configs. Configs that a later edit adds make another one.

    Args:
        spec: The arguments.
        surroundings: The sweep, for the trials' budget.

    Source:
        Jamieson and Talwalkar 2016, Non-stochastic Best Arm Identification and Hyperparameter Optimization.
    """
    times = rungs(float(spec.min), spec.reduction, _most(spec, surroundings))
    return CohortScheduler(lambda number: _cohort(times, spec.reduction, None))


def hyperband(spec: HyperbandSpec, surroundings: SchedulerContext) -> CohortScheduler:
    """Brackets one after another, beginning anew after the last.

    Args:
        spec: The arguments.
        surroundings: The sweep, for the trials' budget.

    Source:
        Li et al. 2018, Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization.
    """
    most = _most(spec, surroundings)
    plan = brackets(float(spec.min), most, spec.reduction)

    def make(number: int) -> Cohort:
        size, first = plan[number % len(plan)]
        return _cohort(rungs(first, spec.reduction, most), spec.reduction, size)

    return CohortScheduler(make)
