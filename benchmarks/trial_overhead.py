"""What one trial costs beyond its own training: expflow's warm gangs beside Ray as it is documented.

Both run the same trials (digits, a small MLP, three epochs of Lightning) on the same machine, in turn. With one rank
the peer is a plain Tune function trainable with default settings, which starts a process for every trial. With two
ranks it is what Ray documents for DDP in a search: a Tune function that runs a `TorchTrainer` with its
`TuneReportCallback`, whose workers run a Lightning `Trainer` with `RayDDPStrategy`. A slot holds one trial at a time (a
CPU; with two ranks, two CPUs); the overhead of a trial is the slot's wall time from the moment all slots are warm, less
the trials' own compute, for each trial:

    overhead = slots * (end of last trial - end of the first `slots` trials) / (n - slots) - mean compute

over the trials that ended after those first ones. Compute is the wall time of `run_trial`, or of the peer's training
function, alone; what a peer's fresh process imports before it is overhead, because it is paid for every trial.

    python benchmarks/trial_overhead.py [--trials 64] [--peer-trials 8] [--rounds 3]
                                        [--ddp-trials 12] [--ddp-peer-trials 4] [--ddp-rounds 1]
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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray import tune

EXPERIMENT = """
data: {{name: digits, batch_size: 64}}
model: {{name: mlp, hidden: 64}}
task: classification
optimizer: {{name: sgd, lr: 0.1, momentum: 0.9}}
trainer: {{epochs: 3}}
resources: {{ranks: {ranks}}}
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


def ours(folder: Path, trials: int, slots: int, ranks: int = 1) -> float:
    """Run the sweep with the command that users type, and read its ledger."""
    from expflow.events import TrialEnded
    from expflow.ledger import read

    folder.mkdir(parents=True)
    (folder / "overhead.yaml").write_text(EXPERIMENT.format(trials=trials, ranks=ranks))
    command = [sys.executable, "-m", "expflow", "sweep", "overhead.yaml", "--storage", str(folder / "runs")]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    ended = [record for record in read(folder / "runs" / "overhead") if isinstance(record.body, TrialEnded)]
    if len(ended) != trials:
        raise SystemExit(f"expected {trials} trials, the ledger has {len(ended)}")
    return overhead([record.at for record in ended], [record.body.seconds for record in ended], slots)


def peer(folder: Path, trials: int, slots: int, ranks: int = 1) -> float:
    """The same trials as Ray documents them; in a process of its own, so that nothing is warm."""
    command = [sys.executable, __file__, "--as-peer", str(folder), "--trials", str(trials), "--slots", str(slots)]
    command += ["--ranks", str(ranks)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return overhead(result["ends"], result["computes"], slots)


def run_peer(folder: Path, trials: int, slots: int) -> None:
    """Body of the peer's process: prints the end and the compute of every trial as JSON."""
    import ray
    from ray import tune

    from expflow.sweep.plan import make_plan
    from expflow.sweep.trial_expansion import planned_trials

    folder.mkdir(parents=True)
    (folder / "overhead.yaml").write_text(EXPERIMENT.format(trials=trials, ranks=1))
    planned = list(planned_trials(make_plan(folder / "overhead.yaml", storage=folder / "runs")))

    def train(config: dict) -> None:
        import expflow.training.lightning_runner  # noqa: F401  what every Tune user's module imports at its top
        from expflow.training import Attempt, World, run_trial

        trial = planned[config["index"]]

        def report(reported: object) -> bool:
            tune.report(dict(reported.metrics))
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
    say_times(tuner.fit())


def say_times(results: tune.ResultGrid) -> None:
    """Print the end and the compute of every trial as JSON."""
    if results.errors:
        raise SystemExit(f"the peer failed: {results.errors[0]}")
    rows = [result.metrics for result in results]
    print(json.dumps({"ends": [row["end"] for row in rows], "computes": [row["compute"] for row in rows]}))


def run_ddp_peer(folder: Path, trials: int, ranks: int) -> None:
    """Body of the peer's process for trials of several ranks: prints the same as :func:`run_peer`."""
    import ray
    from ray import tune
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    def drive(config: dict) -> None:
        TorchTrainer(
            train_digits,
            train_loop_config=config,
            scaling_config=ScalingConfig(num_workers=ranks),
            run_config=RunConfig(
                name=f"trial-{config['index']}",
                storage_path=str(folder / "train"),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    # The function that drives a trial takes a CPU besides its workers', which is how Tune runs one at a time.
    ray.init(address="local", num_cpus=ranks + 1, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    tuner = tune.Tuner(
        drive,
        param_space={"index": tune.grid_search(list(range(trials))), "lr": 0.1},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
    )
    say_times(tuner.fit())


def train_digits(config: dict) -> None:
    """One rank of the peer: the same network, data, optimizer and epochs by Lightning's `Trainer`."""
    import pytorch_lightning as pl
    import ray.train
    import torch
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, prepare_trainer
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

        def training_step(self, batch: tuple, index: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

        def validation_step(self, batch: tuple, index: int) -> None:
            hits = (self.layers(batch[0]).argmax(1) == batch[1]).float().mean()
            self.log("val_top1", hits, sync_dist=True)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=config["lr"], momentum=0.9)

    start = time.perf_counter()
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    size = 64 // ray.train.get_context().get_world_size()
    trainer = pl.Trainer(
        max_epochs=3,
        strategy=RayDDPStrategy(),
        plugins=[RayLightningEnvironment()],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer = prepare_trainer(trainer)
    trainer.fit(
        Net(),
        DataLoader(TensorDataset(images[:1300], labels[:1300]), batch_size=size, shuffle=True),
        DataLoader(TensorDataset(images[1300:1697], labels[1300:1697]), batch_size=size),
    )
    ray.train.report(
        {
            "val_top1": float(trainer.callback_metrics["val_top1"]),
            "compute": time.perf_counter() - start,
            "end": time.time(),
        }
    )


def figure(name: str, what: str, mine: Sequence[float], theirs: Sequence[float], peer_name: str) -> dict:
    """Say the medians, and return the line of JSON's entry."""
    a, b = statistics.median(mine), statistics.median(theirs)
    times = f", {b / a:.0f} times as much" if a > 0 else ""
    print(f"median overhead of a {what} trial: expflow {a:.3f} s, {peer_name} {b:.3f} s{times}")
    return {
        "name": name,
        "ours": round(a, 4),
        "peer": round(b, 4),
        "peer_name": peer_name,
        "unit": "s",
        "better": "lower",
    }


def in_turn(folder: Path, rounds: int, trials: int, peer_trials: int, slots: int, ranks: int) -> tuple[list, list]:
    """The overheads of both, a round after the other."""
    mine, theirs = list[float](), list[float]()
    for index in range(rounds):
        mine.append(ours(folder / f"ours-{ranks}-{index}", trials, slots, ranks))
        theirs.append(peer(folder / f"peer-{ranks}-{index}", peer_trials, slots, ranks))
        words = f"expflow {mine[-1]:.3f} s, Ray {theirs[-1]:.3f} s a trial"
        print(f"{ranks} rank{'s' if ranks > 1 else ''}, round {index + 1}: {words}", flush=True)
    return mine, theirs


def main() -> None:
    """Measure both in turn and print the medians, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--peer-trials", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="0 leaves trials of one rank out")
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ddp-trials", type=int, default=12)
    parser.add_argument("--ddp-peer-trials", type=int, default=4)
    parser.add_argument("--ddp-rounds", type=int, default=1, help="0 leaves trials of two ranks out")
    parser.add_argument("--as-peer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ranks", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_peer:
        if options.ranks > 1:
            run_ddp_peer(options.as_peer, options.trials, options.ranks)
        else:
            run_peer(options.as_peer, options.trials, options.slots)
        return
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.rounds:
            timings = in_turn(folder, options.rounds, options.trials, options.peer_trials, options.slots, 1)
            figures.append(figure("one_rank_overhead_s", "one-rank", *timings, "Ray Tune function trainable, defaults"))
        if options.ddp_rounds:
            timings = in_turn(folder, options.ddp_rounds, options.ddp_trials, options.ddp_peer_trials, 1, 2)
            figures.append(figure("ddp_overhead_s", "two-rank", *timings, "TorchTrainer in Ray Tune, as documented"))
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
