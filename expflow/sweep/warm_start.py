"""Results of an earlier sweep that a searcher gets before it proposes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expflow.config.component_specs import searcher_spec
from expflow.config.schema import Sweep
from expflow.errors import AddressUnknown
from expflow.ledger.reader import exists, load_state
from expflow.ledger.state import TrialState
from expflow.metrics import metric_mode
from expflow.sweep.objective import Objective, mean_metrics


def warm_start(sweep: Sweep, storage: Path) -> tuple[dict[str, Any], ...]:
    """Values, score and metrics of each complete config of the sweep that the searcher names, in that sweep's order.

    That sweep's own metric and direction do not matter. Which of its configs belong to the present space is for the
    searcher to decide.

    Args:
        sweep: The present sweep: its searcher, metric and direction.
        storage: The folder of all results.

    Raises:
        AddressUnknown: There are no such results.
    """
    source = searcher_spec(sweep.searcher).earlier_sweep
    if source is None:
        return ()
    folder = storage / source
    if not exists(folder):
        raise AddressUnknown(f"sweep.searcher.warm_start.from: no results of {source} in {storage}")
    objective = Objective(sweep.metric, metric_mode(sweep.metric, sweep.mode), sweep.select)
    groups: dict[str, list[TrialState]] = {}
    for trial in load_state(folder).plan_trials():
        groups.setdefault(trial.config, []).append(trial)
    scored = ((trials, _score(trials, objective)) for trials in groups.values())
    return tuple(
        {"values": trials[0].values, "score": score, **_further_metrics(trials, sweep)}
        for trials, score in scored
        if score is not None
    )


def _further_metrics(trials: list[TrialState], sweep: Sweep) -> dict[str, Any]:
    """The means of what the present sweep is judged by besides its first metric; nothing where it is one alone."""
    wanted, means = {further.metric for further in sweep.further}, mean_metrics(trials)
    return {"metrics": {name: mean for name, mean in means.items() if name in wanted}} if wanted else {}


def _score(trials: list[TrialState], objective: Objective) -> float | None:
    """Mean over the seeds; None where one is not done, has no such metric, or changed its config on the way."""
    values = [objective.value(trial) if trial.status == "done" and not trial.forks else None for trial in trials]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
