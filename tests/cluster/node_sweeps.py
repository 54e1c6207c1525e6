"""Sweeps on a Ray cluster of several machines that are lost, added and cut off; results lie in an S3 server.

`python -m tests.cluster.node_sweeps` runs the 24 trials of a depth sweep through it; the suite, a few scripted ones.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from expflow.events import AttemptFailed, CheckpointSaved, TrialEnded, TrialReported, TrialStarted
from expflow.ledger import Record, SweepState, exists, load_state, read
from tests.cluster.node_machines import Machine, NodeMachines
from tests.object_store.faulty_proxy import proxy_before
from tests.object_store.s3_servers import make_bucket, s3_variables, seaweedfs

DEPTHS = Path(__file__).parents[2] / "experiments" / "resnet_depth.yaml"
TRIALS = 24


SHORT_LEASE = """
from expflow.storage import driver_claim
driver_claim.LEASE_SECONDS, driver_claim.RENEW_SECONDS = {}, {}
from expflow.__main__ import main
main()
"""


def depth_sweep() -> str:
    """The shipped experiment, with a checkpoint after each epoch."""
    text = DEPTHS.read_text()
    assert "trainer: {epochs: 12, " in text
    return text.replace("trainer: {epochs: 12, ", "trainer: {epochs: 12, checkpoint: {every_epochs: 1}, ")


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
        lease: Seconds of a driver's lease, and between its renewals, where they differ from the usual ones.
    """

    lease: tuple[float, float] | None = None

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

    def cluster(
        self, *, takes_jobs: bool = False, clocks: Mapping[str, Mapping[str, str]] | None = None, **cpus: int
    ) -> list[Machine]:
        """Make machines by their names and CPUs; the first is the head."""
        made = [self.machines.make(name, clock=(clocks or {}).get(name)) for name in cpus]
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
        command = ["-c", SHORT_LEASE.format(*self.lease)] if self.lease else ["-m", "expflow"]
        return self.machines.start(self.head, sys.executable, *command, *words, variables=variables, cwd=self.project)

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

    def steps_in_store(self) -> dict[str, int]:
        """Folder of a trial -> the newest checkpoint's step that the store has of it; without those that have none."""
        import fsspec

        system = fsspec.filesystem(
            "s3", skip_instance_cache=True, key="a", secret="b", endpoint_url=self.direct,
            client_kwargs={"region_name": "us-east-1"},
        )  # fmt: skip
        steps: dict[str, int] = {}
        for name in system.find("bucket/runs/exp/trials"):
            if "/manifest/" in name:
                with suppress(FileNotFoundError):  # the attempt has ended since
                    saved = re.findall(rb"checkpoints/step-0*(\d+)", system.cat_file(name))
                    folder = name.partition("/trials/")[2].partition("/")[0]
                    steps[folder] = max([steps.get(folder, 0), *map(int, saved)])
        return {folder: step for folder, step in steps.items() if step}

    def in_store(self, trials: int) -> bool:
        """Whether so many trials have a checkpoint in the store."""
        return len(self.steps_in_store()) >= trials

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


def moves(records: list[Record]) -> list[tuple[TrialStarted, int]]:
    """Attempts after a trial's first, each with the number of reports that it repeats."""
    reached: dict[str, set[int]] = {}
    after = []
    for record in records:
        match record.body:
            case TrialReported(trial=trial, step=step):
                reached.setdefault(trial, set()).add(step)
            case TrialStarted(trial=trial, attempt=attempt, from_step=start) if attempt > 1:
                after.append((record.body, sum(step > start for step in reached.get(trial, ()))))
    return after


def check_moves(records: list[Record], at_most: int = 1) -> int:
    """Attempts that went on somewhere else: none repeats more reports than ``at_most``. Returns how many there were."""
    moved = moves(records)
    assert not [move for move in moved if move[1] > at_most], moved
    return len(moved)


def check_resumed(records: list[Record], stored: dict[str, int], after: int) -> None:
    """Whatever began again behind the first ``after`` records has gone on from what the store had of it, or later."""
    folders = {folder.rpartition("-")[2]: step for folder, step in stored.items()}
    for record in records[after:]:
        match record.body:
            case TrialStarted(trial=trial, from_step=start):
                assert start >= folders.get(trial, 0), (record.body, stored)


def kill_raylet(machine: Machine) -> None:
    for number in machine.processes("raylet/raylet"):
        os.kill(number, signal.SIGKILL)


def main() -> None:
    """The long version: 24 real trials, a lost raylet, a node that joins, a cut, a lost head and its message."""
    with node_workplace() as place:
        place.write(depth_sweep())
        run = LongSweep(place)
        run.lose_and_cut()
        run.lose_head()
        run.go_on_elsewhere()


@dataclass
class LongSweep:
    """What is done to the long sweep, in its order.

    Attributes:
        place: Where it runs.
        began: When, by a monotonic clock.
    """

    place: NodeWorkplace
    began: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        """Print what was reached, and when."""
        ended, moved = self.place.count(TrialEnded), len(moves(self.place.records()))
        print(f"{time.monotonic() - self.began:6.0f} s  {text}; {ended} trials ended, {moved} moved", flush=True)

    def lose_and_cut(self) -> None:
        """A raylet is killed, a node joins, another is cut off for 30 s."""
        place = self.place
        _, _, two, three = place.cluster(head=0, one=1, two=1, three=1)
        self.sweep = place.start("sweep", "exp.yaml", nodes=4)
        place.until(lambda: place.count(TrialEnded) >= 2 and place.count(CheckpointSaved) >= 6, self.sweep, 600)
        stored, before = place.steps_in_store(), len(place.records())
        kill_raylet(two)
        place.add("four", 1)
        self.note("a raylet was killed, a node added")
        place.until(lambda: place.count(AttemptFailed) >= 1, self.sweep, 200)
        place.until(lambda: place.count(TrialEnded) >= 8, self.sweep, 600)
        check_resumed(place.records(), stored, before)
        stored, before = place.steps_in_store(), len(place.records())
        place.machines.cut(three)
        self.note("a node was cut off")
        time.sleep(30)
        place.machines.mend(three)
        self.note("and is back")
        place.until(lambda: place.count(TrialEnded) >= 14, self.sweep, 600)
        check_resumed(place.records(), stored, before)

    def lose_head(self) -> None:
        """The head is killed; the sweep says how to go on, and its machine is lost."""
        place = self.place
        for number in place.head.processes("gcs_server"):
            os.kill(number, signal.SIGKILL)
        self.note("the head was killed")
        output = self.sweep.communicate(timeout=300)[0]
        assert self.sweep.returncode == 3, output
        assert "the same command continues" in output, output
        print(output[-400:])
        self.stored, self.before = place.steps_in_store(), len(place.records())
        place.head.lose_power()  # with its disk
        for machine in place.machines.running:
            machine.lose_power()

    def go_on_elsewhere(self) -> None:
        """The same command on a new cluster."""
        place = self.place
        place.cluster(head2=0, five=1, six=1)
        sweep = place.start("sweep", "exp.yaml", nodes=3)
        output = sweep.communicate(timeout=1200)[0]
        assert sweep.returncode == 0, output
        self.note("the sweep is done on a new cluster")
        records = place.records()
        check_reports(load_state(place.results), records, TRIALS)
        check_resumed(records, self.stored, self.before)
        failures = Counter(record.body.failure for record in records if isinstance(record.body, AttemptFailed))
        repeated = [count for _, count in moves(records)]
        print(f"{TRIALS} trials done; {dict(failures)}; reports repeated by attempts that went on: {repeated}")
        check_moves(records)


if __name__ == "__main__":
    main()
