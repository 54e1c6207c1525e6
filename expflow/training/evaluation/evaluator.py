"""A finished trial's weights on a split.

Everything is evaluated anew from checkpoints. The kept predictions would not do: they hold five classes of a sample,
an ensemble averages the probabilities of all, and a soup has weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from torch import Tensor

from expflow.data.dataspec import DataSpec
from expflow.errors import CheckpointMismatch, UserError
from expflow.tasks import build_task
from expflow.training.checkpoints.tensor_files import (
    WEIGHTS,
    load_tensors,
    read_averaged,
    shape_differences,
    state_file,
)
from expflow.training.checkpoints.writer import TrialCheckpointIO
from expflow.training.contract import Attempt, World
from expflow.training.evaluation.augmented_views import AugmentedViews
from expflow.training.evaluation.batchnorm_recalibration import BatchNormRecalibration, batch_norms
from expflow.training.evaluation.detection_recorder import DetectionRecorder
from expflow.training.evaluation.label_score_recorder import LabelScoreRecorder
from expflow.training.evaluation.overlap_recorder import OverlapRecorder
from expflow.training.evaluation.prediction_recorder import PredictionRecorder
from expflow.training.evaluation.predictions import Predictions
from expflow.training.evaluation.validation_recorder import KeptSamples
from expflow.training.evaluation.view_averaging import averaged_views
from expflow.training.finite_metrics import finite
from expflow.training.isolation import isolated, seed_everything
from expflow.training.lightning_switches import quiet_arguments
from expflow.training.reporter import logged_metrics
from expflow.training.trainer_arguments import TrialTrainer, precision_and_compilation, trainer_arguments
from expflow.training.transfer.feature_loading import attach_features
from expflow.training.trial_data import open_trial_data, split_loader, with_task
from expflow.training.trial_logger import TrialLogger
from expflow.training.user_callbacks import user_callbacks
from expflow.training.weights_digest import weights_digest

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class SplitMetrics:
    """What one network gave on a split.

    Attributes:
        metrics: The task's metrics, under the split's name.
        predictions: Those of each sample; None where the task gives no scores.
        probabilities: (n, classes) all of them; None where the task gives no scores or they were not asked for.
        kept: What is kept of each sample of a task that gives no scores, such as the overlaps of masks; None where that
            is nothing.
    """

    metrics: Mapping[str, float]
    predictions: Predictions | None = None
    probabilities: NDArray[np.float64] | None = None
    kept: KeptSamples | None = None


@dataclass(frozen=True)
class TrialWeights:
    """Weights of a finished trial, from a checkpoint.

    Attributes:
        weights: Those that ``val/*`` was measured on: the mean ones where the recipe keeps an exponential mean.
        digest: sha256 over the trained ones.
    """

    weights: Weights
    digest: str


class Evaluator:
    """One recipe's network and data, on which several sets of weights are evaluated. Use :func:`open_evaluator`.

    Args:
        attempt: The recipe, a seed, and the folder of prepared shards.
        world: What this process may use.

    Attributes:
        task: The recipe's module.
        views: The views of each image that ``evaluate`` averages probabilities over; None: the image alone.
    """

    views: AugmentedViews | None = None

    def __init__(self, attempt: Attempt, world: World) -> None:
        self._attempt, self._world = attempt, world
        seed_everything(attempt.seed)
        data = open_trial_data(attempt, world)
        self.task: LightningModule = build_task(attempt.recipe, data.spec)
        attach_features(attempt, self.task, data.spec)
        self._data = with_task(data, self.task, attempt, world)

    @property
    def data_spec(self) -> DataSpec:
        """What the network knows of the data."""
        return self._data.spec

    def batches(self, split: str) -> Any:
        """The batches of a split: val and test in the order of the shards, train as it is trained on, shuffled.

        Args:
            split: Name of the split.

        Raises:
            UserError: The data have no such split.
        """
        return split_loader(self._attempt, self._world, self._data, split)

    def load_weights(self, checkpoint: Path) -> TrialWeights:
        """The weights in a checkpoint.

        Args:
            checkpoint: Its folder, which has been verified.

        Raises:
            CheckpointMismatch: It is of another architecture; the message names layers and both shapes.
        """
        allow = self._attempt.recipe.trainer.checkpoint.allow
        weights: Weights = load_tensors(checkpoint / WEIGHTS, allow)
        self.put_weights(weights, str(checkpoint))
        trained = weights_digest(self.task)
        if self._attempt.recipe.trainer.ema is not None:
            weights = weights | read_averaged(checkpoint / state_file(0), allow)
        return TrialWeights(weights, trained)

    def evaluate(self, weights: Weights, split: str, *, rows: bool = False) -> SplitMetrics:
        """Metrics and predictions of the network with these weights.

        Args:
            weights: Those of this recipe's network.
            split: Name of the split.
            rows: Whether all probabilities are kept.

        Raises:
            UserError: The data have no such split, or the task cannot be evaluated, or not on such views.
            CheckpointMismatch: The weights are of another architecture.
        """
        self.put_weights(weights, "these weights")
        recorder = PredictionRecorder(rows=rows)
        others = (OverlapRecorder(), DetectionRecorder(), LabelScoreRecorder())
        trainer = self._trainer(recorder, *others)
        batches = self.batches(split)
        has_test_step = split == "test" and type(self.task).test_step is not LightningModule.test_step
        if not has_test_step and type(self.task).validation_step is LightningModule.validation_step:
            raise UserError("the task has neither a test_step nor a validation_step: there is nothing to measure")
        with averaged_views(self.task, self.views), precision_and_compilation(self._attempt.recipe, self.task):
            run = trainer.test if has_test_step else trainer.validate
            run(self.task, batches, verbose=False)
        predictions = recorder.predictions(split, self._world)
        metrics = finite(_named(logged_metrics(trainer.callback_metrics), split), trainer.global_step).values
        all_rows = recorder.rows() if rows and predictions is not None else None
        kept = (known for other in others if (known := other.kept(split, self._world)) is not None)
        return SplitMetrics(metrics, predictions, all_rows, next(kept, None))

    def recalibrated(self, weights: Weights) -> Weights:
        """Weights with the running statistics of their batch norms measured anew on training batches.

        Those of an average of weights are of no network that was ever trained. Weights without batch norms come back
        as they are.

        Args:
            weights: Those of this recipe's network.

        Source:
            Izmailov et al., Averaging Weights Leads to Wider Optima, 2018, section 3.1.
        """
        self.put_weights(weights, "these weights")
        if not batch_norms(self.task):
            return weights
        seed_everything(self._attempt.seed)
        batches = self.batches("train")
        recalibration = BatchNormRecalibration()
        trainer = self._trainer(recalibration, limit_val_batches=recalibration.batches)
        with precision_and_compilation(self._attempt.recipe, self.task):
            trainer.validate(self.task, batches, verbose=False)
        return {name: value.detach().cpu().clone() for name, value in self.task.state_dict().items()}

    def put_weights(self, weights: Weights, what: str) -> None:
        """Give the network these weights.

        Args:
            weights: Those of this recipe's network.
            what: What a message calls them.

        Raises:
            CheckpointMismatch: They are of another architecture; the message names layers and both shapes.
        """
        if different := shape_differences(weights, self.task.state_dict()):
            raise CheckpointMismatch(f"{what} fit another architecture:\n{different}")
        self.task.load_state_dict(weights)

    def _trainer(self, *callbacks: Any, **limits: Any) -> TrialTrainer:
        arguments = trainer_arguments(self._attempt.recipe, self._world)
        return TrialTrainer(
            accelerator="gpu" if self._world.gpus else "cpu",
            devices=1,
            plugins=[TrialCheckpointIO(None, keeps=False)],
            **quiet_arguments(TrialLogger(), [*callbacks, *user_callbacks(self._attempt.recipe)]),
            **arguments,
            **limits,
        )


@contextmanager
def open_evaluator(attempt: Attempt, world: World) -> Iterator[Evaluator]:
    """An evaluator for a trial's recipe; when it is left, the process is as it was before.

    Args:
        attempt: The trial.
        world: What this process may use.

    Raises:
        UserError: The recipe's network or data cannot be built.
    """
    with isolated(threads=world.threads, deterministic=not world.gpus):
        yield Evaluator(attempt, world)


def _named(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """Metrics of a validation under the name of the split that they were measured on."""
    return {
        split + name.removeprefix("val") if name.startswith("val/") else name: value for name, value in metrics.items()
    }
