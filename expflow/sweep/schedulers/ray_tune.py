"""Ray Tune's own schedulers behind our protocol, driven on stub trials: no actor, no controller, no clock.

Both judge a trial at its own reports and only ever stop it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from expflow.sweep.schedulers import Order, Scheduler, SchedulerContext
from expflow.sweep.schedulers.specs import ASHASpec, MedianSpec
from expflow.sweep.searchers import Values

TIME, SCORE = "time", "score"


class StubTrial:
    """All of a Tune trial that these schedulers read.

    Args:
        trial_id: The trial's id.
    """

    __slots__ = ("trial_id",)

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


class _NoController:
    """The controller that median stopping asks for trials that wait; they wait elsewhere."""

    def get_live_trials(self) -> list[Any]:
        return []


class TuneScheduler(Scheduler):
    """One of Tune's early stoppers as a scheduler of ours.

    Args:
        inner: Tune's scheduler.
    """

    def __init__(self, inner: TrialScheduler) -> None:
        self._inner = inner
        self._controller: Any = _NoController()
        self._stubs: dict[str, Any] = {}
        self._due: dict[str, Order] = {}

    def add(self, trial: str, config: str, values: Values) -> None:
        """Tune's scheduler gets a stub."""
        self._stubs[trial] = StubTrial(trial)
        state = np.random.get_state()  # ASHA chooses among its one bracket with the global generator
        self._inner.on_trial_add(self._controller, self._stubs[trial])
        np.random.set_state(state)

    def report(self, trial: str, time: float, score: float | None) -> None:
        """Tune's scheduler decides; a decision about an earlier report that was not recorded was to go on."""
        self._due.pop(trial, None)
        if trial in self._stubs and score is not None:
            answer = self._inner.on_trial_result(self._controller, self._stubs[trial], {TIME: time, SCORE: score})
            if answer == TrialScheduler.STOP:
                self._due[trial] = Order(trial, "stop")

    def decided(self, trial: str, decision: str) -> None:
        """What is recorded is no longer due."""
        self._due.pop(trial, None)

    def forked(self, trial: str, source: str, values: Values) -> None:
        """Never: these schedulers fork nothing."""

    def end(self, trial: str, time: float, score: float | None, *, done: bool) -> None:
        """A trial at its full budget still counts for the others; a failed one leaves."""
        self._due.pop(trial, None)
        stub = self._stubs.pop(trial, None)
        if stub is None:
            return
        if done and score is not None:
            self._inner.on_trial_complete(self._controller, stub, {TIME: time, SCORE: score})
        else:
            self._inner.on_trial_remove(self._controller, stub)

    def close(self) -> None:
        """Makes no difference."""

    def orders(self) -> list[Order]:
        """Stops that are due."""
        return list(self._due.values())


def asha(spec: ASHASpec, surroundings: SchedulerContext) -> TuneScheduler:
    """Ray Tune's ``AsyncHyperBandScheduler`` with one bracket.

    Args:
        spec: The arguments.
        surroundings: The sweep, for the trials' budget.

    Source:
        Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning.
    """
    most = spec.max or max(surroundings.epochs, spec.min)
    return TuneScheduler(
        AsyncHyperBandScheduler(
            time_attr=TIME,
            metric=SCORE,
            mode="max",
            max_t=most,
            grace_period=spec.min,
            reduction_factor=spec.reduction,
            stop_last_trials=False,  # the end of a trial is the trial's own business
        )
    )


def median(spec: MedianSpec, surroundings: SchedulerContext) -> TuneScheduler:
    """Ray Tune's ``MedianStoppingRule``.

    Args:
        spec: The arguments.
        surroundings: The sweep; nothing of it is needed.

    Source:
        Golovin et al. 2017, Google Vizier: A Service for Black-Box Optimization.
    """
    return TuneScheduler(
        MedianStoppingRule(
            time_attr=TIME,
            metric=SCORE,
            mode="max",
            grace_period=spec.grace,
            min_samples_required=spec.min_trials,
        )
    )
