"""A sweep whose driver is killed at random moments until it is done, and what must be true of its ledger then.

`python -m tests.faults.killed_sweeps --kills 20` does it twenty times, which takes minutes; the suite, a few times.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from expflow.events import CheckpointSaved, TrialEnded, TrialReported, TrialStarted
from expflow.ledger import load_state
from tests.sweep.runs import Workplace

SAVING = """
task:
  name: scripted
  script:
    - {{sleep: 0.15}}
    - {{report: {{val/top1: curve}}, repeat: 2}}
    - {{save: true}}
    - {{sleep: 0.15}}
    - {{report: {{val/top1: curve}}, repeat: 2}}
    - {{save: true}}
    - {{sleep: 0.15}}
    - {{report: {{val/top1: curve}}, repeat: 2}}
trainer: {{epochs: 6}}
resources: {{max_concurrent: 2}}
sweep:
  space: {{task.value: {{uniform: [0, 1]}}, task.rate: {{uniform: [0.2, 0.8]}}}}
  searcher: {{name: {searcher}, trials: {trials}}}
  seeds: 2
  metric: val/top1
"""
STEPS = 6


def lines(workplace: Workplace) -> int:
    """Whole lines in the ledger now."""
    return sum(file.read_bytes().count(b"\n") for file in (workplace.results / "ledger").glob("*.jsonl"))


def kill_until_done(workplace: Workplace, kills: int, seed: int) -> int:
    """Start the sweep, kill its driver, and again; at last let it end. Returns how often it was really killed."""
    rng, killed = random.Random(seed), 0
    for _ in range(kills):
        begun = lines(workplace)
        process = workplace.start("sweep", "exp.yaml")
        enough, extra = begun + rng.randint(1, 16), rng.uniform(0.0, 0.3)
        while process.poll() is None and lines(workplace) < enough:
            time.sleep(0.02)
        time.sleep(extra)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
    workplace.run("sweep", "exp.yaml", timeout=300)
    return killed


def check(workplace: Workplace, trials: int) -> None:
    """Every planned trial once, its reports complete and none twice, and none began at 0 that had a checkpoint."""
    state = load_state(workplace.results)
    assert len(state.trials) == len(state.plan_trials()) == trials
    assert {trial.status for trial in state.plan_trials()} == {"done"}
    reports: Counter[tuple[str, int, int]] = Counter()
    ends: Counter[str] = Counter()
    saved: dict[str, int] = {}
    for record in workplace.records():
        match record.body:
            case TrialReported(trial=trial, attempt=attempt, step=step):
                reports[trial, attempt, step] += 1
            case CheckpointSaved(trial=trial, step=step):
                saved[trial] = step
            case TrialStarted(trial=trial, from_step=step):
                assert step >= saved.get(trial, 0), f"{trial} had a checkpoint at {saved[trial]} and began at {step}"
            case TrialEnded(trial=trial):
                ends[trial] += 1
    assert set(ends.values()) == {1}
    assert set(ends) == set(state.trials)
    assert set(reports.values()) == {1}
    for trial in state.plan_trials():
        assert [report.step for report in trial.reports] == list(range(1, STEPS + 1))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workplace = Workplace(Path(folder))
        workplace.write(SAVING.format(searcher="tpe", trials=3 * asked.kills))
        killed = kill_until_done(workplace, asked.kills, asked.seed)
        check(workplace, 6 * asked.kills)
        drivers = len(list((workplace.results / "ledger").glob("*.jsonl")))
    print(f"killed {killed} times, {drivers} drivers: {6 * asked.kills} trials, each done once")


if __name__ == "__main__":
    main()
