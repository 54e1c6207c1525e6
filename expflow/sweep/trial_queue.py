"""Which trials are at a gang, and which of those that were there before are to run again."""

from __future__ import annotations

from collections.abc import Iterable

from expflow.ledger import TrialState


class TrialQueue:
    """The trials that have been handed out, or are to be handed out again, by their ids.

    Args:
        retried: Failed trials that are tried again.
    """

    def __init__(self, retried: Iterable[str] = ()) -> None:
        self._retried = set(retried)
        self._busy: set[str] = set()
        self._resumed: dict[str, None] = {}
        """Trials that go on after a pause, in their order (a dict used as an ordered set)."""
        self._redo: dict[str, int] = {}
        """Paused trials that must come to their pause again, at this step, because their checkpoint is not there."""
        self._redone: set[str] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no trial is at a gang."""
        return not self._busy

    def resume(self, trial: str) -> None:
        """Have a paused trial handed out again.

        Args:
            trial: The trial's id.
        """
        self._resumed[trial] = None

    def withdraw(self, trial: str) -> None:
        """Undo :meth:`resume`, where the trial has not been handed out.

        Args:
            trial: The trial's id.
        """
        self._resumed.pop(trial, None)

    def redo(self, trial: str, step: int) -> None:
        """Have a paused trial handed out again until it is where it was paused.

        Args:
            trial: The trial's id.
            step: The step of its pause.
        """
        self._redo[trial] = step

    def redo_step(self, trial: str) -> int | None:
        """The step at which a trial is paused again; None where it is not handed out for that.

        Args:
            trial: The trial's id.
        """
        return self._redo.get(trial)

    def was_redone(self, trial: str) -> bool:
        """Whether a trial has been handed out to come to its pause again, and is back.

        Args:
            trial: The trial's id.
        """
        return trial in self._redone

    def next_again(self) -> str | None:
        """The next trial that was at a gang before and is handed out again; None where there is none."""
        return next((trial for trial in (*self._redo, *self._resumed) if trial not in self._busy), None)

    def hand_out(self, trial: str) -> bool:
        """Mark a trial as being at a gang; returns whether :meth:`next_again` had named it.

        Args:
            trial: The trial's id.
        """
        again = trial in self._resumed or trial in self._redo
        self._resumed.pop(trial, None)
        self._retried.discard(trial)
        self._busy.add(trial)
        return again

    def take_back(self, trial: str) -> bool:
        """Mark a trial as back; returns whether it was handed out to come to its pause again.

        Args:
            trial: The trial's id.
        """
        self._busy.discard(trial)
        return self._redo.pop(trial, None) is not None

    def mark_redone(self, trial: str) -> None:
        """Mark a trial that has come to its pause again, with a checkpoint or without.

        Args:
            trial: The trial's id.
        """
        self._redone.add(trial)

    def is_back(self, trial: str) -> bool:
        """Whether a trial is at no gang, and need not be handed out to come to its pause again.

        Args:
            trial: The trial's id.
        """
        return trial not in self._busy and trial not in self._redo

    def is_retried(self, trial: str) -> bool:
        """Whether a failed trial is still to be tried again.

        Args:
            trial: The trial's id.
        """
        return trial in self._retried

    def is_open(self, trial: TrialState) -> bool:
        """Whether a proposed trial is to be handed out, apart from those that :meth:`next_again` names.

        Args:
            trial: The trial's state.
        """
        if trial.trial in self._retried:
            return trial.trial not in self._busy
        return trial.status == "waiting" and trial.trial not in self._busy and trial.trial not in self._resumed
