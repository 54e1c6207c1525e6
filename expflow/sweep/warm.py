"""What a searcher is told of an earlier sweep before it proposes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expflow.config.schema import Sweep
from expflow.config.space import metric_mode
from expflow.errors import AddressUnknown
from expflow.ledger.reader import exists, load
from expflow.ledger.state import TrialState
from expflow.sweep.course import Objective


def warm_start(sweep: Sweep, storage: Path) -> tuple[dict[str, Any], ...]:
    """Values and score of each complete config of the sweep that the searcher names, in its order; its own metric and
    direction do not matter. Which of them are configs of the present space, the searcher sees.

    Raises AddressUnknown where there are no such results.
    """
    asked = getattr(sweep.searcher, "warm_start", None)
    if asked is None:
        return ()
    folder = storage / asked.source
    if not exists(folder):
        raise AddressUnknown(f"sweep.searcher.warm_start.from: no results of {asked.source} in {storage}")
    objective = Objective(sweep.metric, metric_mode(sweep.metric, sweep.mode), sweep.select)
    groups: dict[str, list[TrialState]] = {}
    for trial in load(folder).plan_trials():
        groups.setdefault(trial.config, []).append(trial)
    found = ((trials[0].values, _score(trials, objective)) for trials in groups.values())
    return tuple({"values": values, "score": score} for values, score in found if score is not None)


def _score(trials: list[TrialState], objective: Objective) -> float | None:
    """Mean over the seeds; None where one is not done, has no such metric, or changed its config on the way."""
    values = [objective.value(each) if each.status == "done" and not each.forks else None for each in trials]
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
