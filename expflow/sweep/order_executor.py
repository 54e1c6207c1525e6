"""Carries out what the scheduler orders: trials are stopped, paused, resumed, and forked."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from expflow.errors import CheckpointDamaged, DiskFull, StorageUnwritable
from expflow.events import SchedulerDecided, TrialEnded, TrialForked
from expflow.ledger import TrialState
from expflow.sweep.event_recorder import EventRecorder
from expflow.sweep.schedulers import Order
from expflow.sweep.trial_checkpoints import TrialCheckpoints
from expflow.sweep.trial_queue import TrialQueue

logger = logging.getLogger(__name__)


class OrderExecutor:
    """Carries out a scheduler's orders.

    Args:
        recorder: Records the decisions, and holds the states they follow from.
        queue: Which trials are at a gang; gets those that are resumed.
        checkpoints: The trials' folders, between which forks copy.
    """

    def __init__(self, recorder: EventRecorder, queue: TrialQueue, checkpoints: TrialCheckpoints) -> None:
        self._recorder, self._queue, self._checkpoints = recorder, queue, checkpoints

    def carry_out(self) -> None:
        """Do what the scheduler wants. What needs a trial that has not come back from its gang yet waits for that."""
        any_done = True
        while any_done:
            orders, any_done = self._recorder.search_state.orders(), False
            for order in orders:
                if self._is_possible(order, orders):
                    self._execute(order)
                    any_done = True

    def pause(self, trial: TrialState) -> None:
        """Record that a trial is paused where it is.

        Args:
            trial: The trial's state.
        """
        self._queue.withdraw(trial.trial)  # where a kill came between its report and this
        self._recorder.record(SchedulerDecided(trial.trial, trial.attempt, _last_step(trial), "pause"))

    def end_stopped(self, trial: TrialState) -> None:
        """Record that a trial has ended which the scheduler had stopped.

        Args:
            trial: The trial's state.
        """
        self._queue.withdraw(trial.trial)
        running = trial.status == "running"
        seconds = max(0.0, self._recorder.state.at - trial.started_at) if running else trial.seconds
        self._recorder.record(TrialEnded(trial.trial, trial.attempt, "stopped", _last_step(trial), seconds))

    def _is_possible(self, order: Order, orders: Sequence[Order]) -> bool:
        """Forks copy what both trials left behind, so both must be back; and all forks come before a trial goes on."""
        match order.verb:
            case "fork":
                back = self._queue.is_back(order.trial) and self._queue.is_back(order.source)
                return back and self._has_saved(order.source)
            case "resume":
                return self._queue.is_back(order.trial) and not any(other.verb == "fork" for other in orders)
            case _:
                return True

    def _has_saved(self, source: str) -> bool:
        """Whether a paused trial has left the checkpoint that belongs to its pause. A kill may have come before it was
        written; then the trial is handed out again, until it is where it was paused."""
        trial = self._recorder.state.trials[source]
        step = _last_step(trial)
        if self._queue.was_redone(source) or (trial.checkpoint is not None and trial.checkpoint.step >= step):
            return True
        if (saved := self._checkpoints.unrecorded_checkpoint(trial, step)) is not None:
            self._recorder.record(saved)
            return True
        self._queue.redo(source, step)
        return False

    def _execute(self, order: Order) -> None:
        trial = self._recorder.state.trials[order.trial]
        match order.verb:
            case "fork":
                self._fork(trial, order)
            case "stop":
                self._recorder.record(SchedulerDecided(trial.trial, trial.attempt, _last_step(trial), "stop"))
                self.end_stopped(trial)
            case "pause":
                self.pause(trial)
            case "resume":
                self._resume(trial)

    def _resume(self, trial: TrialState) -> None:
        self._recorder.record(SchedulerDecided(trial.trial, trial.attempt, _last_step(trial), "resume"))
        self._queue.resume(trial.trial)

    def _fork(self, trial: TrialState, order: Order) -> None:
        """Give the trial the donor's newest checkpoint. Without one that reads, it goes on as it is."""
        donor = self._recorder.state.trials[order.source].checkpoint
        if donor is None:
            logger.warning("%s goes on with its own weights: %s has no checkpoint", order.trial, order.source)
            self._resume(trial)
            return
        try:
            copied = self._checkpoints.copy_for_fork(trial, donor, order.values)
        except (CheckpointDamaged, DiskFull, StorageUnwritable, OSError) as error:
            logger.warning("%s goes on with its own weights: %s", order.trial, error)
            self._resume(trial)
            return
        self._recorder.record(TrialForked(trial.trial, order.source, donor.step, dict(order.values)))
        self._recorder.record(copied)


def _last_step(trial: TrialState) -> int:
    return trial.reports[-1].step if trial.reports else 0
