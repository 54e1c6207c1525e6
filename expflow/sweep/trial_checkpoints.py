"""What lies in the trials' folders: checkpoints, and reports that no driver has recorded."""

from __future__ import annotations

from pathlib import Path

from expflow.config.identity import folder_name
from expflow.errors import CheckpointDamaged, ExperimentInvalid
from expflow.events import CheckpointSaved, TrialReported
from expflow.ledger import TrialState
from expflow.storage.driver_session import session_of
from expflow.sweep.plan import Plan
from expflow.sweep.report_journal import ReportJournal
from expflow.sweep.result_files import make_trial_folder
from expflow.sweep.searchers import Values
from expflow.sweep.trial_expansion import planned_trial
from expflow.training.checkpoints import adopt_checkpoint, list_checkpoints, verify_checkpoint
from expflow.training.checkpoints.retention import StoredCheckpoint, stored_checkpoints
from expflow.training.checkpoints.selection import CHECKPOINTS_FOLDER, select_checkpoint
from expflow.training.checkpoints.storage import remove_leftover_drafts
from expflow.training.contract import Attempt


class TrialCheckpoints:
    """The trials' folders of one plan.

    Args:
        plan: The sweep's plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def _folder(self, trial: TrialState) -> Path:
        return self._plan.folder / "trials" / folder_name(trial.values, trial.seed, trial.trial)

    def _fetched(self, trial: TrialState) -> Path:
        """The trial's folder; of results at an address as its last attempt, maybe on another machine, has left it."""
        folder = self._folder(trial)
        if trial.attempt and (session := session_of(self._plan.folder)) is not None:
            session.fetch_trial(folder.name, attempt=trial.attempt, again=True)
        return folder

    def resume_step(self, trial: TrialState) -> int:
        """The step of the checkpoint that a trial will go on from; 0 where it has none, or none that may be counted on:
        of a trial whose begin no driver recorded a leftover may lie on this disk, and on no other driver's. What it
        reported comes with its next attempt, if that goes on from there.

        Args:
            trial: The trial's state.
        """
        is_leftover = not trial.attempt and session_of(self._plan.folder) is not None
        if is_leftover or not self._fetched(trial).is_dir():
            return 0
        try:
            recipe = self._plan.loaded.configure(trial.latest_values)
        except ExperimentInvalid:  # the file was edited, and this is no trial of it
            return 0
        return select_checkpoint(Attempt(recipe, trial.seed, folder=self._folder(trial), forks=len(trial.forks))).step

    def unrecorded_reports(self, trial: TrialState, step: int) -> list[TrialReported]:
        """What a trial reported on its way to a step and no driver recorded.

        Its driver was killed, or the way from its gang was cut off.

        Args:
            trial: The trial's state.
            step: The step that it goes on from.
        """
        known = trial.reports[-1].step if trial.reports else 0
        if step <= known:
            return []
        return ReportJournal(trial.trial, self._fetched(trial)).between(known, step)

    def unrecorded_checkpoint(self, trial: TrialState, step: int) -> CheckpointSaved | None:
        """A checkpoint that lies on the disk, although a kill came before it was recorded; None where there is none.

        Args:
            trial: The trial's state.
            step: The step that the checkpoint must have reached.
        """
        for path in list_checkpoints(self._fetched(trial) / CHECKPOINTS_FOLDER):
            try:
                manifest = verify_checkpoint(path)
            except CheckpointDamaged:
                continue
            if manifest.forks == len(trial.forks) and manifest.step >= step:
                return CheckpointSaved(
                    trial.trial, trial.attempt, manifest.step, self._relative(path), manifest.sha256, manifest.size
                )
        return None

    def stored(self, trial: TrialState) -> list[StoredCheckpoint]:
        """The checkpoints that lie in a trial's folder, newest first. Nothing of them is read.

        Args:
            trial: The trial's state.
        """
        folder = self._fetched(trial) if trial.ended else self._folder(trial)
        return stored_checkpoints(self._plan.folder, trial.trial, folder)

    def remove_leftovers(self, trial: TrialState) -> None:
        """Remove what killed processes left half-written or half-deleted in the folder of a trial that has ended.

        Args:
            trial: The trial's state.
        """
        remove_leftover_drafts(self._folder(trial) / CHECKPOINTS_FOLDER)

    def copy_for_fork(self, trial: TrialState, donor: CheckpointSaved, values: Values) -> CheckpointSaved:
        """Copy a donor's checkpoint into the folder of a trial that goes on from it.

        Args:
            trial: The state of the trial that forks.
            donor: The donor's checkpoint.
            values: The searched values that the trial goes on with.

        Raises:
            CheckpointDamaged: The donor's checkpoint differs from its manifest.
        """
        session = session_of(self._plan.folder)
        if session is not None:  # both may have been trained on other machines
            self._fetched(trial)
            session.fetch_path(donor.path)
        planned = planned_trial(self._plan, trial.values, trial.seed)
        recipe = self._plan.loaded.configure(values)
        folder = make_trial_folder(self._plan, planned)
        attempt = Attempt(recipe, trial.seed, folder=folder, forks=len(trial.forks) + 1)
        path = adopt_checkpoint(self._plan.folder / donor.path, folder, attempt=attempt)
        if session is not None:
            session.send_trial(folder.name, trial.attempt)
        return CheckpointSaved(trial.trial, trial.attempt, donor.step, self._relative(path), donor.sha256, donor.size)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._plan.folder))
