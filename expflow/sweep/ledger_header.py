"""The header that a driver writes into the ledger before it runs a plan."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expflow.config.identity import dump
from expflow.config.schema import Recipe
from expflow.config.spec import Spec, UserComponent
from expflow.data.prepare.prepared import PreparedData
from expflow.ledger.header import Header
from expflow.search.chosen_children import recorded_arms
from expflow.sweep.data_preparation import prepared_data
from expflow.sweep.plan import Plan
from expflow.sweep.plan_identity import own_data_key, space_facts
from expflow.sweep.provenance import git_state, package_versions, uncommitted_changes
from expflow.sweep.trial_expansion import expected_configs, expected_trials
from expflow.sweep.warm_start import warm_start


def ledger_header(plan: Plan, *, tracking: str, code: dict[str, str], before: Header | None = None) -> Header:
    """The ledger header of a driver that is about to run a plan.

    Args:
        plan: The plan that is run.
        tracking: Address of the MLflow store that follows the ledger; "" for none.
        code: The user's own modules, path -> sha256.
        before: The header of the last driver on these results; None for the first.

    Raises:
        AddressUnknown: The searcher is to begin with results that are not there.
    """
    experiment, versions = plan.loaded.experiment, package_versions()
    if before is not None and plan.cache.configs is None and _proposes_the_same(before, plan, code, versions):
        plan.cache.configs = before.configs or None
    return Header(
        name=plan.name,
        text=plan.loaded.text,
        file=str(experiment.file),
        sets=tuple(plan.loaded.sets),
        command=plan.command,
        plan=plan.digest,
        search=plan.search_key,
        about=experiment.about.model_dump(),
        recipe=dump(experiment.recipe),
        **_search_facts(plan, before),
        report=experiment.report.model_dump(mode="json"),
        expected_trials=expected_trials(plan),
        configs=expected_configs(plan),
        devices=plan.devices,
        data=_data_facts(prepared_data(plan, experiment.recipe), experiment.recipe),
        weights=plan.sources.facts | plan.networks.facts | plan.labellers.facts,
        code=code,
        versions=versions,
        git=_git_facts(experiment.file.parent),
        tracking=tracking,
    )


def _proposes_the_same(before: Header, plan: Plan, code: dict[str, str], versions: dict[str, str]) -> bool:
    """Whether a plan's searcher proposes what that of an earlier driver did, so that it need not be counted again."""
    same_plan = (before.plan, before.search) == (plan.digest, plan.search_key)
    return same_plan and (before.code, before.versions) == (code, versions)


def _git_facts(folder: Path) -> dict[str, str]:
    """The commit, and the digest of what differs from it."""
    state = git_state(folder)
    if state.get("dirty") == "yes" and (changes := uncommitted_changes(folder)):
        state["changes"] = hashlib.sha256(changes.encode(errors="replace")).hexdigest()
    return state


def _search_facts(plan: Plan, before: Header | None) -> dict[str, Any]:
    sweep = plan.sweep
    same_search = before is not None and before.search == plan.search_key
    return {
        "space": space_facts(sweep),
        "seeds": sweep.seeds,
        "confirm": sweep.confirm.model_dump(mode="json") if sweep.confirm else {},
        "warm_start": before.warm_start if before is not None and same_search else warm_start(sweep, plan.storage),
        "searcher": sweep.searcher.name,
        "scheduler": sweep.scheduler.name if sweep.scheduler else "none",
        "limits": sweep.limits.model_dump(exclude_none=True),
        "arms": recorded_arms(sweep),
        "metric": plan.metric,
        "mode": plan.mode,
        "select": sweep.select,
        "objectives": tuple({"metric": metric, "mode": mode} for metric, mode in plan.objectives),
    }


def _data_facts(data: PreparedData | None, recipe: Recipe) -> dict[str, Any]:
    source = recipe.data.name if isinstance(recipe.data, Spec) else ""
    if isinstance(recipe.data, Mapping):
        source = ", ".join(f"{slot}: {part.name}" for slot, part in recipe.data.items())
    if recipe.data is None and isinstance(recipe.task, UserComponent):
        source = recipe.task.name  # a module that brings its loaders
    if data is None:
        return {"source": source, "key": own_data_key(recipe)}
    return {
        "source": source,
        "key": data.key,
        "manifest": data.manifest.content,
        "spec": data.spec.to_json(),
        "samples": dict(data.spec.samples),
        "bytes": sum(shard.bytes for shard in data.manifest.all_shards()),
        "root": str(data.root),
        **({"remarks": remarks} if (remarks := data.manifest.remarks()) else {}),
    }
