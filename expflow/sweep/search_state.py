"""The state of a search: a searcher and a scheduler, fed with the ledger's events in their order.

Running a sweep and replaying it are one path: whatever happens is an event, and every call to the searcher and the
scheduler follows from an event and from the state at that event. So a driver that reads the ledger from its beginning
ends up where the one that was killed had been. What is recorded wins over what would be proposed or decided now; orders
that a killed driver did not record are due again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from expflow.config.identity import canonical_json
from expflow.config.initial_weights import PARENT_KEY
from expflow.errors import ExperimentInvalid
from expflow.events import (
    Event,
    NetworkMeasured,
    SchedulerDecided,
    TrialEnded,
    TrialForked,
    TrialProposed,
    TrialReported,
)
from expflow.ledger.header import Header
from expflow.ledger.report_columns import ReportColumns
from expflow.ledger.state import SweepState, TrialState
from expflow.sweep.failures import RULES
from expflow.sweep.objective import Objective, mean_metrics
from expflow.sweep.schedulers import Order, Scheduler
from expflow.sweep.searchers import Learned, SearchAlgorithm, Values
from expflow.sweep.untrained_networks import UntrainedNetworks

MAX_REPEATS = 100
"""Suggestions in a row that give no new config, after which a searcher is taken to have no more."""


@dataclass(slots=True)
class ConfigGroup:
    """A config that the searcher proposed.

    Attributes:
        config: Its id.
        values: Its searched values.
        draw: Which of the searcher's suggestions it was, from 1.
        trials: Its trials.
        open: Those of them that have not ended.
        completed: Whether the searcher has learned what became of it.
        repeats: Values of later suggestions that came to the same config before its result was known.
    """

    config: str
    values: Values
    draw: int
    trials: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    completed: bool = False
    repeats: list[Values] = field(default_factory=list)


class SearchState:
    """Searcher and scheduler of one sweep, with the configs that were proposed.

    Args:
        searcher: Proposes configs.
        scheduler: Stops, pauses or changes running trials; None where every trial runs to its end.
        objective: What configs are judged by.
        search: Hash that marks the ledger's segments which this search took part in.
        identify: Gives the config's id of searched values; raises ExperimentInvalid where the schema refuses them.
        limit: Number of configs that are wanted; None for all.
        has_weights: Whether what a trial has learned can be taken over; None where configs begin with fresh weights.
        networks: What is measured of networks before training.
    """

    def __init__(
        self,
        searcher: SearchAlgorithm,
        scheduler: Scheduler | None,
        objective: Objective,
        *,
        search: str,
        identify: Callable[[Values], str],
        limit: int | None = None,
        has_weights: Callable[[TrialState], bool] | None = None,
        networks: UntrainedNetworks | None = None,
    ) -> None:
        self.networks = networks
        """What was measured of networks before training; None where nothing is."""
        self._has_weights = has_weights
        self._group_of_values: dict[str, ConfigGroup] = {}
        self._searcher, self._scheduler, self._objective = searcher, scheduler, objective
        self._search, self._identify, self._limit = search, identify, limit
        self.groups: dict[str, ConfigGroup] = {}
        """The searcher's configs in the order of proposal."""
        self.draws = 0
        """How often the searcher was asked."""
        self.closed = ""
        """Why the searcher is asked no more; empty while it is."""
        self.ended_early = False
        """Whether fewer configs were proposed than were asked for."""
        self.refused: list[str] = []
        """Suggestions that the schema refused, in words; at most the first few."""
        self._group_of: dict[str, ConfigGroup] = {}
        self._times: dict[str, float] = {}
        self._active = self._warm = False

    @property
    def judges(self) -> bool:
        """Whether a scheduler judges trials by their reports."""
        return self._scheduler is not None

    def begin(self, header: Header, state: SweepState) -> None:
        """Take in that a driver started. Its events concern this search only where it searched in the same way.

        Args:
            header: What it wrote into the ledger.
            state: The sweep's state, which has taken in the header.
        """
        self._active = header.search == self._search
        if not self._active:
            return
        if not self._warm:
            self._warm = True
            for result in header.warm_start:
                metrics = {str(name): float(value) for name, value in result.get("metrics", {}).items()}
                learned = Learned("complete", float(result["score"]), metrics=metrics)
                self._searcher.complete(own_values(result["values"]), learned)
        for group in self.groups.values():  # what another search has run in between
            for trial in [trial for trial in group.trials if trial in group.open and state.trials[trial].ended]:
                self._end(trial, state)

    def apply(self, event: Event | ReportColumns, state: SweepState) -> None:
        """Take in an event, or several reports of one trial where there is no scheduler.

        Args:
            event: What happened.
            state: The sweep's state, which has taken in the event.
        """
        if not self._active:
            return
        if isinstance(event, TrialProposed):
            self._proposed(event, state)
            return
        if isinstance(event, NetworkMeasured):
            if self.networks is not None:
                self.networks.take_in(event)
            return
        trial = getattr(event, "trial", "")
        if trial not in self._group_of:
            return
        if isinstance(event, TrialEnded):
            self._end(trial, state)
        elif self._scheduler is not None:
            self._schedule(event, self._scheduler, state.trials[trial])

    def _schedule(self, event: Event | ReportColumns, scheduler: Scheduler, state: TrialState) -> None:
        match event:
            case TrialReported(trial=trial, progress=progress) if progress < 1.0:
                time = self._objective.time(event, state)
                if time > self._times.get(trial, 0.0):  # else it repeats, after a fault, what was judged before
                    self._times[trial] = time
                    scheduler.report(trial, time, self._objective.score(event))
            case SchedulerDecided(trial=trial, decision=decision):
                scheduler.decided(trial, decision)
            case TrialForked(trial=trial, source=source, values=values):
                scheduler.forked(trial, source, values)

    def _proposed(self, event: TrialProposed, state: SweepState) -> None:
        if event.phase != "search":
            return
        group = self.groups.get(event.config)
        if group is None:
            self._draw_up_to(event, state)
            group = self.groups[event.config] = ConfigGroup(event.config, event.values, self.draws)
            if self._has_weights is not None:
                self._group_of_values[canonical_json(own_values(event.values))] = group
        trial = state.trials[event.trial]
        if event.trial not in self._group_of:
            self._group_of[event.trial] = group
            group.trials.append(event.trial)
        elif trial.ended or event.trial in group.open:  # proposed again by an edited plan, which changes nothing here
            return
        group.open.add(event.trial)
        if self._scheduler is not None:
            self._scheduler.add(event.trial, event.config, trial.latest_values)
        if trial.ended:  # answered from the ledger
            self._end(event.trial, state)

    def _draw_up_to(self, event: TrialProposed, state: SweepState) -> None:
        """Ask the searcher as often as it was asked until it proposed ``event``; nothing to do where it just did."""
        last = event.draw or self.draws + 1  # ledgers from before draws were counted: each config is the next
        while self.draws < last:
            self.draws += 1
            if self.draws == last:
                self._searcher.suggest(own_values(event.values))
                return
            values = self._searcher.suggest()
            if values is not None:
                self._is_new(self._with_parent(values, state), state)

    def suggest(self, state: SweepState) -> Values | None:
        """The next new config, which is to be recorded at once; None, with the reason in :attr:`closed`, for no more.

        Args:
            state: The sweep's state.
        """
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
            values = self._with_parent(values, state)
            if self._is_new(values, state):
                return values
            repeats += 1
            if repeats >= MAX_REPEATS:
                self.ended_early = True
                self.close(self._exhausted())
        return None

    def _exhausted(self) -> str:
        wanted = f" of {self._limit}" if self._limit is not None else ""
        bad = f", or refused by the schema ({self.refused[-1]})" if self.refused else ""
        return (
            f"the searcher proposed {MAX_REPEATS} configs in a row that are known already{bad}: the space seems to "
            f"hold no more, and the search ends with {len(self.groups)}{wanted} configs"
        )

    def _with_parent(self, values: Values, state: SweepState) -> Values:
        """The searcher's last suggestion with the config that it takes weights over from, where there is one."""
        parents: Sequence[Values] = getattr(self._searcher, "parents", ())
        if self._has_weights is None or not parents:
            return values
        group = self._group_of_values.get(canonical_json(parents[0]))
        if group is None or not all(self._has_weights(state.trials[trial]) for trial in group.trials):
            return values
        return {**values, PARENT_KEY: group.config}

    def _is_new(self, values: Values, state: SweepState) -> bool:
        """Whether a suggestion is a config that is not known. A known one is answered as soon as its result is."""
        try:
            group = self.groups.get(self._identify(values))
        except ExperimentInvalid as error:
            if len(self.refused) < 5:
                self.refused.append(error.problems[0].message)
            self._searcher.complete(own_values(values), Learned("infeasible", refused=error.problems[0].message))
            return False
        if group is None:
            return True
        if group.completed:
            self._searcher.complete(own_values(values), self._learned(group, state))
        else:
            group.repeats.append(values)
        return False

    def close(self, why: str) -> None:
        """Propose nothing more.

        Args:
            why: The reason in words.
        """
        if not self.closed:
            self.closed = why
            if self._scheduler is not None:
                self._scheduler.close()

    def orders(self) -> list[Order]:
        """What the scheduler wants done and is not recorded yet."""
        return self._scheduler.orders() if self._scheduler is not None else []

    def _end(self, trial: str, state: SweepState) -> None:
        """A trial has ended; with the last of its config's the searcher learns what became of that."""
        group, ended = self._group_of[trial], state.trials[trial]
        group.open.discard(trial)
        self._times.pop(trial, None)
        if self._scheduler is not None:
            last = ended.reports[-1] if ended.reports else None
            time = self._objective.time(last, ended) if last is not None else 0.0
            score = self._objective.score(last) if last is not None else None
            self._scheduler.end(trial, time, score, done=ended.status == "done")
        if not group.open and not group.completed:
            group.completed = True
            learned = self._learned(group, state)
            for values in (group.values, *group.repeats):
                self._searcher.complete(own_values(values), learned)
            group.repeats = []

    def _learned(self, group: ConfigGroup, state: SweepState) -> Learned:
        trials = [state.trials[trial] for trial in group.trials]
        failed = [trial for trial in trials if trial.status == "failed"]
        if failed:
            infeasible = any(trial.failures and RULES[_failure_class(trial)].infeasible for trial in failed)
            return Learned("infeasible" if infeasible else "failed")
        if any(trial.forks for trial in trials):  # its result belongs to other values
            return Learned("failed")
        values = [self._objective.value(trial) for trial in trials]
        score = _mean(value for value in values if value is not None)
        metrics = mean_metrics(trials)
        if any(trial.status == "stopped" for trial in trials):
            return Learned("stopped", score, _mean(trial.progress for trial in trials) or 0.0, metrics)
        return Learned("complete", score, metrics=metrics) if None not in values else Learned("infeasible")


def own_values(values: Mapping[str, Any]) -> Values:
    """Values as the searcher knows them: without the config that the weights are taken over from.

    Args:
        values: Searched key -> value.
    """
    return {key: value for key, value in values.items() if key != PARENT_KEY}


def _failure_class(trial: TrialState) -> str:
    failure = trial.failures[-1].failure
    return failure if failure in RULES else "code"


def _mean(values: Iterable[Any]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
