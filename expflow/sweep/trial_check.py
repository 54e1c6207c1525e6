"""A finished trial is trained again, in a temporary folder, and compared with its record."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expflow.config import load_site
from expflow.config.initial_weights import source_of_seed
from expflow.config.loading import changed_resources
from expflow.config.resources import Resources
from expflow.config.schema import Recipe
from expflow.data.prepare.prepared import PreparedData
from expflow.errors import AddressUnknown, CheckpointDamaged, UserError
from expflow.events import Report
from expflow.ledger import TrialState
from expflow.sweep.finished_trial import recorded_classifiers, recorded_data, recorded_recipe
from expflow.sweep.kept_code import start_of
from expflow.sweep.parent_weights import first_weights, parent_of
from expflow.sweep.provenance import package_versions
from expflow.sweep.result_location import ResultLocation
from expflow.sweep.weight_copies import kept_copies
from expflow.training.checkpoints import list_checkpoints, verify_checkpoint
from expflow.training.checkpoints.selection import CHECKPOINTS_FOLDER
from expflow.training.checkpoints.storage import checkpoint_step
from expflow.training.contract import Attempt, Began, Notice, Outcome, World, run_trial
from expflow.training.local_ranks import local_world, run_local_ranks
from expflow.training.transfer.pretrained import PretrainedWeights
from expflow.training.transfer.trained_classifier import TrainedClassifier

_MEASURED_HERE = ("cost/seconds", "cost/peak_bytes")
"""Metrics of the machine, which differ in every run."""


@dataclass(frozen=True)
class MetricDifference:
    """A metric that the two trainings do not report alike.

    Attributes:
        metric: Its name.
        first_step: The first step at which it differs.
        recorded: Its value at the last step; None where it was not reported, or is no finite number.
        again: The same of the new training.
        largest: The largest difference at any step; None where no two values can be compared.
    """

    metric: str
    first_step: int
    recorded: float | None
    again: float | None
    largest: float | None


@dataclass(frozen=True)
class WeightsDifference:
    """In what the final weights differ, of the checkpoints of the last step.

    Attributes:
        tensors: How many tensors differ.
        of: How many there are.
        largest: The largest difference of two weights.
        relative: The norm of the difference by the norm of the recorded weights.
    """

    tensors: int
    of: int
    largest: float
    relative: float


@dataclass(frozen=True)
class TrialComparison:
    """A trial and the same training again.

    Attributes:
        trial: The trial's id.
        began: The step that the new training began at; 0 from the beginning.
        steps: How many reports were compared.
        equal: Whether all reports and the weights are equal, bit for bit.
        weights_equal: Whether the weights are; None where the record has none.
        first_step: The first step whose reports differ; None where all are equal.
        metrics: The metrics that differ.
        weights: In what the weights differ; None where they are equal, or a checkpoint is missing.
        surroundings: What else differs: name -> what was recorded, and what was found now.
    """

    trial: str
    began: int
    steps: int
    equal: bool
    weights_equal: bool | None
    first_step: int | None
    metrics: tuple[MetricDifference, ...]
    weights: WeightsDifference | None
    surroundings: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class _Recorded:
    """A trial as its record has it."""

    results: ResultLocation
    state: TrialState
    recipe: Recipe
    data: PreparedData | None
    weights: PretrainedWeights | None
    features: TrainedClassifier | None
    labeller: TrainedClassifier | None

    @property
    def checkpoints(self) -> list[Path]:
        return list_checkpoints(self.results.trial_folder(self.state, checkpoints=True) / CHECKPOINTS_FOLDER)

    @property
    def last_step(self) -> int:
        return self.state.reports[-1].step


@dataclass(frozen=True)
class _Again:
    """The new training."""

    outcome: Outcome
    metrics: Mapping[int, Mapping[str, float]]
    """Step -> what was reported."""
    place: Mapping[str, int | str]


def check_trial(results: ResultLocation, *, sets: Sequence[str] = (), begin: int | None = None) -> TrialComparison:
    """Train a finished trial again, on what it was trained on as far as that is recorded, and compare the two.

    Args:
        results: The address of the trial.
        sets: ``--set`` arguments that change its resources.
        begin: The step of the checkpoint that it begins at; None: from the beginning.

    Raises:
        UserError: The trial has not finished, or cannot begin where it is asked to.
        CodeChanged: The user's code is not what it was trained with. Also what
            :func:`~expflow.sweep.finished_trial.recorded_recipe` raises.
    """
    recorded = _recorded(results)
    world = local_world(changed_resources(_resources(recorded.state), sets))
    with tempfile.TemporaryDirectory(prefix="expflow-check-") as scratch:
        folder = Path(scratch) / "trial"
        forks = _begin_at(recorded, begin, folder)
        attempt = Attempt(
            recorded.recipe,
            recorded.state.seed,
            data_root=recorded.data.root if recorded.data is not None else None,
            folder=folder,
            forks=forks,
            weights=recorded.weights,
            features=recorded.features,
            labeller=recorded.labeller,
            judged_by=results.state.header.metric if results.state.header is not None else "",
        )
        again = _train(attempt, world)
        return _compared(recorded, again, begin or 0, folder)


def _recorded(results: ResultLocation) -> _Recorded:
    if results.which in (None, "best"):
        raise AddressUnknown(f"{results.name}: which of its trials? `{results.command('status')}` lists their ids")
    trial = results.trial()
    name = f"{results.name}/{trial.trial}"
    if trial.status != "done" or not trial.reports:
        raise UserError(f"{name} is {trial.status}: only trials at their full budget can be checked")
    recipe = recorded_recipe(results, trial)
    weights = None
    if (parent := parent_of(results.state, recipe, trial.seed)) is not None:
        weights = first_weights(results.folder, recipe, None, parent)
    if recipe.init is not None and recipe.init.pretrained:
        header = start_of(results.state, trial)
        known = header.weights.get(source_of_seed(recipe.init.source, trial.seed)) if header is not None else None
        weights = kept_copies(results.folder, known) if known else None
        if weights is None:
            raise UserError(f"{name} began with the weights of {recipe.init.source}, whose copy is not there any more")
    data, classifiers = recorded_data(results, recipe, trial.seed), recorded_classifiers(results, trial, recipe)
    return _Recorded(results, trial, recipe, data, weights, *classifiers)


def _resources(trial: TrialState) -> Resources:
    """What the trial ran on; what the site gives it where that is not recorded, by an earlier expflow."""
    here = load_site().resources or Resources()
    if not trial.place:
        return here
    on_cpu = str(trial.place["device"]).startswith("cpu")
    own = {"ranks": trial.place["ranks"], "cpus_per_rank": trial.place["threads"]}
    return here.model_copy(update={**own, "gpus_per_rank": 0.0 if on_cpu else "auto"})


def _begin_at(recorded: _Recorded, step: int | None, folder: Path) -> int:
    """Put the checkpoint of a step where the new training goes on from it; returns the forks that lie before it."""
    name = f"{recorded.results.name}/{recorded.state.trial}"
    if step is None:
        if recorded.state.forks:
            raise UserError(f"{name} took over another trial's weights: --from names a checkpoint behind that")
        return 0
    if step >= recorded.last_step:
        raise UserError(f"--from {step}: {name} ended at step {recorded.last_step}, so nothing is left to compare")
    path = next((path for path in recorded.checkpoints if checkpoint_step(path) == step), None)
    if path is None:
        known = ", ".join(str(checkpoint_step(path)) for path in reversed(recorded.checkpoints))
        raise UserError(
            f"--from {step}: {name} keeps no checkpoint of this step; it has {known or 'none'} (trainer.checkpoint.keep"
            " says how many stay)"
        )
    manifest = verify_checkpoint(path)
    shutil.copytree(path, folder / CHECKPOINTS_FOLDER / path.name)
    return manifest.forks


def _train(attempt: Attempt, world: World) -> _Again:
    metrics: dict[int, Mapping[str, float]] = {}
    place: dict[str, int | str] = {}

    def on_report(report: Report) -> bool:
        metrics[report.step] = {name: float(value) for name, value in report.metrics.items()}
        return True

    def on_notice(notice: Notice) -> None:
        if isinstance(notice, Began):
            place.update(notice.place)

    train = run_trial if world.ranks == 1 else run_local_ranks
    outcome = train(attempt, world, on_report, on_notice=on_notice, leave=lambda: False)
    return _Again(outcome, metrics, place)


def _compared(recorded: _Recorded, again: _Again, begin: int, folder: Path) -> TrialComparison:
    then = {report.step: report.metrics for report in recorded.state.reports if report.step > begin}
    steps = sorted({*then, *again.metrics})
    metrics = tuple(_metric_differences(steps, then, again.metrics))
    digest = recorded.state.weights
    weights_equal = digest == again.outcome.weights if digest else None
    return TrialComparison(
        recorded.state.trial,
        begin,
        len(steps),
        not metrics and weights_equal is not False,
        weights_equal,
        min((difference.first_step for difference in metrics), default=None),
        metrics,
        None if weights_equal is not False else _weights_difference(recorded, folder),
        _surroundings(recorded, again),
    )


def _metric_differences(
    steps: Sequence[int], then: Mapping[int, Mapping[str, float]], now: Mapping[int, Mapping[str, float]]
) -> Iterator[MetricDifference]:
    names = dict.fromkeys(name for side in (then, now) for metrics in side.values() for name in metrics)
    for name in names:
        if name in _MEASURED_HERE:
            continue
        pairs = {step: (then.get(step, {}).get(name), now.get(step, {}).get(name)) for step in steps}
        differing = [step for step, (one, other) in pairs.items() if not _same(one, other)]
        if differing:
            sizes = [abs(one - other) for one, other in pairs.values() if one is not None and other is not None]
            largest = max((size for size in sizes if math.isfinite(size)), default=None)
            recorded, again = map(_finite, pairs[steps[-1]])
            yield MetricDifference(name, differing[0], recorded, again, largest)


def _same(one: float | None, other: float | None) -> bool:
    """Whether two values have the same bits, or are no number both."""
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _weights_difference(recorded: _Recorded, folder: Path) -> WeightsDifference | None:
    """Of the checkpoints of the last step; None where one of them was not kept."""
    from expflow.training.checkpoints.tensor_files import read_weights

    allow = recorded.recipe.trainer.checkpoint.allow
    weights: list[dict[str, Any]] = []
    for paths in (recorded.checkpoints, list_checkpoints(folder / CHECKPOINTS_FOLDER)):
        path = next((path for path in paths if checkpoint_step(path) == recorded.last_step), None)
        if path is None:
            return None
        try:
            weights.append(read_weights(path, allow))
        except CheckpointDamaged:
            return None
    then, now = weights
    common = [name for name in then if name in now and then[name].shape == now[name].shape]
    differences = [then[name].double() - now[name].double() for name in common]
    norm = math.sqrt(math.fsum(float(then[name].double().square().sum()) for name in common))
    distance = math.sqrt(math.fsum(float(difference.square().sum()) for difference in differences))
    return WeightsDifference(
        sum(bool(difference.any()) for difference in differences),
        len(common),
        max((float(difference.abs().max()) for difference in differences if difference.numel()), default=0.0),
        distance / norm if norm else 0.0,
    )


def _surroundings(recorded: _Recorded, again: _Again) -> dict[str, tuple[str, str]]:
    """What the two were computed with and on, where that differs; only what the record has."""
    header = start_of(recorded.results.state, recorded.state)
    then: dict[str, Any] = {**(header.versions if header is not None else {}), **recorded.state.place}
    now = {**package_versions(), **again.place}
    return {name: (str(value), str(now[name])) for name, value in then.items() if name in now and now[name] != value}
