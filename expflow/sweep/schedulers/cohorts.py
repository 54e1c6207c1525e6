"""Cohorts: configs that wait for each other at milestones, where it is decided how each goes on.

The core of successive halving, hyperband and population based training. Everything here is a function of facts; the
only randomness is that of generators which are made anew, from a seed and the place of the decision, for each decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from expflow.sweep.schedulers import Order, Scheduler
from expflow.sweep.searchers import Values


@dataclass
class CohortMember:
    """One config of a cohort with its trials.

    Attributes:
        config: Its id.
        values: Trial -> the searched values it trains with now.
        scores: Trial -> its score at the milestone that the cohort waits at.
        gone: Whether it takes no part any more: one of its trials failed, was stopped, or all are done.
        done: Its trials that have ended.
    """

    config: str
    values: dict[str, Values] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    gone: bool = False
    done: set[str] = field(default_factory=set)

    @property
    def arrived(self) -> bool:
        """Whether all its trials are at the milestone, or done before it."""
        return all(trial in self.scores or trial in self.done for trial in self.values)

    @property
    def score(self) -> float:
        """Mean over its trials at the milestone."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else -math.inf


MilestoneDecision = Callable[[int, Sequence[CohortMember]], list[Order]]
"""Called with the number of a milestone and the members that are there, best first; the forks and stops that follow."""


class Cohort:
    """Configs that share milestones.

    Args:
        milestone: Gives the time of the n-th; None where there is no further one.
        size: How many configs it takes; None for all until it is closed.
        decide: Called when all members have arrived.
        hold: Whether the last one to arrive is paused, too: where weights are copied, every member must have written
            its checkpoint and left.
    """

    def __init__(
        self,
        milestone: Callable[[int], float | None],
        size: int | None,
        decide: MilestoneDecision,
        *,
        hold: bool = False,
    ) -> None:
        self._milestone, self._size, self._decide, self._hold = milestone, size, decide, hold
        self._number = 0
        self._closed = False
        self.members: dict[str, CohortMember] = {}
        self._paused: set[str] = set()
        self._due: dict[tuple[str, str], Order] = {}
        """Orders that are not recorded yet, by trial and verb."""

    def takes(self, config: str) -> bool:
        """Whether a config's trial belongs, or may still be added, here.

        Args:
            config: The config's id.
        """
        if config in self.members:
            return True
        return self._number == 0 and not self._closed and (self._size is None or len(self.members) < self._size)

    def add(self, trial: str, config: str, values: Values) -> None:
        """Take in one more trial.

        Args:
            trial: The trial's id.
            config: Its config's id.
            values: The searched values that it trains with.
        """
        self.members.setdefault(config, CohortMember(config)).values[trial] = values

    def report(self, trial: str, config: str, time: float, score: float | None) -> None:
        """Take in that a trial reported; where it is at the milestone, it waits there.

        Args:
            trial: The trial's id.
            config: Its config's id.
            time: How far it is.
            score: The metric; None where the report lacks it.
        """
        member = self.members[config]
        self._notice_that_it_went_on(trial, member)
        goal = self._milestone(self._number)
        if member.gone or goal is None or time < goal or trial in member.scores:
            return
        member.scores[trial] = -math.inf if score is None else score
        self._due[trial, "pause"] = Order(trial, "pause")
        self._settle()

    def _notice_that_it_went_on(self, trial: str, member: CohortMember) -> None:
        """A trial that arrived and was not paused went on: so the cohort was closed by then, and had decided."""
        if trial in member.scores and trial not in self._paused:
            self.close()

    def end(self, trial: str, config: str, *, done: bool) -> None:
        """Take in that a trial ended. A config that lost a trial has lost the comparison; its other trials are stopped.

        Args:
            trial: The trial's id.
            config: Its config's id.
            done: Whether it ended at its full budget.
        """
        member = self.members[config]
        if done:
            self._notice_that_it_went_on(trial, member)
        self._forget(trial)
        member.done.add(trial)
        if not done and not member.gone:
            member.gone = True
            for other in member.values.keys() - member.done:
                self._due[other, "stop"] = Order(other, "stop")
                self._due.pop((other, "pause"), None)
        member.gone = member.gone or len(member.done) == len(member.values)
        self._settle()

    def close(self) -> None:
        """Take in that no further config comes."""
        self._closed = True
        self._settle()

    def decided(self, trial: str, config: str, decision: str) -> None:
        """Take in a recorded decision. One that is only taken after the cohort was closed shows that it was closed.

        Args:
            trial: The trial's id.
            config: Its config's id.
            decision: ``stop``, ``pause`` or ``resume``.
        """
        member = self.members[config]
        if decision == "pause":
            self._paused.add(trial)
        elif (trial, decision) not in self._due and member.arrived and not member.gone:
            self.close()
        self._due.pop((trial, decision), None)
        if decision == "resume":
            self._forget(trial)
        elif decision == "stop":
            self._forget(trial)
            member.gone = True

    def forked(self, trial: str, config: str, values: Values) -> None:
        """Take in a recorded fork.

        Args:
            trial: Id of the trial that forked.
            config: Its config's id.
            values: The searched values that it trains with now.
        """
        if (trial, "fork") not in self._due:
            self.close()
        self.members[config].values[trial] = values
        self._due.pop((trial, "fork"), None)

    def orders(self) -> list[Order]:
        """What is due: pauses, forks while all still stand, then stops, then resumes."""
        rank = {"pause": 0, "fork": 1, "stop": 2, "resume": 3}
        return sorted(self._due.values(), key=lambda order: rank[order.verb])

    def _forget(self, trial: str) -> None:
        self._paused.discard(trial)
        for verb in ("pause", "stop", "resume", "fork"):
            self._due.pop((trial, verb), None)

    def _settle(self) -> None:
        """Decide, where all members have arrived."""
        full = self._closed or (self._size is not None and len(self.members) >= self._size) or self._number > 0
        present = [member for member in self.members.values() if not member.gone]
        if not full or not present or not all(member.arrived for member in present):
            return
        ranked = sorted(present, key=lambda member: -member.score)  # stable: ties keep the order of proposal
        orders = self._decide(self._number, ranked)
        stopped = {order.trial for order in orders if order.verb == "stop"}
        for order in orders:
            self._due[order.trial, order.verb] = order
        for member in present:
            for trial in member.values.keys() - member.done:
                self._go_on(trial, trial in stopped)
            member.gone = member.gone or any(trial in stopped for trial in member.values)
            member.scores = {}
        self._number += 1

    def _go_on(self, trial: str, stopped: bool) -> None:
        """A trial that was paused is resumed; one that has only just arrived need not be paused."""
        paused = self._hold or trial in self._paused
        if stopped or not paused:
            self._due.pop((trial, "pause"), None)
        if paused and not stopped:
            self._due[trial, "resume"] = Order(trial, "resume")


class CohortScheduler(Scheduler):
    """A scheduler made of cohorts: a new one is opened when the last takes no more configs.

    Args:
        make: Makes the n-th cohort, from 0.
    """

    def __init__(self, make: Callable[[int], Cohort]) -> None:
        self._make = make
        self._cohorts: list[Cohort] = []
        self._cohort_of: dict[str, tuple[Cohort, str]] = {}
        """Trial -> its cohort and config."""

    def add(self, trial: str, config: str, values: Values) -> None:
        """To its config's cohort, else to the newest."""
        cohort = next((cohort for cohort in self._cohorts if config in cohort.members), None)
        if cohort is None:
            if not self._cohorts or not self._cohorts[-1].takes(config):
                self._cohorts.append(self._make(len(self._cohorts)))
            cohort = self._cohorts[-1]
        cohort.add(trial, config, values)
        self._cohort_of[trial] = cohort, config

    def report(self, trial: str, time: float, score: float | None) -> None:
        """Passed on."""
        cohort, config = self._cohort_of[trial]
        cohort.report(trial, config, time, score)

    def decided(self, trial: str, decision: str) -> None:
        """Passed on."""
        cohort, config = self._cohort_of[trial]
        cohort.decided(trial, config, decision)

    def forked(self, trial: str, source: str, values: Values) -> None:
        """Passed on."""
        cohort, config = self._cohort_of[trial]
        cohort.forked(trial, config, values)

    def end(self, trial: str, time: float, score: float | None, *, done: bool) -> None:
        """Passed on."""
        cohort, config = self._cohort_of[trial]
        cohort.end(trial, config, done=done)

    def close(self) -> None:
        """The last cohort waits for no further config."""
        for cohort in self._cohorts:
            cohort.close()

    def orders(self) -> list[Order]:
        """Those of all cohorts, in the order of the cohorts."""
        return [order for cohort in self._cohorts for order in cohort.orders()]
