"""Sweeps on a Ray cluster of several machines that are lost, added and cut off; results lie in an S3 server.

`python -m tests.cluster.node_sweeps` runs the 24 trials of a depth sweep through it; the suite, a few scripted ones.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from expflow.events import AttemptFailed, CheckpointSaved, TrialEnded, TrialReported, TrialStarted
from expflow.ledger import Record, SweepState, exists, load_state, read
from tests.cluster.node_machines import Machine, NodeMachines
from tests.object_store.faulty_proxy import proxy_before
from tests.object_store.s3_servers import make_bucket, s3_variables, seaweedfs

DEPTHS = """
data: {name: digits, batch_size: 64}
model: {name: resnet, width: 8}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 1.0e-4}
schedule: one_cycle
trainer: {epochs: 12, checkpoint: {every_epochs: 1}}
sweep:
  space: {model.depth: [8, 20, 32, 56], model.shortcut: [none, zero_pad]}
  seeds: 3
  metric: val/top1
"""


def scripted(trials: int, steps: int, sleep: float) -> str:
    """An experiment whose trials report, save and sleep, again and again."""
    script = "".join(f"    - {{report: {{val/top1: curve}}}}\n    - {{save: true}}\n    - {{sleep: {sleep}}}\n" * steps)
    values = [round((number + 1) / (trials + 1), 4) for number in range(trials)]
    sweep = f"sweep: {{space: {{task.value: {values}}}, metric: val/top1}}"
    return f"task:\n  name: scripted\n  script:\n{script}trainer: {{epochs: {steps}}}\n{sweep}\n"


class NodeWorkplace:
    """A folder with one experiment that all machines see, results in a bucket, and commands on a cluster's head.

    Attributes:
        machines: The machines.
        direct: Address of the S3 server for this machine.
        head: The machine that commands run on.
    """

    def __init__(self, machines: NodeMachines, endpoint: str, direct: str) -> None:
        self.machines, self.direct = machines, direct
        self.project = machines.folder / "project"
        self.project.mkdir()
        self.head: Machine
        machines.more_variables = {
            **s3_variables(endpoint),
            "EXPFLOW_STORAGE": "s3://bucket/runs",
            "MLFLOW_TRACKING_URI": f"sqlite:///{machines.own}/mlflow.db",
            "COLUMNS": "200",
        }

    def write(self, text: str) -> None:
        (self.project / "exp.yaml").write_text(text)

    def cluster(self, *, takes_jobs: bool = False, **cpus: int) -> list[Machine]:
        """Make machines by their names and CPUs; the first is the head."""
        made = [self.machines.make(name) for name in cpus]
        self.head = made[0]
        for machine, count in zip(made, cpus.values(), strict=True):
            if machine is self.head:
                self.machines.start_head(machine, count, takes_jobs=takes_jobs)
            else:
                self.machines.join(machine, count)
        return made

    def add(self, name: str, cpus: int) -> Machine:
        machine = self.machines.make(name)
        self.machines.join(machine, cpus)
        return machine

    def start(self, *words: str, nodes: int = 1):
        variables = {"RAY_ADDRESS": self.machines.head, "EXPFLOW_NODES": str(nodes)}
        return self.machines.start(
            self.head, sys.executable, "-m", "expflow", *words, variables=variables, cwd=self.project
        )

    @property
    def results(self) -> Path:
        """The driver's working folder, as this machine sees it."""
        root = self.head.seen(self.machines.own / "cache" / "results")
        return next(iter(root.glob("*/exp")), root / "none")

    def records(self) -> list[Record]:
        return list(read(self.results)) if exists(self.results) else []

    def count(self, kind: type) -> int:
        return sum(isinstance(record.body, kind) for record in self.records())

    def until(self, true: Callable[[], object], process, seconds: float = 200) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert process.poll() is None, process.communicate()[0]
            if time.monotonic() > end:
                print(self.events())
                raise AssertionError("what was waited for did not come")
            time.sleep(0.2)

    def in_store(self, trials: int) -> bool:
        """Whether so many trials have a checkpoint in the store."""
        import fsspec

        system = fsspec.filesystem(
            "s3", skip_instance_cache=True, key="a", secret="b", endpoint_url=self.direct,
            client_kwargs={"region_name": "us-east-1"},
        )  # fmt: skip
        names = [name for name in system.find("bucket/runs/exp/trials") if "/manifest/" in name]
        return sum(b"checkpoints/step-" in system.cat_file(name) for name in names) >= trials

    def events(self) -> str:
        return "\n".join(f"{record.at:.1f} {str(record.body)[:200]}" for record in self.records())


@contextmanager
def node_workplace() -> Iterator[NodeWorkplace]:
    """A workplace with an S3 server of its own, and no machine yet."""
    machines = NodeMachines()
    try:
        with seaweedfs() as server:
            make_bucket(server, "bucket")
            with proxy_before(server, host=machines.gateway) as proxy:
                yield NodeWorkplace(machines, proxy.url, server)
    finally:
        machines.stop()


def check_reports(state: SweepState, records: list[Record], trials: int) -> None:
    """All trials done, none ended twice, no report twice and none missing."""
    assert len(state.plan_trials()) == trials
    assert {trial.status for trial in state.plan_trials()} == {"done"}
    ends = Counter(record.body.trial for record in records if isinstance(record.body, TrialEnded))
    assert set(ends.values()) == {1}
    reports = [record.body for record in records if isinstance(record.body, TrialReported)]
    assert set(Counter((report.trial, report.attempt, report.step) for report in reports).values()) == {1}
    steps = {tuple(report.step for report in trial.reports) for trial in state.plan_trials()}
    assert len(steps) == 1, steps  # one column of steps for all: none has a gap


def check_moves(records: list[Record], at_most: int = 1) -> int:
    """Attempts that went on somewhere else: none repeats more reports than ``at_most``. Returns how many there were."""
    reached: dict[str, list[int]] = {}
    moves = 0
    for record in records:
        match record.body:
            case TrialReported(trial=trial, step=step):
                reached.setdefault(trial, []).append(step)
            case TrialStarted(trial=trial, attempt=attempt, from_step=start) if attempt > 1:
                repeated = [step for step in set(reached.get(trial, ())) if step > start]
                assert len(repeated) <= at_most, (trial, attempt, start, repeated)
                moves += 1
    return moves


def kill_raylet(machine: Machine) -> None:
    for number in machine.processes("raylet/raylet"):
        os.kill(number, signal.SIGKILL)


def main() -> None:
    """The long version: 24 real trials, a lost raylet, a node that joins, a cut, a lost head and its message."""
    with node_workplace() as place:
        place.write(DEPTHS)
        _, _, two, three = place.cluster(head=0, one=1, two=1, three=1)
        sweep = place.start("sweep", "exp.yaml", nodes=4)
        place.until(lambda: place.count(CheckpointSaved) >= 6, sweep, 400)
        kill_raylet(two)
        place.add("four", 1)
        place.until(lambda: place.count(TrialEnded) >= 8, sweep, 600)
        place.machines.cut(three)
        time.sleep(30)
        place.machines.mend(three)
        place.until(lambda: place.count(TrialEnded) >= 14, sweep, 600)
        for number in place.head.processes("gcs_server"):
            os.kill(number, signal.SIGKILL)
        output = sweep.communicate(timeout=300)[0]
        assert sweep.returncode == 3, output
        assert "the same command continues" in output
        print(output[-400:])
        moved = check_moves(place.records())
        place.head.lose_power()  # with its disk
        place.cluster(head2=0, five=1, six=1)
        sweep = place.start("sweep", "exp.yaml", nodes=3)
        output = sweep.communicate(timeout=1200)[0]
        assert sweep.returncode == 0, output
        records = place.records()
        check_reports(load_state(place.results), records, 24)
        failures = Counter(record.body.failure for record in records if isinstance(record.body, AttemptFailed))
        print(f"24 trials done, {moved} attempts moved, then {check_moves(records)}; {dict(failures)}")


if __name__ == "__main__":
    main()
