"""The demo's 24 trainings by hand, in two processes:

    PYTHONPATH=benchmarks python -m by_hand.demo_trials CACHE

Each process trains on one thread, and takes the next training when it is done with one.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

DEPTHS, SHORTCUTS, SEEDS = (8, 20, 32, 56), ("none", "pad"), range(3)
BATCH, EPOCHS, LR = 64, 12, 0.1
PROCESSES = 2

_DIGITS: list[object] = []
"""The images of this process, read once."""


def begin(cache: Path) -> None:
    """What each process does before its first training."""
    import torch

    from by_hand.loop import Digits
    from expflow.data.prepare.build import prepare
    from expflow.data.specs import DigitsSpec

    torch.set_num_threads(1)
    data = prepare(DigitsSpec(name="digits"), cache=cache)  # it is there already
    _DIGITS.append(Digits.load(data.root, data.spec))


def run(trial: tuple[int, str, int]) -> tuple[tuple[int, str, int], float, float]:
    """One training: depth, shortcut and seed; the loss and top-1 on what it was trained on."""
    from by_hand import loop
    from expflow.architectures.specs.resnet import ResNetSpec

    depth, shortcut, seed = trial
    model = ResNetSpec(name="resnet", layout="cifar", depth=depth, width=8, shortcut=shortcut)
    (digits,) = _DIGITS
    return trial, *loop.train(model, digits, batch=BATCH, epochs=EPOCHS, lr=LR, validate_every=1, seed=seed)


def results(cache: Path) -> Iterator[tuple[tuple[int, str, int], float, float]]:
    """All trainings, as they end."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES, begin, (cache,)) as pool:
        yield from pool.imap_unordered(run, product(DEPTHS, SHORTCUTS, SEEDS))


if __name__ == "__main__":
    for (depth, shortcut, seed), loss, top1 in results(Path(sys.argv[1])):
        print(f"depth {depth}, {shortcut}, seed {seed}: fit loss {loss:.3f}, top-1 {top1:.1%}", flush=True)
