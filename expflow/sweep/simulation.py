"""Simulation of a sweep without training: what its scheduler would decide about scores that are drawn at random.

The scheduler is the real one; trials take the seconds they are expected to take; a config's scores rise towards a level
of its own, with noise. Which configs are good is not known beforehand, so one simulation says little, and several show
how much the sweep's duration depends on it. Where the scores are known, from trials that were trained to the end once,
they are given instead: that is how schedulers are compared.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from expflow.sweep.schedulers import Scheduler
from expflow.sweep.searchers import Values

NOISE = 0.3
"""Standard deviation of a report's noise, where configs differ with a standard deviation of 1."""


@dataclass(frozen=True)
class SimulatedTrial:
    """One trial of the plan, as it is simulated.

    Attributes:
        config: Its config's id.
        seconds: How long it would train to the end of its budget.
        values: Its searched values.
        scores: The scores after each epoch, higher ones better; none where they are not known.
    """

    config: str
    seconds: float
    values: Values = field(default_factory=dict)
    scores: Sequence[float] = ()


@dataclass(frozen=True)
class SimulationResult:
    """The outcome of one simulation.

    Attributes:
        wall: Seconds from the first trial's start to the last one's end.
        trained: Seconds of training, summed over trials.
        epochs: The epochs that each trial was trained.
    """

    wall: float
    trained: float
    epochs: Sequence[int] = ()


@dataclass
class _TrialProgress:
    expected: SimulatedTrial
    epoch: int = 0
    state: str = "new"  # new, ready, running, paused, over


def simulate(
    trials: Sequence[SimulatedTrial],
    *,
    slots: int,
    epochs: int,
    scheduler: Scheduler | None = None,
    unit: float = 1.0,
    seed: int,
) -> SimulationResult:
    """Simulate a sweep.

    Args:
        trials: The trials in the order of proposal.
        slots: Number of gangs.
        epochs: The epochs of a trial that is not stopped.
        scheduler: A fresh scheduler; None where every trial runs to its end.
        unit: How long an epoch is in the scheduler's time (1, or its steps).
        seed: The seed of the scores.
    """
    return _Simulation(trials, slots, epochs, scheduler, unit, random.Random(seed)).run()  # noqa: S311  no secret


class _Simulation:
    def __init__(
        self,
        trials: Sequence[SimulatedTrial],
        slots: int,
        epochs: int,
        scheduler: Scheduler | None,
        unit: float,
        generator: random.Random,
    ) -> None:
        self._trials = {str(number): _TrialProgress(trial) for number, trial in enumerate(trials)}
        self._trials_of: dict[str, list[str]] = {}
        """Config -> its trials."""
        for name, trial in self._trials.items():
            self._trials_of.setdefault(trial.expected.config, []).append(name)
        self._free, self._epochs, self._scheduler, self._unit, self._generator = (
            slots,
            epochs,
            scheduler,
            unit,
            generator,
        )
        self._level = {config: generator.gauss(0, 1) for config in self._trials_of}
        self._added: set[str] = set()
        self._fresh, self._ready = deque(self._trials), deque[str]()
        self._due: list[tuple[float, str]] = []
        self._now = self._trained = 0.0

    def run(self) -> SimulationResult:
        self._fill()
        while self._due:
            self._now, name = heapq.heappop(self._due)
            trial = self._trials[name]
            trial.epoch += 1
            self._trained += self._epoch_seconds(trial)
            if trial.epoch >= self._epochs:
                self._over(name, done=True)
            elif self._scheduler is not None:
                self._scheduler.report(name, trial.epoch * self._unit, self._score(trial))
            self._carry_out()
            if trial.state == "running":
                heapq.heappush(self._due, (self._now + self._epoch_seconds(trial), name))
            self._fill()
        return SimulationResult(self._now, self._trained, [trial.epoch for trial in self._trials.values()])

    def _epoch_seconds(self, trial: _TrialProgress) -> float:
        return trial.expected.seconds / self._epochs

    def _score(self, trial: _TrialProgress) -> float:
        if trial.expected.scores:
            return trial.expected.scores[trial.epoch - 1]
        rise = math.sqrt(trial.epoch / self._epochs)
        return self._level[trial.expected.config] * rise + self._generator.gauss(0, NOISE)

    def _fill(self) -> None:
        """Assign trials to free gangs; those that have begun go first."""
        while self._free and (name := self._next()) is not None:
            trial = self._trials[name]
            trial.state = "running"
            self._free -= 1
            heapq.heappush(self._due, (self._now + self._epoch_seconds(trial), name))

    def _next(self) -> str | None:
        while not self._ready:
            if not self._fresh:
                return None
            name = self._fresh.popleft()
            if self._trials[name].state == "new":
                self._propose(name)
                self._ready.append(name)
        return self._ready.popleft()

    def _propose(self, name: str) -> None:
        """All seeds of a config are known to the scheduler before the first one starts."""
        config = self._trials[name].expected.config
        if self._scheduler is not None and config not in self._added:
            self._added.add(config)
            for other in self._trials_of[config]:
                self._scheduler.add(other, config, self._trials[other].expected.values)
        self._trials[name].state = "ready"
        if not self._fresh and self._scheduler is not None:
            self._scheduler.close()

    def _over(self, name: str, *, done: bool) -> None:
        trial = self._trials[name]
        self._free += trial.state == "running"
        trial.state = "over"
        if self._scheduler is not None:
            self._scheduler.end(name, trial.epoch * self._unit, self._score(trial), done=done)

    def _carry_out(self) -> None:
        if self._scheduler is None:
            return
        while orders := self._scheduler.orders():
            # As in the conductor: no trial goes on while a fork is due.
            first = next((order for order in orders if order.verb == "fork"), orders[0])
            self._obey(self._scheduler, first.trial, first.verb, first.source, first.values)

    def _obey(self, scheduler: Scheduler, name: str, verb: str, source: str, values: Values) -> None:
        trial = self._trials[name]
        if verb == "fork":
            scheduler.forked(name, source, values)
            return
        scheduler.decided(name, verb)
        if verb == "stop":
            self._over(name, done=False)
        elif verb == "pause":
            self._free += trial.state == "running"
            trial.state = "paused"
        elif verb == "resume":
            trial.state = "ready"
            self._ready.append(name)
