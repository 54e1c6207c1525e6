"""A sweep's numbers as Prometheus scrapes them, kept up to date by the driver's events.

Names follow Prometheus' conventions: base units, ``_total`` for what only grows, a point in time in unix seconds (how
long a trial is silent is ``time() - expflow_trial_last_report_timestamp_seconds``). There is one series for each
*running* trial, none for those that are over, so their number is bounded by the slots and not by the trials.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from expflow.events import (
    AttemptFailed,
    CheckpointSaved,
    Event,
    SystemMeasured,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from expflow.ledger import SweepState, TrialState
from expflow.ledger.state import TrialStatus
from expflow.sweep.failures import RULES

MOST_TRIALS = 150
"""Running trials that get series of their own; with ten series each, a sweep stays below 2,000."""

SYSTEM_METRICS = {
    # metric of the event -> name and help of the series
    "system/samples_per_second": ("expflow_trial_samples_per_second", "Training samples per second, all ranks."),
    "system/wait_share": ("expflow_trial_loader_wait_ratio", "Share of training that waits for batches, 0 to 1."),
    "system/cpu_cores": ("expflow_trial_cpu_cores", "CPU seconds per second of rank 0's process."),
    "system/memory_bytes": ("expflow_trial_memory_bytes", "Resident memory of rank 0's process."),
    "system/gpu_use_share": ("expflow_trial_gpu_use_ratio", "Use of rank 0's GPU, 0 to 1."),
    "system/gpu_memory_bytes": ("expflow_trial_gpu_memory_bytes", "Memory of rank 0's GPU that torch holds."),
}

_STATES: tuple[TrialStatus, ...] = get_args(TrialStatus)


class SweepMetrics(Collector):
    """An observer of the driver's events, and a collector for Prometheus' client.

    Events come from the driver's thread, scrapes from the server's: one lock keeps them apart.

    Args:
        sweep: The sweep's name, the label of every series.
        metric: What the sweep is judged by.
        mode: ``max`` or ``min``.
        folder: The experiment's folder, whose disk is watched.
        planned: Number of trials of the plan; 0 where it is not known.
        tracking_lag: Gives the bytes of the ledger that MLflow has not seen; None where nothing is known.
        clock: Gives unix seconds.
    """

    def __init__(
        self,
        sweep: str,
        metric: str,
        mode: str,
        folder: Path,
        planned: int = 0,
        tracking_lag: Callable[[], float | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._labels = {"sweep": sweep}
        self._metric, self._mode, self._folder, self._planned = metric, mode, folder, planned
        self._tracking_lag, self._clock = tracking_lag, clock
        self._lock = threading.Lock()
        self._started_at = clock()
        self.slots: int | None = None
        """Trials that can run at once; None until the driver knows."""
        self._states: dict[str, TrialStatus] | None = None
        """Trial of the plan -> its status; None before the first event."""
        self._running: dict[str, _RunningTrial] = {}
        # from 0 on: an increase is only seen of a series that was there before
        self._failures = dict.fromkeys(RULES, 0)
        self._reports = self._attempts = self._checkpoints = self._events = 0
        self._checkpoint_bytes = self._checkpoint_seconds = self._trial_seconds = 0.0
        self._best: float | None = None
        self._last_event_at = self._started_at

    def __call__(self, event: Event, state: SweepState) -> None:
        """Take in an event that the state has taken in."""
        with self._lock:
            if self._states is None:
                self._take_up(state)
            self._events += 1
            self._last_event_at = self._clock()
            trial = state.trials.get(getattr(event, "trial", ""))
            if trial is not None:
                self._take(event, trial, current=trial.trial in state.current)

    def _take_up(self, state: SweepState) -> None:
        """What earlier drivers left."""
        self._states = {}
        for trial in state.plan_trials():
            self._states[trial.trial] = trial.status
            self._note_best(trial)

    def _take(self, event: Event, trial: TrialState, *, current: bool) -> None:
        match event:
            case TrialStarted():
                self._attempts += 1
                self._running[trial.trial] = _RunningTrial(self._clock())
            case TrialReported():
                self._reports += 1
                if running := self._running.get(trial.trial):
                    running.reported_at, running.progress = self._clock(), event.progress
            case SystemMeasured():
                if running := self._running.get(trial.trial):
                    running.system = dict(event.metrics)
            case CheckpointSaved():
                self._checkpoints += 1
                self._checkpoint_bytes += event.size
                self._checkpoint_seconds += event.seconds
            case AttemptFailed():
                self._failures[event.failure] = self._failures.get(event.failure, 0) + 1
            case TrialEnded():
                self._trial_seconds += event.seconds
                self._note_best(trial)
            case _:
                pass
        if trial.status != "running":
            self._running.pop(trial.trial, None)
        if current and self._states is not None:
            self._states[trial.trial] = trial.status

    def _note_best(self, trial: TrialState) -> None:
        value = trial.metrics.get(self._metric) if trial.status == "done" else None
        if value is not None:
            choose = max if self._mode == "max" else min
            self._best = value if self._best is None else choose(self._best, value)

    def collect(self) -> Iterator[Metric]:
        """All series, at the time of a scrape."""
        with self._lock:
            families = [*self._sweep_series(), *self._total_series(), *self._trial_series()]
        yield from families
        yield from self._storage_series()

    def _gauge(self, name: str, documentation: str, value: float | None) -> Iterator[GaugeMetricFamily]:
        """One series of the sweep's; none where there is no value."""
        if value is not None:
            family = GaugeMetricFamily(name, documentation, labels=[*self._labels])
            family.add_metric([*self._labels.values()], value)
            yield family

    def _counter(self, name: str, documentation: str, value: float) -> CounterMetricFamily:
        family = CounterMetricFamily(name, documentation, labels=[*self._labels])
        family.add_metric([*self._labels.values()], value)
        return family

    def _sweep_series(self) -> Iterator[Metric]:
        states = list((self._states or {}).values())
        trials = GaugeMetricFamily("expflow_trials", "Trials of the plan by their state.", labels=["sweep", "state"])
        for state in _STATES:
            trials.add_metric([self._labels["sweep"], state], states.count(state))
        yield trials
        yield from self._gauge(
            "expflow_planned_trials", "Trials that the plan is expected to have.", max(self._planned, len(states))
        )
        yield from self._gauge("expflow_slots", "Trials that can run at once.", self.slots)
        yield from self._gauge("expflow_driver_start_timestamp_seconds", "When the driver started.", self._started_at)
        yield from self._gauge(
            "expflow_ledger_last_event_timestamp_seconds", "When the newest event was recorded.", self._last_event_at
        )
        if self._best is not None:
            best = GaugeMetricFamily(
                "expflow_best_value", "Best value of the sweep's metric so far.", labels=["sweep", "metric"]
            )
            best.add_metric([self._labels["sweep"], self._metric], self._best)
            yield best

    def _total_series(self) -> Iterator[Metric]:
        yield self._counter("expflow_reports", "Reports recorded by this driver.", self._reports)
        yield self._counter("expflow_ledger_events", "Events recorded by this driver.", self._events)
        yield self._counter("expflow_attempts", "Attempts that began under this driver.", self._attempts)
        yield self._counter("expflow_checkpoints", "Checkpoints written under this driver.", self._checkpoints)
        yield self._counter("expflow_checkpoint_bytes", "Bytes of these checkpoints.", self._checkpoint_bytes)
        yield self._counter(
            "expflow_checkpoint_seconds", "Seconds that training stood still for checkpoints.", self._checkpoint_seconds
        )
        yield self._counter("expflow_trial_seconds", "Seconds that trials which are over took.", self._trial_seconds)
        failures = CounterMetricFamily(
            "expflow_attempt_failures", "Attempts that failed, by class of failure.", labels=["sweep", "failure"]
        )
        for failure, count in sorted(self._failures.items()):
            failures.add_metric([self._labels["sweep"], failure], count)
        yield failures

    def _trial_series(self) -> Iterator[Metric]:
        running = list(self._running.items())[:MOST_TRIALS]
        last = GaugeMetricFamily(
            "expflow_trial_last_report_timestamp_seconds",
            "When a running trial reported last, or started where it has not reported.",
            labels=["sweep", "trial"],
        )
        progress = GaugeMetricFamily(
            "expflow_trial_progress_ratio",
            "Share of a running trial's budget that is spent.",
            labels=["sweep", "trial"],
        )
        for trial, known in running:
            last.add_metric([self._labels["sweep"], trial], known.reported_at)
            progress.add_metric([self._labels["sweep"], trial], known.progress)
        yield last
        yield progress
        for metric, (name, documentation) in SYSTEM_METRICS.items():
            family = GaugeMetricFamily(name, documentation, labels=["sweep", "trial"])
            for trial, known in running:
                if metric in known.system:
                    family.add_metric([self._labels["sweep"], trial], known.system[metric])
            yield family

    def _storage_series(self) -> Iterator[Metric]:
        """What is looked up on the disk; outside of the lock, since a slow file system must not hold up the driver."""
        yield from self._gauge(
            "expflow_tracking_lag_bytes", "Bytes of the ledger that MLflow has not seen.", self._tracking_lag()
        )
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError:
            return
        yield from self._gauge("expflow_storage_free_bytes", "Free bytes where the results lie.", usage.free)
        yield from self._gauge("expflow_storage_size_bytes", "Bytes of the file system there.", usage.total)


class _RunningTrial:
    """What is exported of a running trial."""

    def __init__(self, now: float) -> None:
        self.reported_at, self.progress = now, 0.0
        self.system: dict[str, float] = {}
