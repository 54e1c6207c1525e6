"""Trains what is fitted once, without steps: its arrays are the checkpoint, and there is one report.

The module has ``fit(batches, seed=, samples=, ask=)``; every rank fits all images and so gets the same arrays, and the
ranks share what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol, cast

from pytorch_lightning import LightningModule
from threadpoolctl import threadpool_limits

from expflow.config.identity import config_id
from expflow.errors import CheckpointMismatch, Preempted
from expflow.events import Report
from expflow.ledger.lock import check_epoch
from expflow.tasks import build_task, cost
from expflow.training.artifacts import ArtifactWriter
from expflow.training.checkpoints import CheckpointManifest, CheckpointSelection, select_checkpoint
from expflow.training.checkpoints.selection import CHECKPOINTS_FOLDER
from expflow.training.checkpoints.storage import CheckpointDraft, remove_leftover_drafts
from expflow.training.checkpoints.tensor_files import WEIGHTS, load_tensors, save_tensors, shape_differences, state_file
from expflow.training.checkpoints.writer import TrialCheckpointIO, training_budget
from expflow.training.compute_place import compute_place
from expflow.training.contract import Attempt, Began, Leave, OnNotice, OnReport, Outcome, Saved, World
from expflow.training.evaluation.confusion import write_confusion_table
from expflow.training.evaluation.prediction_recorder import PredictionRecorder
from expflow.training.finite_metrics import MeasuredMetrics, decisive_metrics, finite
from expflow.training.isolation import isolated, seed_everything
from expflow.training.launcher_variables import without_launcher_variables
from expflow.training.lightning_runner import import_user_modules, make_trainer
from expflow.training.peak_memory import peak_bytes
from expflow.training.ranks import max_over_ranks, shared_decision, verify_same_attempt
from expflow.training.reporter import logged_metrics
from expflow.training.transfer.weight_loading import load_initial_weights
from expflow.training.trial_data import TrialData, open_trial_data
from expflow.training.trial_logger import TrialLogger
from expflow.training.weights_digest import weights_digest

LAST = 1
"""The only step."""


class FittedOnce(Protocol):
    """What a module has besides Lightning's hooks."""

    def fit(self, batches: Any, *, seed: int, samples: int, ask: Callable[[], None]) -> None:
        """Make the arrays.

        Args:
            batches: The training images in a fixed order; it may go through them several times.
            seed: What it draws follows from.
            samples: How many images there are.
            ask: Called between batches; raises where the fit is to be left.
        """


def run(attempt: Attempt, world: World, on_report: OnReport, *, on_notice: OnNotice, leave: Leave) -> Outcome:
    """Fit one trial and report it (see :func:`expflow.training.run_trial`).

    An attempt that was left or killed within the fit begins anew; one that had fitted measures again.

    Args:
        attempt: The trial.
        world: This rank's place among the trial's ranks.
        on_report: Called with the report.
        on_notice: Called on rank 0 when the attempt begins, and after the checkpoint and each artifact.
        leave: Asked between batches whether this process has to go.

    Raises:
        Preempted: ``leave`` said yes; nothing is lost but the time.
    """
    verify_same_attempt(attempt, world)
    on_report = shared_decision(on_report, world)
    selection = select_checkpoint(attempt)
    if world.rank == 0:
        on_notice(Began(selection.step, selection.path, selection.refused, compute_place(world)))
    import_user_modules(attempt.recipe)
    with (
        without_launcher_variables(),
        isolated(threads=world.threads, deterministic=not world.gpus, rank=world.rank),
        threadpool_limits(world.threads),
    ):
        seed_everything(attempt.seed)
        data = open_trial_data(attempt, world)
        task = build_task(attempt.recipe, data.spec)
        if selection.path is None:
            load_initial_weights(attempt, task)
        fitting = _Fitting(attempt, world, data, task.to("cuda" if world.gpus else "cpu"), on_notice, leave)
        seconds = fitting.load(selection) if selection.path is not None else fitting.fit()
        metrics = fitting.measure(seconds)
        on_report(Report(LAST, metrics.values, 1.0, list(metrics.missing)))
        return Outcome(LAST, stopped=False, weights=weights_digest(fitting.task))


@dataclass(frozen=True)
class _Fitting:
    """One attempt when all that it consists of has been built."""

    attempt: Attempt
    world: World
    data: TrialData
    task: LightningModule
    on_notice: OnNotice
    leave: Leave

    def load(self, selection: CheckpointSelection) -> float:
        """Take the arrays of a checkpoint; returns the seconds that its fit took."""
        assert selection.path is not None  # noqa: S101  (the caller has looked)
        assert selection.manifest is not None  # noqa: S101
        weights = load_tensors(selection.path / WEIGHTS)
        if different := shape_differences(weights, self.task.state_dict()):
            raise CheckpointMismatch(f"{selection.path} is of another architecture:\n{different}")
        self.task.load_state_dict(weights)
        return selection.manifest.seconds

    def fit(self) -> float:
        """Fit, and save the arrays; returns the seconds that it took."""
        began = time.monotonic()
        whole = self.data if self.world.ranks == 1 else open_trial_data(self.attempt, World(threads=self.world.threads))
        splits = self.attempt.recipe.trainer.fit_on.split("+")
        samples = sum(whole.spec.samples.get(split, 0) for split in splits)
        task = cast(FittedOnce, self.task)
        task.fit(whole.train_in_order, seed=self.attempt.seed, samples=samples, ask=self._ask)
        seconds = time.monotonic() - began
        if self.world.rank == 0 and self.attempt.folder is not None:
            self._save(seconds)
        return seconds

    def _ask(self) -> None:
        answers = [float(self.leave())]
        if self.world.ranks > 1:
            answers = max_over_ranks(answers, self.world)
        if answers[0]:
            raise Preempted("asked to leave before all was fitted; it begins anew")

    def _save(self, seconds: float) -> None:
        attempt = self.attempt
        assert attempt.folder is not None  # noqa: S101  (the caller has looked)
        folder, fence = attempt.folder / CHECKPOINTS_FOLDER, attempt.fence
        tag = f"-e{fence.epoch if fence else 0}-a{attempt.number}"
        remove_leftover_drafts(folder, tag)
        began, draft = time.monotonic(), CheckpointDraft(folder, LAST, tag)
        draft.write(WEIGHTS, lambda file: save_tensors(dict(self.task.state_dict()), file))
        draft.write(state_file(0), lambda file: save_tensors({"trainer": {}, "rank": {}}, file))
        manifest = CheckpointManifest(
            LAST,
            config_id(attempt.recipe),
            attempt.seed,
            forks=attempt.forks,
            ranks=self.world.ranks,
            epoch=1,
            seconds=seconds,
            budget=training_budget(attempt.recipe),
            lock_epoch=fence.epoch if fence else None,
            versions={name: version(name) for name in ("expflow", "torch", "scikit-learn")},
        )
        sealed = draft.commit(manifest, (), lambda: check_epoch(fence.folder, fence.epoch) if fence else None)
        self.on_notice(Saved(LAST, draft.final, sealed.sha256, sealed.size, time.monotonic() - began))

    def measure(self, seconds: float) -> MeasuredMetrics:
        """Metrics on val and on the training set, and the costs; predictions on val are kept."""
        artifacts, recorder = ArtifactWriter(self.attempt, self.world, self.on_notice), PredictionRecorder()
        measured = MeasuredMetrics({"progress/epoch": 1.0})
        for prefix, batches, callbacks in (
            ("val", self.data.val, [recorder]),
            ("fit", self.data.train_in_order, []),
        ):
            if batches is not None:
                measured |= self._validated(prefix, batches, callbacks)
        if self.data.pseudo_labels is not None:
            self.data.pseudo_labels.write_table(self.data.spec.classes, artifacts, LAST)
        predictions = recorder.save(self.attempt, self.world)
        if predictions is not None:
            write_confusion_table(predictions, self.data.spec.classes, artifacts, LAST)
        counted, peak = cost(self.attempt.recipe, self.data.spec), peak_bytes()
        costs = {"cost/params": float(counted.params), "cost/seconds": seconds}
        return measured | MeasuredMetrics(costs if peak is None else {**costs, "cost/peak_bytes": float(peak)})

    def _validated(self, prefix: str, batches: Any, callbacks: list[Any]) -> MeasuredMetrics:
        files = TrialCheckpointIO(None, keeps=False)
        trainer = make_trainer(self.attempt, self.world, callbacks, files, TrialLogger())
        trainer.validate(self.task, batches, verbose=False)
        metrics = logged_metrics(trainer.callback_metrics)
        named = {prefix + name.removeprefix("val"): value for name, value in metrics.items() if name.startswith("val/")}
        return finite(named, LAST, decisive_metrics(self.attempt))
