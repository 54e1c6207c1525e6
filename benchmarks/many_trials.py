"""Many short trials at once: what a sweep's own bookkeeping costs, beside Ray Tune's.

Trials sleep for a second on 16 slots: a Ray head of 16 logical CPUs on this machine. In turn, each on a head of its
own: expflow with its ledger and MLflow on, raw Tune with reused actors as it comes, and raw Tune made lean (none of its
default loggers, hardly a snapshot of its state). Figures:

    total_over_ideal       the time of all trials, from the moment all slots are warm, over what sleeping alone takes:
                           (end of the last trial - end of the first `slots`) / ((trials - slots) * 1 s / slots);
                           the peer is raw Tune
    total_over_lean        that time of ours beside that of lean raw Tune
    driver_kib_per_trial   growth of the driver's resident memory behind the first fifth of the trials
    reports_per_s          reports of ten metrics each that go through the driver (ours: into the ledger), from trials
                           that do nothing else; the peer is raw Tune as it comes

How fast MLflow's follower reads the ledger of those reports into a fresh MLflow database is printed beside.

    python benchmarks/many_trials.py [--trials 480] [--full] [--slots 16] [--reports 8000] [--rounds 1]

``--full`` runs 10,000 trials: more than half an hour in all.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METRICS = 10
SLEEPING = """
task: {{name: scripted, script: [{{sleep: 1}}, {{report: {{val/top1: curve}}}}]}}
trainer: {{epochs: 1}}
resources: {{max_concurrent: {slots}}}
sweep:
  space: {{task.value: {{uniform: [0, 1]}}}}
  searcher: {{name: random, trials: {trials}}}
  metric: val/top1
"""
REPORTING = """
task: {{name: scripted, script: [{{report: {{{metrics}}}, repeat: {each}}}]}}
trainer: {{epochs: {each}}}
resources: {{max_concurrent: {slots}}}
sweep:
  space: {{task.value: {{uniform: [0, 1]}}}}
  searcher: {{name: random, trials: {slots}}}
  metric: m/0
  mode: max
"""


@dataclass(frozen=True)
class Course:
    """How a sweep went: when its trials (or reports) came, and the driver's memory over time, (time, bytes)."""

    start: float
    ends: Sequence[float]
    memory: Sequence[tuple[float, int]]

    def seconds(self, slots: int) -> float:
        """From the moment that as many trials as slots have ended to the end of the last."""
        return max(self.ends) - sorted(self.ends)[slots - 1]

    @property
    def kib_per_trial(self) -> float:
        """Growth of the driver's memory behind the first fifth of the trials, for each of the others."""
        ends = sorted(self.ends)
        first = len(ends) // 5
        return (self._memory_at(ends[-1]) - self._memory_at(ends[first])) / 1024 / (len(ends) - first - 1)

    def _memory_at(self, moment: float) -> int:
        return min(self.memory, key=lambda sample: abs(sample[0] - moment))[1]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def head(slots: int) -> Iterator[dict[str, str]]:
    """A Ray head with as many logical CPUs; yields the environment in which a driver finds it."""
    port, ray = free_port(), Path(sys.executable).with_name("ray")
    # Not below the benchmark's folder: Ray's sockets lie there, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="xb-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        command = [str(ray), "start", "--head", "--block", f"--port={port}", f"--num-cpus={slots}"]
        command += ["--include-dashboard=false", f"--temp-dir={folder}", "--object-store-memory=200000000"]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                wait_for(port, process)
                yield environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
            finally:
                process.terminate()  # which stops its own


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the head listens."""
    while True:
        if process.poll() is not None:
            raise SystemExit(f"`ray start` ended with exit code {process.returncode}")
        with socket.socket() as calling:
            if calling.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)


def watched(command: Sequence[str], **options: Any) -> tuple[str, list[tuple[float, int]]]:
    """Run a driver; returns what it printed, and its resident memory twice a second."""
    memory: list[tuple[float, int]] = []
    page = os.sysconf("SC_PAGE_SIZE")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:

        def watch() -> None:
            while process.poll() is None:
                try:
                    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                except (OSError, IndexError):  # it has just ended
                    return
                memory.append((time.time(), pages * page))
                time.sleep(0.5)

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, error = process.communicate()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{out}\n{error}")
    return out, memory


def sweep(folder: Path, text: str, slots: int) -> tuple[Path, list[tuple[float, int]]]:
    """Run an experiment by the command that users type; returns the folder of its results and the driver's memory."""
    folder.mkdir(parents=True)
    (folder / "many.yaml").write_text(text)
    command = [sys.executable, "-m", "expflow", "sweep", "many.yaml", "--storage", str(folder / "runs")]
    with head(slots) as environment:
        _, memory = watched(command, cwd=folder, env=environment)
    return folder / "runs" / "many", memory


def ours(folder: Path, trials: int, slots: int) -> Course:
    """The sleeping trials in expflow, by its ledger."""
    from expflow.events import TrialEnded, TrialStarted
    from expflow.ledger import read

    results, memory = sweep(folder, SLEEPING.format(trials=trials, slots=slots), slots)
    records = list(read(results))
    ends = [record.at for record in records if isinstance(record.body, TrialEnded) and record.body.status == "done"]
    if len(ends) != trials:
        raise SystemExit(f"expected {trials} trials, the ledger has {len(ends)}")
    return Course(min(record.at for record in records if isinstance(record.body, TrialStarted)), ends, memory)


def our_reports(folder: Path, reports: int, slots: int) -> tuple[float, float]:
    """Reports per second into the ledger, and from the ledger into MLflow."""
    from expflow.events import TrialReported
    from expflow.ledger import read
    from expflow.tracking import start_follower

    metrics = ", ".join(f"m/{number}: {number}.5" for number in range(METRICS))
    results, _ = sweep(folder, REPORTING.format(metrics=metrics, each=reports, slots=slots), slots)
    times = sorted(record.at for record in read(results) if isinstance(record.body, TrialReported))
    if len(times) != reports * slots:
        raise SystemExit(f"expected {reports * slots} reports, the ledger has {len(times)}")
    begun = time.perf_counter()
    follower = start_follower(results, f"sqlite:///{folder / 'fresh.db'}")
    follower.finish(3600)
    return (len(times) - 1) / (times[-1] - times[0]), len(times) / (time.perf_counter() - begun)


def raw(folder: Path, trials: int, slots: int, *, lean: bool, reports: int = 0) -> tuple[Course, float]:
    """Raw Tune in a process of its own: the sleeping trials, or trials of so many ``reports``; and reports a second."""
    extra = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "1000000"} if lean else {}
    command = [sys.executable, __file__, "--as-peer", str(folder), "--trials", str(trials), "--slots", str(slots)]
    command += ["--reports", str(reports)]
    with head(slots) as environment:
        out, memory = watched(command, env=environment | extra)
    answer = json.loads(out.strip().splitlines()[-1])
    return Course(answer["start"], answer["ends"], memory), answer["reports_per_s"]


def run_peer(folder: Path, trials: int, slots: int, reports: int) -> None:
    """Body of the peer's process: prints starts and ends as JSON."""
    import ray
    from ray import tune

    class Sleeper(tune.Trainable):
        def step(self) -> dict[str, float]:
            start = time.time()
            time.sleep(1)
            return {"done": True, "val/top1": self.config["value"], "start": start, "end": time.time()}

        def reset_config(self, new_config: dict[str, float]) -> bool:
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

        def load_checkpoint(self, checkpoint: object) -> None: ...

    class Reporter(Sleeper):
        def step(self) -> dict[str, float]:
            metrics = {f"m/{number}": number + 0.5 for number in range(METRICS)}
            return {**metrics, "done": self.iteration + 1 >= reports, "start": time.time(), "end": time.time()}

    class Arrivals(tune.Callback):
        """When the driver has a report: the moment at which ours goes to the ledger."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_trial_result(self, **information: object) -> None:
            self.times.append(time.time())

    arrivals = Arrivals()
    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
    tuner = tune.Tuner(
        Reporter if reports else Sleeper,
        param_space={"value": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[arrivals] if reports else None),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(f"the peer failed: {results.errors[0]}")
    rows = [result.metrics for result in results]
    times = arrivals.times
    print(
        json.dumps(
            {
                "start": min(row["start"] for row in rows),
                "ends": [row["end"] for row in rows],
                "reports_per_s": (len(times) - 1) / (times[-1] - times[0]) if times else 0.0,
            }
        )
    )


def figure(name: str, mine: float, peer: float, peer_name: str, unit: str, better: str = "lower") -> dict[str, Any]:
    """One line of the claims."""
    return {
        "name": name,
        "ours": round(mine, 4),
        "peer": round(peer, 4),
        "peer_name": peer_name,
        "unit": unit,
        "better": better,
    }


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All in turn, round after round; medians."""
    trials, slots = options.trials, options.slots
    ideal = (trials - slots) / slots
    sides: dict[str, Callable[[Path], Course]] = {
        "expflow": lambda place: ours(place, trials, slots),
        "raw Tune": lambda place: raw(place, trials, slots, lean=False)[0],
        "lean raw Tune": lambda place: raw(place, trials, slots, lean=True)[0],
    }
    courses: dict[str, list[Course]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name, run in sides.items():
            last = run(folder / f"{name.replace(' ', '-')}{number}")
            courses[name].append(last)
            took, first = last.seconds(slots), sorted(last.ends)[slots - 1] - last.start
            words = f"{took / ideal:.3f} of the ideal, driver {last.kib_per_trial:.1f} KiB a trial"
            print(f"round {number + 1}: {name}: {took:.1f} s after {first:.1f} s to warm up, {words}", flush=True)
    total = {name: statistics.median(course.seconds(slots) for course in rounds) for name, rounds in courses.items()}
    memory = {name: statistics.median(course.kib_per_trial for course in rounds) for name, rounds in courses.items()}
    reports = max(options.reports // slots, 1)
    rate, mlflow = our_reports(folder / "reports", reports, slots)
    _, raw_rate = raw(folder / "raw-reports", slots, slots, lean=False, reports=reports)
    print(f"raw Tune takes {total['raw Tune'] / total['expflow']:.2f} times as long as expflow")
    print(f"reports of {METRICS} metrics: {rate:.0f}/s into the ledger, {raw_rate:.0f}/s through raw Tune")
    print(f"MLflow follows the ledger with {mlflow:.0f} reports/s")
    return [
        figure("total_over_ideal", total["expflow"] / ideal, total["raw Tune"] / ideal, "raw Ray Tune", "ratio"),
        figure("total_over_lean", total["expflow"], total["lean raw Tune"], "raw Ray Tune made lean", "s"),
        figure("driver_kib_per_trial", memory["expflow"], memory["raw Tune"], "raw Ray Tune", "KiB"),
        figure("reports_per_s", rate, raw_rate, "raw Ray Tune", "reports/s", "higher"),
    ]


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=480)
    parser.add_argument("--full", action="store_true", help="10,000 trials")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--reports", type=int, default=8000, help="of all trials together")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--as-peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.full:
        options.trials = 10_000
    if options.as_peer:
        run_peer(options.as_peer, options.trials, options.slots, options.reports)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        print(json.dumps({"figures": measure(options, Path(temporary))}))


if __name__ == "__main__":
    main()
