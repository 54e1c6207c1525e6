"""One sweep in the driver's memory: hands the conductor's trials to the dispatcher, and its messages to the conductor.

It imports neither Tune nor torch. The dispatcher's messages have one order, in which they are numbered, and are taken
in this order whoever reads them: the driver itself, or Tune's trainable once it is there. So what was sent twice, as
after the loss of a reader, is known by its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import ray

from expflow.data.stores.signed_urls import signed_addresses
from expflow.errors import DiskFull, StorageUnwritable
from expflow.sweep.assignment import Assignment
from expflow.sweep.cluster_growth import ClusterGrowth
from expflow.sweep.conductor import Conductor, PlannedAttempt
from expflow.sweep.messages import Message, ReportMessage, TrialEndedMessage, WireMessage, from_wire
from expflow.sweep.parent_weights import first_weights
from expflow.sweep.plan import Plan
from expflow.sweep.result_files import make_trial_folder
from expflow.sweep.stored_trials import stored_trial
from expflow.sweep.trial_ranks import ranks_of
from expflow.sweep.weight_copies import with_copies

DRIVER = "driver"
"""The driver's name as a reader of the dispatcher's messages."""


class SweepSession:
    """The driver's end of the way to the dispatcher.

    Args:
        plan: The sweep's plan.
        conductor: The driver's conductor.
        dispatcher: Ray's handle of the dispatcher.
        limit: How many trials may be assigned at once.
        lockstep: Whether ranks wait for the decision about each report.
        growth: Looks whether nodes have joined; None where none can.
    """

    def __init__(
        self,
        plan: Plan,
        conductor: Conductor,
        dispatcher: Any,
        limit: int,
        lockstep: bool,
        growth: ClusterGrowth | None = None,
    ) -> None:
        self.plan, self.conductor, self.dispatcher = plan, conductor, dispatcher
        self._growth = growth
        self.limit, self.lockstep = limit, lockstep
        self._assigned: dict[str, str] = {}
        """Trial -> the dispatcher's key of it, which is new each time, since a paused trial is assigned again."""
        self._count = 0
        self._taken = 0
        """How many of the dispatcher's messages were taken."""
        self._ended = 0
        self._released = False
        self._call: Any = None
        """The driver's own call for messages; None where another reads them, or nothing more will come."""

    @property
    def over(self) -> bool:
        """Whether nothing is assigned any more, or what is assigned was told to leave."""
        return self._released or not self._assigned

    @property
    def is_scheduling(self) -> bool:
        """Whether there is more to run than there is room for: a trial has ended, and others took all the room."""
        return self._ended > 0 and len(self._assigned) >= self.limit

    @property
    def reads(self) -> bool:
        """Whether the driver reads the messages itself."""
        return self._call is not None

    def begin(self) -> None:
        """Assign the first trials, which wait for gangs at the dispatcher, and begin to read."""
        self._assign()
        self._call = self.dispatcher.next.remote(DRIVER)

    def read(self, seconds: float) -> None:
        """Take what the dispatcher has, unless another reads.

        Args:
            seconds: How long to wait for it.
        """
        if self._call is None or not ray.wait([self._call], timeout=seconds)[0]:
            return
        try:
            first, messages = ray.get(self._call)
        except ray.exceptions.RayError:  # it is lost, and all gangs with it; the ledger knows what is left
            first, messages, self._released = 0, [], True
        self._call = None
        if messages:
            self.take(first, messages)
            self._call = self.dispatcher.next.remote(DRIVER)

    def take(self, first: int, wire: Sequence[WireMessage]) -> None:
        """Record messages, answer them, and assign what there is room for.

        Args:
            first: Number of the first of them.
            wire: The messages in their order.
        """
        messages = from_wire(wire[max(0, self._taken - first) :])
        self._taken = max(self._taken, first + len(wire))
        for trial, of_trial in groupby(messages, attrgetter("trial")):
            self._take_of(trial, list(of_trial))
        if messages:
            self._assign()

    def _take_of(self, trial: str, messages: Sequence[Message]) -> None:
        self.conductor.take(messages)
        key = self._assigned.get(trial)
        if key is None:  # what a rank sent while its trial ended
            return
        if isinstance(messages[-1], TrialEndedMessage):
            del self._assigned[trial]
            self._ended += 1
            self.dispatcher.forget.remote(key)
            self.conductor.returned(trial)
        elif self.lockstep and (report := _last_report(messages)) is not None:
            self.dispatcher.decide.remote(key, report.attempt, report.step, self.conductor.goes_on(trial))

    def _assign(self) -> None:
        """Hand out trials while there is room; when nothing is left, let go of whoever reads."""
        assignments: dict[str, Assignment] = {}
        while len(self._assigned) < self.limit and (attempt := self.conductor.propose()) is not None:
            try:
                assignment = make_assignment(self.plan, attempt, self.lockstep)
            except (OSError, StorageUnwritable, DiskFull) as error:
                self.conductor.refuse(attempt, error)
                continue
            self._count += 1
            key = f"{assignment.trial}.{self._count}"
            self._assigned[assignment.trial] = key
            assignments[key] = assignment
        if assignments:
            self.dispatcher.assign.remote(assignments)
        if not self._assigned:
            self._release()

    def tick(self) -> None:
        """Check the clock; after a signal, or without budget, have the trials leave. Use the room of new nodes."""
        self.conductor.tick()
        if self.conductor.is_ending:
            self._release()
        elif self._growth is not None and self._assigned and (more := self._growth.look()):
            self.limit += more
            self._assign()

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self.dispatcher.release.remote()

    def end(self) -> None:
        """Take back the trials that are left, unfinished."""
        for trial in list(self._assigned):
            del self._assigned[trial]
            self.conductor.returned(trial)


def _last_report(messages: Iterable[Message]) -> ReportMessage | None:
    reports = [message for message in messages if isinstance(message, ReportMessage)]
    return reports[-1] if reports else None


def make_assignment(plan: Plan, attempt: PlannedAttempt, lockstep: bool) -> Assignment:
    """What a gang is given for an attempt.

    Args:
        plan: The sweep's plan.
        attempt: The attempt.
        lockstep: Whether each report waits for the driver's decision.
    """
    planned, resources = attempt.planned, plan.loaded.experiment.resources
    return Assignment(
        trial=planned.trial,
        attempt=attempt.attempt,
        recipe=attempt.recipe,
        seed=planned.seed,
        folder=str(make_trial_folder(plan, planned)),
        data_root=str(planned.data.root) if planned.data else None,
        data_content=planned.data.manifest.content if planned.data else "",
        forks=attempt.forks,
        experiment=str(plan.folder),
        epoch=attempt.epoch,
        weights=first_weights(plan.folder, attempt.recipe, planned.weights, attempt.parent),
        features=with_copies(planned.features, plan.folder),
        labeller=with_copies(planned.labeller, plan.folder),
        judged_by=plan.metric,
        lockstep=lockstep,
        log_bytes=resources.log_size,
        check=attempt.check,
        addresses=signed_addresses(),
        stored=stored_trial(plan, attempt),
        gangs=ranks_of(resources, planned.values) if resources.by_config else 1,
    )
