"""``plan --json``: the trials of a plan, what each costs, and what its seeds can resolve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from expflow.cli.documents.next_command import NextCommand
from expflow.errors import StorageUnwritable
from expflow.ledger import SweepState, exists, load_state
from expflow.report.resolvable import ResolvableDifference, resolvable_differences
from expflow.sweep.cost_estimate import TrialCost
from expflow.sweep.forecast import Forecast, forecast, save_forecast
from expflow.sweep.plan import Plan
from expflow.sweep.plan_difference import compare_plan, planned_status
from expflow.sweep.planned_sources import PlannedSource, planned_sources


@dataclass(frozen=True)
class PlannedTrialRow:
    """A planned trial.

    Attributes:
        trial: Its id.
        config: Its config's id.
        seed: Its seed.
        values: Searched key -> value.
        params: Number of parameters; None where only the user's code knows the network.
        macs: Multiply-adds of one sample; None likewise, and of several networks.
        parts: Parameters of each network, where the recipe names several.
        seconds: How long it is expected to train; None where that was not measured.
        state: ``done``, ``failed``, ``stopped``, or what is to be done with it.
    """

    trial: str
    config: str
    seed: int
    values: Mapping[str, Any]
    params: int | None
    macs: int | None
    parts: Mapping[str, int]
    seconds: float | None
    state: str


@dataclass(frozen=True)
class ChangedTrials:
    """What an edited file makes of the results that are there, in numbers of trials.

    Attributes:
        kept: They have ended.
        unfinished: They go on.
        extended: They are done and get a longer budget.
        new: The results do not have them.
        dropped: The plan has them no longer; their results stay.
        later: The searcher proposes them when results are there.
    """

    kept: int
    unfinished: int
    extended: int
    new: int
    dropped: int
    later: int


@dataclass(frozen=True)
class PlanDocument:
    """What a sweep would do. Nothing was started.

    Attributes:
        document: Which document this is.
        version: Its version.
        name: Name of the results.
        folder: Where they lie or will lie.
        question: What the experiment asks.
        metric: What it is judged by.
        mode: ``max`` or ``min``.
        trials: The trials that are known beforehand.
        data: The data sources that they are trained on.
        left: How many of them are still to run.
        forecast: What the rest will take; None where no time was measured.
        resolves: The smallest differences that the seeds resolve, for each metric of a contrast.
        changes: What becomes of results that are there; None where there are none.
        notes: What trying a batch of each network has shown.
        next: What can be done now: the command that runs it.
    """

    document: Literal["plan"]
    version: Literal[1]
    name: str
    folder: str
    question: str
    metric: str
    mode: str
    trials: tuple[PlannedTrialRow, ...]
    data: tuple[PlannedSource, ...]
    left: int
    forecast: Forecast | None
    resolves: tuple[ResolvableDifference, ...]
    changes: ChangedTrials | None
    notes: tuple[str, ...]
    next: tuple[NextCommand, ...]


def plan_document(plan: Plan, rows: Sequence[TrialCost], notes: tuple[str, ...] = ()) -> PlanDocument:
    """A plan as plain data; its forecast is kept with the results, as by ``plan`` without ``--json``.

    Args:
        plan: The plan.
        rows: The cost of each trial.
        notes: What trying a batch of each network has shown.
    """
    import shlex

    known = load_state(plan.folder) if exists(plan.folder) else SweepState()
    left = [row for row in rows if planned_status(row.trial, known) not in ("done", "stopped", "failed")]
    expected = forecast(plan, left)
    if expected is not None:
        with suppress(StorageUnwritable):  # the plan is no worse where it cannot be kept
            save_forecast(plan.folder, expected)
    return PlanDocument(
        "plan",
        1,
        plan.name,
        str(plan.folder),
        plan.loaded.experiment.about.question,
        plan.metric,
        plan.mode,
        tuple(_row(row, known) for row in rows),
        tuple(planned_sources(plan, (row.trial for row in rows))),
        len(left),
        expected,
        tuple(resolvable_differences(plan)),
        _changes(plan, rows, known),
        notes,
        (NextCommand("sweep", tuple(shlex.split(plan.command))),),
    )


def _row(row: TrialCost, known: SweepState) -> PlannedTrialRow:
    trial, count = row.trial, row.count
    return PlannedTrialRow(
        trial.trial,
        trial.config,
        trial.seed,
        trial.values,
        count.params if count else None,
        count.macs if count else None,
        count.parts if count else {},
        row.seconds,
        planned_status(trial, known),
    )


def _changes(plan: Plan, rows: Sequence[TrialCost], known: SweepState) -> ChangedTrials | None:
    if not known.trials:
        return None
    changes = compare_plan(plan, (row.trial for row in rows), known)
    return ChangedTrials(
        len(changes.kept),
        len(changes.open),
        len(changes.extended),
        len(changes.new),
        len(changes.dropped),
        changes.later,
    )
