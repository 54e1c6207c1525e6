"""One process, no Ray: runs a plan's trials one after another where the command was typed (``expflow train``)."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from expflow.errors import ExpflowError, TrialError
from expflow.events import Report
from expflow.sweep.conductor import Conductor, Observer, Work
from expflow.sweep.driver import Result, conclude, open_sweep, signals_noted
from expflow.sweep.files import trial_folder
from expflow.sweep.plan import Plan
from expflow.sweep.pretrained import keep
from expflow.training.contract import Attempt, Began, Fence, Notice, Outcome, run_trial
from expflow.training.local import run_on_this_machine, world_here


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
        while (work := conductor.propose()) is not None:
            _run(plan, conductor, work)
            conductor.returned(work.planned.trial)
            conductor.tick()
    return conclude(plan, conductor)


def _run(plan: Plan, conductor: Conductor, work: Work) -> None:
    """One attempt, told to the conductor in a gang's messages."""
    started, last_step = time.perf_counter(), 0

    def say(kind: str, **content: Any) -> None:
        conductor.take([{"kind": kind, "trial": work.planned.trial, "attempt": work.attempt, **content}])

    def on_report(report: Report) -> bool:
        nonlocal last_step
        last_step = report.step
        metrics = {key: float(value) for key, value in report.metrics.items()}
        say("report", step=report.step, metrics=metrics, progress=report.progress)
        return conductor.interrupted_by is None

    def on_notice(notice: Notice) -> None:
        if isinstance(notice, Began):
            say("began", step=notice.step, refused=list(notice.refused))
        else:
            where = notice.path.relative_to(plan.folder)
            say("saved", step=notice.step, path=str(where), sha256=notice.sha256, size=notice.size)

    say("started", gang="here")
    outcome, failure = _attempt(plan, conductor, work, on_report, on_notice)
    if outcome is not None:
        say(
            "ended",
            status="stopped" if outcome.stopped else "done",
            step=outcome.step,
            seconds=time.perf_counter() - started,
            weights=outcome.weights,
            reason=outcome.reason,
        )
    elif conductor.interrupted_by is None:  # else it is not ended: the same command runs it again
        say("attempt_failed", **failure)
        seconds = time.perf_counter() - started
        say("ended", status="failed", step=last_step, seconds=seconds, weights="")


def _attempt(
    plan: Plan,
    conductor: Conductor,
    work: Work,
    on_report: Callable[[Report], bool],
    on_notice: Callable[[Notice], None],
) -> tuple[Outcome | None, dict[str, str]]:
    """The outcome, or None and what failed."""
    planned, folder = work.planned, trial_folder(plan, work.planned)
    attempt = Attempt(
        work.recipe,
        planned.seed,
        data_root=Path(planned.data.root) if planned.data else None,
        folder=folder,
        forks=work.forks,
        number=work.attempt,
        fence=Fence(plan.folder, work.epoch),
        weights=keep(planned.weights, plan.folder),
    )
    world = world_here(plan.loaded.experiment.resources)
    train = run_trial if world.ranks == 1 else run_on_this_machine
    try:
        return train(
            attempt, world, on_report, on_notice=on_notice, leave=lambda: conductor.interrupted_by is not None
        ), {}
    except Exception as error:  # noqa: BLE001  the user's code may raise anything; the trial is named, and its traceback kept
        if isinstance(error, TrialError) and error.failure != "code":
            return None, _failed(error.failure, str(error), "")
        trace = traceback.format_exc()
        (folder / "log.txt").write_text(trace, encoding="utf-8")
        text = str(error) if isinstance(error, ExpflowError) else f"{type(error).__name__}: {error}"
        return None, _failed("code", text, trace)


def _failed(failure: str, message: str, trace: str) -> dict[str, str]:
    return {"failure": failure, "message": message, "traceback": trace}
