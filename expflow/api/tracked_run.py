"""One driver's work on a plan, followed by MLflow; the command line and Python share it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expflow.api.model_export import ExportProcess, chosen_trials, missing_exports, start_export
from expflow.config.site import MetricsExport
from expflow.errors import GangsLost, Interrupted, StorageUnwritable
from expflow.events import Event
from expflow.garbage import nothing_collected
from expflow.ledger import SweepState
from expflow.report import ReportFiles, current_report, write_report
from expflow.report.formatting import plural
from expflow.report.page import import_drawing
from expflow.storage.driver_session import session_of
from expflow.sweep.driver import SweepResult
from expflow.sweep.event_recorder import Observer
from expflow.sweep.finished_sweep import finished_result
from expflow.sweep.plan import Plan
from expflow.sweep.ray_shutdown import wait_for_shutdown
from expflow.sweep.result_location import ResultLocation
from expflow.sweep.storage_place import results_command
from expflow.sweep.trial_expansion import expected_trials
from expflow.tracking import LazyFollower, lag_bytes, public_uri, reports_behind, resolve_uri, trouble_of
from expflow.tracking.exported_models import ExportedModel, read_exports

if TYPE_CHECKING:
    from expflow.prometheus import SweepMetrics

Runner = Callable[..., SweepResult]
"""``run_sweep`` or ``run_in_process``."""

CATCH_UP_SECONDS = 60.0
"""How long MLflow is waited for at the end; nothing is lost where that is too short."""

TROUBLED_SECONDS = 10.0
"""The same where MLflow has already refused what it was given."""

EXPORT_SECONDS = 600.0
"""How long an export of models is waited for at the end; what it had no time for is done by the next command."""

_INTERRUPTED_SECONDS = 2.0
"""The same after a signal, when the process has 15 s to leave; what is missing then goes on by itself."""


@dataclass(frozen=True)
class FinishedRun:
    """What a driver left.

    Attributes:
        result: The state at its end and the exit code.
        files: The report's files; None where no report was asked for.
    """

    result: SweepResult
    files: ReportFiles | None


class TrackedRun:
    """Runs a plan. Use once: :meth:`run` where :meth:`finished` has nothing, then :meth:`catch_up`.

    Its attributes: ``plan``, ``retry_failed``, and ``mlflow``, the address of the MLflow store without its secrets.

    Args:
        plan: The plan.
        runner: ``run_sweep`` or ``run_in_process``.
        keep_results: Whether results count as valid although code changed since.
        retry_failed: Whether failed trials are run again.
        metrics_port: Port for Prometheus, in place of the one that the site file names; None leaves it to that.
    """

    def __init__(
        self,
        plan: Plan,
        runner: Runner,
        *,
        keep_results: bool = False,
        retry_failed: bool = False,
        metrics_port: int | None = None,
    ) -> None:
        self.plan = plan
        settings = plan.site.metrics
        if metrics_port is not None:
            settings = (settings or MetricsExport()).model_copy(update={"port": metrics_port})
        self._metrics = settings
        self._runner, self._keep_results, self.retry_failed = runner, keep_results, retry_failed
        self._uri = resolve_uri(plan.storage, environ=os.environ, site=plan.site.mlflow)
        self.mlflow = public_uri(self._uri)
        self._follower = LazyFollower(plan.folder, self._uri)
        self._state: SweepState | None = None

    def finished(self, *, report: bool = True) -> FinishedRun | None:
        """What a driver would leave that finds nothing to do; None where there may be something.

        Args:
            report: Whether the report is wanted; it is written where it is not there, or older than the ledger.
        """
        with nothing_collected():  # a state stays until the end
            result = finished_result(self.plan, tracking=self.mlflow, retry_failed=self.retry_failed)
            if result is None:
                return None
            self._state = result.state
            files = current_report(self.plan.folder, result.state) if report else None
        if report and files is None:
            files = write_report(self.plan.folder, result.state)
        return FinishedRun(result, files)

    def run(
        self,
        observers: Sequence[Observer] = (),
        *,
        report: bool = True,
        on_open: Callable[[], None] = lambda: None,
    ) -> FinishedRun:
        """Run what is left, then write the report.

        Args:
            observers: Called with each event and the state after it.
            report: Whether the report is written.
            on_open: Called when this driver has the ledger; before that nothing was started, and a refusal has left
                nothing behind.

        Raises:
            ExpflowError: What the runner raises; the ledger has what was done.
        """
        try:
            result = self._run_the_rest(observers, on_open, report=report)
            self._state = result.state
            return FinishedRun(result, write_report(self.plan.folder, result.state) if report else None)
        finally:
            wait_for_shutdown()  # of Ray, which went on beside the report

    def _run_the_rest(self, observers: Sequence[Observer], on_open: Callable[[], None], *, report: bool) -> SweepResult:
        exporters: list[SweepMetrics] = []

        def export(event: Event, state: SweepState) -> None:
            for exporter in exporters:
                exporter(event, state)

        def count_slots(slots: int) -> None:
            if report:  # its end needs it, and until the first trial has begun this process has nothing else to do
                threading.Thread(target=import_drawing, name="import-drawing").start()
            for exporter in exporters:
                exporter.slots = slots

        try:
            with contextlib.ExitStack() as attached:

                def attach() -> None:
                    exporters.extend(attached.enter_context(self._exporter()))
                    on_open()

                return self._runner(
                    self.plan,
                    tracking=self.mlflow,
                    keep_results=self._keep_results,
                    retry_failed=self.retry_failed,
                    observers=(self._follower, *observers, export),
                    on_open=attach,
                    on_slots=count_slots,
                )
        except (Interrupted, GangsLost):
            self._follower.finish(_INTERRUPTED_SECONDS)
            raise
        except BaseException:
            self._follower.stop()
            raise

    @contextlib.contextmanager
    def _exporter(self) -> Iterator[Sequence[SweepMetrics]]:
        """The observers that export metrics: none where nobody asked for them, and then nothing listens."""
        if self._metrics is None:
            yield ()
            return
        from expflow.prometheus import SweepMetrics, exported

        plan, uri = self.plan, self._uri
        metrics = SweepMetrics(
            plan.name,
            plan.metric,
            plan.mode,
            plan.folder,
            expected_trials(plan),
            tracking_lag=lambda: lag_bytes(plan.folder, uri),
        )
        with exported(metrics, self._metrics, plan.name):
            yield (metrics,)

    @property
    def mlflow_awaited(self) -> bool:
        """Whether :meth:`catch_up` waits for MLflow. Where nobody does, its follower gives way to everything else, and
        goes on by itself."""
        return self._follower.awaited

    @mlflow_awaited.setter
    def mlflow_awaited(self, awaited: bool) -> None:
        self._follower.awaited = awaited

    def catch_up(self) -> bool:
        """Have MLflow, which follows the ledger, get the rest, and the models that ``tracking.models`` asks for.

        Returns:
            False where it stays behind, to be caught up with later; :meth:`behind` says by how much.
        """
        caught_up = self._catch_up(self.mlflow_awaited)
        self._send_the_rest(caught_up)
        return caught_up

    def _catch_up(self, wait: bool) -> bool:
        export = self._start_export()
        troubled = bool(trouble_of(self.plan.folder, self._uri))
        caught_up = self._follower.finish((TROUBLED_SECONDS if troubled else CATCH_UP_SECONDS) if wait else 0.0)
        if export is not None:
            caught_up = export.finish(EXPORT_SECONDS if wait else 0.0)  # it brings MLflow up to everything, too
        return caught_up or not (wait or troubled)

    def _send_the_rest(self, caught_up: bool) -> None:
        """Send what was written behind the driver's end, such as the report; what is safe in the store then goes from
        this machine, as far as MLflow does not need it."""
        if (session := session_of(self.plan.folder)) is None:
            return
        try:
            if not session.trouble:
                session.send()
                if caught_up:
                    session.forget_trials()
        except StorageUnwritable as error:
            session.trouble = str(error)

    @property
    def storage_trouble(self) -> str:
        """Why the store that results lie in lacks some of them, in words; empty where it does not."""
        session = session_of(self.plan.folder)
        return session.trouble if session is not None else ""

    def _start_export(self) -> ExportProcess | None:
        """Start what exports the models; None where none is wanted, or all are there."""
        choice = self.plan.loaded.experiment.tracking.models
        if choice == "none" or self._state is None:
            return None
        results = ResultLocation(self.plan.folder, self._state)
        if not missing_exports(self.plan.folder, chosen_trials(results, choice)):
            return None
        return start_export(self.plan.folder, choice, self._uri)

    def unexported(self) -> Sequence[ExportedModel]:
        """The wanted models that could not be exported, as far as that is known by now."""
        choice = self.plan.loaded.experiment.tracking.models
        if choice == "none" or self._state is None:
            return ()
        exports = read_exports(self.plan.folder)
        wanted = chosen_trials(ResultLocation(self.plan.folder, self._state), choice)
        return [exports[trial.trial] for trial in wanted if trial.trial in exports and exports[trial.trial].reason]

    def behind(self) -> Iterator[str]:
        """The lines for people that say how far MLflow is behind, why, and what brings it up to date."""
        reports = plural(reports_behind(self.plan.folder, self._uri), "report")
        command = results_command(self.plan.folder, "status", "--sync")
        yield f"tracking is behind by {reports}; the next command, or `{command}`, brings it up to date"
        if why := trouble_of(self.plan.folder, self._uri):
            yield why
