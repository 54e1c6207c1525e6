"""Sweeps whose ranks are forks of a template, on a real Ray: what they import, what they train, and what is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from expflow.events import AttemptFailed, TrialReported, TrialStarted
from expflow.ledger import load_state
from expflow.sweep.driver import new_template
from expflow.sweep.plan import make_plan
from expflow.training.template.process import TEMPLATE_VARIABLE
from tests.sweep.runs import Workplace
from tests.training.template_calls import is_idle

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every rank imports by itself"),
]

DIGITS = """
data: {{name: digits, limit: 256, batch_size: 32}}
model: {{name: mlp, hidden: 32}}
task: classification
optimizer: {{name: sgd, lr: 0.1}}
trainer: {{epochs: {epochs}}}
resources: {{max_concurrent: 2}}
sweep: {{space: {{optimizer.lr: [0.05, 0.1]}}, metric: val/top1}}
"""

DRIVER = """
import json, sys
from expflow.cli import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    names = ("torch", "ray", "ray.tune", "mlflow", "pandas", "matplotlib")
    print(json.dumps({"code": left.code, "imported": [name for name in names if name in sys.modules]}))
"""


def drive(workplace: Workplace, *words: str, **environment: str) -> list[str]:
    """Run a command; which of the heavy packages its process has imported."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *words],
        cwd=workplace.folder,
        env=workplace.environment() | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["code"] == 0, done.stdout + done.stderr
    return end["imported"]


def weights(folder: Path) -> dict[float, str]:
    """Learning rate -> digest of the final weights."""
    trials = load_state(folder).plan_trials()
    return {trial.values.get("optimizer.lr", 0.1): trial.weights for trial in trials if trial.weights}


def test_a_driver_imports_no_torch_and_forked_ranks_train_what_others_train(workplace: Workplace) -> None:
    workplace.write(DIGITS.format(epochs=2))
    imported = drive(workplace, "sweep", "exp.yaml")
    assert "ray" in imported
    assert not {"torch", "ray.tune", "mlflow"} & set(imported)  # two trials on two gangs: there is nothing to schedule
    assert drive(workplace, "sweep", "exp.yaml") == []  # nothing was left
    forked = weights(workplace.results)
    other = workplace.folder / "other"
    drive(workplace, "sweep", "exp.yaml", "--storage", str(other), **{TEMPLATE_VARIABLE: "off"})
    assert forked == weights(other / "exp")
    drive(workplace, "train", "exp.yaml")
    assert weights(workplace.folder / "runs" / "exp+train") == {0.1: forked[0.1]}


def test_a_template_starts_with_the_plan_unless_something_is_recorded_already(workplace: Workplace) -> None:
    workplace.write(DIGITS.format(epochs=1))
    plan = make_plan(workplace.folder / "exp.yaml", storage=str(workplace.results.parent))
    with new_template(plan) as template:
        assert template.pid is not None  # it imports while the driver does
    drive(workplace, "sweep", "exp.yaml")
    with new_template(plan) as template:
        assert template.pid is None  # perhaps there is nothing left to do


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def templates(workplace: Workplace, driver: int) -> list[int]:
    server = "expflow.training.template.server"
    return [pid for pid in workplace.descendants(driver, sys.executable) if server.encode() in command_of(pid)]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_when_the_template_is_killed_its_ranks_train_on_and_another_forks_the_next(workplace: Workplace) -> None:
    workplace.write(DIGITS.format(epochs=100_000).replace("epochs:", "validate_every: 20, epochs:"))
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialReported, 4, process)
    ranks = workplace.descendants(process.pid, "ray::Rank")
    (first,) = {parent_of(rank) for rank in ranks}
    assert templates(workplace, process.pid) == [first]
    os.kill(first, signal.SIGKILL)
    workplace.wait_until(lambda: any(map(is_idle, set(templates(workplace, process.pid)) - {first})), process)
    os.kill(ranks[0], signal.SIGSEGV)
    workplace.wait_for(AttemptFailed, 1, process)
    workplace.wait_for(TrialStarted, 3, process)
    workplace.wait_until(lambda: workplace.descendants(process.pid, "ray::Rank"), process)
    (forked,) = workplace.descendants(process.pid, "ray::Rank")  # the other one is an orphan
    assert [parent_of(forked)] == templates(workplace, process.pid) != [first]
    assert command_of(ranks[1]).startswith(b"ray::Rank")
    failures = [record.body.failure for record in workplace.records() if isinstance(record.body, AttemptFailed)]
    assert failures == ["worker_lost"]
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 130, output
