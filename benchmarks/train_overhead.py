"""What a training step costs in expflow beside the same step in a plain PyTorch loop, on a CPU, at about 7 ms a step.

Both train the same network on the same images in batches of the same size, on one thread: a residual net on digits,
SGD with momentum, one-cycle, the epoch's loss and top-1 summed up. Ours is a whole trial through ``run_trial``: batches
from shards, Lightning, reports, checkpoints. The peer is by_hand/loop.py, over tensors in memory. The second figure is
of a user's own LightningModule and data module (by_hand/own_module.py) beside the same network and loader by hand.

A step is everything from one batch to the next: loading, normalising, forward, loss, metrics, backward, optimizer,
schedule. It is measured as a difference, so that nothing has to be built into either of them: two trainings of few and
of many epochs, the same set-up, one validation and one evaluation of the training set at the end of each;

    seconds per step = (time of many epochs - time of few epochs) / steps between them

It is the time of the process on its CPU: on one thread that is the time on the wall of a quiet machine, and neighbours
disturb it less; neither waits for anything within a step.

So set-up, reports, evaluations and saves, which come once in each, are outside; what every epoch costs is inside. Both
run at once, in two processes that take turns of a tenth of a second, so that a machine that slows down slows both. The
first round of each, which imports, allocates and chooses kernels, is left out. Medians over rounds are printed, and the
ratio is the median of the rounds' ratios.

    python benchmarks/train_overhead.py [--rounds 15] [--only own_module_step_overhead]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from by_hand import loop, own_module
from by_hand.turns import answer, in_turns

from expflow.architectures.specs.resnet import ResNetSpec
from expflow.config.component_specs import UserComponent
from expflow.config.schema import Recipe, Trainer
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.losses.specs import CrossEntropySpec
from expflow.optim.specs import OneCycleSpec, SGDSpec
from expflow.tasks.specs import ClassificationSpec
from expflow.training import Attempt, World, run_trial

BATCH = 26
FEW, MANY = 1, 5
MODEL = ResNetSpec(name="resnet", layout="cifar", depth=26, width=8)


def recipe(epochs: int) -> Recipe:
    """The trial; it is validated once, after its last epoch."""
    return Recipe(
        data=DigitsSpec(name="digits", batch_size=BATCH),
        model=MODEL,
        task=ClassificationSpec(name="classification"),
        loss=CrossEntropySpec(name="cross_entropy"),
        optimizer=SGDSpec(name="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4, decay_norm_and_bias=True),
        schedule=OneCycleSpec(name="one_cycle"),
        trainer=Trainer(epochs=epochs, validate_every=epochs, channels_last=True),
    )


def own_recipe(epochs: int) -> Recipe:
    """A trial of a user's own LightningModule and data module."""
    return Recipe(
        data=UserComponent(name="by_hand.own_module:Digits"),
        task=UserComponent(name="by_hand.own_module:Classifier"),
        trainer=Trainer(epochs=epochs, validate_every=epochs),
    )


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process for some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def trial_of(recipe: Recipe, root: Path | None, folder: Path) -> None:
    """A whole trial in a folder of its own."""
    attempt = Attempt(recipe, 0, root, Path(tempfile.mkdtemp(dir=folder)))
    run_trial(attempt, World(threads=1), lambda report: True)


@dataclass
class Figure:
    """Steps of a trial beside the steps of the same training by hand.

    Attributes:
        steps: Steps of one epoch.
        ours: Trains so many epochs.
        peer: The same by hand.
    """

    steps: int
    ours: Callable[[int], object]
    peer: Callable[[int], object]

    def seconds(self, side: str) -> float:
        """Seconds of a step of one side, ``ours`` or ``peer``."""
        few, many = (cpu_seconds(partial(getattr(self, side), epochs)) for epochs in (FEW, MANY))
        return (many - few) / ((MANY - FEW) * self.steps)


def step_overhead(folder: Path) -> Figure:
    """Our own task and data; the trials' folders and the data lie in a folder."""
    data = prepare(DigitsSpec(name="digits"), cache=folder / "cache")
    digits = loop.Digits.load(data.root, data.spec)
    return Figure(
        -(-data.spec.samples["train"] // BATCH),
        lambda epochs: trial_of(recipe(epochs), data.root, folder),
        lambda epochs: loop.train(MODEL, digits, batch=BATCH, epochs=epochs, validate_every=epochs),
    )


def own_module_step_overhead(folder: Path) -> Figure:
    """A user's own LightningModule and data module."""
    return Figure(
        -(-own_module.TRAIN // own_module.BATCH),
        lambda epochs: trial_of(own_recipe(epochs), None, folder),
        own_module.train_by_hand,
    )


FIGURES: dict[str, Callable[[Path], Figure]] = {
    "step_overhead": step_overhead,
    "own_module_step_overhead": own_module_step_overhead,
}


def measured(name: str, rounds: int, folder: Path) -> dict[str, Any]:
    """A figure: medians of all rounds but the first."""
    seconds = list[tuple[float, float]]()
    command = [sys.executable, __file__, "--figure", name, "--folder", str(folder), "--side"]
    for answers in in_turns([[*command, "ours"], [*command, "peer"]], rounds + 1):
        mine, theirs = map(float, answers)
        seconds.append((mine, theirs))
        print(f"{name}: expflow {1e3 * mine:.3f} ms, by hand {1e3 * theirs:.3f} ms a step", flush=True)
    mine, theirs = (statistics.median(side) for side in zip(*seconds[1:], strict=True))
    ratios = [one / other for one, other in seconds[1:]]
    print(
        f"{name}: medians {1e3 * mine:.3f} ms beside {1e3 * theirs:.3f} ms; "
        f"median ratio {statistics.median(ratios):.3f} (rounds {min(ratios):.3f} to {max(ratios):.3f})"
    )
    return {
        "name": name,
        "ours": round(mine, 6),
        "peer": round(theirs, 6),
        "peer_name": "the same loop by hand in plain PyTorch",
        "unit": "s",
        "better": "lower",
    }


def main() -> None:
    """Measure both sides of the figures in turn and print medians, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=FIGURES, nargs="*", default=list(FIGURES))
    parser.add_argument("--figure", choices=FIGURES, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        torch.set_num_threads(1)
        answer(partial(FIGURES[options.figure](options.folder).seconds, options.side))
        return
    with tempfile.TemporaryDirectory() as temporary:
        prepare(DigitsSpec(name="digits"), cache=Path(temporary) / "cache")  # else both sides build them at once
        print(json.dumps({"figures": [measured(name, options.rounds, Path(temporary)) for name in options.only]}))


if __name__ == "__main__":
    main()
