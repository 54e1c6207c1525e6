"""What is paid for results that are already there: a ledger of many trials with many reports each.

The ledger is made by the driver's own parts: a plan of as many configs, whose trials are handed out, report and end as
if gangs had run them, so that each event is written as in a sweep. Then the commands are timed, each a process of its
own and the second of two calls: the first one may read what no command has read before (its time is printed). Beside
each figure stands what is wanted. MLflow counts as having all of it: giving it a million reports takes 20 minutes, and
has been paid while the trials ran, so a note of it is written. Figures:

    continue_s       `expflow sweep` with nothing left to do, report and MLflow up to date
    status_s         `expflow status`
    report_s         `expflow report`, which computes and draws everything anew
    report_gib       the most memory that it holds
    page_mb          the size of its page

    python benchmarks/large_ledger.py [--trials 10000] [--reports 100] [--folder FOLDER]

``--folder`` keeps the ledger there, and uses one that was kept. Making the full one takes minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAME = "large"
EXPERIMENT = """
task: {{name: scripted, script: [{{report: {{val/top1: curve}}, repeat: {reports}}}]}}
trainer: {{epochs: {reports}}}
sweep:
  space: {{task.value: {{uniform: [0, 1]}}}}
  searcher: {{name: random, trials: {trials}}}
  metric: val/top1
"""
WANTED = {"continue_s": 10.0, "status_s": 1.5, "report_s": 60.0, "report_gib": 2.0, "page_mb": 10.0}


@dataclass(frozen=True)
class Call:
    """What a command took: seconds, and the most memory that it held."""

    seconds: float
    gib: float


def course(value: float, step: int, reports: int, noise: random.Random) -> dict[str, float]:
    """What a trial reports at a step: curves of a training that goes well, with noise."""
    spent = step / reports
    loss = 2.3 * math.exp(-4 * spent * (0.5 + value)) + noise.gauss(0, 0.01)
    return {
        "val/top1": 0.1 + 0.8 * value * (1 - math.exp(-4 * spent)) + noise.gauss(0, 0.002),
        "val/loss": loss + 0.1 * spent,
        "train/loss": loss,
        "optim/lr": 0.1 * (1 - spent),
        "progress/epoch": float(step),
    }


def make_ledger(folder: Path, trials: int, reports: int) -> None:
    """Write the experiment and, by a driver whose trials are made up, its whole ledger."""
    from expflow.sweep.driver import open_sweep
    from expflow.sweep.messages import (
        AttemptBeganMessage,
        AttemptStartedMessage,
        ReportMessage,
        TrialEndedMessage,
    )
    from expflow.sweep.plan import make_plan
    from expflow.tracking.store import resolve_uri

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{NAME}.yaml"
    file.write_text(EXPERIMENT.format(trials=trials, reports=reports))
    noise = random.Random(0)
    plan = make_plan(file, storage=folder / "runs")
    # The address is a part of what a driver is asked: with another one the next command would be a driver of its own.
    with open_sweep(plan, tracking=resolve_uri(folder / "runs", environ={})) as conductor:
        while (attempt := conductor.propose()) is not None:
            trial = attempt.planned.trial
            value = float(attempt.planned.values["task.value"])
            conductor.take([AttemptStartedMessage(trial, 1, "made up"), AttemptBeganMessage(trial, 1, 0)])
            steps = range(1, reports + 1)
            conductor.take(
                [ReportMessage(trial, 1, step, course(value, step, reports, noise), step / reports) for step in steps]
            )
            conductor.take([TrialEndedMessage(trial, 1, "done", reports, 0.1 * reports)])
            conductor.returned(trial)


def note_tracked(folder: Path) -> None:
    """Note that MLflow's store has the whole ledger and its report."""
    from expflow.ledger.reader import segments_of
    from expflow.ledger.records import Cursor
    from expflow.tracking.follower_progress import FollowerProgress
    from expflow.tracking.store import resolve_uri

    results, store = folder / "runs" / NAME, folder / "runs" / "mlflow.db"
    store.touch()
    segments = segments_of(results)
    last = segments.numbers()[-1]
    stamp = str((results / "report.html").stat().st_mtime_ns)
    end = Cursor(last, 0, segments.path(last).stat().st_size)
    FollowerProgress(results, resolve_uri(folder / "runs", environ={})).save(end, report=stamp)


def call(folder: Path, *arguments: str) -> Call:
    """Run a command on the ledger; SystemExit where it fails."""
    command = [sys.executable, "-m", "expflow", *arguments, "--storage", str(folder / "runs")]
    log = folder / "log.txt"
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-4000:]}")
    result = Call(seconds, usage.ru_maxrss / 2**20)
    print(f"{arguments[0]}: {result.seconds:.2f} s, {result.gib:.2f} GiB", flush=True)
    return result


def measure(folder: Path) -> dict[str, float]:
    """The figures; of each command two calls, of which the second counts."""
    results = folder / "runs" / NAME
    ledger = sum(file.stat().st_size for file in (results / "ledger").glob("*.jsonl"))
    print(f"a ledger of {ledger / 1e6:.0f} MB", flush=True)
    status = [call(folder, "status", NAME) for _ in range(2)][-1]
    report = [call(folder, "report", NAME) for _ in range(2)][-1]
    note_tracked(folder)
    again = [call(folder, "sweep", f"{NAME}.yaml") for _ in range(2)][-1]
    page = (results / "report.html").stat().st_size
    return {
        "continue_s": again.seconds,
        "status_s": status.seconds,
        "report_s": report.seconds,
        "report_gib": report.gib,
        "page_mb": page / 1e6,
    }


@contextlib.contextmanager
def kept_or_temporary(folder: Path | None) -> Iterator[Path]:
    """The folder that was asked for, or one that is removed again."""
    if folder is not None:
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def main() -> None:
    """Make the ledger where it is not there, measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--reports", type=int, default=100, help="of each trial")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with kept_or_temporary(options.folder) as folder:
        if not (folder / "runs" / NAME / "ledger").exists():
            begun = time.perf_counter()
            make_ledger(folder, options.trials, options.reports)
            print(f"made in {time.perf_counter() - begun:.0f} s", flush=True)
        figures = measure(folder)
    rows = [
        {"name": name, "ours": round(value, 3), "peer": WANTED[name], "peer_name": "what is wanted", "better": "lower"}
        for name, value in figures.items()
    ]
    print(json.dumps({"figures": rows}))


if __name__ == "__main__":
    main()
