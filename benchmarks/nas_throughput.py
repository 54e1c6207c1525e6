"""Children of an architecture search per hour: expflow's warm gangs beside Ray Tune.

Children of about a second of training each (a layer space on digits) are drawn at random, the same ones everywhere, and
trained by the same code, ``run_trial``, on the same slots, in turn:

    expflow                ``expflow sweep``, with its ledger, and every child's network checked against limits
    Ray Tune as it comes   a function trainable with default settings, which starts a process for every child
    with reused actors     a class trainable with ``reset_config`` and ``reuse_actors=True``, which keeps its process
    tracked                the same with a step for each epoch, as a scheduler that stops children early needs, and with
                           Ray's MLflow callback on SQLite, so that its user can look at what expflow's can look at

A rate is that of children that ended after all slots were warm, so nobody's start-up counts:

    children per hour = 3600 * (n - slots) / (end of the last child - end of the first `slots` children)

    python benchmarks/nas_throughput.py [--children 120] [--peer-children 16] [--reused-children 80] [--rounds 1]
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

EXPERIMENT = """
data: {{name: digits, batch_size: 64}}
model: {{name: child}}
task: classification
optimizer: {{name: sgd, lr: 0.05, momentum: 0.9}}
schedule: one_cycle
trainer: {{epochs: {epochs}, checkpoint: {{at_end: false, every_seconds: null}}}}
sweep:
  space:
    model.layers: {{layers: {{count: [2, 3], height: [1, 3, 5], width: [1, 3, 5], stride: [1, 2], filters: [8, 16]}}}}
  limits: {{macs: 300000}}
  searcher: {{name: random, trials: {children}}}
  metric: val/top1
"""
FILE = "throughput.yaml"
PEERS = {
    "plain": ("children_per_hour", "Ray Tune, function trainable, defaults"),
    "reused": ("children_per_hour_reused", "Ray Tune, class trainable, reused actors"),
    "tracked": ("children_per_hour_tracked", "Ray Tune, reused actors, a step per epoch, MLflow callback"),
}
"""Way of running Ray Tune to its figure and its name."""


def rate(ends: Sequence[float], slots: int) -> float:
    """Children per hour once all slots are warm."""
    ordered = sorted(ends)
    return 3600 * (len(ordered) - slots) / (ordered[-1] - ordered[slots - 1])


def write_experiment(folder: Path, children: int, epochs: int) -> Path:
    """The experiment file in a folder of its own."""
    folder.mkdir(parents=True)
    (folder / FILE).write_text(EXPERIMENT.format(children=children, epochs=epochs))
    return folder / FILE


def ours(folder: Path, children: int, epochs: int, slots: int) -> tuple[float, float]:
    """Children per hour of the command that users type, and the median seconds of a child's training."""
    from expflow.events import TrialEnded
    from expflow.ledger import read

    write_experiment(folder, children, epochs)
    command = [sys.executable, "-m", "expflow", "sweep", FILE, "--storage", str(folder / "runs")]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    ended = [record for record in read(folder / "runs" / "throughput") if isinstance(record.body, TrialEnded)]
    if len(ended) != children or any(record.body.status != "done" for record in ended):
        raise SystemExit(f"expected {children} children that are done, the ledger has {len(ended)}")
    return rate([record.at for record in ended], slots), statistics.median(record.body.seconds for record in ended)


def peer(folder: Path, children: int, epochs: int, slots: int, way: str) -> float:
    """Children per hour of Ray Tune, in a process of its own, so that nothing is warm."""
    command = [sys.executable, __file__, "--as-peer", str(folder), "--children", str(children), "--slots", str(slots)]
    command += ["--epochs", str(epochs), "--way", way]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return rate(json.loads(done.stdout.strip().splitlines()[-1]), slots)


def train(planned: Any, on_epoch: Callable[[dict[str, float]], None] = dict) -> dict[str, float]:
    """Train a child as expflow's ranks do; its last metrics, and when it ended."""
    import expflow.training.lightning_runner  # noqa: F401  what every Tune user's module imports at its top
    from expflow.training import Attempt, World, run_trial

    metrics: dict[str, float] = {}

    def on_report(report: Any) -> bool:
        metrics.update(report.metrics)
        on_epoch(dict(metrics))
        return True

    run_trial(Attempt(planned.recipe, planned.seed, planned.data.root), World(), on_report)
    return {"top1": metrics["val/top1"], "end": time.time()}


def train_by_epochs(planned: Any) -> Iterator[dict[str, float]]:
    """Train a child until its next report whenever one is asked for; the last one has what ``train`` returns."""
    reports: queue.SimpleQueue[dict[str, float] | None] = queue.SimpleQueue()
    go_on = threading.Semaphore(0)

    def on_epoch(metrics: dict[str, float]) -> None:
        reports.put(metrics)
        go_on.acquire()

    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, planned, on_epoch)
        training.add_done_callback(lambda _: reports.put(None))
        while (report := reports.get()) is not None:
            yield report
            go_on.release()
        yield training.result()


def trainables(planned: Sequence[Any]) -> dict[str, Any]:
    """What Ray Tune's documentation has a user write, by way: a function, a class, a class with a step per epoch."""
    from ray import tune

    def train_child(config: dict) -> None:
        tune.report(train(planned[config["index"]]))

    class Child(tune.Trainable):
        def setup(self, config: dict) -> None:
            self.index = config["index"]

        def reset_config(self, new_config: dict) -> bool:
            self.index = new_config["index"]
            return True

        def step(self) -> dict:
            return {**train(planned[self.index]), "done": True}

    class ChildByEpochs(tune.Trainable):
        def setup(self, config: dict) -> None:
            self.reports = train_by_epochs(planned[config["index"]])

        def reset_config(self, new_config: dict) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict:
            report = next(self.reports)
            return {**report, "done": "end" in report}

    return {"plain": train_child, "reused": Child, "tracked": ChildByEpochs}


def run_peer(folder: Path, children: int, epochs: int, slots: int, way: str) -> None:
    """Body of the peer's process: prints the ends of all children as JSON."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    from expflow.sweep.plan import make_plan
    from expflow.sweep.trial_expansion import planned_trials

    file = write_experiment(folder, children, epochs)
    planned = list(planned_trials(make_plan(file, storage=folder / "runs")))
    tracked = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="throughput")
    ray.init(address="local", num_cpus=slots, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    tuner = tune.Tuner(
        trainables(planned)[way],
        param_space={"index": tune.grid_search(list(range(len(planned))))},
        tune_config=tune.TuneConfig(reuse_actors=way != "plain"),
        run_config=tune.RunConfig(
            storage_path=str(folder / "ray"),
            verbose=0,
            # Neither side keeps weights; a class would be asked for them at its end by default.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[tracked] if way == "tracked" else [],
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(f"the peer failed: {results.errors[0]}")
    print(json.dumps([result.metrics["end"] for result in results]))


def figure(name: str, mine: Sequence[float], theirs: Sequence[float], peer_name: str) -> dict[str, Any]:
    """Say the medians, and return the line of JSON's entry."""
    a, b = statistics.median(mine), statistics.median(theirs)
    print(f"{name}: expflow {a:,.0f}, {peer_name} {b:,.0f} children per hour, {a / b:.2f} times as many")
    return {
        "name": name,
        "ours": round(a, 1),
        "peer": round(b, 1),
        "peer_name": peer_name,
        "unit": "children/h",
        "better": "higher",
    }


def main() -> None:
    """Measure all sides in turn and print the medians, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=120)
    parser.add_argument("--peer-children", type=int, default=16)
    parser.add_argument("--reused-children", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=8, help="as many as make a child take about a second")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--as-peer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_peer:
        run_peer(options.as_peer, options.children, options.epochs, options.slots, options.way)
        return
    mine, theirs = list[float](), {way: list[float]() for way in PEERS}
    with tempfile.TemporaryDirectory() as temporary:
        for index in range(options.rounds):
            folder = Path(temporary) / str(index)
            per_hour, seconds = ours(folder / "ours", options.children, options.epochs, options.slots)
            mine.append(per_hour)
            for way, rates in theirs.items():
                children = options.peer_children if way == "plain" else options.reused_children
                rates.append(peer(folder / way, children, options.epochs, options.slots, way))
            print(
                f"round {index + 1}: expflow {mine[-1]:,.0f} (a child {seconds:.2f} s), Ray Tune "
                + ", ".join(f"{way} {rates[-1]:,.0f}" for way, rates in theirs.items())
                + " children per hour",
                flush=True,
            )
    figures = [figure(name, mine, theirs[way], peer_name) for way, (name, peer_name) in PEERS.items()]
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
