"""What it takes to bring reports into MLflow: expflow beside Lightning's ``MLFlowLogger`` and Ray's MLflow callback.

Each writes the same reports of ten metrics, of eight trials with ten parameters each, in turn in one run: into a fresh
SQLite store, and into a real MLflow server on PostgreSQL (started by ``python -m expflow.services``). The peers write
each report when it comes, as they do in training; expflow writes it into the ledger, and its follower brings the ledger
to MLflow. Seconds are wall time from the first report until the store has all of them, in this process and for all of
it: ledger, looking up, writing. Requests are counted where all of them leave this process. Ray's callback gets fewer
reports, and its numbers are scaled, since it sends a request for each metric.

    requests_per_1000_reports        to the server, all reports there at once
    requests_per_1000_reports_live   the same while a follower follows trials that report twice a second
    seconds_per_1000_reports_sqlite, seconds_per_1000_reports_server
    stalled_step_ratio               a training's step with a server that takes connections and never answers, over the
                                     same without any tracking; the median of rounds, which take both in turn

    python benchmarks/tracking.py [--reports 1000] [--ray-reports 80] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from expflow.api.tracked_run import TrackedRun
from expflow.events import Event, TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import Header, Ledger, read
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from expflow.tracking.follower import catch_up, follow
from expflow.tracking.store import bounded_environment, connect

TRIALS, METRICS = 8, 10
LIVE_SECONDS, LIVE_PERIOD = 20.0, 0.5
PARAMETERS = {f"p{number}": number for number in range(10)}
TRAINING = """
data: {name: digits, batch_size: 32}
model: {name: resnet, layout: cifar, depth: 20, width: 8}
task: classification
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
trainer: {epochs: 12}
"""


def values(step: int) -> dict[str, float]:
    """The metrics of a report."""
    return {f"m/{number}": number + 1.0 / step for number in range(METRICS)}


class RequestCounter:
    """Counts the requests that leave this process while its context is open."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> RequestCounter:
        self._request = requests.Session.request
        original, counter = self._request, self

        def counted(session: requests.Session, *arguments: Any, **named: Any) -> requests.Response:
            counter.count += 1
            return original(session, *arguments, **named)

        requests.Session.request = counted  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *error: object) -> None:
        requests.Session.request = self._request  # type: ignore[method-assign]


def header(name: str) -> Header:
    """The sweep's header: one seed, so that there are as many runs as the peers have."""
    recipe = {"model": {"name": "mlp", **PARAMETERS}}
    return Header(name=name, text="", file="tracking.yaml", plan="p", recipe=recipe, seeds=(0,), metric="m/0")


def trial_events(number: int, steps: int) -> Iterator[Event]:
    """A trial from its proposal to its end."""
    trial = f"t{number}"
    yield TrialProposed(trial, f"c{number}", 0, {"model.p0": number}, {})
    yield TrialStarted(trial, 1, "gang-0")
    for step in range(1, steps + 1):
        yield TrialReported(trial, 1, step, values(step), step / steps)
    yield TrialEnded(trial, 1, "done", steps, 1.0)


def expflow(uri: str, folder: Path, reports: int) -> None:
    """Reports into the ledger, and the ledger into MLflow."""
    results = folder / f"ours-{uuid.uuid4().hex[:8]}"
    with Ledger.open(results, header(results.name)) as ledger:
        for number in range(TRIALS):
            for event in trial_events(number, reports // TRIALS):
                ledger.append(event)
    if not catch_up(results, uri):
        raise SystemExit("another follower is at work")


def lightning(uri: str, folder: Path, reports: int) -> None:
    """Lightning's logger, once for each trial."""
    from pytorch_lightning.loggers import MLFlowLogger

    name = f"lightning-{uuid.uuid4().hex[:8]}"
    for number in range(TRIALS):
        logger = MLFlowLogger(name, f"t{number}", tracking_uri=uri, artifact_location=artifacts(uri, folder))
        logger.log_hyperparams(PARAMETERS)
        for step in range(1, reports // TRIALS + 1):
            logger.log_metrics(values(step), step)
        logger.finalize("success")


class _TuneTrial:
    """What Ray's callback asks of a trial."""

    config, local_path = PARAMETERS, ""


def ray_callback(uri: str, folder: Path, reports: int) -> None:
    """Ray's callback, as Tune calls it in its driver."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    name = f"ray-{uuid.uuid4().hex[:8]}"
    connect(uri).create_experiment(name, artifacts(uri, folder))
    callback = MLflowLoggerCallback(tracking_uri=uri, experiment_name=name)
    callback.setup()
    for _ in range(TRIALS):
        trial: Any = _TuneTrial()
        callback.log_trial_start(trial)
        for step in range(1, reports // TRIALS + 1):
            callback.log_trial_result(step, trial, {**values(step), "training_iteration": step})
        callback.log_trial_end(trial)


def artifacts(uri: str, folder: Path) -> str | None:
    """Where artifacts lie; a server decides by itself."""
    return None if uri.startswith("http") else (folder / "artifacts").as_uri()


Writer = Callable[[str, Path, int], None]


def measured(write: Writer, uri: str, folder: Path, reports: int) -> tuple[float, float]:
    """Requests and seconds, both for 1,000 reports."""
    with RequestCounter() as counter:
        start = time.perf_counter()
        write(uri, folder, reports)
        seconds = time.perf_counter() - start
    return 1000 * counter.count / reports, 1000 * seconds / reports


def live_requests(uri: str, folder: Path) -> float:
    """Requests for 1,000 reports, of a follower beside trials that report now and then."""
    results, ended = folder / f"live-{uuid.uuid4().hex[:8]}", threading.Event()
    steps = round(LIVE_SECONDS / LIVE_PERIOD)

    def drive() -> None:
        with Ledger.open(results, header(results.name)) as ledger:
            courses = [list(trial_events(number, steps)) for number in range(TRIALS)]
            for place in range(len(courses[0])):
                for course in courses:
                    ledger.append(course[place])
                time.sleep(LIVE_PERIOD if isinstance(courses[0][place], TrialReported) else 0)
        ended.set()

    driver = threading.Thread(target=drive)
    with RequestCounter() as counter, bounded_environment():
        driver.start()
        if not follow(results, uri, ended):
            raise SystemExit("the server does not take it")
        driver.join()
    return 1000 * counter.count / (steps * TRIALS)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a real MLflow server on PostgreSQL."""
    command = [sys.executable, "-m", "expflow.services"]
    where = ["--folder", str(folder / "services")]
    try:
        up = subprocess.run(
            [*command, "up", "mlflow", "--port", "0", *where], capture_output=True, text=True, check=False
        )
        if up.returncode:
            raise SystemExit(f"no server: {up.stderr}")
        yield up.stdout.rsplit("MLFLOW_TRACKING_URI=", 1)[1].strip()
    finally:
        subprocess.run([*command, "down", *where], capture_output=True, check=False)


def step_seconds(plan: Any, run: Callable[[Any], Any]) -> float:
    """Seconds of one step: between a training's first and last report, evaluations included."""
    shutil.rmtree(plan.folder, ignore_errors=True)
    run(plan)
    reports = [(record.at, record.body.step) for record in read(plan.folder) if isinstance(record.body, TrialReported)]
    return (reports[-1][0] - reports[0][0]) / (reports[-1][1] - reports[0][1])


def stalled_ratio(folder: Path, rounds: int) -> tuple[float, float, float]:
    """Milliseconds of a step with a stalled server and without tracking, and the median of their ratios."""
    os.chdir(folder)
    Path("training.yaml").write_text(TRAINING)
    plan = make_plan(Path("training.yaml"), (), alone=True)
    stalled, bare = list[float](), list[float]()

    def tracked(plan: Any) -> None:
        run = TrackedRun(plan, run_in_process)
        run.run(report=False)
        run._follower.stop()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for number in range(rounds + 1):
            pair = step_seconds(plan, run_in_process), step_seconds(plan, tracked)
            if number:  # the first round imports and prepares
                bare.append(pair[0])
                stalled.append(pair[1])
                print(f"round {number}: a step without tracking {1e3 * pair[0]:.2f} ms, stalled {1e3 * pair[1]:.2f} ms")
        del os.environ["MLFLOW_TRACKING_URI"]
    ratio = statistics.median(one / other for one, other in zip(stalled, bare, strict=True))
    return 1e3 * statistics.median(stalled), 1e3 * statistics.median(bare), ratio


def figure(name: str, ours: float, peer: float, peer_name: str, unit: str) -> dict[str, Any]:
    """One figure, less of which is better."""
    print(f"{name}: expflow {ours:.3g} {unit}, {peer_name} {peer:.3g} {unit}: {peer / ours:.1f} times as much")
    values = {"ours": round(ours, 4), "peer": round(peer, 4)}
    return {"name": name, **values, "peer_name": peer_name, "unit": unit, "better": "lower"}


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All in turn, round after round; medians, and beside ours the better peer's."""
    writers: dict[str, tuple[Writer, int]] = {
        "expflow": (expflow, options.reports),
        "MLFlowLogger": (lightning, options.reports),
        "Ray's callback": (ray_callback, options.ray_reports),
    }
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with server(folder) as address:
        for number in range(options.rounds + 1):
            for store, uri in (("sqlite", f"sqlite:///{folder / f'{number}.db'}"), ("server", address)):
                connect(uri)  # makes it
                for name, (write, reports) in writers.items():
                    numbers = measured(write, uri, folder, reports if number else 2 * TRIALS)
                    if number:  # the first round imports
                        taken.setdefault((store, name), []).append(numbers)
                        print(
                            f"round {number}: {store}: {name}: {numbers[1]:.2f} s, {numbers[0]:.0f} requests",
                            flush=True,
                        )
        live = live_requests(address, folder)

    def best(store: str, place: int) -> tuple[float, float, str]:
        medians = {name: statistics.median(row[place] for row in taken[store, name]) for name in writers}
        peer = min((name for name in writers if name != "expflow"), key=medians.__getitem__)
        return medians["expflow"], medians[peer], peer

    sent = best("server", 0)
    return [
        figure("requests_per_1000_reports", *sent, "requests"),
        figure("requests_per_1000_reports_live", live, *sent[1:], "requests"),
        figure("seconds_per_1000_reports_sqlite", *best("sqlite", 1), "s"),
        figure("seconds_per_1000_reports_server", *best("server", 1), "s"),
    ]


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=1000, help="of all trials together")
    parser.add_argument("--ray-reports", type=int, default=80, help="that Ray's callback gets")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # PostgreSQL's user has to pass
        with bounded_environment():
            figures = measure(options, folder)
        stalled, bare, ratio = stalled_ratio(folder, options.rounds)
        figures.append(figure("stalled_step_ms", stalled, bare, "without tracking", "ms"))
        figures.append({"name": "stalled_step_ratio", "ours": round(ratio, 4), "unit": "ratio", "better": "lower"})
        print(f"stalled_step_ratio: {ratio:.3f}")
        os.chdir("/")
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
