"""The children that a proof retrains: looked up once in the results of the searches, and kept in the ledger.

A search may go on tomorrow, and choose another child. So the children are settled when the proof is first planned;
later drivers take them from its ledger as long as the file asks for the same arms.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

from expflow.config.identity import canonical_json
from expflow.config.initial_weights import PARENT_KEY
from expflow.config.schema import Dimension, Sweep
from expflow.errors import AddressUnknown, UserError
from expflow.ledger import SweepState, exists, load_state
from expflow.ledger.header import Header
from expflow.ledger.trial_values import counted_value, rank_by_mean
from expflow.search.specs import BY_HAND, RANDOM_CHILDREN, RANDOM_SEARCH, SEARCH, ArmsSpec, ResolvedArmsSpec
from expflow.sweep.result_location import ResultLocation, find_results
from expflow.tasks.specs import CHILD
from expflow.text import command_line


def with_children(sweep: Sweep, storage: Path, folder: Path, beside: Path) -> Sweep:
    """A sweep whose arms have their children; any other as it is.

    Args:
        sweep: The sweep.
        storage: The folder of all results.
        folder: The folder of this sweep's own results.
        beside: The folder of the experiment's file, where those of the searches may lie.

    Raises:
        AddressUnknown: There are no such results, and no file of that name to make them.
        UserError: A search has not been run or has not ended, or has nothing to choose from.
    """
    spec = sweep.searcher
    if not isinstance(spec, ArmsSpec) or isinstance(spec, ResolvedArmsSpec):
        return sweep
    asked = spec.model_dump(mode="json")
    known = load_state(folder).header if exists(folder) else None
    if known is not None and canonical_json(known.arms.get("asked")) == canonical_json(asked):
        children, sources = known.arms["children"], known.arms["sources"]
    else:
        children, sources = _looked_up(spec, storage, beside)
    resolved = ResolvedArmsSpec.model_validate({**asked, "children": children, "sources": sources})
    spaces = [dimension for source in sources.values() for dimension in source["space"]]
    space = {str(one["key"]): Dimension.model_validate(one) for one in reversed(spaces)}
    return sweep.model_copy(update={"searcher": resolved, "space": tuple(reversed(space.values()))})


def recorded_arms(sweep: Sweep) -> dict[str, Any]:
    """What the ledger's header holds of a proof: what was asked for, and what it led to; empty for other sweeps.

    Args:
        sweep: The sweep.
    """
    spec = sweep.searcher
    if not isinstance(spec, ResolvedArmsSpec):
        return {}
    facts = spec.model_dump(mode="json")
    children, sources = facts.pop("children"), facts.pop("sources")
    return {"asked": facts, "children": children, "sources": sources}


def _looked_up(spec: ArmsSpec, storage: Path, beside: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    children, sources = [], dict[str, Any]()
    for arm, names in ((SEARCH, spec.searches), (RANDOM_SEARCH, spec.random_searches)):
        for name in names:
            results = _ended(name, storage, beside)
            sources[name] = _facts(results.state)
            children.append(_chosen(arm, name, results))
    if spec.random_children and spec.random_searches:
        name = spec.random_searches[0]
        children += _drawn(name, _ended(name, storage, beside), spec)
    if spec.by_hand:
        children.append({"arm": BY_HAND, "source": "", "values": dict(spec.by_hand), "score": None})
    return children, sources


def _ended(name: str, storage: Path, beside: Path) -> ResultLocation:
    try:
        results = find_results(name, storage)
    except AddressUnknown as error:
        file = beside / f"{name}.yaml"
        if not file.is_file():
            raise
        how = f"first run: {command_line('sweep', os.path.relpath(file))}"
        raise UserError(f"sweep.searcher: there are no results of {name} in {storage} yet; {how}") from error
    left = [trial for trial in results.state.plan_trials() if not trial.ended]
    if left:
        raise UserError(f"sweep.searcher: {name} has {len(left)} trials to go; a search has to end before its proof")
    return results


def _chosen(arm: str, name: str, results: ResultLocation) -> dict[str, Any]:
    """The child that a search selects: the first of its leaderboard, or what that wrote as its child."""
    best = rank_by_mean(results.state)[:1]
    if not best:
        raise UserError(f"sweep.searcher: no trial of {name} has a value, so it chose nothing")
    child = _child(arm, name, results.state, best[0])
    return child | {"values": values} if (values := _written_child(results, best[0])) else child


def _written_child(results: ResultLocation, config: str) -> dict[str, Any]:
    """The child of a one-shot search, as its best trial wrote it; empty where trials are children themselves."""
    header = results.state.header or Header("", "", "")
    trials = [trial for trial in results.state.plan_trials() if trial.config == config]
    scored = [(value, trial) for trial in trials if (value := counted_value(trial, header.metric, header)) is not None]
    sign = 1.0 if header.mode == "max" else -1.0
    trial = max(scored, key=lambda pair: (sign * pair[0], -pair[1].seed))[1]
    written = [artifact for artifact in trial.artifacts.values() if artifact.name == CHILD]
    if not written:
        return {}
    newest = max(written, key=lambda artifact: artifact.step)
    path = results.folder / newest.path
    text = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(text).hexdigest() != newest.sha256:
        raise UserError(f"sweep.searcher: {path}, the child of {results.name}, is missing or was changed since")
    return {str(key): value for key, value in json.loads(text).items()}


def _drawn(name: str, results: ResultLocation, spec: ArmsSpec) -> list[dict[str, Any]]:
    """Children of a random search, drawn whatever they gave: the average of the space within the limits."""
    state, configs = results.state, rank_by_mean(results.state)
    if state.header is not None and state.header.searcher != "random":
        raise UserError(
            f"sweep.searcher.random_search: {name} was searched by {state.header.searcher}; random children are those "
            "of the searcher random"
        )
    if len(configs) < spec.random_children:
        message = f"{name} has {len(configs)} children with a value, and {spec.random_children} are asked for"
        raise UserError(f"sweep.searcher.random_children: {message}")
    chosen = random.Random(spec.seed).sample(sorted(configs), spec.random_children)  # noqa: S311 - a draw of its own
    return [_child(RANDOM_CHILDREN, name, state, config) for config in chosen]


def _child(arm: str, name: str, state: SweepState, config: str) -> dict[str, Any]:
    trials = [trial for trial in state.plan_trials() if trial.config == config]
    header = state.header or Header("", "", "")
    values = [value for trial in trials if (value := counted_value(trial, header.metric, header)) is not None]
    # An arm begins with fresh weights, whatever its search began with.
    own = {key: value for key, value in trials[0].values.items() if key != PARENT_KEY}
    return {"arm": arm, "source": name, "values": own, "score": sum(values) / len(values)}


def _facts(state: SweepState) -> dict[str, Any]:
    """What a reader of the proof has to know of a search."""
    header, trials = state.header or Header("", "", ""), state.plan_trials()
    return {
        "searcher": header.searcher,
        "scheduler": header.scheduler,
        "configs": len({trial.config for trial in trials}),
        "seconds": sum(trial.seconds for trial in trials),
        "seeds": sorted({trial.seed for trial in trials}),
        "metric": header.metric,
        "space": [dict(dimension) for dimension in header.space],
        "limits": dict(header.limits),
        "recipe": dict(header.recipe),
        "versions": dict(header.versions),
        "code": dict(header.code),
        "samples": header.samples,
    }
