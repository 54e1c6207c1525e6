"""What a user waits for from Enter to the prompt, when nothing is warm: beside raw Ray Tune and plain Lightning.

Every call is typed on a terminal of its own. A round measures each figure's two sides in turn, each with no process of
the other, or of the round before, alive; medians over the rounds. Figures, in seconds from Enter to the prompt unless
said otherwise:

    tiny_sweep_s        a sweep of two trials of digits, which train for about half a second each; the peer is the same
                        two trainings in raw Ray Tune as its documentation writes them
    tiny_sweep_cpu_s    CPU seconds of all processes of that sweep, until the last one has ended, MLflow's too
    first_report_s      from Enter until the first report is in the ledger; the peer's, until its driver has it
    train_s             one such trial by `expflow train`; the peer is a plain Lightning script
    nothing_to_do_s     the sweep's command again
    plan_s              `expflow plan --no-time --no-check` of the sweep
    plan_again_s        the same again
    plan_whole_s        `expflow plan`, with its measurements; the peer is `import pytorch_lightning`
    warm_16_ranks_s     until 16 ranks on 16 logical slots are ready to train, template included; the peer is 16 Ray
                        actors that import the same
    rank_private_mib    memory (sum of proportional set sizes) that one rank adds, after a trial; the peer is such an
                        actor
    rank_back_s         from the death of a rank by a segmentation fault until its trial trains again; the peer is a
                        rank that imports by itself
    seconds_until_gone  from the prompt of the sweep until no process of it is left but MLflow's follower

    python benchmarks/cold_start.py [--rounds 5] [--only sweeps training …]
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starting.programs import EXPERIMENT, LONG, NETWORK, PLAIN, TINY, TUNED
from starting.terminal import MARK, Processes, expflow, fresh, typed, until, wait_for_quiet, workplace


class Benchmark:
    """All measurements of all rounds.

    Args:
        folder: A folder for everything.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours: dict[str, list[float]] = {}
        self.peers: dict[str, list[float]] = {}
        os.environ["EXPFLOW_CACHE"] = str(folder / "cache")
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

    def note(self, name: str, mine: float, peer: float | None = None) -> None:
        """Note one round of a figure."""
        self.ours.setdefault(name, []).append(mine)
        if peer is not None:
            self.peers.setdefault(name, []).append(peer)
        beside = f", beside {peer:.2f}" if peer is not None else ""
        print(f"{name}: {mine:.2f}{beside}", flush=True)

    def sweeps(self) -> None:
        """The tiny sweep, its repetition, its plans; raw Tune."""
        place = fresh(self.folder, "tiny.yaml", TINY)
        mine = typed(expflow("sweep", "tiny.yaml"), place)
        tuned = fresh(self.folder, "tuned.py", TUNED.replace("STORAGE", repr(str(self.folder / "tune"))))
        (tuned / "network.py").write_text(NETWORK)
        raw = typed([sys.executable, "tuned.py"], tuned, environment={"PYTHONPATH": _with(tuned)})
        self.note("tiny_sweep_s", mine.seconds, raw.seconds)
        self.note("tiny_sweep_cpu_s", mine.cpu, raw.cpu)
        first = next(line for line in raw.output.splitlines() if line.startswith("first report"))
        self.note(
            "first_report_s", first_report(place / "runs" / "tiny") - mine.begun, float(first.split()[2]) - raw.begun
        )
        self.note("seconds_until_gone", mine.until_gone)
        self.note("nothing_to_do_s", typed(expflow("sweep", "tiny.yaml"), place).seconds)

    def plans(self) -> None:
        """Plans, for the first time and again."""
        place = fresh(self.folder, "tiny.yaml", TINY)
        cache = {"EXPFLOW_CACHE": str(place / "cache")}
        typed(expflow("data", "build", "tiny.yaml"), place, environment=cache)  # it is a plan that is measured
        words = expflow("plan", "tiny.yaml", *PLAN_ALONE)
        self.note("plan_s", typed(words, place, environment=cache).seconds)
        self.note("plan_again_s", typed(words, place, environment=cache).seconds)
        whole = typed(expflow("plan", "tiny.yaml"), place, environment=cache)
        alone = typed([sys.executable, "-c", "import pytorch_lightning"], place)
        self.note("plan_whole_s", whole.seconds, alone.seconds)

    def training(self) -> None:
        """One trial in one process."""
        place = fresh(self.folder, "one.yaml", EXPERIMENT)
        (place / "plain.py").write_text(PLAIN)
        mine = typed(expflow("train", "one.yaml"), place)
        self.note("train_s", mine.seconds, typed([sys.executable, "plain.py"], place).seconds)

    def ranks(self) -> None:
        """Sixteen ranks at once, and what each of them holds."""
        answers = []
        for way in ("forked", "imported"):
            command = [sys.executable, "-m", "starting.ranks", way, str(self.folder)]
            here = {**os.environ, "PYTHONPATH": _with(Path(__file__).parent)}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=here)
            answers.append(json.loads(done.stdout.strip().splitlines()[-1]))
            wait_for_quiet()
        mine, peer = answers
        self.note("warm_16_ranks_s", mine["seconds"], peer["seconds"])
        self.note("rank_private_mib", mine["mib"], peer["mib"])

    def dying(self) -> None:
        """A rank that dies by a segmentation fault."""
        mine = self._rank_back({})
        self.note("rank_back_s", mine, self._rank_back({"EXPFLOW_TEMPLATE": "off"}))

    def _rank_back(self, environment: dict[str, str]) -> float:
        place = fresh(self.folder, "long.yaml", LONG)
        mark = secrets.token_hex(8)
        processes, results = Processes(mark), place / "runs" / "long"
        with subprocess.Popen(
            expflow("sweep", "long.yaml"),
            cwd=place,
            env={**os.environ, **environment, MARK: mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            until(lambda: first_report(results) > 0, process)
            rank = next(pid for pid, line in processes.alive().items() if line.startswith(b"ray::Rank"))
            killed = time.time()
            os.kill(rank, signal.SIGSEGV)
            until(lambda: started(results, 2) > 0, process)
            process.send_signal(signal.SIGINT)
        until(lambda: not processes.alive(), None)
        return started(results, 2) - killed


PLAN_ALONE = ("--no-time", "--no-check")
"""What leaves the measurements of `plan` out."""


def _with(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))


def first_report(results: Path) -> float:
    """When the first report was written to a ledger (unix seconds); 0 before."""
    from expflow.events import TrialReported
    from expflow.ledger import read

    return next((record.at for record in read(results) if isinstance(record.body, TrialReported)), 0.0)


def started(results: Path, attempt: int) -> float:
    """When an attempt began to train (unix seconds); 0 before."""
    from expflow.events import TrialStarted
    from expflow.ledger import read

    times = (r.at for r in read(results) if isinstance(r.body, TrialStarted) and r.body.attempt == attempt)
    return next(times, 0.0)


WANTED = {"nothing_to_do_s": 1.0, "plan_s": 3.0, "plan_again_s": 1.5, "seconds_until_gone": 5.0}
"""Figures without a peer, and what is wanted of them."""

PEERS = {
    "tiny_sweep_s": ("raw Ray Tune", "s"),
    "tiny_sweep_cpu_s": ("raw Ray Tune", "CPU s"),
    "first_report_s": ("raw Ray Tune", "s"),
    "train_s": ("a plain Lightning script", "s"),
    "plan_whole_s": ("import pytorch_lightning", "s"),
    "warm_16_ranks_s": ("16 Ray actors that import the same", "s"),
    "rank_private_mib": ("a Ray actor that imports the same", "MiB"),
    "rank_back_s": ("a rank that imports by itself", "s"),
}


def figures(benchmark: Benchmark) -> Iterator[dict[str, Any]]:
    """The claims: medians of all rounds."""
    for name, values in benchmark.ours.items():
        peer_name, unit = PEERS.get(name, ("what is wanted", "s"))
        peer = statistics.median(benchmark.peers[name]) if name in benchmark.peers else WANTED[name]
        yield {
            "name": name,
            "ours": round(statistics.median(values), 3),
            "peer": round(peer, 3),
            "peer_name": peer_name,
            "unit": unit,
            "better": "lower",
        }


PARTS = ("sweeps", "plans", "training", "ranks", "dying")


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    options = parser.parse_args()
    with workplace() as folder:
        benchmark = Benchmark(folder)
        typed(expflow("data", "build", "one.yaml"), fresh(folder, "one.yaml", EXPERIMENT))  # data are no cold start
        for number in range(options.rounds):
            print(f"round {number + 1}", flush=True)
            for part in options.only:
                getattr(benchmark, part)()
        print(json.dumps({"figures": list(figures(benchmark))}))


if __name__ == "__main__":
    main()
