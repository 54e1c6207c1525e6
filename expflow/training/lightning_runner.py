"""Trains one trial with Lightning. It knows nothing of what schedules trials, and leaves the process as it was."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.io import CheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from expflow.config.component_specs import source_spec
from expflow.config.lightning_arguments import OWN_MEANING, refused_arguments
from expflow.config.schema import Recipe
from expflow.errors import UserError
from expflow.events import Report
from expflow.registry import load_dotted
from expflow.tasks import build_task, cost
from expflow.training.artifacts import ArtifactWriter
from expflow.training.bad_samples import bad_sample_callbacks
from expflow.training.buffer_sync import BufferSync
from expflow.training.checkpoints.checkpointer import Checkpointer
from expflow.training.checkpoints.loading import LoadedCheckpoint, load_checkpoint
from expflow.training.checkpoints.selection import CheckpointSelection, select_checkpoint
from expflow.training.compute_place import compute_place
from expflow.training.contract import Attempt, Began, Leave, OnNotice, OnReport, Outcome, World
from expflow.training.empty_hooks import without_empty_hooks
from expflow.training.evaluation.confusion import write_confusion_table
from expflow.training.evaluation.detection_recorder import DetectionRecorder
from expflow.training.evaluation.kept_detections import write_ap_table
from expflow.training.evaluation.label_score_recorder import LabelScoreRecorder
from expflow.training.evaluation.label_scores import write_label_table
from expflow.training.evaluation.overlap_recorder import OverlapRecorder
from expflow.training.evaluation.overlaps import write_iou_table
from expflow.training.evaluation.prediction_recorder import PredictionRecorder
from expflow.training.finite_metrics import MeasuredMetrics, decisive_metrics, finite
from expflow.training.isolation import isolated, seed_everything
from expflow.training.launcher_variables import without_launcher_variables
from expflow.training.lightning_switches import quiet_arguments
from expflow.training.manual_steps import step_counting_callbacks
from expflow.training.memory_limits import explained_out_of_memory, within_gpu_share
from expflow.training.mixup_cutmix import mixing_callbacks
from expflow.training.peak_memory import device_peak_bytes, peak_bytes
from expflow.training.quick_lightning import quick_steps
from expflow.training.rank_metrics import rank_metric_callbacks
from expflow.training.ranks import environment_plugins, shared_decision, trainer_options, verify_same_attempt
from expflow.training.reporter import Reporter, logged_metrics
from expflow.training.sample_writer import sample_callbacks
from expflow.training.sync_batchnorm import convert_batch_norms
from expflow.training.system_metrics import SystemMonitor
from expflow.training.trainer_arguments import (
    TrialTrainer,
    early_stop_reason,
    explained_unused_parameters,
    may_have_unused_parameters,
    precision_and_compilation,
    recipe_callbacks,
    trainer_arguments,
)
from expflow.training.transfer.feature_loading import attach_features
from expflow.training.transfer.freezing import freezing_callbacks
from expflow.training.transfer.probe_features import with_probe_features
from expflow.training.transfer.weight_loading import load_initial_weights
from expflow.training.trial_data import TrialData, open_trial_data, with_task
from expflow.training.trial_logger import LIGHTNING_FOLDER, TrialLogger
from expflow.training.user_callbacks import CheckpointFolders, user_callbacks
from expflow.training.weights_digest import weights_digest

logger = logging.getLogger(__name__)


def run(attempt: Attempt, world: World, on_report: OnReport, *, on_notice: OnNotice, leave: Leave) -> Outcome:
    """Train one trial and report each validated epoch (see :func:`expflow.training.run_trial`).

    Two runs of one attempt on CPU give equal weights, whatever ran before them in this process.

    Args:
        attempt: The trial, and what this attempt at it goes on from.
        world: This rank's place among the trial's ranks.
        on_report: Called with each report; the trial ends where it returns False.
        on_notice: Called on rank 0 when the attempt begins, and after each checkpoint and artifact.
        leave: Asked after each batch whether this process has to go.
    """
    verify_same_attempt(attempt, world)
    on_report = shared_decision(on_report, world)
    selection = select_checkpoint(attempt)
    for reason in selection.refused:
        logger.warning("passed over: %s", reason)
    if world.rank == 0:
        on_notice(Began(selection.step, selection.path, selection.refused, compute_place(world)))
    import_user_modules(attempt.recipe)
    with (
        explained_out_of_memory(attempt.recipe, world),
        explained_unused_parameters(attempt.recipe),
        isolated(threads=world.threads, deterministic=not world.gpus, rank=world.rank),
        within_gpu_share(world),
    ):
        data, task, loaded = _prepare(attempt, world, selection)
        own_state = loaded is not None and loaded.rank is not None
        seed_everything(_training_seed(attempt.seed, world.rank, selection.step if loaded and not own_state else 0))
        reporter = _reporter(attempt, on_report)
        checkpointer = Checkpointer(attempt, world, loaded=loaded, check=reporter.check, notify=on_notice, leave=leave)
        training = _Training(attempt, world, data, task, reporter, checkpointer, on_notice)
        with precision_and_compilation(attempt.recipe, task):
            return training.run(on_report, selection.path)


def _prepare(
    attempt: Attempt, world: World, selection: CheckpointSelection
) -> tuple[TrialData, LightningModule, LoadedCheckpoint | None]:
    """The trial's data, its module with the weights that it begins with, and the checkpoint that it goes on from."""
    seed_everything(attempt.seed)
    data = open_trial_data(attempt, world)
    task = build_task(attempt.recipe, data.spec)
    attach_features(attempt, task, data.spec)
    data = with_task(data, task, attempt, world)
    if attempt.recipe.trainer.sync_batchnorm:
        convert_batch_norms(task, world)
    if selection.path is None:
        load_initial_weights(attempt, task)
    loaded = load_checkpoint(selection, task, world, attempt.recipe.trainer.checkpoint.allow)
    return with_probe_features(attempt, world, data, task, loaded), task, loaded


def import_user_modules(recipe: Recipe) -> None:
    """Import the user's modules before anything is seeded.

    Some seed generators or set a default type as they are imported: were it done by the first trial of a process, that
    trial alone would see it.

    Args:
        recipe: What is trained.
    """
    with without_launcher_variables():
        for spec in recipe.user_components:
            with contextlib.suppress(Exception):  # building the component raises it again, and says what it was for
                load_dotted(spec.name)


def _training_seed(seed: int, rank: int, step: int) -> int:
    """Seed of all randomness after the weights are drawn: it differs between ranks, which share the weights alone.

    ``step`` is 0 except for a rank that goes on from a checkpoint which it had no part in.
    """
    place = f"{rank} {step}" if step else f"{rank}"
    return random.Random(f"training {seed} {place}").getrandbits(32)  # noqa: S311 (no secret: it must be repeatable)


def _reporter(attempt: Attempt, on_report: OnReport) -> Reporter:
    trainer, decisive = attempt.recipe.trainer, decisive_metrics(attempt)
    return Reporter(on_report, epochs=trainer.epochs, validate_every=trainer.validate_every, decisive=decisive)


class _Recorders:
    """What keeps something of each sample of a validation, for the trial's folder and for tables."""

    def __init__(self) -> None:
        self.predictions, self._overlaps = PredictionRecorder(), OverlapRecorder()
        self._detections, self._labels = DetectionRecorder(), LabelScoreRecorder()

    @property
    def all(self) -> tuple[Callback, ...]:
        """All of them, as callbacks."""
        return self.predictions, self._overlaps, self._detections, self._labels

    def save(
        self, attempt: Attempt, world: World, classes: Sequence[str], artifacts: ArtifactWriter, step: int
    ) -> None:
        """Write what the task gave, and a table of it. All ranks have to call it."""
        predictions = self.predictions.save(attempt, world)
        if predictions is not None:
            write_confusion_table(predictions, classes, artifacts, step)
        overlaps = self._overlaps.save(attempt, world)
        if overlaps is not None:
            write_iou_table(overlaps, classes, artifacts, step)
        detections = self._detections.save(attempt, world)
        if detections is not None:
            write_ap_table(detections, classes, "val", artifacts, step)
        labels = self._labels.save(attempt, world)
        if labels is not None:
            write_label_table(labels, classes, artifacts, step)


@dataclass(frozen=True)
class _Training:
    """One attempt when all that it consists of has been built."""

    attempt: Attempt
    world: World
    data: TrialData
    task: LightningModule
    reporter: Reporter
    checkpointer: Checkpointer
    on_notice: OnNotice

    def run(self, on_report: OnReport, start: Path | None) -> Outcome:
        """Train from the checkpoint ``start``, or from the beginning, and send the last report."""
        recorders = _Recorders()
        artifacts = ArtifactWriter(self.attempt, self.world, self.on_notice)
        trial_logger = TrialLogger(artifacts, self.attempt.folder, keeps=self.world.rank == 0)
        self.reporter.logged = trial_logger.take_metrics
        trainer = make_trainer(
            self.attempt, self.world, self._callbacks(*recorders.all), self.checkpointer.files, trial_logger
        )
        trainer.artifacts = artifacts
        if start is None and self.data.pseudo_labels is not None:
            self.data.pseudo_labels.write_table(self.data.spec.classes, artifacts, 0)
        _fit(trainer, self.task, self.data.wrap_train_loader(self.checkpointer.watch), start)
        step = trainer.global_step
        if self.reporter.last is not None and not self.reporter.stopped:
            measured = self._last_metrics(trainer, recorders, self.reporter.last, step)
            trial_logger.flush()
            on_report(replace(self.reporter.last, metrics=measured.values, missing=measured.missing))
        return Outcome(step, self.reporter.stopped, weights_digest(self.task), early_stop_reason(trainer))

    def _callbacks(self, *recorders: Callback) -> list[Callback]:
        """All callbacks, in the order in which they have to run: the reporter behind all but the checkpointer."""
        recipe = self.attempt.recipe
        batch_size = source_spec(recipe.data).samples_per_batch
        return [
            *step_counting_callbacks(recipe, self.task),
            *rank_metric_callbacks(recipe, self.data, self.world),
            CheckpointFolders(self.attempt.folder),
            *recipe_callbacks(recipe, self.data.spec),
            *freezing_callbacks(recipe, self.task),
            *mixing_callbacks(recipe, self.data.spec, self.attempt.seed),
            *bad_sample_callbacks(recipe, self.data, self.world),
            *([BufferSync()] if self.world.ranks > 1 else []),
            SystemMonitor(self.world, self.on_notice, batch_size=batch_size if isinstance(batch_size, int) else None),
            *recorders,
            *sample_callbacks(self.task),
            *user_callbacks(recipe),
            self.reporter,
            self.checkpointer,
        ]

    def _last_metrics(
        self,
        trainer: TrialTrainer,
        recorders: _Recorders,
        last: Report,
        step: int,
    ) -> MeasuredMetrics:
        """The last report's metrics with what is measured when training is over; predictions on val are kept."""
        kept = recorders.predictions.complete or self.attempt.folder is None
        measured, decisive = MeasuredMetrics(last.metrics, tuple(last.missing)), decisive_metrics(self.attempt)
        if not self.reporter.validated_last or not kept:
            measured |= finite(_evaluate(trainer, self.task, self.data.validation_argument), step, decisive)
        recorders.save(self.attempt, self.world, self.data.spec.classes, trainer.artifacts, step)
        measured |= finite(_as_fit(_evaluate(trainer, self.task, self.data.train_in_order)), step, decisive)
        return measured | MeasuredMetrics(_costs(self.attempt.recipe, self.data, self.checkpointer.seconds))


def _fit(trainer: TrialTrainer, task: LightningModule, data: TrialData, start: Path | None) -> None:
    """``Trainer.fit``, from the checkpoint ``start`` where there is one."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not annotate it
    with _interrupts_passed_on(), without_empty_hooks([task, *callbacks]), quick_steps(trainer):
        trainer.fit(task, ckpt_path=start, **data.fit_arguments)


@contextlib.contextmanager
def _interrupts_passed_on() -> Iterator[None]:
    """A KeyboardInterrupt, which Lightning turns into an exit with code 1, is one again."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt(*error.__context__.args) from error
        raise


def make_trainer(
    attempt: Attempt, world: World, callbacks: list[Callback], files: CheckpointIO, trial_logger: TrialLogger
) -> TrialTrainer:
    """Lightning's Trainer without what :mod:`expflow.training.lightning_switches` lists, which is ours to do.

    Args:
        attempt: What is trained, and the folder of the trial.
        world: This rank's place among the trial's ranks.
        callbacks: All callbacks, in their order.
        files: What checkpoints are written to and read from.
        trial_logger: What modules find as ``self.logger``.

    Raises:
        UserError: ``trainer.lightning`` sets what the recipe or the runner decides, or Lightning refuses it.
    """
    recipe = attempt.recipe
    for argument, reason in refused_arguments(recipe.trainer.lightning):
        raise UserError(f"trainer.lightning.{argument}: {reason}")
    theirs = {key: value for key, value in recipe.trainer.lightning.items() if key not in OWN_MEANING}
    ours: dict[str, Any] = {
        "max_epochs": recipe.trainer.epochs,
        "check_val_every_n_epoch": recipe.trainer.validate_every,
        "accelerator": "gpu" if world.gpus else "cpu",
        "devices": 1,
        "plugins": [files, *environment_plugins(world)],
        **quiet_arguments(trial_logger, callbacks),
        **trainer_arguments(recipe, world),
        **trainer_options(world, unused=may_have_unused_parameters(recipe)),
    }
    if attempt.folder is not None:
        theirs.setdefault("default_root_dir", attempt.folder / LIGHTNING_FOLDER)
    if taken := sorted(ours.keys() & theirs.keys()):
        raise UserError(f"trainer.lightning.{taken[0]} cannot be set: other keys of trainer and resources decide it")
    try:
        return TrialTrainer(**ours, **theirs)
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        if not recipe.trainer.lightning and not recipe.trainer.callbacks:
            raise  # nothing of the user's is to blame
        raise UserError(f"trainer.lightning or trainer.callbacks are refused by Lightning: {error}") from error


def _evaluate(trainer: Trainer, task: LightningModule, batches: Any) -> dict[str, float]:
    """The task's validation metrics on ``batches``, finite or not; nothing where task or data have no validation."""
    if batches is None or type(task).validation_step is LightningModule.validation_step:
        return {}
    with _interrupts_passed_on(), quick_steps(trainer):
        trainer.validate(task, batches, verbose=False)
    return logged_metrics(trainer.callback_metrics)


def _as_fit(metrics: dict[str, float]) -> dict[str, float]:
    """Validation metrics that were measured on the training set, under their own name."""
    return {"fit" + name.removeprefix("val"): value for name, value in metrics.items() if name.startswith("val/")}


def _costs(recipe: Recipe, data: TrialData, seconds: float) -> dict[str, float]:
    counted = cost(recipe, data.spec)
    macs = {} if counted.macs is None else {"cost/macs": float(counted.macs)}
    peak = device_peak_bytes() or peak_bytes()
    memory = {} if peak is None else {"cost/peak_bytes": float(peak)}
    return {"cost/params": float(counted.params), "cost/seconds": seconds, **macs, **memory}
