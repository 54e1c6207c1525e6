"""Deletes checkpoints of ended trials while a sweep runs, by the keys under ``sweep.checkpoints``.

Which ones go is decided by :mod:`expflow.training.checkpoints.retention` from the ledger's state and the disk. The
event is on the disk before its checkpoint is deleted: a checkpoint that is missing without one is a fault. A kill in
between leaves a checkpoint that the next driver decides about anew.

What trials of other experiments begin with (``init.from``) lies as copies or links in their own folders.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from expflow.config.schema import SweepCheckpoints
from expflow.errors import StorageUnreachable
from expflow.ledger import TrialState
from expflow.storage.driver_session import session_of
from expflow.sweep.event_recorder import EventRecorder
from expflow.sweep.plan import Plan
from expflow.sweep.trial_checkpoints import TrialCheckpoints
from expflow.sweep.trial_queue import TrialQueue
from expflow.training.checkpoints.retention import StoredCheckpoint, decide_retention, delete_checkpoint

logger = logging.getLogger(__name__)


class CheckpointRetention:
    """Keeps the disk to what ``sweep.checkpoints`` allows. Without its keys nothing is read or deleted.

    Args:
        plan: The sweep's plan.
        recorder: Records each deletion, and holds the state that it follows from.
        queue: Which trials are at a gang, whose folders are left alone.
        checkpoints: The trials' folders.
    """

    def __init__(self, plan: Plan, recorder: EventRecorder, queue: TrialQueue, checkpoints: TrialCheckpoints) -> None:
        self._plan, self._recorder, self._queue, self._checkpoints = plan, recorder, queue, checkpoints
        self._rules = plan.sweep.checkpoints
        self._stored: dict[str, list[StoredCheckpoint]] = {}
        """Trial -> its checkpoints, as they were when it was last at a gang."""
        self.excess = 0
        """Bytes above ``sweep.checkpoints.disk`` that are left, because what remains must not be deleted."""

    @property
    def is_active(self) -> bool:
        """Whether the experiment file has a key under ``sweep.checkpoints``."""
        return self._rules != SweepCheckpoints()

    def begin(self) -> None:
        """Take stock of all trials' folders, and delete what an earlier driver left to be deleted."""
        if self.is_active:
            for trial in self._recorder.state.trials.values():
                if trial.ended:
                    self._checkpoints.remove_leftovers(trial)
                self._stored[trial.trial] = self._checkpoints.stored(trial)
            self._prune()

    def trial_returned(self, trial: str) -> None:
        """Delete what is no longer needed now that a trial is back from its gang.

        Args:
            trial: The trial's id.
        """
        if self.is_active:
            for name in (trial, *self._recorder.state.running):
                self._stored[name] = self._checkpoints.stored(self._recorder.state.trials[name])
            self._prune()

    def _prune(self) -> None:
        state = self._recorder.state
        stored = [checkpoint for checkpoints in self._stored.values() for checkpoint in checkpoints]
        decision = decide_retention(state, stored, self._rules, pinned=set(self._pinned()))
        self.excess = decision.excess
        for pruned in decision.prune:
            self._recorder.record(pruned)
            try:
                delete_checkpoint(self._plan.folder, pruned)
                if (session := session_of(self._plan.folder)) is not None:
                    session.drop_checkpoint(pruned.path, state.trials[pruned.trial].attempt)
            except (OSError, StorageUnreachable) as error:  # the sweep goes on; the next driver tries again
                logger.warning("%s could not be deleted: %s", self._plan.folder / pruned.path, error)
        for trial in {pruned.trial for pruned in decision.prune}:
            self._stored[trial] = self._checkpoints.stored(state.trials[trial])

    def _pinned(self) -> Iterator[str]:
        """Paths of checkpoints that must stay, besides what the state protects.

        Trials at a gang or about to be tried again may read or write theirs, and trials of this plan begin with some.
        """
        for trial, checkpoints in self._stored.items():
            if self._may_go_on(self._recorder.state.trials[trial]):
                yield from (checkpoint.path for checkpoint in checkpoints)
        for path in self._plan.sources.files:
            if path.is_relative_to(self._plan.folder):
                yield str(path.parent.relative_to(self._plan.folder))

    def _may_go_on(self, trial: TrialState) -> bool:
        return not self._queue.is_back(trial.trial) or self._queue.is_retried(trial.trial)
