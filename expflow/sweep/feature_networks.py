"""The classifiers whose features a task's metrics compare images in: looked up once, as ``init.from`` is.

Their id enters the ids of the trials, so a distance is never compared with one in the features of another network; the
first trial copies the weights, and the ledger's header says which network they are of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from expflow.architectures.torchvision_weights import PREFIX, published_classifier
from expflow.config.address import NameAddress, parse_address
from expflow.config.loading import LoadedExperiment
from expflow.config.schema import Recipe, Sweep
from expflow.config.site import Site
from expflow.config.spec import Spec, UserComponent
from expflow.config.tree import Mark, problem_at
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import AddressUnknown, ExperimentInvalid, LedgerMismatch, UserError
from expflow.ledger import SweepState, exists, load_state
from expflow.registry import MODELS
from expflow.sweep.finished_trial import recorded_data, recorded_recipe
from expflow.sweep.initial_weights import best_trial, published_weights, results_of, weights_of_finished
from expflow.sweep.weight_copies import FEATURES, kept_network
from expflow.training.transfer.feature_network import FeatureNetwork, feature_source

KEY = "task.features"


class FeatureNetworks:
    """The classifiers of every ``task.features`` of a plan.

    Args:
        networks: Address -> the network that it leads to.
    """

    def __init__(self, networks: Mapping[str, FeatureNetwork]) -> None:
        self._by_source = dict(networks)

    def of(self, recipe: Recipe) -> FeatureNetwork | None:
        """What a recipe's metrics are measured with; None where they need no network.

        Args:
            recipe: The recipe.

        Raises:
            UserError: Its address was not looked up.
        """
        source = feature_source(recipe.task)
        if source and source not in self._by_source:
            raise UserError(f"{KEY}: {source} was not looked up: no value of the file names it")
        return self._by_source.get(source)

    @property
    def facts(self) -> dict[str, Any]:
        """What the ledger's header holds of them, beside the weights of ``init.from``."""
        return {
            FEATURES + source: {
                "id": network.weights.id,
                "origin": network.weights.origin,
                "trial": network.weights.trial,
                "files": [sha256 for _, sha256 in network.weights.files],
                "network": network.facts,
            }
            for source, network in self._by_source.items()
        }


def resolve_features(
    loaded: LoadedExperiment, sweep: Sweep, *, site: Site, storage: Path, folder: Path
) -> FeatureNetworks:
    """Look up every ``task.features`` of an experiment.

    Args:
        loaded: The experiment as it was read.
        sweep: What is searched.
        site: What differs between machines.
        storage: The folder of all results.
        folder: The experiment's folder.

    Raises:
        ExperimentInvalid: One leads to no classifier; with file, line and column.
        WeightsMissing: Published weights are not on this machine.
        CheckpointDamaged: They are not what was published.
        LedgerMismatch: One leads to another classifier than the results began with.
    """
    written = dict(_written(loaded, sweep))
    before = load_state(folder) if written and exists(folder) else SweepState()
    networks: dict[str, FeatureNetwork] = {}
    for source, mark in written.items():
        known = before.header.weights.get(FEATURES + source) if before.header is not None else None
        networks[source] = kept_network(folder, known) or _looked_up(source, mark, loaded, storage, site)
        if known is not None and before.trials and networks[source].weights.id != known["id"]:
            raise LedgerMismatch(
                f"{folder.name} was measured in the features of {known['origin']}, whose copy is gone, and {KEY}:"
                f" {source} now leads to {networks[source].weights.origin}; distances in the two do not compare. Put"
                " the copy back, or begin anew with --fresh"
            )
    return FeatureNetworks(networks)


def _written(loaded: LoadedExperiment, sweep: Sweep) -> Iterator[tuple[str, Mark]]:
    """Every address in the file, in the base recipe or among the searched values."""
    if source := feature_source(loaded.experiment.task):
        yield source, loaded.location(KEY)
    for dimension in sweep.space:
        if dimension.key in ("task", KEY):
            for value in dimension.values:
                named = value.get("features") if isinstance(value, Mapping) else value
                if isinstance(named, str) and named and (dimension.key == KEY or isinstance(value, Mapping)):
                    yield named, loaded.location_of_value(dimension.key, value, "features")


def task_name(recipe: Recipe) -> str:
    """The name of a recipe's task.

    Args:
        recipe: The recipe.
    """
    return recipe.task.name if isinstance(recipe.task, Spec) else ""


def _looked_up(source: str, mark: Mark, loaded: LoadedExperiment, storage: Path, site: Site) -> FeatureNetwork:
    try:
        if source.startswith(PREFIX):
            return _published(source, site)
        return _resolve(source, loaded.experiment.file.parent, storage)
    except UserError as error:
        raise ExperimentInvalid([problem_at(mark, KEY, str(error))]) from error


def _published(source: str, site: Site) -> FeatureNetwork:
    """The classifier that published weights are of."""
    about, weights = published_classifier(source), published_weights(source, site)
    fields = {"image": FieldSpec((3, about.side, about.side), "uint8"), "label": FieldSpec((), "int64")}
    data_spec = DataSpec(fields, about.classes, mean=about.mean, std=about.std)
    return FeatureNetwork(weights, MODELS.spec(about.model)(name=about.model), data_spec)


def _resolve(source: str, folder: Path, storage: Path) -> FeatureNetwork:
    """The classifier that an address leads to today.

    Raises:
        UserError: It leads to none.
    """
    try:
        address = parse_address(source)
    except AddressUnknown as error:
        raise UserError(
            f"expected NAME/best, NAME/ and the first characters of a trial's id, or {PREFIX}<name of weights>; found"
            f" {source!r}"
        ) from (error)
    if not isinstance(address, NameAddress) or address.which is None:
        raise UserError(f"expected a trial whose network gives the features, NAME/best for example; found {source!r}")
    results = results_of(source, address.name, folder, storage)
    trial = best_trial(results.state) if address.which == "best" else results.trial()
    if trial is None:
        raise UserError(f"{source}: no trial of {address.name} has finished yet; its sweep has to end first")
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
    return FeatureNetwork(weights_of_finished(source, results, trial), model, data.spec)
