"""An experiment file from Python: plan it, train it, sweep it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.api.tables import Results, results
from expflow.api.tracked_run import Runner, TrackedRun
from expflow.ledger import SweepState, exists, load_state
from expflow.ledger.salvage import salvage as salvage_ledger
from expflow.redaction import redacted
from expflow.sweep.batch_checks import try_batches
from expflow.sweep.cost_estimate import TrialCost, check_builds, measure_times, relative_costs
from expflow.sweep.event_recorder import Observer
from expflow.sweep.plan import Plan, make_plan
from expflow.sweep.plan_difference import planned_status
from expflow.training.template.process import RankTemplate

if TYPE_CHECKING:
    import pandas as pd


def load(
    path: Path | str, changes: Mapping[str, Any] | Sequence[str] = (), *, storage: Path | str | None = None
) -> ExperimentHandle:
    """Read and check an experiment file; nothing is started.

    Args:
        path: The experiment file.
        changes: What ``--set`` would change, as ``{"optimizer.lr": 0.1}`` or ``["optimizer.lr=0.1"]``.
        storage: The folder of all results; None: what the file or the site file says.

    Raises:
        ExperimentInvalid: The file is wrong; the error has everything that is wrong with it.
    """
    experiment = ExperimentHandle(Path(path), tuple(_settings(changes)), storage)
    experiment._plan()
    return experiment


def _settings(changes: Mapping[str, Any] | Sequence[str]) -> Iterator[str]:
    if not isinstance(changes, Mapping):
        yield from changes
        return
    for key, value in changes.items():
        yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"  # JSON is YAML


class ExperimentHandle:
    """One experiment file, with changes. Each call reads it again, so an edited file counts at once.

    Args:
        path: The experiment file.
        changes: What ``--set`` would change, as ``optimizer.lr=0.1``.
        storage: The folder of all results; None: what the file or the site file says.
    """

    def __init__(self, path: Path, changes: Sequence[str] = (), storage: Path | str | None = None) -> None:
        self.path, self.changes, self._storage = path, tuple(changes), storage

    def plan(self, *, measure: bool = False, check: bool = False) -> pd.DataFrame:
        """One row per trial: id, config, seed, searched keys, parameters, multiply-adds, state; starts nothing.

        Args:
            measure: Whether a few steps are trained, which adds the expected ``seconds`` of each trial.
            check: Whether one batch of each distinct network is trained and validated, unless that was done before.

        Raises:
            ExperimentInvalid: Some trials cannot be built, or a batch of them fails.
        """
        plan = self._plan()
        rows = check_builds(plan)
        if check:
            try_batches(plan, (row.trial for row in rows))
        if measure:
            rows = measure_times(plan, rows)
        known = load_state(plan.folder) if exists(plan.folder) else SweepState()
        import pandas as pd  # half a second that the command line does not need

        table = pd.DataFrame.from_records([_planned(row, known) for row in rows])
        return table if measure else table.drop(columns="seconds", errors="ignore")

    def sweep(
        self,
        *,
        fresh: bool = False,
        keep_results: bool = False,
        retry_failed: bool = False,
        salvage: bool = False,
        progress: bool = True,
        observers: Sequence[Observer] = (),
    ) -> Results:
        """Run what the ledger does not have yet, on Ray, and return the results; as ``expflow sweep`` does.

        Args:
            fresh: Whether to start again beside the old results, as ``NAME.2``.
            keep_results: Whether results count as valid although code changed since.
            retry_failed: Whether failed trials are run again.
            salvage: Whether to go on from what is whole of a damaged ledger, and keep the damaged one beside it.
            progress: Whether the live table is shown.
            observers: Called with each event and the state after it.

        Raises:
            ExpflowError: What the command would print. A trial that fails is no error, but named in
                :attr:`Results.failures`.
        """
        from expflow.sweep.driver import new_template, run_sweep

        plan = self._plan(fresh=fresh)
        if salvage:
            salvage_ledger(plan.folder)
        with new_template(plan) as template:
            plan.cache.template = template
            runner = partial(run_sweep, template=template)
            return self._run(plan, runner, keep_results, retry_failed, progress, observers, template)

    def train(self, *, fresh: bool = False, keep_results: bool = False, progress: bool = True) -> Results:
        """Train the base recipe once with seed 0, in this process, without Ray; as ``expflow train`` does.

        Args:
            fresh: Whether to start again beside the old results, as ``NAME.2``.
            keep_results: Whether results count as valid although code changed since.
            progress: Whether the live table is shown.
        """
        from expflow.sweep.in_process import run_in_process

        return self._run(self._plan(alone=True, fresh=fresh), run_in_process, keep_results, True, progress, ())

    def results(self) -> Results:
        """The results so far.

        Raises:
            AddressUnknown: Nothing was run yet.
        """
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
        template: RankTemplate | None = None,
    ) -> Results:
        run = TrackedRun(plan, runner, keep_results=keep_results, retry_failed=retry_failed)
        finished = run.finished()
        if finished is None:
            with _shown(plan, check_builds(plan, template), progress) as shown:
                finished = run.run((*shown, *observers))
        run.catch_up()
        return Results(plan.name, plan.folder, finished.result.state)

    def __repr__(self) -> str:
        changed = f" with {', '.join(self.changes)}" if self.changes else ""
        return redacted(f"<experiment {self.path}{changed}>")


@contextmanager
def _shown(plan: Plan, rows: Sequence[TrialCost], wanted: bool) -> Iterator[tuple[Observer, ...]]:
    if not wanted:
        yield ()
        return
    from expflow.live.table import live_table

    with live_table(plan.metric, plan.mode, len(rows), relative_costs(rows)) as progress:
        yield (progress,)


def _planned(row: TrialCost, known: SweepState) -> dict[str, Any]:
    trial, count = row.trial, row.count
    return {
        "trial": trial.trial,
        "config": trial.config,
        "seed": trial.seed,
        **trial.values,
        "parameters": count.params if count else None,
        "multiply_adds": count.macs if count else None,
        "seconds": row.seconds,
        "state": planned_status(trial, known),
    }
