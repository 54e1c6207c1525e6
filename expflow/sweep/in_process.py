"""One process, no Ray: runs a plan's trials one after another where the command was typed (``expflow train``)."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from expflow.events import Report
from expflow.redaction import redacted
from expflow.storage.trial_folder import TrialSender
from expflow.sweep.conductor import Conductor, PlannedAttempt
from expflow.sweep.driver import SweepResult, conclude, open_sweep
from expflow.sweep.event_recorder import Observer
from expflow.sweep.failures import may_retry
from expflow.sweep.messages import (
    AttemptFailedMessage,
    AttemptStartedMessage,
    ReportMessage,
    TrialEndedMessage,
    notice_message,
)
from expflow.sweep.parent_weights import first_weights
from expflow.sweep.plan import Plan
from expflow.sweep.result_files import make_trial_folder
from expflow.sweep.stop_signals import StoppedLate, signals_noted
from expflow.sweep.stored_trials import stored_trial
from expflow.sweep.weight_copies import with_copies
from expflow.training.contract import Attempt, Fence, Notice, Outcome, run_trial
from expflow.training.local_ranks import local_world, run_local_ranks


def run_in_process(
    plan: Plan,
    *,
    tracking: str = "",
    keep_results: bool = False,
    retry_failed: bool = False,
    observers: Sequence[Observer] = (),
    on_open: Callable[[], None] = lambda: None,
    on_slots: Callable[[int], None] = lambda slots: None,
) -> SweepResult:
    """Run what the ledger does not answer yet, in this process.

    Args:
        plan: The plan whose trials are run.
        tracking: Address of the MLflow store that follows the ledger; empty where none does.
        keep_results: Whether results of other versions of the user's code stand beside the new ones.
        retry_failed: Whether failed trials are tried again.
        observers: Called with each event that is recorded.
        on_open: Called when this driver has the ledger.
        on_slots: Called with the number of trials that can run at once: here one.

    Raises:
        Interrupted: After a signal, with everything saved.
        LedgerMismatch: The results are of other data.
    """
    _make_importable(str(plan.loaded.experiment.file.parent))
    with (
        open_sweep(
            plan, tracking=tracking, keep_results=keep_results, observers=observers, retry=retry_failed, on_open=on_open
        ) as conductor,
        signals_noted(conductor, raises=True),
        contextlib.suppress(StoppedLate),  # the trial goes on from its last checkpoint
    ):
        on_slots(1)
        while (attempt := conductor.propose()) is not None:
            _run(plan, conductor, attempt)
            conductor.returned(attempt.planned.trial)
            conductor.tick()
    return conclude(plan, conductor)


def _make_importable(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _run(plan: Plan, conductor: Conductor, attempt: PlannedAttempt) -> None:
    """A trial's attempts, as on a gang: until one ends in something that trying again cannot mend."""
    failures: Counter[str] = Counter()
    while (failed := _run_attempt(plan, conductor, attempt)) is not None and not conductor.is_ending:
        failures[failed.failure] += 1
        if not may_retry(failed.failure, failures[failed.failure]):
            last = conductor.state.trials[failed.trial].reports[-1:]
            conductor.take([failed, TrialEndedMessage.from_failure(failed, last[0].step if last else 0)])
            return
        conductor.take([failed])
        attempt = replace(attempt, attempt=attempt.attempt + 1)


def _run_attempt(plan: Plan, conductor: Conductor, attempt: PlannedAttempt) -> AttemptFailedMessage | None:
    """One attempt, whose messages the conductor gets as from a gang. Returns how it failed, None where it did not."""
    trial, number = attempt.planned.trial, attempt.attempt
    started = time.perf_counter()

    def on_report(report: Report) -> bool:
        conductor.take([ReportMessage.from_report(trial, number, report)])
        return not conductor.is_ending

    def on_notice(notice: Notice) -> None:
        conductor.take([notice_message(trial, number, notice, plan.folder)])

    conductor.take([AttemptStartedMessage(trial, number, "here")])
    result = _train(plan, conductor, attempt, on_report, on_notice)
    if isinstance(result, AttemptFailedMessage):
        return result
    seconds = time.perf_counter() - started
    conductor.take([TrialEndedMessage.from_outcome(trial, number, result, seconds=seconds)])
    return None


def _train(
    plan: Plan,
    conductor: Conductor,
    attempt: PlannedAttempt,
    on_report: Callable[[Report], bool],
    on_notice: Callable[[Notice], None],
) -> Outcome | AttemptFailedMessage:
    """The outcome, or what failed."""
    world = local_world(plan.loaded.experiment.resources)
    train = run_trial if world.ranks == 1 else run_local_ranks
    started = time.perf_counter()
    try:
        with _sent(plan, attempt):
            return train(
                _contract(plan, attempt),
                world,
                on_report,
                on_notice=on_notice,
                leave=lambda: conductor.is_ending,
            )
    except BaseException as error:  # whatever the user's code raises is the trial's failure, and its traceback is kept
        if isinstance(error, StoppedLate):
            raise
        if isinstance(error, KeyboardInterrupt) and conductor.interrupted_by is not None:  # the second Ctrl-C
            raise
        failed = AttemptFailedMessage.from_error(
            attempt.planned.trial,
            attempt.attempt,
            error,
            seconds=time.perf_counter() - started,
            results=plan.folder,
        )
        if failed.traceback:
            (plan.folder / "trials" / attempt.planned.folder / "log.txt").write_text(
                redacted(failed.traceback), encoding="utf-8"
            )
        return failed


@contextlib.contextmanager
def _sent(plan: Plan, attempt: PlannedAttempt) -> Iterator[None]:
    """Within it the trial's folder is sent where results lie in a store; on leaving, the store has it."""
    place = stored_trial(plan, attempt)
    if place is None:
        yield
        return
    sender = TrialSender(place, make_trial_folder(plan, attempt.planned))
    sender.restore()
    with sender:
        yield
    sender.finish()


def _contract(plan: Plan, attempt: PlannedAttempt) -> Attempt:
    planned = attempt.planned
    return Attempt(
        attempt.recipe,
        planned.seed,
        data_root=Path(planned.data.root) if planned.data else None,
        folder=make_trial_folder(plan, planned),
        forks=attempt.forks,
        number=attempt.attempt,
        fence=Fence(plan.folder, attempt.epoch),
        weights=first_weights(plan.folder, attempt.recipe, planned.weights, attempt.parent),
        features=with_copies(planned.features, plan.folder),
        labeller=with_copies(planned.labeller, plan.folder),
        judged_by=plan.metric,
    )
