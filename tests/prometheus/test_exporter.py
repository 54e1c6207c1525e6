"""Metrics over HTTP: while a driver works, at the address that was asked for, and nowhere else."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from expflow.api.tracked_run import TrackedRun
from expflow.config.site import MetricsExport
from expflow.errors import ServerUnreachable, StorageUnwritable
from expflow.events import Event, TrialReported
from expflow.ledger import SweepState
from expflow.prometheus import SweepMetrics, exported
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan

SCRIPTED = """
task: {name: scripted, script: [{report: {val/top1: 0.5}}, {report: {val/top1: 0.75}}]}
"""


def metrics(folder: Path) -> SweepMetrics:
    return SweepMetrics("depth", "val/top1", "max", folder)


def scraped(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_it_is_served_until_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "targets"
    with exported(metrics(tmp_path), MetricsExport(discovery=folder), "depth") as address:
        assert address.startswith("127.0.0.1:")
        assert 'expflow_trials{state="running",sweep="depth"} 0.0' in scraped(address)
        assert "python_info" not in scraped(address)
        (target,) = json.loads((folder / "depth.json").read_text())
        assert target == {"targets": [address], "labels": {"sweep": "depth"}}
    assert list(folder.iterdir()) == []
    with pytest.raises(urllib.error.URLError):
        scraped(address)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServerUnreachable, match=rf"127\.0\.0\.1:{port}: .*in use.*--metrics-port"),
            exported(metrics(tmp_path), MetricsExport(port=port), "depth"),
        ):
            pass


def test_a_discovery_folder_that_is_a_file_is_named_and_the_port_is_free_again(tmp_path: Path) -> None:
    (tmp_path / "targets").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = MetricsExport(port=port, discovery=tmp_path / "targets")
    with pytest.raises(StorageUnwritable, match=r"depth\.json"), exported(metrics(tmp_path), settings, "depth"):
        pass
    socket.create_server(("127.0.0.1", port)).close()


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "expflow.site.yaml").write_text("metrics: {discovery: targets}\n")
    file = tmp_path / "scripted.yaml"
    file.write_text(SCRIPTED)
    return file


def test_a_training_is_seen_from_outside_while_it_works(experiment: Path) -> None:
    seen = []

    def scrape(event: Event, state: SweepState) -> None:
        if isinstance(event, TrialReported):
            (file,) = Path("targets").iterdir()
            seen.append(scraped(json.loads(file.read_text())[0]["targets"][0]))

    run = TrackedRun(make_plan(experiment, (), alone=True), run_in_process)
    assert run.run((scrape,), report=False).result.exit_code == 0
    assert run.catch_up()
    assert ['expflow_reports_total{sweep="scripted"} 1.0' in text for text in seen] == [False, True]
    assert 'expflow_trials{state="running",sweep="scripted"} 1.0' in seen[1]
    assert all('expflow_slots{sweep="scripted"} 1.0' in text for text in seen)
    assert list(Path("targets").iterdir()) == []


def test_a_port_on_the_command_line_wins(experiment: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = TrackedRun(make_plan(experiment, (), alone=True), run_in_process, metrics_port=taken.getsockname()[1])
        with pytest.raises(ServerUnreachable, match="in use"):
            run.run(report=False)


def test_nothing_listens_where_nobody_asked(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("expflow.site.yaml").unlink()

    def refuse(*arguments: object) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr("expflow.prometheus.exporter.start_http_server", refuse)
    run = TrackedRun(make_plan(experiment, (), alone=True), run_in_process)
    assert run.run(report=False).result.exit_code == 0
    assert run.catch_up()
