"""The classifiers that recipes name by their address: looked up once, as ``init.from`` is.

One kind gives features that a task's metrics compare images in (``task.features``), the other labels for the train
split (``data.labels_from``). Their id enters the ids of the trials, so results with one network are never taken for
those with another; the first trial copies the weights, and the ledger's header says which network they are of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expflow.architectures.torchvision_weights import PREFIX, published_classifier
from expflow.config.address import NameAddress
from expflow.config.loading import LoadedExperiment
from expflow.config.schema import Recipe, Sweep
from expflow.config.site import Site
from expflow.config.spec import Spec, UserComponent
from expflow.config.tree import Mark, problem_at
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import AddressUnknown, ExperimentInvalid, LedgerMismatch, UserError
from expflow.ledger import SweepState, TrialState, exists, load_state
from expflow.registry import MODELS
from expflow.sweep.finished_trial import recorded_data, recorded_recipe
from expflow.sweep.initial_weights import best_trial, published_weights, results_of, weights_of_finished
from expflow.sweep.label_overlap import trained_on
from expflow.sweep.result_location import ResultLocation
from expflow.sweep.storage_place import parse_result_address
from expflow.sweep.weight_copies import FEATURES, LABELS, kept_classifier
from expflow.training.transfer.trained_classifier import TrainedClassifier, feature_source, label_source


@dataclass(frozen=True)
class ClassifierKey:
    """A key of the recipe that names a classifier.

    Attributes:
        slot: Slot of the recipe.
        field: Field of the component in it.
        prefix: What stands before the address in the ledger's header.
        source_of: Gives the address that a slot's component names; "" for none.
        gives: What the classifier gives, for messages.
        used: How results were made with it, for messages.
    """

    slot: str
    field: str
    prefix: str
    source_of: Callable[[Any], str]
    gives: str
    used: str

    @property
    def dotted(self) -> str:
        """The key as files have it."""
        return f"{self.slot}.{self.field}"


FEATURES_KEY = ClassifierKey(
    "task", "features", FEATURES, feature_source, "features", "measured in the features of {}, and distances in the two"
)
LABELS_KEY = ClassifierKey(
    "data", "labels_from", LABELS, label_source, "labels", "trained on labels of {}, and results with the two"
)


class NamedClassifiers:
    """The classifiers of one key of a plan.

    Args:
        key: The key.
        networks: Address -> the network that it leads to.
    """

    def __init__(self, key: ClassifierKey, networks: Mapping[str, TrainedClassifier] | None = None) -> None:
        self._key, self._by_source = key, dict(networks or {})

    def of(self, recipe: Recipe) -> TrainedClassifier | None:
        """The classifier that a recipe names; None where it names none.

        Args:
            recipe: The recipe.

        Raises:
            UserError: Its address was not looked up.
        """
        source = self._key.source_of(getattr(recipe, self._key.slot))
        if source and source not in self._by_source:
            raise UserError(f"{self._key.dotted}: {source} was not looked up: no value of the file names it")
        return self._by_source.get(source)

    @property
    def by_address(self) -> Mapping[str, TrainedClassifier]:
        """Address -> the classifier that it leads to."""
        return self._by_source

    @property
    def facts(self) -> dict[str, Any]:
        """What the ledger's header holds of them, beside the weights of ``init.from``."""
        return {
            self._key.prefix + source: {
                "id": network.weights.id,
                "origin": network.weights.origin,
                "trial": network.weights.trial,
                "files": [sha256 for _, sha256 in network.weights.files],
                "network": network.facts,
            }
            for source, network in self._by_source.items()
        }


def resolve_classifiers(
    loaded: LoadedExperiment, sweep: Sweep, *, site: Site, storage: Path, folder: Path
) -> tuple[NamedClassifiers, NamedClassifiers]:
    """Look up every classifier that an experiment names: those of ``task.features``, and of ``data.labels_from``.

    Args:
        loaded: The experiment as it was read.
        sweep: What is searched.
        site: What differs between machines.
        storage: The folder of all results.
        folder: The experiment's folder.

    Raises:
        ExperimentInvalid: An address leads to no classifier; with file, line and column.
        WeightsMissing: Published weights are not on this machine.
        CheckpointDamaged: They are not what was published.
        LedgerMismatch: One leads to another classifier than the results began with.
    """
    keys = (FEATURES_KEY, LABELS_KEY)
    features, labels = (_classifiers_of(key, loaded, sweep, site, storage, folder) for key in keys)
    return features, labels


def _classifiers_of(
    key: ClassifierKey, loaded: LoadedExperiment, sweep: Sweep, site: Site, storage: Path, folder: Path
) -> NamedClassifiers:
    written = dict(_written(key, loaded, sweep))
    before = load_state(folder) if written and exists(folder) else SweepState()
    networks: dict[str, TrainedClassifier] = {}
    for source, mark in written.items():
        known = before.header.weights.get(key.prefix + source) if before.header is not None else None
        networks[source] = kept_classifier(folder, known) or _looked_up(key, source, mark, loaded, storage, site)
        if known is not None and before.trials and networks[source].weights.id != known["id"]:
            raise LedgerMismatch(
                f"{folder.name} was {key.used.format(known['origin'] + ', whose copy is gone')} do not compare:"
                f" {key.dotted}: {source} now leads to {networks[source].weights.origin}. Put the copy back, or begin"
                " anew with --fresh"
            )
    return NamedClassifiers(key, networks)


def _written(key: ClassifierKey, loaded: LoadedExperiment, sweep: Sweep) -> Iterator[tuple[str, Mark]]:
    """Every address in the file, in the base recipe or among the searched values."""
    if source := key.source_of(getattr(loaded.experiment, key.slot)):
        yield source, loaded.location(key.dotted)
    for dimension in sweep.space:
        if dimension.key in (key.slot, key.dotted):
            for value in dimension.values:
                named = value.get(key.field) if isinstance(value, Mapping) else value
                if isinstance(named, str) and named and (dimension.key == key.dotted or isinstance(value, Mapping)):
                    yield named, loaded.location_of_value(dimension.key, value, key.field)


def task_name(recipe: Recipe) -> str:
    """The name of a recipe's task.

    Args:
        recipe: The recipe.
    """
    return recipe.task.name if isinstance(recipe.task, Spec) else ""


def _looked_up(
    key: ClassifierKey, source: str, mark: Mark, loaded: LoadedExperiment, storage: Path, site: Site
) -> TrainedClassifier:
    try:
        if source.startswith(PREFIX):
            return _published(source, site)
        return _resolve(key, source, loaded.experiment.file.parent, storage, site)
    except UserError as error:
        raise ExperimentInvalid([problem_at(mark, key.dotted, str(error))]) from error


def _published(source: str, site: Site) -> TrainedClassifier:
    """The classifier that published weights are of."""
    about, weights = published_classifier(source), published_weights(source, site)
    fields = {"image": FieldSpec((3, about.side, about.side), "uint8"), "label": FieldSpec((), "int64")}
    data_spec = DataSpec(fields, about.classes, mean=about.mean, std=about.std)
    return TrainedClassifier(weights, MODELS.spec(about.model)(name=about.model), data_spec)


def _resolve(key: ClassifierKey, source: str, folder: Path, storage: Path, site: Site) -> TrainedClassifier:
    """The classifier that an address leads to today.

    Raises:
        UserError: It leads to none.
    """
    try:
        address = parse_result_address(source)
    except AddressUnknown as error:
        raise UserError(
            f"expected NAME/best, NAME/ and the first characters of a trial's id, or {PREFIX}<name of weights>; found"
            f" {source!r}"
        ) from (error)
    if not isinstance(address, NameAddress) or address.which is None:
        raise UserError(
            f"expected a trial whose network gives the {key.gives}, NAME/best for example; found {source!r}"
        )
    results = results_of(source, address.name, folder, storage)
    trial = best_trial(results.state) if address.which == "best" else results.trial()
    if trial is None:
        raise UserError(f"{source}: no trial of {address.name} has finished yet; its sweep has to end first")
    return _classifier_of(source, results, trial, site)


def _classifier_of(source: str, results: ResultLocation, trial: TrialState, site: Site) -> TrainedClassifier:
    recipe = recorded_recipe(results, trial)
    model = recipe.model
    if task_name(recipe) != "classification" or not isinstance(model, Spec) or isinstance(model, UserComponent):
        raise UserError(
            f"{source} is no classifier of expflow's networks (its task is {task_name(recipe)}); name a"
            " trial of the task classification"
        )
    data = recorded_data(results, recipe, trial.seed)
    if data is None:
        raise UserError(f"{source} was trained on data of its own code, of which no mean and deviation are known")
    learned = trained_on(recipe, data, results.experiment_folder, site)
    return TrainedClassifier(weights_of_finished(source, results, trial), model, data.spec, learned)
