"""Sweeps whose results lie in an S3 server, behind a proxy that fails, and whose drivers are killed at random moments.

`python -m tests.object_store.stored_sweeps --sweeps 20` runs twenty of them; the suite, two.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from expflow.events import TrialEnded, TrialReported
from expflow.ledger import load_state, read
from tests.object_store.faulty_proxy import proxy_before
from tests.object_store.s3_servers import make_bucket, moto, s3_variables, seaweedfs
from tests.sweep.runs import Workplace

SAVING = """
task:
  name: scripted
  script:
    - {{report: {{val/top1: curve}}, repeat: 2}}
    - {{save: true}}
    - {{sleep: {sleep}}}
    - {{report: {{val/top1: curve}}, repeat: 2}}
    - {{save: true}}
    - {{sleep: {sleep}}}
    - {{report: {{val/top1: curve}}, repeat: 2}}
trainer: {{epochs: 6}}
resources: {{max_concurrent: 2}}
sweep:
  space: {{task.value: {values}}}
  seeds: 1
  metric: val/top1
{more}"""
STEPS = 6


@dataclass
class StoredWorkplace(Workplace):
    """A workplace whose results lie at an address. ``cache`` is the disk of the machine that the driver works on."""

    endpoint: str = ""
    direct: str = ""
    bucket: str = "bucket"
    cache: Path = field(default=Path())

    def __post_init__(self) -> None:
        self.cache = self.folder / "cache"

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/runs"

    @property
    def results(self) -> Path:
        """The working folder; a folder that is not there before the first command."""
        return next(iter(self.cache.glob("results/*/exp")), self.cache / "none")

    def environment(self) -> dict[str, str]:
        own = {"EXPFLOW_CACHE": str(self.cache), "EXPFLOW_STORAGE": self.address}
        return {**super().environment(), **s3_variables(self.endpoint), **own}

    def lose_disk(self) -> None:
        """What a machine loses that does not come back."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def kill(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()

    def store(self):
        """The bucket's content, past the proxy: key -> bytes."""
        import fsspec

        system = fsspec.filesystem(
            "s3",
            skip_instance_cache=True,
            key="a",
            secret="b",
            client_kwargs={"region_name": "us-east-1"},
            endpoint_url=self.direct,
        )
        names = system.find(self.address)
        return {name.removeprefix(f"{self.bucket}/runs/"): system.cat_file(name) for name in names}


def lines(workplace: Workplace) -> int:
    """Whole lines in the local ledger now."""
    try:
        return sum(file.read_bytes().count(b"\n") for file in (workplace.results / "ledger").glob("*.jsonl"))
    except FileNotFoundError:
        return 0


def kill_until_done(workplace: StoredWorkplace, kills: int, rng: random.Random) -> int:
    """Start the sweep, kill its driver, at times with its disk, and again; at last let it end."""
    killed = 0
    for _ in range(kills):
        begun = lines(workplace)
        process = workplace.start("sweep", "exp.yaml")
        enough, extra = begun + rng.randint(1, 14), rng.uniform(0.0, 2.5)
        while process.poll() is None and lines(workplace) < enough:
            time.sleep(0.02)
        time.sleep(extra)
        killed += process.poll() is None
        workplace.kill(process)
        if rng.random() < 0.6:
            workplace.lose_disk()
    workplace.run("sweep", "exp.yaml", timeout=400)
    return killed


def check_ledger(workplace: StoredWorkplace, trials: int) -> None:
    """Every planned trial once, its reports complete and none twice, by what a machine finds that had no part in it."""
    workplace.lose_disk()
    workplace.run("report", f"{workplace.address}/exp")
    state = load_state(workplace.results)
    assert len(state.trials) == len(state.plan_trials()) == trials
    assert {trial.status for trial in state.plan_trials()} == {"done"}
    reports: Counter[tuple[str, int, int]] = Counter()
    ends: Counter[str] = Counter()
    for record in read(workplace.results):
        match record.body:
            case TrialReported(trial=trial, attempt=attempt, step=step):
                reports[trial, attempt, step] += 1
            case TrialEnded(trial=trial):
                ends[trial] += 1
    assert set(ends.values()) == {1}
    assert set(ends) == set(state.trials)
    assert set(reports.values()) == {1}
    for trial in state.plan_trials():
        assert [report.step for report in trial.reports] == list(range(1, STEPS + 1))


def check_bucket(workplace: StoredWorkplace) -> None:
    """Nothing lies there but what manifests name, one manifest for each folder, and the lock, which is free."""
    content = workplace.store()
    named: set[str] = set()
    manifests: dict[str, list[str]] = {}
    for key in content:
        folder, is_manifest, _ = key.partition("/manifest/")
        if is_manifest:
            manifests.setdefault(folder, []).append(key)
    for folder, keys in manifests.items():
        assert len(keys) == 1, f"{folder} has {keys}"
        files = json.loads(content[keys[0]])["files"]
        named |= {part["key"] for parts in files.values() for part in parts if "key" in part}
    locks = [key for key in content if "/lock/" in key]
    assert [json.loads(content[key])["owner"] for key in locks] == [None]
    assert set(content) == named | {key for keys in manifests.values() for key in keys} | set(locks)


def faulty_sweep(
    endpoint: str, folder: Path, seed: int, *, trials: int = 6, kills: int = 3, rate: float = 0.1, sleep: float = 0.4
) -> str:
    """One sweep by a seed; returns what happened, in words."""
    rng = random.Random(seed)
    bucket = f"bucket-{seed}"
    make_bucket(endpoint, bucket)
    with proxy_before(endpoint, seed=seed, rate=rate) as proxy:
        workplace = StoredWorkplace(folder, endpoint=proxy.url, bucket=bucket, direct=endpoint)
        values = [round((number + 1) / (trials + 1), 4) for number in range(trials)]
        workplace.write(SAVING.format(values=values, sleep=sleep, more=""))
        try:
            killed = kill_until_done(workplace, kills, rng)
            proxy.rate = 0.0
            check_ledger(workplace, trials)
            check_bucket(workplace)
        finally:
            workplace.leave()
        requests, faults = proxy.requests.total(), dict(proxy.faults)
    return f"seed {seed}: {killed} drivers killed, {requests} requests, {sum(faults.values())} faults {faults}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--server", choices=("seaweedfs", "moto"), default="seaweedfs")
    asked = parser.parse_args()
    with {"seaweedfs": seaweedfs, "moto": moto}[asked.server]() as endpoint:
        for seed in range(asked.first, asked.first + asked.sweeps):
            with tempfile.TemporaryDirectory() as folder:
                print(faulty_sweep(endpoint, Path(folder), seed), flush=True)


if __name__ == "__main__":
    main()
