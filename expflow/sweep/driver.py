"""The driver of a sweep: opens the ledger, replays it, lets Ray Tune run what is left, and says what came of it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from expflow.config.foreign import user_modules
from expflow.errors import GangsLost, Interrupted, LedgerMismatch, StaleDriver
from expflow.events import Event
from expflow.ledger.header import Header
from expflow.ledger.reader import exists, read
from expflow.ledger.reader import load as load_state
from expflow.ledger.state import SweepState
from expflow.ledger.store import Ledger
from expflow.sweep.budgets import Limits, worked_seconds
from expflow.sweep.conductor import Conductor, Observer
from expflow.sweep.course import Course
from expflow.sweep.difference import refuse_extension
from expflow.sweep.files import write_experiment
from expflow.sweep.plan import Plan
from expflow.sweep.provenance import check_code
from expflow.training.contract import runner_of

if TYPE_CHECKING:
    from expflow.sweep.machine import Machine


@dataclass(frozen=True)
class Result:
    """What a driver leaves behind. ``ran`` counts the trials that it ended itself, ``notes`` say what its user should
    know of the search."""

    state: SweepState
    folder: Path
    ran: int
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when the plan is done, as far as its own budget went; 1 when trials failed."""
        return int(any(trial.status == "failed" for trial in self.state.plan_trials()))


@contextlib.contextmanager
def open_sweep(
    plan: Plan, *, tracking: str, keep_results: bool = False, observers: Sequence[Observer] = (), retry: bool = False
) -> Iterator[Conductor]:
    """Open the plan's ledger for one driver, refusing results that other code or other data made.

    On leaving, the ledger is closed with the reason: finished, interrupted or error.
    """
    code = user_modules(plan.loaded)
    before = load_state(plan.folder) if exists(plan.folder) else SweepState()
    if before.header is not None and before.trials:
        if not keep_results:
            check_code(before.header.code, code, before.header.versions.get("expflow", ""), plan.name)
        _check_data(plan, before)
        refuse_extension(plan, before)
    header = plan.header(tracking=tracking, code=code, before=before.header)
    if before.header is not None and plan.loaded.experiment.resources.gpus_per_rank == "measured":
        header = replace(header, devices=before.devices)  # until this driver has measured for itself
    ledger = Ledger.open(plan.folder, header)
    try:
        write_experiment(plan)
        state, course = replay(plan, ((record.at, record.body) for record in read(plan.folder)))
        limits = _limits(plan, header.devices)
        conductor = Conductor(plan, ledger, state, course, limits=limits, observers=observers, retry_failed=retry)
        yield conductor
    except StaleDriver:
        ledger.abandon()
        raise
    except BaseException as error:
        ledger.close("interrupted" if isinstance(error, KeyboardInterrupt) else "error", {"error": repr(error)})
        raise
    reason = "interrupted" if conductor.interrupted_by is not None else "finished"
    ledger.close(reason, {"seconds": conductor.seconds, **({"why": conductor.halted} if conductor.halted else {})})


def replay(plan: Plan, lines: Iterable[tuple[float, Header | Event]]) -> tuple[SweepState, Course]:
    """What a ledger adds up to, and searcher and scheduler as they stood at its end."""
    state, course = SweepState(lean=True), plan.course()
    for at, line in lines:
        if isinstance(line, Header):
            state.start(line, at)
            course.begin(line, state)
        else:
            state.apply(line, at)
            course.apply(line, state)
    return state, course


def _limits(plan: Plan, devices: float) -> Limits:
    budget = plan.sweep.budget
    return Limits(budget, devices=devices, before=worked_seconds(plan.folder) if budget.hours else 0.0)


def _check_data(plan: Plan, before: SweepState) -> None:
    """The same source under the same key must still hold the same samples."""
    assert before.header is not None  # noqa: S101 - the caller has looked
    then = before.header.data
    data = plan.data(plan.loaded.experiment.recipe)
    if data is None or then.get("key") != data.key or "manifest" not in then:
        return
    if then["manifest"] != data.manifest.content:
        raise LedgerMismatch(
            f"{plan.name} has results on other data: the manifest of {then.get('source')} was "
            f"{then['manifest'][:12]} and is {data.manifest.content[:12]}. Put the old data back, or use --fresh"
        )


@contextlib.contextmanager
def signals_noted(conductor: Conductor) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the work in good order, a second one at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if conductor.interrupted_by is not None:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)
        conductor.interrupted_by = number
        # Not print: a signal may come in the middle of one.
        os.write(2, b"\nstopping; what is finished is kept (again: at once)\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_sweep(
    plan: Plan,
    *,
    tracking: str = "",
    keep_results: bool = False,
    retry_failed: bool = False,
    observers: Sequence[Observer] = (),
) -> Result:
    """Run what the ledger does not answer yet, on Ray.

    Raises what opening the ledger raises, and :class:`Interrupted` after a signal, with everything saved.
    """
    with open_sweep(
        plan, tracking=tracking, keep_results=keep_results, observers=observers, retry=retry_failed
    ) as conductor:
        if conductor.has_work():
            with signals_noted(conductor):  # from here on, since Ray takes its time to start
                _run_on_ray(plan, conductor)
    return conclude(plan, conductor)


def conclude(plan: Plan, conductor: Conductor) -> Result:
    """The driver's result. Raises :class:`Interrupted` after a signal, :class:`GangsLost` where Ray's died."""
    if conductor.interrupted_by is not None:
        raise Interrupted(
            f"stopped by {signal.Signals(conductor.interrupted_by).name}; everything that was finished is saved",
            signal_number=conductor.interrupted_by,
        )
    left = [trial.trial for trial in conductor.state.plan_trials() if not trial.ended]
    if left and not conductor.halted:
        raise GangsLost(
            f"Ray's processes on this sweep were lost with {len(left)} trials unfinished ({', '.join(left[:3])}…). "
            "Everything that was finished is saved; the same command continues"
        )
    ran, notes = conductor.ended, tuple(_notes(conductor, len(left)))
    del conductor  # its lean state is not needed beside the whole one
    return Result(load_state(plan.folder), plan.folder, ran, notes)


def _notes(conductor: Conductor, left: int) -> Iterator[str]:
    if conductor.halted:
        yield conductor.halted + (f"; {left} trials are unfinished and go on when it is raised" if left else "")
    course = conductor.course
    if course.ended_early:
        yield course.closed
    elif course.refused:
        yield f"proposals that the schema refuses were passed over: {'; '.join(course.refused)}"


def _import_ray() -> Any:
    """Ray without its advice to notebooks, which is about tables of its own that nobody gets to see here."""
    logging.getLogger("ray.widgets.util").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import ray
    return ray


def _run_on_ray(plan: Plan, conductor: Conductor) -> None:
    """Connect to Ray and have the ranks warm up; then let Tune schedule."""
    ray = _import_ray()  # it costs seconds, which a sweep that has nothing left to do must not pay
    from expflow.sweep.dispatcher import Dispatcher
    from expflow.sweep.machine import connected
    from expflow.sweep.packing import packed_machine

    name = f"expflow-{uuid.uuid4().hex[:8]}"
    experiment = plan.loaded.experiment
    runner = runner_of(experiment.recipe).partition(":")[0]
    paths = (str(experiment.file.parent),)
    with (
        connected(experiment.resources, plan.site.ray, name, paths=paths, warm=(runner,)) as machine,
        signals_noted(conductor),  # again: Ray has put a handler of its own in place
    ):
        if experiment.resources.gpus_per_rank == "measured":
            machine = packed_machine(plan, conductor, machine)
        dispatcher: Any = (
            ray.remote(Dispatcher)
            .options(name=name, num_cpus=0, max_concurrency=10_000, scheduling_strategy=machine.beside_us)
            .remote(machine.shape, machine.gangs, conductor.decides, machine.patience)
        )
        try:
            dispatcher.start.remote()
            _run_tune(plan, conductor, name, dispatcher, machine)
            with contextlib.suppress(ray.exceptions.RayError):  # it may be what was lost; the ledger knows what is left
                ray.get(dispatcher.close.remote(), timeout=30)
        finally:
            ray.kill(dispatcher)  # and with it its gangs; a cluster that this process only visits goes on


def _run_tune(plan: Plan, conductor: Conductor, name: str, dispatcher: Any, machine: Machine) -> None:
    """Tune's loop over the conductor's proposals, until none is left or a signal came."""
    # Imported only now: the ranks import what they need meanwhile.
    from ray import tune

    from expflow.sweep.adapters import SESSIONS, Judge, Proposer, Recorder, Relay, Session

    scratch = tempfile.mkdtemp(prefix="expflow-tune-")
    SESSIONS[name] = Session(plan, conductor, dispatcher, machine.gangs + 1, conductor.decides)
    try:
        trainable = tune.with_resources(Relay, tune.PlacementGroupFactory([dict(machine.token)]))
        tuner = tune.Tuner(
            trainable,
            param_space={"dispatcher": name},
            tune_config=tune.TuneConfig(
                search_alg=Proposer(name), scheduler=Judge(name), num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=scratch,
                stop=Recorder(name),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                progress_reporter=tune.CLIReporter(),  # silent by the next line; the one for notebooks clears the cell
                verbose=0,
            ),
        )
        if conductor.interrupted_by is None:
            tuner.fit()
    finally:
        SESSIONS.pop(name)
        shutil.rmtree(scratch, ignore_errors=True)
