"""What one trial costs beyond its own training: expflow's warm gangs beside Ray Tune as it comes.

Both run the same trials (digits, a small MLP, three epochs of Lightning, one rank) on the same machine, in turn. The
peer is a plain Tune function trainable with default settings, which starts a process for every trial. A slot is one
CPU; the overhead of a trial is the slot's wall time from the moment all slots are warm, less the trials' own compute,
for each trial:

    overhead = slots * (end of last trial - end of the first `slots` trials) / (n - slots) - mean compute

over the trials that ended after those first ones. Compute is the wall time of `run_trial` alone; what a peer's fresh
process imports before it is overhead, because it is paid for every trial.

    python benchmarks/trial_overhead.py [--trials 64] [--peer-trials 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

EXPERIMENT = """
data: {{name: digits, batch_size: 64}}
model: {{name: mlp, hidden: 64}}
task: classification
optimizer: {{name: sgd, lr: 0.1, momentum: 0.9}}
trainer: {{epochs: 3}}
sweep:
  space: {{optimizer.lr: {{loguniform: [0.01, 0.2]}}}}
  searcher: {{name: random, trials: {trials}}}
  metric: val/top1
"""


def overhead(ends: Sequence[float], computes: Sequence[float], slots: int) -> float:
    """Seconds of slot time for each trial beyond its compute, once all slots are warm."""
    ordered = sorted(zip(ends, computes, strict=True))
    wall = ordered[-1][0] - ordered[slots - 1][0]
    counted = [compute for _, compute in ordered[slots:]]
    return slots * wall / len(counted) - statistics.mean(counted)


def ours(folder: Path, trials: int, slots: int) -> float:
    """Run the sweep with the command that users type, and read its ledger."""
    from expflow.events import TrialEnded
    from expflow.ledger import read

    folder.mkdir(parents=True)
    (folder / "overhead.yaml").write_text(EXPERIMENT.format(trials=trials))
    command = [sys.executable, "-m", "expflow", "sweep", "overhead.yaml", "--storage", str(folder / "runs")]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    ended = [record for record in read(folder / "runs" / "overhead") if isinstance(record.body, TrialEnded)]
    if len(ended) != trials:
        raise SystemExit(f"expected {trials} trials, the ledger has {len(ended)}")
    return overhead([record.at for record in ended], [record.body.seconds for record in ended], slots)


def peer(folder: Path, trials: int, slots: int) -> float:
    """The same trials in a plain Tune function trainable; a process of its own, so that nothing is warm."""
    command = [sys.executable, __file__, "--as-peer", str(folder), "--trials", str(trials), "--slots", str(slots)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return overhead(result["ends"], result["computes"], slots)


def run_peer(folder: Path, trials: int, slots: int) -> None:
    """Body of the peer's process: prints the end and the compute of every trial as JSON."""
    import ray
    from ray import tune

    from expflow.sweep.plan import make_plan

    folder.mkdir(parents=True)
    (folder / "overhead.yaml").write_text(EXPERIMENT.format(trials=trials))
    planned = list(make_plan(folder / "overhead.yaml", storage=folder / "runs").trials())

    def train(config: dict) -> None:
        import expflow.training.lightning_runner  # noqa: F401  what every Tune user's module imports at its top
        from expflow.training import Attempt, World, run_trial

        trial = planned[config["index"]]

        def report(found: object) -> bool:
            tune.report(dict(found.metrics))
            return True

        start = time.perf_counter()
        run_trial(Attempt(trial.recipe, trial.seed, trial.data.root), World(), report)
        tune.report({"compute": time.perf_counter() - start, "end": time.time()})

    ray.init(address="local", num_cpus=slots, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    tuner = tune.Tuner(
        train,
        param_space={"index": tune.grid_search(list(range(trials)))},
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(f"the peer failed: {results.errors[0]}")
    rows = [result.metrics for result in results]
    print(json.dumps({"ends": [row["end"] for row in rows], "computes": [row["compute"] for row in rows]}))


def main() -> None:
    """Measure both in turn and print the medians, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--peer-trials", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--as-peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_peer:
        run_peer(options.as_peer, options.trials, options.slots)
        return
    mine: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        for index in range(options.rounds):
            mine.append(ours(Path(temporary) / f"ours{index}", options.trials, options.slots))
            theirs.append(peer(Path(temporary) / f"peer{index}", options.peer_trials, options.slots))
            print(f"round {index + 1}: expflow {mine[-1]:.3f} s, Ray Tune as it comes {theirs[-1]:.3f} s a trial")
    a, b = statistics.median(mine), statistics.median(theirs)
    times = f", {b / a:.0f} times as much" if a > 0 else ""
    print(f"median overhead of a one-rank trial: expflow {a:.3f} s, Ray Tune {b:.3f} s{times}")
    figure = {
        "name": "one_rank_overhead_s",
        "ours": round(a, 4),
        "peer": round(b, 4),
        "peer_name": "Ray Tune function trainable, defaults",
        "unit": "s",
        "better": "lower",
    }
    print(json.dumps({"figures": [figure]}))


if __name__ == "__main__":
    main()
