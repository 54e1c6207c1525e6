"""The conductor: the driver's front, called by whatever runs the trials.

It knows neither Ray nor Tune: :mod:`expflow.sweep.tune_adapters` calls it from Tune's hooks and
:mod:`expflow.sweep.in_process` from a loop. Trials are proposed by :mod:`~expflow.sweep.proposals`, handed out by
:mod:`~expflow.sweep.trial_queue`, decided about by :mod:`~expflow.sweep.order_executor`; every event goes through
:mod:`~expflow.sweep.event_recorder`. :mod:`~expflow.sweep.checkpoint_retention` deletes what trials that are over need
no longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expflow.config.schema import Recipe
from expflow.errors import ExperimentInvalid, UserError
from expflow.events import Event
from expflow.ledger import Ledger, SweepState, TrialState
from expflow.sweep.batch_checks import RankChecks
from expflow.sweep.checkpoint_retention import CheckpointRetention
from expflow.sweep.event_recorder import EventRecorder, Observer
from expflow.sweep.failures import METRIC_MISSING
from expflow.sweep.limits import SweepLimits
from expflow.sweep.message_decoder import MessageDecoder
from expflow.sweep.messages import (
    AttemptBeganMessage,
    AttemptFailedMessage,
    AttemptStartedMessage,
    BatchTriedMessage,
    Message,
    ReportMessage,
    TrialEndedMessage,
)
from expflow.sweep.metric_check import MetricCheck
from expflow.sweep.order_executor import OrderExecutor
from expflow.sweep.parent_weights import parent_of
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.proposals import Proposals
from expflow.sweep.search_state import SearchState
from expflow.sweep.trial_checkpoints import TrialCheckpoints
from expflow.sweep.trial_expansion import planned_trial
from expflow.sweep.trial_queue import TrialQueue
from expflow.training.contract import BatchCheck


@dataclass(frozen=True)
class PlannedAttempt:
    """One attempt at a trial, for a gang.

    Attributes:
        planned: The trial.
        recipe: What it trains now: after a fork, with other values than it was planned with.
        attempt: The attempt's number, from 1.
        forks: The forks that the trial has gone through.
        epoch: The driver's epoch.
        check: What is tried before it; None: nothing.
        parent: The trial whose weights it takes over where they fit; None: none's.
    """

    planned: PlannedTrial
    recipe: Recipe
    attempt: int
    forks: int
    epoch: int
    check: BatchCheck | None = None
    parent: TrialState | None = None


class Conductor:
    """One driver's work on one sweep.

    Trials that the ledger answers are passed over; the others are handed out by :meth:`propose`, and again after a
    pause.

    Args:
        plan: The sweep's plan.
        ledger: The driver's ledger, with its header written.
        state: The sweep's state, up to this driver's own header.
        search_state: Searcher and scheduler, up to this driver's own header.
        limits: What ends the sweep early; by default the budget, on one device.
        observers: Called with each event that is recorded.
        retry_failed: Whether failed trials are tried again.
    """

    interrupted_at = 0.0
    """When the signal came that asked the sweep to stop, by a monotonic clock."""
    left_out: tuple[str, ...] = ()
    """What this driver left out of the ledger that it found, in words."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        state: SweepState,
        search_state: SearchState,
        *,
        limits: SweepLimits | None = None,
        observers: Sequence[Observer] = (),
        retry_failed: bool = False,
    ) -> None:
        self.state, self.search_state = state, search_state
        self._plan = plan
        self._limits = limits or SweepLimits(plan.sweep.budget, devices=1.0)
        self._recorder = EventRecorder(ledger, state, search_state, (self._limits, *observers))
        self._queue = TrialQueue(
            trial.trial for trial in state.trials.values() if retry_failed and trial.status == "failed"
        )
        self._checkpoints = TrialCheckpoints(plan)
        self._executor = OrderExecutor(self._recorder, self._queue, self._checkpoints)
        self._proposals = Proposals(plan, self._recorder, self._limits)
        self._retention = CheckpointRetention(plan, self._recorder, self._queue, self._checkpoints)
        self._search_trials = self._proposals.search_trials()
        self._next: PlannedTrial | None = None
        """The next trial that was never handed out, once it is known."""
        self._decoder, self._metric_check = MessageDecoder(), MetricCheck(plan, state)
        self._rank_checks = RankChecks(plan)
        self._untried: set[str] = set()
        """Trials before which a batch failed."""
        self.interrupted_by: int | None = None
        """Number of the signal that asked the sweep to stop."""
        self.halted = ""
        """Why this driver hands out nothing more although there is more; empty while it does."""
        self.abandoned = False
        """Whether what ran the trials is gone, and was left behind as it was."""
        self.leaving = False
        """Whether running trials are to leave, too."""
        self.error: UserError | None = None
        """What is wrong with the experiment, by what its trials report; the sweep then ends."""
        self._take_up()

    def _take_up(self) -> None:
        """Go on where the driver before was: with reports it did not record, resumed trials, orders that are due."""
        for trial in [trial for trial in self.state.trials.values() if trial.status == "waiting"]:
            self._recover(trial, self._checkpoints.resume_step(trial))
        for trial in self.state.plan_trials():
            if trial.status == "waiting" and trial.decision == "resume":
                self._queue.resume(trial.trial)
        self._executor.carry_out()
        self._retention.begin()

    def _recover(self, trial: TrialState, step: int) -> None:
        """Record what a trial reported on its way to the step that it goes on from, and no driver recorded."""
        for report in self._checkpoints.unrecorded_reports(trial, step):
            self.record(report)

    @property
    def is_ending(self) -> bool:
        """Whether running trials are to leave: a signal came, the time is used up, or the experiment is wrong."""
        return self.leaving or self.interrupted_by is not None

    @property
    def seconds(self) -> float:
        """Seconds that this driver has worked."""
        return self._limits.seconds

    @property
    def ended(self) -> int:
        """Trials that ended since this driver started."""
        return self._recorder.ended

    @property
    def excess_bytes(self) -> int:
        """Bytes of checkpoints above ``sweep.checkpoints.disk``, which must not be deleted."""
        return self._retention.excess

    @property
    def decides(self) -> bool:
        """Whether a scheduler judges by reports, so that ranks must wait for its decision."""
        return self.search_state.judges

    @property
    def waiting(self) -> bool:
        """Whether there may be more to hand out once trials that are running have reported."""
        return not self._queue.is_idle and not self.halted and self.interrupted_by is None

    def has_work(self) -> bool:
        """Whether :meth:`propose` would hand something out now."""
        return self._peek() is not None

    def propose(self) -> PlannedAttempt | None:
        """The next attempt to run; None when there is none now (see :attr:`waiting`), or the sweep is being stopped."""
        planned = self._peek()
        if planned is None:
            return None
        trial = self.state.trials[planned.trial]
        if not self._queue.hand_out(planned.trial):
            self._next = None
        recipe = self._plan.loaded.configure(trial.latest_values)
        check = self._rank_checks.check_of(planned, recipe) if not trial.attempt else None
        parent = parent_of(self.state, recipe, planned.seed)
        return PlannedAttempt(planned, recipe, trial.attempt + 1, len(trial.forks), self._recorder.epoch, check, parent)

    def refuse(self, attempt: PlannedAttempt, error: Exception) -> None:
        """Record that an attempt could not even be prepared, and take its trial back.

        Args:
            attempt: What :meth:`propose` handed out.
            error: What was in the way.
        """
        trial, number = attempt.planned.trial, attempt.attempt
        failed = AttemptFailedMessage.from_error(trial, number, error, seconds=0.0, results=self._plan.folder)
        self.take([AttemptStartedMessage(trial, number, "none"), failed, TrialEndedMessage.from_failure(failed)])
        self.returned(trial)

    def returned(self, trial: str) -> None:
        """Take back a trial whose attempt is over, however it ended.

        Args:
            trial: The trial's id.
        """
        if self._queue.take_back(trial) and not self.state.trials[trial].ended:
            self._queue.mark_redone(trial)
            self._executor.pause(self.state.trials[trial])
        self._executor.carry_out()
        self._retention.trial_returned(trial)

    def record(self, event: Event) -> None:
        """Write an event to the ledger, have the states take it in, call the observers.

        Args:
            event: What happened.
        """
        self._recorder.record(event)

    def take(self, messages: Sequence[Message]) -> None:
        """Record a gang's messages and carry out what follows. Repeated messages are dropped.

        Args:
            messages: The messages in the order in which they were sent.
        """
        for message in messages:
            trial = self.state.trials[message.trial]
            if isinstance(message, BatchTriedMessage):
                self._take_tried_batch(message)
                continue
            if message.trial in self._untried:
                continue
            if isinstance(message, AttemptBeganMessage) and message.attempt > trial.attempt and not trial.ended:
                self._recover(trial, message.step)
            for event in self._decoder.decode(message, trial):
                self.record(event)
            self._check_metrics(message, trial)
        if messages:
            self._executor.carry_out()
            if not self.halted:
                self.halted = self._limits.hopeless

    def _take_tried_batch(self, message: BatchTriedMessage) -> None:
        """End the sweep where a batch fails, unless trials have reported: then it is a failure of that trial alone.

        A trial before which the sweep ended has not begun: mended, the same command tries it again.
        """
        error = self._rank_checks.take(message.trial, message.finding)
        if any(trial.reports for trial in self.state.trials.values()):
            return
        if message.finding.failure:
            self._untried.add(message.trial)
        self._end_by(error)

    def _check_metrics(self, message: Message, trial: TrialState) -> None:
        """End the sweep where a metric that the experiment names is not among those that its trials report."""
        if isinstance(message, AttemptFailedMessage) and message.failure == METRIC_MISSING:
            key, _, reason = message.message.partition(": ")
            self._end_by(ExperimentInvalid([self._plan.problem_at(key, reason, trial.values)]))
        elif isinstance(message, ReportMessage | TrialEndedMessage):
            self._end_by(self._metric_check.problem(trial))

    def _end_by(self, error: UserError | None) -> None:
        if error is not None and self.error is None:
            self.error, self.halted, self.leaving = error, str(error), True

    def check_reported_metrics(self) -> None:
        """Note as an error, when nothing is left to run, that no trial has reported a metric which the file names."""
        if self.error is None:
            self.error = self._metric_check.final_problem(self.state.plan_trials())

    def goes_on(self, trial: str) -> bool:
        """Whether a trial goes on after its messages that were taken.

        Args:
            trial: The trial's id.
        """
        known = self.state.trials[trial]
        goal = self._queue.redo_step(trial)
        if goal is not None and known.reports and known.reports[-1].step >= goal:
            return False
        return known.status == "running"

    def tick(self) -> None:
        """Check the clock against the budget."""
        if not self.halted and (why := self._limits.spent(self.state)):
            self.halted, self.leaving = why, True

    def _peek(self) -> PlannedTrial | None:
        """The trial that :meth:`propose` hands out next. Proposals are recorded on the way to it."""
        if self.interrupted_by is not None or self.halted:
            return None
        if (planned := self._next_again()) is not None:
            return planned
        while self._next is None or not self._is_open(self._next):
            self._next = next(self._search_trials, None)
            if self._next is None:
                self._executor.carry_out()  # the searcher is closed now, which its scheduler may have waited for
                return self._next_again() or self._next_confirming()
        return self._next

    def _next_again(self) -> PlannedTrial | None:
        trial = self._queue.next_again()
        if trial is None:
            return None
        known = self.state.trials[trial]
        return planned_trial(self._plan, known.values, known.seed)

    def _next_confirming(self) -> PlannedTrial | None:
        """The leading configs' next confirming trial, once the search is over."""
        if not self._queue.is_idle:
            return None
        trials = self._proposals.confirming_trials()
        self._next = next((planned for planned in trials if self._is_open(planned)), None)
        return self._next

    def _is_open(self, planned: PlannedTrial) -> bool:
        """Whether a proposed trial is to be handed out."""
        trial = self.state.trials[planned.trial]
        if trial.decision == "stop" and not trial.ended and not self._queue.is_retried(planned.trial):
            self._executor.end_stopped(trial)  # decided, and killed before it was recorded as ended
        return self._queue.is_open(trial)
