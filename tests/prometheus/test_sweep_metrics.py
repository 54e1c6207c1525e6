"""A sweep's series, as its events change them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from expflow.events import (
    AttemptFailed,
    CheckpointSaved,
    DriverStopped,
    Event,
    SystemMeasured,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from expflow.ledger import SweepState
from expflow.prometheus import SweepMetrics
from expflow.prometheus.sweep_metrics import MOST_TRIALS, SYSTEM_METRICS


class Driver:
    """Applies events to a state and tells the metrics, as a driver does."""

    def __init__(self, folder: Path, mode: str = "max") -> None:
        self.now = 1000.0
        self.state = SweepState()
        self.lag: float | None = None
        self.metrics = SweepMetrics(
            "depth", "val/top1", mode, folder, planned=4, tracking_lag=lambda: self.lag, clock=lambda: self.now
        )

    def __call__(self, *events: Event) -> None:
        for event in events:
            self.state.apply(event, self.now)
            self.metrics(event, self.state)

    def series(self) -> dict[tuple[str, ...], float]:
        """Name and labels but the sweep's -> value, through Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(self.metrics)
        samples = {}
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            for sample in family.samples:
                assert sample.labels["sweep"] == "depth"
                rest = [value for label, value in sorted(sample.labels.items()) if label != "sweep"]
                samples[sample.name, *rest] = sample.value
        return samples


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def proposed(trial: str) -> Event:
    return TrialProposed(trial, f"config-{trial}", 0, {}, {})


def report(trial: str, step: int, value: float) -> Event:
    return TrialReported(trial, 1, step, {"val/top1": value}, step / 10)


def test_trials_are_counted_by_state(driver: Driver) -> None:
    assert driver.series()["expflow_trials", "running"] == 0
    driver(proposed("a"), proposed("b"), proposed("c"), TrialStarted("a", 1, "gang-1"), TrialStarted("b", 1, "gang-2"))
    series = driver.series()
    assert [series["expflow_trials", state] for state in ("waiting", "running", "done")] == [1, 2, 0]
    assert series["expflow_attempt_failures_total", "worker_lost"] == 0  # there from the start, so that it can increase
    driver(report("a", 10, 0.75), TrialEnded("a", 1, "done", 10, 3.5))
    driver(AttemptFailed("b", 1, "worker_lost", "gone"), TrialEnded("b", 1, "failed", 0, 1.0))
    series = driver.series()
    assert [series["expflow_trials", state] for state in ("waiting", "running", "done", "failed")] == [1, 0, 1, 1]
    assert series["expflow_attempt_failures_total", "worker_lost"] == 1
    assert series["expflow_best_value", "val/top1"] == 0.75
    assert series[("expflow_planned_trials",)] == 4
    assert series[("expflow_trial_seconds_total",)] == 4.5
    assert series[("expflow_ledger_events_total",)] == 9


@pytest.mark.parametrize(("mode", "best"), [("max", 0.75), ("min", 0.25)])
def test_the_best_is_that_of_trials_that_are_done(tmp_path: Path, mode: str, best: float) -> None:
    driver = Driver(tmp_path, mode)
    for trial, value, status in (
        ("a", 0.25, "done"),
        ("b", 0.75, "done"),
        ("c", 0.99, "stopped"),
        ("d", 0.0, "failed"),
    ):
        driver(proposed(trial), TrialStarted(trial, 1, "gang-1"), report(trial, 10, value))
        driver(TrialEnded(trial, 1, status, 10, 1.0))  # type: ignore[arg-type]
    assert driver.series()["expflow_best_value", "val/top1"] == best


def test_a_silent_trial_shows_when_it_was_last_heard(driver: Driver) -> None:
    driver(proposed("a"), TrialStarted("a", 1, "gang-1"))
    driver.now = 1060.0
    assert driver.series()["expflow_trial_last_report_timestamp_seconds", "a"] == 1000.0
    driver(report("a", 4, 0.5))
    driver.now = 1100.0
    series = driver.series()
    assert series["expflow_trial_last_report_timestamp_seconds", "a"] == 1060.0
    assert series["expflow_trial_progress_ratio", "a"] == 0.4
    driver(TrialEnded("a", 1, "done", 10, 3.0))
    assert not [key for key in driver.series() if key[0].startswith("expflow_trial_last")]


def test_what_a_rank_measures_is_shown_while_it_runs(driver: Driver) -> None:
    driver(proposed("a"), TrialStarted("a", 1, "gang-1"))
    measured = {"system/samples_per_second": 512.0, "system/wait_share": 0.25, "system/batches_per_second": 8.0}
    driver(SystemMeasured("a", 1, 4, measured), CheckpointSaved("a", 1, 4, "c", "ab", 1000, 0.5))
    series = driver.series()
    assert series["expflow_trial_samples_per_second", "a"] == 512
    assert series["expflow_trial_loader_wait_ratio", "a"] == 0.25
    assert series[("expflow_checkpoint_bytes_total",)] == 1000
    assert series[("expflow_checkpoint_seconds_total",)] == 0.5
    driver(AttemptFailed("a", 1, "worker_lost", "gone"))
    assert ("expflow_trial_samples_per_second", "a") not in driver.series()


def test_an_earlier_drivers_trials_count_from_the_first_event(driver: Driver) -> None:
    for event in (
        proposed("a"),
        TrialStarted("a", 1, "gang-1"),
        report("a", 1, 0.5),
        TrialEnded("a", 1, "done", 1, 1.0),
    ):
        driver.state.apply(event, 1.0)
    driver(proposed("b"))
    series = driver.series()
    assert (series["expflow_trials", "done"], series["expflow_trials", "waiting"]) == (1, 1)
    assert series["expflow_best_value", "val/top1"] == 0.5
    assert series[("expflow_reports_total",)] == 0


def test_tracking_and_storage(driver: Driver) -> None:
    assert ("expflow_tracking_lag_bytes",) not in driver.series()
    driver.lag = 120.0
    series = driver.series()
    assert series[("expflow_tracking_lag_bytes",)] == 120
    assert 0 <= series[("expflow_storage_free_bytes",)] <= series[("expflow_storage_size_bytes",)]


def test_ten_thousand_trials_stay_below_2000_series(driver: Driver) -> None:
    measured = dict.fromkeys(SYSTEM_METRICS, 1.0)
    for number in range(10_000):
        trial = f"t{number}"
        driver(proposed(trial), TrialStarted(trial, 1, "gang-1"))
        driver(SystemMeasured(trial, 1, 1, measured), AttemptFailed(trial, 1, "code", "no"))
        if number < 9000:
            driver(TrialEnded(trial, 1, "failed", 0, 1.0))
        else:
            driver(TrialStarted(trial, 2, "gang-2"), SystemMeasured(trial, 2, 1, measured))
    series = driver.series()
    assert series["expflow_trials", "running"] == 1000
    assert len(series) < 2000
    per_trial = Counter(key[0] for key in series if len(key) == 2 and key[1].startswith("t"))
    assert set(per_trial.values()) == {MOST_TRIALS}


def test_events_without_a_trial_are_taken(driver: Driver) -> None:
    driver(DriverStopped("finished"))
    assert driver.series()[("expflow_ledger_events_total",)] == 1
