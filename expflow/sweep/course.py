"""The course of a search: a searcher and a scheduler, fed with the ledger's events in their order.

Living through a sweep and replaying it are one path: whatever happens is an event, and every call to the searcher and
the scheduler follows from an event and from the state at that event. So a driver that reads the ledger from its
beginning ends up where the one that was killed had been. What is recorded wins over what would be said now; orders
that a killed driver did not come to record are due again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from expflow.errors import ExperimentInvalid
from expflow.events import Decided, Event, Forked, Proposed, Reported, TrialEnded
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.sweep.failures import RULES
from expflow.sweep.schedulers import Order, Scheduler
from expflow.sweep.searchers import Learned, SearchAlgorithm, Values

MOST_REPEATS = 100
"""Suggestions in a row that give no new config, after which a searcher is taken to have no more."""


@dataclass(frozen=True)
class Objective:
    """What configs are judged by. ``unit`` is what schedulers count time in, ``epochs`` the trials' budget."""

    metric: str
    mode: str
    select: str = "last"
    unit: str = "epoch"
    epochs: int = 1

    def value(self, trial: TrialState) -> float | None:
        """The value that counts of a trial (design section 11, rule 4); None where there is no finite one."""
        reports = trial.reports if self.select == "best_epoch" else trial.reports[-1:]
        found = [
            each.metrics[self.metric] for each in reports if math.isfinite(each.metrics.get(self.metric, math.nan))
        ]
        return (max(found) if self.mode == "max" else min(found)) if found else None

    def score(self, report: Reported) -> float | None:
        """A report's metric such that more is better; None where it is missing or no finite number."""
        value = report.metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return None
        return value if self.mode == "max" else -value

    def time(self, report: Reported, trial: TrialState) -> float:
        """How far ``trial`` is at a report of it, in the scheduler's unit."""
        if self.unit == "step":
            return float(report.step)
        epochs = trial.budget.get("trainer.epochs", self.epochs)  # it may have been extended since
        return report.metrics.get("progress/epoch", round(report.progress * epochs, 9))


def leaders(trials: Sequence[TrialState], objective: Objective, top: int) -> list[str]:
    """The ``top`` configs by the mean over their trials, best first; only those of which every trial is done."""
    groups: dict[str, list[TrialState]] = {}
    for trial in trials:
        groups.setdefault(trial.config, []).append(trial)
    means: dict[str, float] = {}
    for config, members in groups.items():
        values = [objective.value(each) for each in members if each.status == "done"]
        known = [each for each in values if each is not None]
        if len(known) == len(members):
            means[config] = sum(known) / len(known)
    sign = -1.0 if objective.mode == "max" else 1.0
    return sorted(means, key=lambda config: sign * means[config])[:top]


@dataclass(slots=True)
class Group:
    """A config that the searcher proposed. ``open`` are its trials that have not ended, of all its ``trials``."""

    config: str
    values: Values
    draw: int
    trials: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    told: bool = False
    repeats: list[Values] = field(default_factory=list)
    """Values of later suggestions that came to the same config before its result was known."""


class Course:
    """``search`` is the hash that marks the ledger's segments this search took part in, ``identify`` the config id of
    searched values (raises ExperimentInvalid), ``limit`` the number of configs that are wanted (None: all)."""

    def __init__(
        self,
        searcher: SearchAlgorithm,
        scheduler: Scheduler | None,
        objective: Objective,
        *,
        search: str,
        identify: Callable[[Values], str],
        limit: int | None = None,
    ) -> None:
        self._searcher, self._scheduler, self._objective = searcher, scheduler, objective
        self._search, self._identify, self._limit = search, identify, limit
        self.groups: dict[str, Group] = {}
        """The searcher's configs in the order of proposal."""
        self.draws = 0
        """How often the searcher was asked."""
        self.closed = ""
        """Why the searcher is asked no more; empty while it is."""
        self.ended_early = False
        """Whether fewer configs were proposed than were asked for."""
        self.refused: list[str] = []
        """Suggestions that the schema refused, in words; at most the first few."""
        self._of: dict[str, Group] = {}
        self._times: dict[str, float] = {}
        self._active = self._warm = False

    @property
    def judges(self) -> bool:
        """Whether a scheduler looks at reports."""
        return self._scheduler is not None

    def begin(self, header: Header, state: SweepState) -> None:
        """A driver started. Its events concern this search only where it searched as we do."""
        self._active = header.search == self._search
        if not self._active:
            return
        if not self._warm:
            self._warm = True
            for each in header.warm_start:
                self._searcher.complete(dict(each["values"]), Learned("complete", float(each["score"])))
        for group in self.groups.values():  # what another search has run in between
            for trial in [each for each in group.trials if each in group.open and state.trials[each].ended]:
                self._over(trial, state)

    def apply(self, event: Event, state: SweepState) -> None:
        """Take in an event that ``state`` has taken in already."""
        if not self._active:
            return
        if isinstance(event, Proposed):
            self._proposed(event, state)
            return
        trial = getattr(event, "trial", "")
        if trial not in self._of:
            return
        if isinstance(event, TrialEnded):
            self._over(trial, state)
        elif self._scheduler is not None:
            self._schedule(event, self._scheduler, state.trials[trial])

    def _schedule(self, event: Event, scheduler: Scheduler, state: TrialState) -> None:
        match event:
            case Reported(trial=trial, progress=progress) if progress < 1.0:
                time = self._objective.time(event, state)
                if time > self._times.get(trial, 0.0):  # else it repeats, after a fault, what was judged before
                    self._times[trial] = time
                    scheduler.report(trial, time, self._objective.score(event))
            case Decided(trial=trial, decision=decision):
                scheduler.decided(trial, decision)
            case Forked(trial=trial, source=source, values=values):
                scheduler.forked(trial, source, values)

    def _proposed(self, event: Proposed, state: SweepState) -> None:
        if event.phase != "search":
            return
        group = self.groups.get(event.config)
        if group is None:
            self._draw_up_to(event, state)
            group = self.groups[event.config] = Group(event.config, event.values, self.draws)
        trial = state.trials[event.trial]
        if event.trial not in self._of:
            self._of[event.trial] = group
            group.trials.append(event.trial)
        elif trial.ended or event.trial in group.open:  # proposed again by an edited plan, which changes nothing here
            return
        group.open.add(event.trial)
        if self._scheduler is not None:
            self._scheduler.add(event.trial, event.config, trial.latest_values)
        if trial.ended:  # answered from the ledger
            self._over(event.trial, state)

    def _draw_up_to(self, event: Proposed, state: SweepState) -> None:
        """Ask the searcher as often as it was asked until it proposed ``event``; nothing to do where it just did."""
        last = event.draw or self.draws + 1  # ledgers from before draws were counted: each config is the next
        while self.draws < last:
            self.draws += 1
            if self.draws == last:
                self._searcher.suggest(event.values)
                return
            values = self._searcher.suggest()
            if values is not None:
                self._is_new(values, state)

    def suggest(self, state: SweepState) -> Values | None:
        """The next new config; None, and :attr:`closed` says why, when there is none. It is to be recorded at once."""
        repeats = 0
        while not self.closed:
            if self._limit is not None and len(self.groups) >= self._limit:
                self.close("all configs that were asked for are proposed")
                break
            values = self._searcher.suggest()
            if values is None:
                self.ended_early = self._limit is not None
                wanted = f": {len(self.groups)} of {self._limit} configs" if self._limit is not None else ""
                self.close(f"the searcher has nothing more to propose{wanted}")
                break
            self.draws += 1
            if self._is_new(values, state):
                return values
            repeats += 1
            if repeats >= MOST_REPEATS:
                self.ended_early = True
                self.close(self._exhausted())
        return None

    def _exhausted(self) -> str:
        wanted = f" of {self._limit}" if self._limit is not None else ""
        bad = f", or refused by the schema ({self.refused[-1]})" if self.refused else ""
        return (
            f"the searcher proposed {MOST_REPEATS} configs in a row that are known already{bad}: the space seems to "
            f"hold no more, and the search ends with {len(self.groups)}{wanted} configs"
        )

    def _is_new(self, values: Values, state: SweepState) -> bool:
        """Whether a suggestion is a config that is not known. A known one is answered as soon as its result is."""
        try:
            group = self.groups.get(self._identify(values))
        except ExperimentInvalid as error:
            if len(self.refused) < 5:
                self.refused.append(error.problems[0].message)
            self._searcher.complete(values, Learned("infeasible"))
            return False
        if group is None:
            return True
        if group.told:
            self._searcher.complete(values, self._learned(group, state))
        else:
            group.repeats.append(values)
        return False

    def close(self, why: str) -> None:
        """Nothing more will be proposed."""
        if not self.closed:
            self.closed = why
            if self._scheduler is not None:
                self._scheduler.close()

    def orders(self) -> list[Order]:
        """What the scheduler wants done and is not recorded yet."""
        return self._scheduler.orders() if self._scheduler is not None else []

    def _over(self, trial: str, state: SweepState) -> None:
        """A trial has ended; with the last of its config's the searcher learns what became of that."""
        group, ended = self._of[trial], state.trials[trial]
        group.open.discard(trial)
        self._times.pop(trial, None)
        if self._scheduler is not None:
            last = ended.reports[-1] if ended.reports else None
            time = self._objective.time(last, ended) if last is not None else 0.0
            score = self._objective.score(last) if last is not None else None
            self._scheduler.end(trial, time, score, done=ended.status == "done")
        if not group.open and not group.told:
            group.told = True
            learned = self._learned(group, state)
            for values in (group.values, *group.repeats):
                self._searcher.complete(values, learned)
            group.repeats = []

    def _learned(self, group: Group, state: SweepState) -> Learned:
        trials = [state.trials[each] for each in group.trials]
        failed = [each for each in trials if each.status == "failed"]
        if failed:
            blame = any(each.failures and RULES[_class(each)].infeasible for each in failed)
            return Learned("infeasible" if blame else "failed")
        if any(each.forks for each in trials):  # its result belongs to other values
            return Learned("failed")
        values = [self._objective.value(each) for each in trials]
        score = _mean(value for value in values if value is not None)
        if any(each.status == "stopped" for each in trials):
            return Learned("stopped", score, _mean(each.progress for each in trials) or 0.0)
        return Learned("complete", score) if None not in values else Learned("infeasible")


def _class(trial: TrialState) -> str:
    failure = trial.failures[-1].failure
    return failure if failure in RULES else "code"


def _mean(values: Iterable[Any]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
