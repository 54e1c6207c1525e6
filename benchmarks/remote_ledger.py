"""What results in a store cost: `expflow` on a real S3 server (SeaweedFS) whose every reply takes 100 ms longer.

ledger_lag_s        seconds from an event's time in the ledger until a reader of the store finds it there (p99),
                    over a sweep of short trials; the store is looked at every 50 ms
requests_per_trial  all requests of that sweep, the driver's own, its start and its end included, by its trials of
                    ten reports with a checkpoint each
step_ratio          seconds from the first to the last report of a training of half a minute that saves after
                    every epoch, with the store, over the same with a local folder; the median of rounds, which take
                    both in turn

python benchmarks/remote_ledger.py [--trials 40] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from expflow.events import TrialReported
from expflow.ledger import read
from expflow.storage.blob_store import BlobStore
from expflow.storage.folder_fetch import newest_manifest
from tests.object_store.faulty_proxy import FaultyProxy, proxy_before
from tests.object_store.s3_servers import make_bucket, s3_variables, seaweedfs
from tests.object_store.stored_sweeps import StoredWorkplace

DELAY = 0.1
SHORT = """
task:
  name: scripted
  script:
    - {{sleep: 0.1}}
    - {{report: {{val/top1: curve}}}}
    - {{save: true}}
trainer: {{epochs: 10}}
resources: {{max_concurrent: 2}}
sweep:
  space: {{task.value: {values}}}
  seeds: 1
  metric: val/top1
"""
REPEATED = ("    - {sleep: 0.1}\n", "    - {report: {val/top1: curve}}\n")
TRAINING = """
data: {name: digits, batch_size: 32}
model: {name: resnet, layout: cifar, depth: 20, width: 8}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
trainer: {epochs: 60}
"""
WANTED = {"ledger_lag_s": 3.0, "requests_per_trial": 6.0, "step_ratio": 1.05}
UNITS = {"ledger_lag_s": "s", "requests_per_trial": "requests", "step_ratio": "x"}


def short_sweep(trials: int) -> str:
    """A sweep of trials of ten reports within a second, each with a checkpoint at its end."""
    values = [round((number + 1) / (trials + 1), 4) for number in range(trials)]
    script = "".join(REPEATED).replace("{", "{{").replace("}", "}}") * 9
    text = SHORT.replace("    - {{save: true}}\n", script + "    - {{save: true}}\n")
    return text.format(values=values)


class StoreReader(threading.Thread):
    """Looks at the store all the time; notes when each line of the ledger is first there."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.store = BlobStore(address)
        self.seen: dict[tuple[str, int], float] = {}
        self.lines: dict[str, bytes] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """The thread."""
        version = ""
        while not self.over.wait(0.05):
            manifest = newest_manifest(self.store, "exp")
            now = time.time()
            if manifest is None or manifest.version == version or manifest.files is None:
                continue
            version = manifest.version
            for path, parts in manifest.files.items():
                if path.startswith("ledger/") and path.endswith(".jsonl"):
                    content = b"".join(
                        part.content
                        if part.content is not None
                        else (self.store.get(part.key) or b"")[part.start : part.start + part.size]
                        for part in parts
                    )
                    for number in range(content.count(b"\n")):
                        self.seen.setdefault((path, number), now)


def lags(reader: StoreReader, workplace: StoredWorkplace) -> list[float]:
    """Seconds from each line's own time until it was seen in the store."""
    waits = []
    for file in sorted((workplace.results / "ledger").glob("*.jsonl")):
        for number, line in enumerate(file.read_bytes().splitlines()):
            seen = reader.seen.get((f"ledger/{file.name}", number))
            assert seen is not None, "a line never came"
            waits.append(seen - line_time(line))
    return waits


def line_time(line: bytes) -> float:
    """When a line of the ledger was written."""
    text = line.decode()
    return float(json.loads(text[text.index("{") :])["at"])


def measure_sweep(endpoint: str, proxy: FaultyProxy, folder: Path, trials: int) -> tuple[float, float]:
    """``ledger_lag_s`` and ``requests_per_trial``."""
    make_bucket(endpoint, "short")
    workplace = StoredWorkplace(folder, endpoint=proxy.url, direct=endpoint, bucket="short")
    workplace.write(short_sweep(trials))
    reader = StoreReader(workplace.address)
    proxy.requests.clear()
    reader.start()
    workplace.run("sweep", "exp.yaml", timeout=600)
    requests = proxy.requests.total()
    time.sleep(0.5)
    reader.over.set()
    reader.join()
    waits = sorted(lags(reader, workplace))
    print(
        f"{len(waits)} lines, median {statistics.median(waits):.2f} s, most {waits[-1]:.2f} s; {dict(proxy.requests)}"
    )
    return waits[int(len(waits) * 0.99)], requests / trials


def training_seconds(workplace: StoredWorkplace, storage: str) -> float:
    """Seconds from the first to the last report of one training."""
    workplace.run("train", "exp.yaml", "--storage", storage, timeout=300)
    folder = workplace.results if "://" in storage else workplace.folder / storage / "exp"
    times = [record.at for record in read(folder) if isinstance(record.body, TrialReported)]
    return times[-1] - times[0]


def measure_steps(endpoint: str, proxy: FaultyProxy, folder: Path, rounds: int) -> float:
    """``step_ratio``."""
    ratios = []
    for number in range(rounds):
        bucket = f"steps-{number}"
        make_bucket(endpoint, bucket)
        here = folder / bucket
        here.mkdir()
        workplace = StoredWorkplace(here, endpoint=proxy.url, direct=endpoint, bucket=bucket)
        workplace.write(TRAINING)
        stored, local = training_seconds(workplace, workplace.address), training_seconds(workplace, "runs")
        print(f"round {number + 1}: {stored:.2f} s with the store, {local:.2f} s in a folder")
        ratios.append(stored / local)
    return statistics.median(ratios)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with seaweedfs() as endpoint, proxy_before(endpoint, delay=DELAY) as proxy, tempfile.TemporaryDirectory() as folder:
        os.environ.update(s3_variables(endpoint))
        place = Path(folder) / "short"
        place.mkdir()
        lag, requests = measure_sweep(endpoint, proxy, place, asked.trials)
        ratio = measure_steps(endpoint, proxy, Path(folder), asked.rounds)
    measured = {"ledger_lag_s": lag, "requests_per_trial": requests, "step_ratio": ratio}
    rows = []
    for name, value in measured.items():
        print(f"{name:<19} {value:.3f}  wanted <= {WANTED[name]:g}")
        row = {"name": name, "ours": round(value, 3), "peer": WANTED[name], "peer_name": "what is wanted"}
        rows.append({**row, "unit": UNITS[name], "better": "lower"})
    print(json.dumps({"figures": rows}))


if __name__ == "__main__":
    main()
