"""One process, no Ray: runs a plan's trials one after another where the command was typed (``expflow train``)."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from expflow.errors import Diverged, ExpflowError
from expflow.events import AttemptFailed, Report, Reported, Status, TrialEnded, TrialStarted
from expflow.sweep.conductor import Conductor, Observer
from expflow.sweep.driver import Result, conclude, open_sweep, signals_noted
from expflow.sweep.files import trial_folder
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.training import Attempt, Outcome, World, run_trial


def run_alone(
    plan: Plan,
    *,
    tracking: str = "",
    keep_results: bool = False,
    retry_failed: bool = False,
    observers: Sequence[Observer] = (),
) -> Result:
    """Run what the ledger does not answer yet, in this process.

    Raises what opening the ledger raises, and :class:`~expflow.errors.Interrupted` after a signal.
    """
    folder = str(plan.loaded.experiment.file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with (
        open_sweep(
            plan, tracking=tracking, keep_results=keep_results, observers=observers, retry=retry_failed
        ) as conductor,
        signals_noted(conductor),
    ):
        while (planned := conductor.propose()) is not None:
            _run(plan, conductor, planned)
    return conclude(plan, conductor)


def _run(plan: Plan, conductor: Conductor, planned: PlannedTrial) -> None:
    attempt = conductor.next_attempt(planned.trial)
    conductor.record(TrialStarted(planned.trial, attempt, "here"))
    started, last_step = time.perf_counter(), 0

    def on_report(report: Report) -> bool:
        nonlocal last_step
        last_step = report.step
        metrics = {key: float(value) for key, value in report.metrics.items()}
        conductor.record(Reported(planned.trial, attempt, report.step, metrics, report.progress))
        return conductor.interrupted_by is None

    outcome = _attempt(plan, conductor, planned, attempt, on_report)
    if conductor.interrupted_by is not None and (outcome is None or outcome.stopped):
        return  # not ended: the same command runs it again
    seconds = time.perf_counter() - started
    if outcome is None:
        conductor.record(TrialEnded(planned.trial, attempt, "failed", last_step, seconds))
    else:
        status: Status = "stopped" if outcome.stopped else "done"
        conductor.record(TrialEnded(planned.trial, attempt, status, outcome.step, seconds, outcome.weights))


def _attempt(
    plan: Plan, conductor: Conductor, planned: PlannedTrial, number: int, on_report: Callable[[Report], bool]
) -> Outcome | None:
    """The outcome, or None after a failure, which is recorded."""
    folder = trial_folder(plan, planned)
    resources = plan.loaded.experiment.resources
    root = Path(planned.data.root) if planned.data else None
    try:
        return run_trial(
            Attempt(planned.recipe, planned.seed, root, folder), World(threads=resources.cpus_per_rank), on_report
        )
    except Diverged as error:
        conductor.record(AttemptFailed(planned.trial, number, "diverged", str(error)))
    except Exception as error:  # noqa: BLE001  the user's code may raise anything; the trial is named, and its traceback kept
        trace = traceback.format_exc()
        (folder / "log.txt").write_text(trace, encoding="utf-8")
        text = str(error) if isinstance(error, ExpflowError) else f"{type(error).__name__}: {error}"
        conductor.record(AttemptFailed(planned.trial, number, "code", text, trace))
    return None
