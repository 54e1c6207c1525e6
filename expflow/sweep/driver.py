"""The driver of a sweep: opens the ledger, replays it, has Ray run what is left, and returns the result."""

from __future__ import annotations

import contextlib
import importlib
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from expflow.config.component_specs import MODULE_RUNNERS
from expflow.config.identity import folder_name
from expflow.errors import GangsLost, Interrupted, StaleDriver
from expflow.events import DriverStopped
from expflow.garbage import nothing_collected
from expflow.ledger.header import Header
from expflow.ledger.reader import condensed, exists, last_event, load_state, read, unfinished_end
from expflow.ledger.state import StateLine, SweepState
from expflow.ledger.writer import Ledger
from expflow.storage.driver_session import DriverSession, driving
from expflow.sweep.code_hashes import user_modules
from expflow.sweep.conductor import Conductor
from expflow.sweep.continuation import continuation_problems
from expflow.sweep.event_recorder import Observer
from expflow.sweep.kept_code import keep_code
from expflow.sweep.ledger_header import ledger_header
from expflow.sweep.limits import SweepLimits, worked_seconds
from expflow.sweep.metric_check import metric_notes
from expflow.sweep.plan import Plan
from expflow.sweep.ray_address import cluster_address, environment_with, on_loopback
from expflow.sweep.result_files import write_provenance
from expflow.sweep.search_builders import build_search_state
from expflow.sweep.search_state import SearchState
from expflow.sweep.stop_signals import signals_noted
from expflow.training.contract import runner_of
from expflow.training.template.process import RankTemplate


@dataclass(frozen=True)
class SweepResult:
    """What a driver leaves behind.

    Attributes:
        state: The sweep by the whole ledger.
        folder: Where its results lie.
        ran: Trials that ended while this driver worked.
        notes: What its user should know of the search.
        remarks: What its user should know of what was recorded.
    """

    state: SweepState
    folder: Path
    ran: int
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when the plan is done, as far as its own budget went; 1 when trials failed."""
        return int(any(trial.status == "failed" for trial in self.state.plan_trials()))


@contextlib.contextmanager
def open_sweep(
    plan: Plan,
    *,
    tracking: str,
    keep_results: bool = False,
    observers: Sequence[Observer] = (),
    retry: bool = False,
    on_open: Callable[[], None] = lambda: None,
) -> Iterator[Conductor]:
    """Open the plan's ledger for one driver, refusing results that other code or other data made; on leaving, close it.

    Args:
        plan: The sweep's plan.
        tracking: Address of the MLflow store that follows the ledger; empty where none does.
        keep_results: Whether results of other versions of the user's code stand beside the new ones.
        observers: Called with each event that is recorded.
        retry: Whether failed trials are tried again.
        on_open: Called when this driver has the ledger: nothing refuses it any more.

    Raises:
        LedgerLocked: Another driver works on it.
        LedgerMismatch: The results are of other data.
        StaleDriver: A newer driver has taken over.
    """
    with driving(plan.folder) as session:
        was_cut = session is not None and exists(plan.folder) and not isinstance(last_event(plan.folder), DriverStopped)
        with _driver(plan, _header(plan, tracking, keep_results), session, observers, retry, on_open) as conductor:
            yield conductor
        if session is not None:
            session.is_stopped = conductor.interrupted_by is not None
            session.cut_off = None if was_cut else _cut_off(conductor.state)


@contextlib.contextmanager
def _driver(
    plan: Plan,
    header: Header,
    session: DriverSession | None,
    observers: Sequence[Observer],
    retry: bool,
    on_open: Callable[[], None],
) -> Iterator[Conductor]:
    """A conductor with its ledger, which is closed on leaving."""
    left_out = tuple(map(str, unfinished_end(plan.folder)))
    ledger = Ledger.open(plan.folder, header, at_least=session.epoch if session else 1, replica=session)
    try:
        on_open()
        if session is not None:
            session.start()
        conductor = _conductor(plan, ledger, observers, retry)
        conductor.left_out = left_out
        yield conductor
    except StaleDriver:
        ledger.abandon()
        raise
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        ledger.close("interrupted" if stopped else "error", {"error": repr(error)})
        raise
    _close(ledger, conductor)


def _cut_off(state: SweepState) -> list[str]:
    """Folders of the trials of which an attempt did not end as it should: it may have left something in the store."""
    return [
        folder_name(trial.values, trial.seed, trial.trial)
        for trial in state.trials.values()
        if trial.attempt > 1 or trial.status != "done"
    ]


def _conductor(plan: Plan, ledger: Ledger, observers: Sequence[Observer], retry: bool) -> Conductor:
    """A conductor that stands where the ledger ends."""
    write_provenance(plan)
    keep_code(plan.loaded, plan.folder, ledger.header.code)
    state, search_state = replay(plan, recorded_lines(plan))
    limits = _limits(plan, ledger.header.devices)
    return Conductor(plan, ledger, state, search_state, limits=limits, observers=observers, retry_failed=retry)


def recorded_lines(plan: Plan) -> Iterator[tuple[float, StateLine]]:
    """The plan's ledger for :func:`replay`: nothing but a scheduler needs each report in its place among the others.

    Args:
        plan: The sweep's plan.
    """
    if plan.sweep.scheduler is None:
        return condensed(plan.folder)
    return ((record.at, record.body) for record in read(plan.folder))


def _close(ledger: Ledger, conductor: Conductor) -> None:
    reason = "interrupted" if conductor.interrupted_by is not None else "error" if conductor.error else "finished"
    details = {"seconds": conductor.seconds, "notes": list(search_notes(conductor.search_state))}
    ledger.close(reason, {**details, **({"why": conductor.halted} if conductor.halted else {})})


def _header(plan: Plan, tracking: str, keep_results: bool) -> Header:
    """The new driver's header, after a check of the results that are there."""
    code = user_modules(plan.loaded)
    before = load_state(plan.folder) if exists(plan.folder) else SweepState()
    for problem in continuation_problems(plan, before, code, keep_results=keep_results):
        raise problem
    header = ledger_header(plan, tracking=tracking, code=code, before=before.header)
    if before.header is not None and plan.loaded.experiment.resources.gpus_per_rank == "measured":
        return replace(header, devices=before.devices)  # until this driver has measured for itself
    return header


def replay(plan: Plan, lines: Iterable[tuple[float, StateLine]]) -> tuple[SweepState, SearchState]:
    """What a ledger adds up to, and searcher and scheduler as they stood at its end.

    Args:
        plan: The sweep's plan, which makes searcher and scheduler anew.
        lines: The ledger's headers and events in their order, with the time of each in unix seconds; without a
            scheduler, reports may stand in columns.
    """
    state, search_state = SweepState(lean=True), build_search_state(plan)
    for at, line in lines:
        if isinstance(line, Header):
            state.start(line, at)
            search_state.begin(line, state)
        else:
            state.apply(line, at)
            search_state.apply(line, state)
    return state, search_state


def _limits(plan: Plan, devices: float) -> SweepLimits:
    budget = plan.sweep.budget
    return SweepLimits(budget, devices=devices, before=worked_seconds(plan.folder) if budget.hours else 0.0)


def run_sweep(
    plan: Plan,
    *,
    tracking: str = "",
    keep_results: bool = False,
    retry_failed: bool = False,
    observers: Sequence[Observer] = (),
    template: RankTemplate | None = None,
    on_open: Callable[[], None] = lambda: None,
    on_slots: Callable[[int], None] = lambda slots: None,
) -> SweepResult:
    """Run what the ledger does not answer yet, on Ray.

    Args:
        plan: The sweep's plan.
        tracking: Address of the MLflow store that follows the ledger; empty where none does.
        keep_results: Whether results of other versions of the user's code stand beside the new ones.
        retry_failed: Whether failed trials are tried again.
        observers: Called with each event that is recorded.
        template: What ranks are forked from; by default one of its own.
        on_open: Called when this driver has the ledger.
        on_slots: Called with the number of trials that can run at once, when that is known.

    Raises:
        Interrupted: After a signal, with everything saved.
        GangsLost: Ray's processes died before the sweep was over.
        LedgerMismatch: The results are of other data.
    """
    with open_sweep(
        plan, tracking=tracking, keep_results=keep_results, observers=observers, retry=retry_failed, on_open=on_open
    ) as conductor:
        if conductor.has_work():
            # signals are noted from here on, since Ray takes its time to start
            with signals_noted(conductor), nullcontext(template) if template else new_template(plan) as forked_from:
                _run_on_ray(plan, conductor, forked_from, on_slots)
    return conclude(plan, conductor)


def new_template(plan: Plan) -> RankTemplate:
    """A template for the plan's ranks. Where nothing is recorded yet there is work for it, so it is started at once.

    Args:
        plan: The sweep's plan.
    """
    experiment = plan.loaded.experiment
    template = RankTemplate((str(experiment.file.parent),), wanted=runner_of(experiment.recipe) in MODULE_RUNNERS)
    if not exists(plan.folder):
        template.start()
    return template


def _run_on_ray(plan: Plan, conductor: Conductor, template: RankTemplate, on_slots: Callable[[int], None]) -> None:
    """Have Ray run the rest; while it is imported, the template imports what the ranks need.

    Ray's advice to notebooks is switched off: it is about tables of its own that are not shown here.
    """
    template.start()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        _import_ray(plan)
    from expflow.sweep.ray_runner import run_on_ray

    run_on_ray(plan, conductor, template, on_slots)


def _import_ray(plan: Plan) -> None:
    """Import Ray, which costs a second that a sweep with nothing left to do must not pay."""
    logging.getLogger("ray.widgets.util").setLevel(logging.ERROR)
    alone = not cluster_address(plan.site.ray)
    with environment_with(on_loopback() if alone else {}), nothing_collected():
        importlib.import_module("expflow.sweep.ray_runner")


def import_ray_meanwhile(plan: Plan) -> None:
    """Begin to import Ray, for a sweep that is about to run, while this thread waits for something else.

    Args:
        plan: The sweep's plan.
    """
    threading.Thread(target=_import_ray, args=(plan,), name="import-ray").start()


def conclude(plan: Plan, conductor: Conductor) -> SweepResult:
    """The driver's result.

    Args:
        plan: The sweep's plan.
        conductor: The driver's conductor, with its ledger closed.

    Raises:
        Interrupted: A signal has stopped the sweep.
        UserError: The experiment is wrong, by what its trials report.
        GangsLost: Ray's processes died before the sweep was over.
    """
    if conductor.interrupted_by is not None:
        raise Interrupted(
            f"stopped by {signal.Signals(conductor.interrupted_by).name}; everything that was finished is saved",
            signal_number=conductor.interrupted_by,
            at_once=conductor.abandoned,
        )
    conductor.check_reported_metrics()
    if conductor.error is not None:
        raise conductor.error
    left = [trial.trial for trial in conductor.state.plan_trials() if not trial.ended]
    if left and not conductor.halted:
        raise GangsLost(
            f"Ray's processes on this sweep were lost with {len(left)} trials unfinished ({', '.join(left[:3])}…). "
            "Everything that was finished is saved; the same command continues",
            at_once=conductor.abandoned,
        )
    ran, notes, left_out = conductor.ended, tuple(_notes(conductor, len(left))), conductor.left_out
    del conductor  # its lean state is not needed beside the whole one
    state = load_state(plan.folder)
    return SweepResult(state, plan.folder, ran, notes, (*left_out, *(metric_notes(plan, state) if ran else ())))


def _notes(conductor: Conductor, left: int) -> Iterator[str]:
    if conductor.halted:
        yield conductor.halted + (f"; {left} trials are unfinished and go on when it is raised" if left else "")
    if conductor.excess_bytes:
        yield (
            f"checkpoints take {conductor.excess_bytes / 1e6:,.1f} MB more than sweep.checkpoints.disk: what is left "
            "must not be deleted"
        )
    yield from search_notes(conductor.search_state)


def search_notes(search_state: SearchState) -> Iterator[str]:
    """What a user should know of how the search went.

    Args:
        search_state: The searcher, up to the ledger's end.
    """
    if search_state.ended_early:
        yield search_state.closed
    elif search_state.refused:
        yield f"proposals that the schema refuses were passed over: {'; '.join(search_state.refused)}"
