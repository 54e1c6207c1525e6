"""From a plan to its trials: the configs that the searcher proposes, each with each of its seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from expflow.config.identity import config_id, trial_id
from expflow.config.schema import Recipe
from expflow.data.prepare.prepared import PreparedData
from expflow.errors import ExperimentInvalid
from expflow.sweep.data_preparation import prepared_data
from expflow.sweep.label_overlap import label_problem, trained_on
from expflow.sweep.named_classifiers import LABELS_KEY
from expflow.sweep.network_limits import identify
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.plan_identity import budget_of, own_data_key
from expflow.sweep.search_builders import build_searcher
from expflow.sweep.search_state import MAX_REPEATS
from expflow.sweep.searchers import Learned, Values
from expflow.sweep.untrained_networks import UntrainedNetworks
from expflow.training.transfer.trained_classifier import TrainedClassifier

KNOWN_BEFOREHAND = 10
"""Configs that a plan shows of a searcher that learns: as many as it can propose before it has results."""


def proposed_configs(plan: Plan) -> Iterator[Values]:
    """Searched values of each config that the searcher proposes by itself, each config once.

    Of a searcher that learns only the first ones are known beforehand. Proposals that the schema refuses are left
    out, as they are in the sweep; a grid's and a list's have all been checked before.

    Args:
        plan: The plan that is searched.

    Raises:
        ExperimentInvalid: None of those that were drawn can be trained; with the first reason.
    """
    searcher, known = build_searcher(plan), set[str]()
    most = plan.limit if not plan.learns else min(plan.limit or KNOWN_BEFOREHAND, KNOWN_BEFOREHAND)
    networks = UntrainedNetworks(plan, preview=True)
    repeats, refused = 0, dict[str, ExperimentInvalid]()
    while (most is None or len(known) < most) and repeats < MAX_REPEATS:
        if (values := searcher.suggest()) is None:
            break
        config = ""
        try:
            config = identify(plan, values, networks)
        except ExperimentInvalid as error:
            refused.setdefault(error.problems[0].key, error)
            searcher.complete(values, Learned("infeasible", refused=error.problems[0].message))
        repeats += 1
        if config and config not in known:
            repeats = 0
            known.add(config)
            yield values
    if not known and refused:  # nothing that was drawn can be trained
        raise next(iter(refused.values()))


def planned_trials(plan: Plan) -> Iterator[PlannedTrial]:
    """The trials of :func:`proposed_configs` in proposal order: each config with each of its seeds.

    Args:
        plan: The plan that is expanded.
    """
    for values in proposed_configs(plan):
        yield from expand_config(plan, values)


def expand_config(plan: Plan, values: Values, seeds: Sequence[int] | None = None) -> list[PlannedTrial]:
    """A config with each of several seeds.

    Args:
        plan: The plan that the config belongs to.
        values: Searched key -> value.
        seeds: The seeds; by default the sweep's.

    Raises:
        ExperimentInvalid: The schema refuses the values.
    """
    recipe = plan.loaded.configure(values)
    config, budget = config_id(recipe), budget_of(recipe)
    source = recipe.init.source if recipe.init is not None and recipe.init.pretrained else ""
    features, labeller, trials = plan.networks.of(recipe), plan.labellers.of(recipe), []
    for seed in plan.sweep.seeds if seeds is None else seeds:
        data = prepared_data(plan, recipe, seed)
        if labeller is not None and data is not None:
            _check_labeller(plan, recipe, labeller, data, values)
        weights = plan.sources.of(source, seed) if source else None
        weights_id = "+".join(taken.id for taken in (weights, features) if taken is not None)
        name = trial_id(config, seed, data.key if data is not None else own_data_key(recipe), weights_id)
        taken = (weights, features, labeller)
        trials.append(PlannedTrial(name, config, seed, values, budget, data, plan.loaded.configure, *taken))
    return trials


def _check_labeller(
    plan: Plan, recipe: Recipe, labeller: TrainedClassifier, data: PreparedData, values: Values
) -> None:
    now = trained_on(recipe, data, plan.loaded.experiment.file.parent, plan.site)
    if problem := label_problem(labeller, data, now):
        raise ExperimentInvalid([plan.problem_at(LABELS_KEY.dotted, problem, values)])


def planned_trial(plan: Plan, values: Values, seed: int) -> PlannedTrial:
    """A config with one seed.

    Args:
        plan: The plan that the config belongs to.
        values: Searched key -> value.
        seed: The trial's seed.
    """
    return expand_config(plan, values, (seed,))[0]


def expected_configs(plan: Plan) -> int:
    """Number of configs that the searcher proposes by itself, or is asked for. Counted once for each plan.

    Args:
        plan: The plan that is counted.
    """
    if plan.cache.configs is None:
        plan.cache.configs = plan.limit if plan.learns and plan.limit else sum(1 for _ in proposed_configs(plan))
    return plan.cache.configs


def expected_trials(plan: Plan) -> int:
    """Number of trials that the sweep comes to, where nothing is stopped or repeated.

    Args:
        plan: The plan that is counted.
    """
    configs, confirm, most = expected_configs(plan), plan.sweep.confirm, plan.sweep.budget.trials
    confirming = min(confirm.top, configs) * len(confirm.seeds) if confirm else 0
    count = configs * len(plan.sweep.seeds) + confirming
    return count if most is None else min(count, most)
