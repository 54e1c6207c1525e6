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

So set-up, reports, evaluations and saves, which come once in each, are outside; what every epoch costs is inside. A
round takes both in turn; medians over rounds are printed, and the ratio is the median of the rounds' ratios.

    python benchmarks/train_overhead.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from by_hand import loop, own_module

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
        name: The figure's name.
        steps: Steps of one epoch.
        ours: Trains so many epochs.
        peer: The same by hand.
    """

    name: str
    steps: int
    ours: Callable[[int], object]
    peer: Callable[[int], object]
    _rounds: list[tuple[float, float]] = field(default_factory=list)

    def measure(self) -> None:
        """One round."""
        mine, theirs = (self._step(train) for train in (self.ours, self.peer))
        self._rounds.append((mine, theirs))
        print(f"{self.name}: expflow {1e3 * mine:.3f} ms, by hand {1e3 * theirs:.3f} ms a step", flush=True)

    def _step(self, train: Callable[[int], object]) -> float:
        few, many = (cpu_seconds(partial(train, epochs)) for epochs in (FEW, MANY))
        return (many - few) / ((MANY - FEW) * self.steps)

    def claim(self) -> dict[str, Any]:
        """Medians of all rounds but the first, which imports, allocates and chooses kernels."""
        rounds = self._rounds[1:]
        mine, theirs = (statistics.median(side) for side in zip(*rounds, strict=True))
        ratio = statistics.median(one / other for one, other in rounds)
        print(f"{self.name}: medians {1e3 * mine:.3f} ms beside {1e3 * theirs:.3f} ms; median ratio {ratio:.3f}")
        return {
            "name": self.name,
            "ours": round(mine, 6),
            "peer": round(theirs, 6),
            "peer_name": "the same loop by hand in plain PyTorch",
            "unit": "s",
            "better": "lower",
        }


def figures(folder: Path) -> tuple[Figure, Figure]:
    """Both figures; the trials' folders and the data lie in a folder."""
    data = prepare(DigitsSpec(name="digits"), cache=folder / "cache")
    digits = loop.Digits.load(data.root, data.spec)
    return (
        Figure(
            "step_overhead",
            -(-data.spec.samples["train"] // BATCH),
            lambda epochs: trial_of(recipe(epochs), data.root, folder),
            lambda epochs: loop.train(MODEL, digits, batch=BATCH, epochs=epochs, validate_every=epochs),
        ),
        Figure(
            "own_module_step_overhead",
            -(-own_module.TRAIN // own_module.BATCH),
            lambda epochs: trial_of(own_recipe(epochs), None, folder),
            own_module.train_by_hand,
        ),
    )


def main() -> None:
    """Measure both sides of both figures in turn and print medians, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        measured = figures(Path(temporary))
        for _ in range(options.rounds + 1):
            for figure in measured:
                figure.measure()
        print(json.dumps({"figures": [figure.claim() for figure in measured]}))


if __name__ == "__main__":
    main()
