"""Configs that are proposed and not trained: their network cannot be built, or costs more than the sweep allows.

That follows from the config and its data alone, so a replayed search refuses the same ones.
"""

from __future__ import annotations

from expflow.config.component_specs import searcher_spec, source_spec
from expflow.config.identity import config_id, config_text
from expflow.config.schema import Recipe
from expflow.errors import ExperimentInvalid
from expflow.sweep.data_preparation import prepared_data
from expflow.sweep.network_counts import BuildCheck, BuildFinding, check_networks
from expflow.sweep.plan import Plan
from expflow.sweep.searchers import Values
from expflow.sweep.untrained_networks import UntrainedNetworks


def identify(plan: Plan, values: Values, networks: UntrainedNetworks | None = None) -> str:
    """The id of a config that may be trained.

    Args:
        plan: The plan that is searched.
        values: Searched key -> value.
        networks: What was measured of networks so far; None: nothing is refused by measurements.

    Raises:
        ExperimentInvalid: The schema refuses it, its network cannot be built, or is beyond a limit.
    """
    recipe = plan.loaded.configure(values)
    config = config_id(recipe)
    if not _is_checked(plan):
        _refuse(plan, networks.refusal(config, recipe) if networks is not None else "", values)
        return config
    refusals = plan.cache.refusals
    if config not in refusals:
        data = prepared_data(plan, recipe, plan.sweep.seeds[0])
        batch = _batch(plan, recipe) if plan.sweep.limits.memory is not None else None
        check = BuildCheck(recipe, data.spec if data is not None else None, batch=batch)
        refusals[config] = _refusal(plan, check_networks(plan, [check], plan.cache.template)[0])
    measured = networks.refusal(config, recipe) if networks is not None and not refusals[config] else ""
    _refuse(plan, refusals[config] or measured, values)
    return config


def _refuse(plan: Plan, reason: str, values: Values) -> None:
    if reason:
        first = reason.partition(":")[0].partition(".")[0]
        key = f"sweep.{first}" if first in ("limits", "proxies") else "model"
        raise ExperimentInvalid([plan.problem_at(key, f"{reason} (in the config {config_text(values)})", values)])


def _is_checked(plan: Plan) -> bool:
    """Whether each network is built before its config is proposed.

    A searcher of architectures is told of what cannot be built; another one's first configs stop the plan, as a mistake
    in the file.
    """
    limits = plan.sweep.limits
    return (
        limits.params is not None
        or limits.macs is not None
        or limits.memory is not None
        or (plan.loaded.experiment.model is not None and searcher_spec(plan.sweep.searcher).needs_listed_values)
    )


def _refusal(plan: Plan, finding: BuildFinding) -> str:
    limits = plan.sweep.limits
    if finding.refused or finding.cost is None:
        return finding.refused
    for key, most, count in (
        ("params", limits.params, finding.cost.params),
        ("macs", limits.macs, finding.cost.macs),
    ):
        if most is not None and (count is None or count > most):
            what = "parameters" if key == "params" else "multiply-adds"
            has = f"{count:,} {what}" if count is not None else f"{what} that cannot be counted"
            return f"limits.{key} is {most:,}, and the network has {has}"
    if limits.memory is not None and (finding.memory is None or finding.memory > limits.memory):
        needs = f"takes {finding.memory:,}" if finding.memory is not None else "cannot be counted"
        return f"limits.memory is {limits.memory:,} bytes, and a step of the network {needs}"
    return ""


def _batch(plan: Plan, recipe: Recipe) -> int:
    """Samples of a batch in one rank."""
    size = source_spec(recipe.data).samples_per_batch
    whole = size if isinstance(size, int) else 1
    return max(1, whole // plan.loaded.experiment.resources.ranks)
