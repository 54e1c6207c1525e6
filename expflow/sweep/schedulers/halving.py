"""Successive halving and hyperband over configs: at each rung the best share goes on, the others are stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence

from expflow.sweep.schedulers import Order, Surroundings
from expflow.sweep.schedulers.cohorts import Cohort, Cohorts, Member
from expflow.sweep.schedulers.specs import Halving, Hyperband, SuccessiveHalving


def rungs(first: float, reduction: float, most: float) -> tuple[float, ...]:
    """The times first, first * reduction, … below ``most``."""
    found = []
    while first < most * (1 - 1e-9):
        found.append(first)
        first *= reduction
    return tuple(found)


def brackets(least: float, most: float, reduction: float) -> list[tuple[int, float]]:
    """Hyperband's brackets: how many configs each takes, and its first rung (Li et al. 2018, algorithm 1).

    The paper writes R for most / least, eta for ``reduction``. The last bracket has no rung: its trials all run fully.
    """
    steps = math.floor(math.log(most / least) / math.log(reduction) + 1e-9)
    return [(math.ceil((steps + 1) / (s + 1) * reduction**s), most / reduction**s) for s in range(steps, -1, -1)]


def _cohort(times: tuple[float, ...], reduction: float, size: int | None) -> Cohort:
    started: dict[int, int] = {}

    def verdict(number: int, ranked: Sequence[Member]) -> list[Order]:
        """The best 1/reduction of those who were there at the first rung, and never fewer than one, go on."""
        first = started.setdefault(0, len(ranked)) if number == 0 else started[0]
        keep = max(1, math.floor(first / reduction ** (number + 1) + 1e-9))
        return [Order(trial, "stop") for member in ranked[keep:] for trial in member.values if trial not in member.done]

    return Cohort(lambda number: times[number] if number < len(times) else None, size, verdict)


def _most(spec: Halving, surroundings: Surroundings) -> float:
    return float(spec.max or surroundings.epochs)


def successive_halving(spec: SuccessiveHalving, surroundings: Surroundings) -> Cohorts:
    """One cohort of all configs. Configs that a later edit adds make another one."""
    times = rungs(float(spec.min), spec.reduction, _most(spec, surroundings))
    return Cohorts(lambda number: _cohort(times, spec.reduction, None))


def hyperband(spec: Hyperband, surroundings: Surroundings) -> Cohorts:
    """Brackets one after another, beginning anew after the last."""
    most = _most(spec, surroundings)
    plan = brackets(float(spec.min), most, spec.reduction)

    def make(number: int) -> Cohort:
        size, first = plan[number % len(plan)]
        return _cohort(rungs(first, spec.reduction, most), spec.reduction, size)

    return Cohorts(make)
