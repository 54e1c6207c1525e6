"""Dashboards and alerts: made from one file, of metrics that are exported; a real Prometheus answers them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from ruamel.yaml import YAML

from expflow.api.tracked_run import TrackedRun
from expflow.config.site import MetricsExport
from expflow.events import AttemptFailed, Event, SystemMeasured, TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import SweepState
from expflow.prometheus import SweepMetrics, exported
from expflow.prometheus.sweep_metrics import SYSTEM_METRICS
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from tests.prometheus.prometheus_package import prometheus_programs

DASHBOARDS = Path(__file__).parents[2] / "dashboards"
METRIC = re.compile(r"\bexpflow_[a-z_]+")
BOUND = re.compile(r" (>|<|==) [0-9.]+")


def panels() -> dict[str, str]:
    """Dashboard, title and legend -> query."""
    return {
        f"{file.stem}: {panel['title']}: {target['legendFormat']}": target["expr"]
        for file in sorted((DASHBOARDS / "grafana").glob("*.json"))
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    }


def rules() -> dict[str, str]:
    """Alert -> its expression."""
    (group,) = YAML(typ="safe").load(DASHBOARDS / "alerts.yaml")["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


class FilledMetrics:
    """Metrics of a sweep in which everything has happened once, a GPU included."""

    def __init__(self, folder: Path, name: str = "filled") -> None:
        self.metrics = SweepMetrics(name, "val/top1", "max", folder, planned=3, tracking_lag=lambda: 10.0)
        self.metrics.slots = 2
        state = SweepState()
        events: list[Event] = [TrialProposed(trial, trial, 0, {}, {}) for trial in "abc"]
        events += [TrialStarted("a", 1, "gang-1"), TrialReported("a", 1, 4, {"val/top1": 0.5}, 1.0)]
        events += [TrialEnded("a", 1, "done", 4, 1.0), TrialStarted("b", 1, "gang-1")]
        events += [AttemptFailed("b", 1, "worker_lost", "gone"), TrialStarted("b", 2, "gang-2")]
        events += [SystemMeasured("b", 2, 4, dict.fromkeys(SYSTEM_METRICS, 0.5))]
        for event in events:
            state.apply(event, 0.0)
            self.metrics(event, state)

    def names(self) -> set[str]:
        registry = CollectorRegistry()
        registry.register(self.metrics)
        lines = generate_latest(registry).decode().splitlines()
        return {line.partition("{")[0] for line in lines if not line.startswith("#")}


def test_every_query_is_of_metrics_that_are_exported(tmp_path: Path) -> None:
    known = FilledMetrics(tmp_path).names()
    queries = panels() | rules()
    assert len(queries) > 25
    for place, query in queries.items():
        used = set(METRIC.findall(query))
        assert used or "up{" in query, place
        assert used <= known, place


def test_every_metric_is_on_a_page_or_in_an_alert(tmp_path: Path) -> None:
    used = {name for query in (panels() | rules()).values() for name in METRIC.findall(query)}
    for_questions_of_the_moment = {
        "expflow_attempts_total",
        "expflow_checkpoints_total",
        "expflow_driver_start_timestamp_seconds",
        "expflow_ledger_events_total",
        "expflow_ledger_last_event_timestamp_seconds",
        "expflow_trial_seconds_total",
    }
    assert FilledMetrics(tmp_path).names() - used == for_questions_of_the_moment


def test_the_json_is_what_the_one_file_makes() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="it comes with the extra `dev`")
    program = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import make_dashboards as m; print(json.dumps(m.pages()))"
    )
    made = subprocess.run(
        [sys.executable, "-c", program, DASHBOARDS], capture_output=True, text=True, check=True, timeout=120
    )
    for name, text in json.loads(made.stdout).items():
        assert (DASHBOARDS / "grafana" / name).read_text() == text, "run `python dashboards/make_dashboards.py`"


def test_every_alert_is_tested_firing_and_silent() -> None:
    tests = YAML(typ="safe").load(DASHBOARDS / "alerts_test.yaml")["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for alert in rules():
        assert {bool(case["exp_alerts"]) for case in cases if case["alertname"] == alert} == {True, False}, alert


@pytest.fixture(scope="module")
def programs() -> dict[str, Path]:
    found_programs, why = prometheus_programs()
    if why:
        pytest.skip(why)
    return found_programs


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yaml"],
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts_test.yaml"],
    ],
    ids=" ".join,
)
def test_promtool_passes(programs: dict[str, Path], command: list[str]) -> None:
    done = subprocess.run(
        [programs["promtool"], *command], cwd=DASHBOARDS, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class RunningPrometheus:
    """A real Prometheus on the configuration that is shipped, which scrapes each second."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, expression: str) -> list[dict[str, Any]]:
        words = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://{self.address}/api/v1/query?{words}", timeout=10) as answer:
            return list(json.load(answer)["data"]["result"])

    def unhealthy_rules(self) -> dict[str, str]:
        """Alert -> what is wrong with it; those that Prometheus could evaluate are left out."""
        with urllib.request.urlopen(f"http://{self.address}/api/v1/rules", timeout=10) as answer:
            groups = json.load(answer)["data"]["groups"]
        there = {rule["name"]: rule for group in groups for rule in group["rules"]}
        assert there.keys() == rules().keys()
        return {name: rule.get("lastError", "") for name, rule in there.items() if rule["health"] != "ok"}

    def until(self, expression: str, seconds: float = 90.0) -> list[dict[str, Any]]:
        """The query's first result that is not empty."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := self.query(expression):
                return result
            time.sleep(0.2)
        raise AssertionError(f"no answer to {expression}")


@pytest.fixture
def prometheus(programs: dict[str, Path], tmp_path: Path) -> Iterator[RunningPrometheus]:
    yaml = YAML()
    settings = yaml.load(DASHBOARDS / "prometheus.yaml")
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(DASHBOARDS / "alerts.yaml")]
    settings["scrape_configs"][0]["file_sd_configs"][0]["refresh_interval"] = "1s"
    yaml.dump(settings, tmp_path / "prometheus.yaml")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with open(tmp_path / "prometheus.log", "w") as log:
        process = subprocess.Popen(
            [
                programs["prometheus"],
                f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--storage.tsdb.path={tmp_path / 'series'}",
                f"--web.listen-address={address}",
            ],
            cwd=tmp_path,
            env={**os.environ, "GOMAXPROCS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, (tmp_path / "prometheus.log").read_text()
            try:
                urllib.request.urlopen(f"http://{address}/-/ready", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end, (tmp_path / "prometheus.log").read_text()
                time.sleep(0.1)
        yield RunningPrometheus(address)
    finally:
        process.terminate()
        process.wait(20)


DIGITS = """
data: {name: digits, limit: 128, batch_size: 16}
model: linear
task: classification
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 2}
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_prometheus_answers_every_panel_and_alert_of_a_running_training(
    prometheus: RunningPrometheus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sweep is real and is held at its last report until it has been scraped; one has a GPU, which is simulated."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.yaml").write_text(DIGITS)
    (tmp_path / "expflow.site.yaml").write_text("metrics: {discovery: targets}\n")
    scraped = threading.Event()

    def hold(event: Event, state: SweepState) -> None:
        if isinstance(event, TrialReported) and event.progress == 1.0:
            assert prometheus.until('expflow_trial_samples_per_second{sweep="digits"} > 0')
            assert prometheus.until('expflow_reports_total{sweep="digits"} == 1')
            scraped.set()

    settings = MetricsExport(discovery=tmp_path / "targets")
    with exported(FilledMetrics(tmp_path).metrics, settings, "filled"):
        run = TrackedRun(make_plan(Path("digits.yaml"), (), alone=True), run_in_process)
        assert run.run((hold,), report=False).result.exit_code == 0
        assert run.catch_up()
        assert scraped.is_set()
        assert prometheus.until("rate(expflow_reports_total[1m])")
        for query in panels().values():  # a rate needs two scrapes
            assert prometheus.until(query.replace("$sweep", "filled").replace("$__rate_interval", "1m"))
        # An alert without its bounds has a value; with them it is silent, or fires (alerts_test.yaml).
        unanswered = [alert for alert, query in rules().items() if not prometheus.query(BOUND.sub("", query))]
        assert unanswered == []
        assert prometheus.unhealthy_rules() == {}
