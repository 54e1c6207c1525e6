"""Finished trials, ready to be evaluated: recipe, data and checkpoint of a trial that the ledger knows by its id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.config import load_site
from expflow.config.component_specs import MODULE_RUNNERS
from expflow.config.components import recipe_from
from expflow.config.identity import config_id, recipe_from_identity
from expflow.config.merge import merge, tree_of_values
from expflow.config.resources import Resources
from expflow.config.schema import Recipe
from expflow.config.tree import Mark, from_plain, plain
from expflow.data.prepare.build import prepare
from expflow.data.prepare.prepared import PreparedData, data_key, with_labels_of
from expflow.data.prepare.slots import prepare_slots
from expflow.data.source_spec import ShardedSourceSpec
from expflow.errors import CheckpointDamaged, ExperimentInvalid, LedgerMismatch, UserError
from expflow.ledger import TrialState
from expflow.sweep.data_difference import data_difference
from expflow.sweep.kept_code import start_of
from expflow.sweep.recorded_code import admitted
from expflow.sweep.result_location import ResultLocation
from expflow.sweep.weight_copies import FEATURES, LABELS, kept_classifier
from expflow.training.checkpoints import list_checkpoints, verify_checkpoint
from expflow.training.checkpoints.selection import CHECKPOINTS_FOLDER
from expflow.training.contract import Attempt, World, runner_of
from expflow.training.local_ranks import local_world
from expflow.training.transfer.trained_classifier import TrainedClassifier, feature_source, label_source

if TYPE_CHECKING:
    from expflow.training.evaluation.evaluator import Evaluator, TrialWeights


@dataclass(frozen=True)
class FinishedTrial:
    """A trial at its full budget, and what evaluating it takes.

    Attributes:
        trial: Its state in the ledger.
        recipe: Its recipe.
        data: Its prepared data; None where the user's own code brings them.
        folder: The trial's own folder.
        checkpoint: The verified checkpoint of its last step.
        features: The classifier in whose features its metrics compare images.
        labeller: The classifier whose classes are the labels of its train split.
    """

    trial: TrialState
    recipe: Recipe
    data: PreparedData | None
    folder: Path
    checkpoint: Path
    features: TrainedClassifier | None = None
    labeller: TrainedClassifier | None = None

    @property
    def has_val(self) -> bool:
        """Whether its data keep a val split that it was not trained on."""
        if self.recipe.trainer.fit_on != "train":
            return False
        return self.data is None or bool(self.data.manifest.splits.get("val"))

    @property
    def split_key(self) -> str:
        """What distinguishes the test split of these data from that of any others."""
        source = self.recipe.data
        if isinstance(source, ShardedSourceSpec) and source.of_trial(self.trial.seed) != source:
            return data_key(source)  # each trial has a val of its own, and all the same test
        return self.data.manifest.content if self.data is not None else ""

    @contextmanager
    def open_evaluator(self) -> Iterator[Evaluator]:
        """An evaluator with this trial's network and data, in this process."""
        from expflow.training.evaluation.evaluator import open_evaluator  # torch and Lightning, which take seconds

        root = self.data.root if self.data is not None else None
        attempt = Attempt(self.recipe, self.trial.seed, root, features=self.features, labeller=self.labeller)
        with open_evaluator(attempt, world_for_evaluation()) as evaluator:
            yield evaluator

    def load_weights(self, on: Evaluator) -> TrialWeights:
        """The trial's weights.

        Args:
            on: The evaluator that reads them.

        Raises:
            LedgerMismatch: They are not those that the ledger recorded.
        """
        weights = on.load_weights(self.checkpoint)
        if self.trial.weights and weights.digest != self.trial.weights:
            raise LedgerMismatch(
                f"{self.checkpoint} does not hold the weights that trial {self.trial.trial} ended with (sha256 "
                f"{weights.digest[:12]}, recorded {self.trial.weights[:12]}); train it again in a fresh folder "
                "(--fresh)"
            )
        return weights


def world_for_evaluation() -> World:
    """One rank with the resources that the site gives it: evaluation takes a fraction of training."""
    resources = load_site().resources or Resources()
    return local_world(resources.model_copy(update={"ranks": 1}))


def load_finished_trial(results: ResultLocation, trial: TrialState) -> FinishedTrial:
    """A trial, ready to be evaluated.

    Args:
        results: The results that it belongs to.
        trial: Its state in the ledger.

    Raises:
        UserError: It has not finished, or was not trained by Lightning.
        CheckpointDamaged: No whole checkpoint of its last step is left.
        CodeRefused: Its recipe names code that no experiment file here names.
        CodeChanged: The user's code is not what the results were recorded with.
        LedgerMismatch: Recipe or data are not what they were.
    """
    name = f"{results.name}/{trial.trial}"
    if trial.status != "done":
        raise UserError(f"{name} is {trial.status}: only trials at their full budget are evaluated")
    recipe = recorded_recipe(results, trial)
    if runner_of(recipe) not in MODULE_RUNNERS:
        raise UserError(f"{name} is no LightningModule ({runner_of(recipe)}): it keeps no weights to evaluate")
    own = results.trial_folder(trial, checkpoints=True)
    data, checkpoint = recorded_data(results, recipe, trial.seed), _checkpoint(results, trial, own)
    features, labeller = recorded_classifiers(results, trial, recipe)
    return FinishedTrial(trial, recipe, data, own, checkpoint, features, labeller)


def recorded_classifiers(
    results: ResultLocation, trial: TrialState, recipe: Recipe
) -> tuple[TrainedClassifier | None, TrainedClassifier | None]:
    """The classifier that a trial's metrics were measured with, and the one that labelled its train split.

    Args:
        results: The results that the trial belongs to.
        trial: Its state in the ledger.
        recipe: Its recipe.

    Raises:
        UserError: The copy of one's weights is gone.
    """
    features, labels = feature_source(recipe.task), label_source(recipe.data)
    header = start_of(results.state, trial)
    recorded = header.weights if header is not None else {}
    networks = []
    for source, prefix, used in (
        (features, FEATURES, "measured in the features"),
        (labels, LABELS, "trained on labels"),
    ):
        network = kept_classifier(results.folder, recorded.get(prefix + source)) if source else None
        if source and network is None:
            name = f"{results.name}/{trial.trial}"
            raise UserError(f"{name} was {used} of {source}, whose copy is not there any more")
        networks.append(network)
    return networks[0], networks[1]


def recorded_recipe(results: ResultLocation, trial: TrialState) -> Recipe:
    """The recipe of a trial, its execution fields as the newest driver had them.

    Args:
        results: The results that it belongs to.
        trial: Its state in the ledger.

    Raises:
        LedgerMismatch: This version of expflow, or the user's code, makes another config of it.
        CodeRefused: It names code that no experiment file here names.
        CodeChanged: The user's code is not what the results were recorded with.
    """
    if results.state.header is not None:
        mark = Mark("ledger")
        over = tree_of_values({key: from_plain(value, mark) for key, value in trial.latest_values.items()}, mark)
        budget = tree_of_values({key: from_plain(value, mark) for key, value in trial.budget.items()}, mark)
        base = merge(merge(from_plain(results.state.header.recipe, mark), over), budget)
        try:
            recipe = recipe_from(*admitted(results, plain(base)))
        except ExperimentInvalid:  # the newest file may be about something else
            pass
        else:
            if trial.forks or config_id(recipe) == trial.config:
                return recipe
    recipe = recipe_from(*admitted(results, recipe_from_identity(trial.recipe, trial.budget)))
    if not trial.forks and config_id(recipe) != trial.config:
        raise LedgerMismatch(
            f"{results.name}/{trial.trial} was made by a recipe that now is config {config_id(recipe)}, and was "
            f"{trial.config}: expflow or your own modules have changed since"
        )
    return recipe


def recorded_data(results: ResultLocation, recipe: Recipe, seed: int) -> PreparedData | None:
    """The prepared data of a recorded recipe; None where the user's own code brings them.

    Args:
        results: The results that it belongs to.
        recipe: The recipe.
        seed: The trial's seed, by which some data are split.

    Raises:
        LedgerMismatch: They are not what they were.
    """
    site, header = load_site(), results.state.header

    def prepare_one(source: ShardedSourceSpec) -> PreparedData:
        path = site.data.get(source.name)
        return prepare(source, cache=site.cache, folder=results.experiment_folder, site_path=path)

    if isinstance(recipe.data, ShardedSourceSpec):
        data: PreparedData | None = prepare_one(recipe.data.of_trial(seed))
    else:
        data = prepare_slots(recipe, prepare_one, Path(site.cache))
    if data is None:
        return None
    then = header.data if header is not None else {}
    labeller = header.weights.get(LABELS + label_source(recipe.data)) if header is not None else None
    if labeller is not None and isinstance(recipe.data, ShardedSourceSpec):
        data = with_labels_of(data, recipe.data.of_trial(seed), labeller["id"])
    if difference := data_difference(then, data):
        raise LedgerMismatch(
            f"{results.name} does not fit its data any more: {difference}. Put the files back as they were"
        )
    return data


def _checkpoint(results: ResultLocation, trial: TrialState, folder: Path) -> Path:
    """The checkpoint of the trial's last step. Its step is the report's: both count optimizer steps."""
    last = trial.reports[-1].step if trial.reports else 0
    reasons = []
    for path in list_checkpoints(folder / CHECKPOINTS_FOLDER):
        try:
            manifest = verify_checkpoint(path)
        except CheckpointDamaged as error:
            reasons.append(str(error))
            continue
        if manifest.step == last:
            return path
        reasons.append(f"{path.name} is of step {manifest.step}")
    raise CheckpointDamaged(
        f"{results.name}/{trial.trial} has no whole checkpoint of its last step, {last}: "
        f"{'; '.join(reasons) or 'none was kept (trainer.checkpoint.at_end: false, or it was removed)'}. "
        "Train it again in a fresh folder (--fresh)"
    )
