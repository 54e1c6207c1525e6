"""A sweep's course, played through in no time: what its scheduler would make of scores that are drawn at random.

Nothing is trained. The scheduler is the real one; trials take the seconds they are expected to take; a config's scores
rise towards a level of its own, with noise. Which configs are good is not known beforehand, so one rehearsal says
little, and several say how much the course depends on it. Where it is known, from trials that were trained to the end
once, their scores are given instead: that is how schedulers are compared.
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
class Expected:
    """One trial of the plan: its config, and the seconds that it would train to the end of its budget.

    ``scores`` are those after each epoch, higher ones better; none where they are not known.
    """

    config: str
    seconds: float
    values: Values = field(default_factory=dict)
    scores: Sequence[float] = ()


@dataclass(frozen=True)
class Played:
    """What one rehearsal came to: seconds from the first trial's start to the last one's end, seconds of training
    summed over trials, and the epochs that each trial was trained."""

    wall: float
    trained: float
    epochs: Sequence[int] = ()


@dataclass
class _Trial:
    expected: Expected
    epoch: int = 0
    state: str = "new"  # new, ready, running, paused, over


def rehearse(
    trials: Sequence[Expected],
    *,
    slots: int,
    epochs: int,
    scheduler: Scheduler | None = None,
    unit: float = 1.0,
    seed: int,
) -> Played:
    """Play ``trials`` through on ``slots`` gangs. ``unit`` is an epoch in the scheduler's time (1, or its steps)."""
    return _Rehearsal(trials, slots, epochs, scheduler, unit, random.Random(seed)).play()  # noqa: S311  no secret


class _Rehearsal:
    def __init__(
        self,
        trials: Sequence[Expected],
        slots: int,
        epochs: int,
        scheduler: Scheduler | None,
        unit: float,
        chance: random.Random,
    ) -> None:
        self._trials = {str(number): _Trial(each) for number, each in enumerate(trials)}
        self._of: dict[str, list[str]] = {}
        """Config -> its trials."""
        for name, trial in self._trials.items():
            self._of.setdefault(trial.expected.config, []).append(name)
        self._free, self._epochs, self._scheduler, self._unit, self._chance = slots, epochs, scheduler, unit, chance
        self._level = {config: chance.gauss(0, 1) for config in self._of}
        self._added: set[str] = set()
        self._fresh, self._ready = deque(self._trials), deque[str]()
        self._due: list[tuple[float, str]] = []
        self._now = self._trained = 0.0

    def play(self) -> Played:
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
        return Played(self._now, self._trained, [trial.epoch for trial in self._trials.values()])

    def _epoch_seconds(self, trial: _Trial) -> float:
        return trial.expected.seconds / self._epochs

    def _score(self, trial: _Trial) -> float:
        if trial.expected.scores:
            return trial.expected.scores[trial.epoch - 1]
        rise = math.sqrt(trial.epoch / self._epochs)
        return self._level[trial.expected.config] * rise + self._chance.gauss(0, NOISE)

    def _fill(self) -> None:
        """Give free gangs something to do; what has begun goes first."""
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
            for other in self._of[config]:
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
            # As in the conductor: nobody goes on while a fork is due.
            first = next((each for each in orders if each.verb == "fork"), orders[0])
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
