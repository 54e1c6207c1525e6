"""The frozen facts of an experiment on this machine: what is searched, how it is judged, where its results lie.

What follows from a plan is computed beside it: trials in :mod:`~expflow.sweep.trial_expansion`, searcher and scheduler
in :mod:`~expflow.sweep.search_builders`, data in :mod:`~expflow.sweep.data_preparation`, the ledger's header in
:mod:`~expflow.sweep.ledger_header`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expflow.config import LoadedExperiment, Site, load, load_site
from expflow.config.component_specs import scheduler_spec, searcher_spec, task_spec
from expflow.config.identity import folder_name, recorded_tree
from expflow.config.schema import Recipe, Sweep
from expflow.config.tree import problem_at
from expflow.data.prepare.prepared import PreparedData
from expflow.errors import ExperimentInvalid, Problem
from expflow.metrics import metric_mode
from expflow.redaction import redacted
from expflow.search.chosen_children import with_children
from expflow.sweep.initial_weights import InitialWeights, resolve_all
from expflow.sweep.named_classifiers import FEATURES_KEY, LABELS_KEY, NamedClassifiers, resolve_classifiers
from expflow.sweep.objective import Objective
from expflow.sweep.parent_weights import check_inheritance
from expflow.sweep.plan_identity import plan_digest, search_digest
from expflow.sweep.provenance import CONTINUE_VARIABLE
from expflow.sweep.result_names import newest_name, unused_name
from expflow.sweep.searchers import Values
from expflow.sweep.searchers.specs import GridSpec
from expflow.sweep.storage_place import fetch_related, storage_folder, storage_text
from expflow.sweep.trial_ranks import check_rules
from expflow.training.template.process import RankTemplate
from expflow.training.transfer.pretrained import PretrainedWeights
from expflow.training.transfer.trained_classifier import TrainedClassifier


@dataclass(frozen=True)
class PlannedTrial:
    """One config with one seed, as the searcher proposed it. Small: its recipe is made anew when it is asked for."""

    trial: str
    """The trial's id."""
    config: str
    """The config's id."""
    seed: int
    values: dict[str, Any]
    """Searched key -> chosen value."""
    budget: dict[str, Any]
    """The recipe's budget fields by dotted key."""
    data: PreparedData | None
    """Its prepared data; None where its task brings its own or needs none."""
    configure: Callable[[Mapping[str, Any]], Recipe] = field(repr=False, compare=False)
    """Gives the recipe of searched values."""
    weights: PretrainedWeights | None = None
    """What it begins with; None for fresh weights."""
    features: TrainedClassifier | None = None
    """The classifier in whose features its metrics compare images; None where none does."""
    labeller: TrainedClassifier | None = None
    """The classifier whose classes are the labels of its train split; None for the true labels."""

    @property
    def recipe(self) -> Recipe:
        """The recipe with the searched values in it."""
        return self.configure(self.values)

    @property
    def recorded(self) -> dict[str, Any]:
        """What the ledger holds of the recipe."""
        return recorded_tree(self.recipe)

    @property
    def folder(self) -> str:
        """Name of the trial's own folder."""
        return folder_name(self.values, self.seed, self.trial)


@dataclass
class PlanCache:
    """What was computed for a plan and is not to be computed again."""

    prepared: dict[str, PreparedData] = field(default_factory=dict)
    """Data key -> prepared data."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Config id -> why its network cannot be built or costs too much; empty where it may be trained."""
    template: RankTemplate | None = None
    """What networks are built in, so that this process imports no torch; None: in this process."""
    configs: int | None = None
    """Number of configs that the searcher proposes, once it was counted."""


@dataclass(frozen=True)
class Plan:
    """An experiment on this machine. Building one starts nothing; data are prepared when a trial first needs them."""

    loaded: LoadedExperiment
    """The experiment as it was read."""
    site: Site
    """What differs between machines."""
    name: str
    """Name of the results: the experiment's, with ``.2``, ``.3``, … after ``--fresh``."""
    storage: Path
    """The folder of all results."""
    sweep: Sweep
    """What is searched; a single trial is a grid of nothing."""
    sources: InitialWeights
    """The weights that recipes begin with."""
    networks: NamedClassifiers
    """The classifiers in whose features metrics compare images."""
    labellers: NamedClassifiers
    """The classifiers whose classes are labels of train splits."""
    command: str = ""
    """What to type to continue, from anywhere; without secrets."""
    check: bool = True
    """Whether ranks try one batch of a network before its first trial."""
    supposing: bool = False
    """Whether data that are missing are taken for what is published of them: such a plan can be shown, not run."""
    cache: PlanCache = field(default_factory=PlanCache, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """Where this experiment's results lie; of results at an address, their working folder."""
        return self.storage / self.name

    @property
    def storage_address(self) -> str:
        """Where all results lie, as it is written: a folder or an address."""
        return storage_text(self.storage)

    @property
    def results_address(self) -> str:
        """Where this experiment's results lie, as it is written: a folder or an address."""
        return f"{self.storage_address.rstrip('/')}/{self.name}"

    @property
    def metric(self) -> str:
        """What the sweep is judged by."""
        return self.sweep.metric

    @property
    def mode(self) -> str:
        """``max`` or ``min``."""
        return metric_mode(self.sweep.metric, self.sweep.mode)

    @property
    def objectives(self) -> tuple[tuple[str, str], ...]:
        """The metrics that the sweep is judged by, each with its direction; the first one ranks."""
        return ((self.metric, self.mode), *((further.metric, further.mode) for further in self.sweep.further))

    @property
    def objective(self) -> Objective:
        """How trials are judged, and how schedulers count their time."""
        unit = scheduler_spec(self.sweep.scheduler).time_unit
        epochs = self.loaded.experiment.trainer.epochs
        return Objective(self.metric, self.mode, self.sweep.select, unit, epochs, self.objectives[1:])

    @property
    def digest(self) -> str:
        """Hash of what is searched: another plan starts another set of trials."""
        return plan_digest(self.loaded.experiment.recipe, self.sweep)

    @property
    def search_key(self) -> str:
        """Hash of all that the searcher's proposals depend on, besides results."""
        return search_digest(self.loaded.experiment.recipe, self.sweep, self.mode)

    @property
    def devices(self) -> float:
        """Devices that one trial occupies: its ranks, times their GPUs where the file gives them some."""
        resources = self.loaded.experiment.resources
        gpus = resources.gpus_per_rank
        return resources.ranks * (gpus if isinstance(gpus, float) and gpus > 0 else 1.0)

    @property
    def slots_here(self) -> int:
        """Trials that this machine's cores can run at once, at least one."""
        resources = self.loaded.experiment.resources
        fit = max(1, (os.cpu_count() or 1) // (resources.ranks * resources.cpus_per_rank))
        return min(fit, resources.max_concurrent or fit)

    @property
    def limit(self) -> int | None:
        """Number of configs that are wanted of the searcher; None for all that it has."""
        return searcher_spec(self.sweep.searcher).max_configs

    @property
    def learns(self) -> bool:
        """Whether the searcher's proposals depend on results; a searcher of the user's may."""
        return searcher_spec(self.sweep.searcher).learns

    def accepts(self, values: Values) -> bool:
        """Whether the schema takes a config.

        Args:
            values: Searched key -> value.
        """
        try:
            self.loaded.configure(values)
        except ExperimentInvalid:
            return False
        return True

    def problem_at(self, key: str, message: str, values: Values | None = None) -> Problem:
        """Something that is wrong with the experiment, at the place where the file says it.

        Args:
            key: Dotted key of the recipe.
            message: What is wrong with it.
            values: The searched values of the config that it concerns; None for the base recipe.
        """
        return problem_at(self.loaded.location(key, values), key, message)

    def with_published_data(self) -> Plan:
        """The same plan, in which data that are missing are taken for what is published of them."""
        return replace(self, supposing=True, cache=PlanCache())


def make_plan(
    file: Path,
    sets: Sequence[str] = (),
    *,
    storage: Path | str | None = None,
    alone: bool = False,
    fresh: bool = False,
    version: str = "",
    elsewhere: bool = False,
) -> Plan:
    """Read an experiment file and settle where its results go.

    Args:
        file: The experiment's YAML file.
        sets: The ``--set`` arguments, ``key=value`` each.
        storage: The folder of all results; it wins over the file's, the file's over the site's.
        alone: Ignore the file's sweep: one trial of the base recipe with seed 0.
        fresh: Begin new results beside those that are there; without it the newest are continued.
        version: What the results' name ends in, where they are of one version of the user's code.
        elsewhere: A machine that makes the plan anew will run it, so weights to begin with are not looked up here.

    Raises:
        ExperimentInvalid: With everything that is wrong in the file.
        StorageUnreachable: The storage is an address that does not answer.
    """
    site = load_site()
    loaded = load(file, sets, site)
    experiment, sweep = loaded.experiment, _sweep_of(loaded, alone)
    folder = storage_folder(storage or experiment.storage, site)
    name = loaded.name + ("+train" if alone and experiment.sweep is not None else "") + version
    fetch_related(folder, name)
    name = unused_name(folder, name) if fresh else newest_name(folder, name, experiment.file)
    command = _continuing("train" if alone else "sweep", loaded, storage, bool(version))
    sources, classifiers = InitialWeights({}), (NamedClassifiers(FEATURES_KEY), NamedClassifiers(LABELS_KEY))
    if not elsewhere:
        sweep = with_children(sweep, folder, folder / name, experiment.file.parent)
        sources = resolve_all(loaded, sweep, site=site, storage=folder, folder=folder / name)
        classifiers = resolve_classifiers(loaded, sweep, site=site, storage=folder, folder=folder / name)
    check_inheritance(loaded, sweep, storage_text(folder))
    return Plan(loaded, site, name, folder, sweep, sources, *classifiers, command)


def _sweep_of(loaded: LoadedExperiment, alone: bool) -> Sweep:
    """The file's sweep, checked; without one, or for one trial ``alone``, a grid of nothing under the same metric."""
    sweep = loaded.experiment.sweep
    if sweep is None or alone:
        metric = sweep.metric if sweep else task_spec(loaded.experiment.recipe.task).judged_by
        return Sweep(searcher=GridSpec(), metric=metric, mode=sweep.mode if sweep else None)
    loaded.check()
    check_rules(loaded.experiment.resources, sweep)
    return sweep


def _continuing(verb: str, loaded: LoadedExperiment, storage: Path | str | None, versioned: bool) -> str:
    """What to type to continue, without secrets."""
    words = [*_command(verb, loaded, storage), *(("--changed-code", "new") if versioned else ())]
    return redacted(os.environ.get(CONTINUE_VARIABLE) or shlex.join(words))


def _command(verb: str, loaded: LoadedExperiment, storage: Path | str | None) -> list[str]:
    words = ["expflow", verb, str(loaded.experiment.file)]
    for assignment in loaded.sets:
        words += ["--set", assignment]
    if storage:
        words += ["--storage", storage_text(storage_folder(storage))]
    return words
