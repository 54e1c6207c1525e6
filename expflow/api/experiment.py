"""An experiment file in Python's hands: plan it, train it, sweep it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from expflow.api.running import Driving, Runner
from expflow.api.tables import Results, results
from expflow.ledger import SweepState, exists
from expflow.ledger import load as load_state
from expflow.sweep.conductor import Observer
from expflow.sweep.difference import standing
from expflow.sweep.estimate import Row, check_builds, weights, with_times
from expflow.sweep.plan import Plan, make_plan


def load(
    path: Path | str, changes: Mapping[str, Any] | Sequence[str] = (), *, storage: Path | str | None = None
) -> Experiment:
    """Read and check an experiment file; nothing is started.

    ``changes`` are what ``--set`` says, as ``{"optimizer.lr": 0.1}`` or ``["optimizer.lr=0.1"]``. ``storage`` is the
    folder of all results, by default what the file or the site file says. Raises
    :class:`~expflow.errors.ExperimentInvalid` with everything that is wrong.
    """
    experiment = Experiment(Path(path), tuple(_settings(changes)), storage)
    experiment._plan()
    return experiment


def _settings(changes: Mapping[str, Any] | Sequence[str]) -> Iterator[str]:
    if not isinstance(changes, Mapping):
        yield from changes
        return
    for key, value in changes.items():
        yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"  # JSON is YAML


class Experiment:
    """One experiment file, with changes. It is read anew by each call, so an edited file counts at once."""

    def __init__(self, path: Path, changes: Sequence[str] = (), storage: Path | str | None = None) -> None:
        self.path, self.changes, self._storage = path, tuple(changes), storage

    def plan(self, *, measure: bool = False) -> pd.DataFrame:
        """One row per trial: id, config, seed, searched keys, parameters, multiply-adds, state; starts nothing.

        ``measure`` trains a few steps and adds the expected ``seconds`` of each trial. Raises ExperimentInvalid for
        what cannot be built.
        """
        plan = self._plan()
        rows = check_builds(plan)
        if measure:
            rows = with_times(plan, rows)
        known = load_state(plan.folder) if exists(plan.folder) else SweepState()
        table = pd.DataFrame.from_records([_planned(row, known) for row in rows])
        return table if measure else table.drop(columns="seconds", errors="ignore")

    def sweep(
        self,
        *,
        fresh: bool = False,
        keep_results: bool = False,
        retry_failed: bool = False,
        progress: bool = True,
        observers: Sequence[Observer] = (),
    ) -> Results:
        """Run what the ledger does not answer yet, on Ray, and return the results; as ``expflow sweep`` does.

        ``observers`` are called with each event and the state after it. Raises what the command would print: a trial
        that fails is no error, but named in :attr:`Results.failures`.
        """
        from expflow.sweep.driver import run_sweep

        return self._run(self._plan(fresh=fresh), run_sweep, keep_results, retry_failed, progress, observers)

    def train(self, *, fresh: bool = False, keep_results: bool = False, progress: bool = True) -> Results:
        """Train the base recipe once with seed 0, in this process, without Ray; as ``expflow train`` does."""
        from expflow.sweep.alone import run_alone

        return self._run(self._plan(alone=True, fresh=fresh), run_alone, keep_results, True, progress, ())

    def results(self) -> Results:
        """What is there so far. Raises :class:`~expflow.errors.AddressUnknown` before the first run."""
        plan = self._plan()
        return results(plan.name, storage=plan.storage)

    def _plan(self, *, alone: bool = False, fresh: bool = False) -> Plan:
        return make_plan(self.path, self.changes, storage=self._storage, alone=alone, fresh=fresh)

    def _run(
        self,
        plan: Plan,
        runner: Runner,
        keep_results: bool,
        retry_failed: bool,
        progress: bool,
        observers: Sequence[Observer],
    ) -> Results:
        rows = check_builds(plan)
        driving = Driving(plan, runner, keep_results=keep_results, retry_failed=retry_failed)
        with _shown(plan, rows, progress) as shown:
            concluded = driving.run((*shown, *observers))
        driving.catch_up()
        return Results(plan.name, plan.folder, concluded.result.state)

    def __repr__(self) -> str:
        changed = f" with {', '.join(self.changes)}" if self.changes else ""
        return f"<experiment {self.path}{changed}>"


@contextmanager
def _shown(plan: Plan, rows: Sequence[Row], wanted: bool) -> Iterator[tuple[Observer, ...]]:
    if not wanted:
        yield ()
        return
    from expflow.cli.live import progress_here

    with progress_here(plan.metric, plan.mode, len(rows), weights(rows)) as progress:
        yield (progress,)


def _planned(row: Row, known: SweepState) -> dict[str, Any]:
    trial, count = row.trial, row.count
    return {
        "trial": trial.trial,
        "config": trial.config,
        "seed": trial.seed,
        **trial.values,
        "parameters": count.params if count else None,
        "multiply_adds": count.macs if count else None,
        "seconds": row.seconds,
        "state": standing(trial, known),
    }
