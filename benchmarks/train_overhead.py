"""What a training step costs in expflow beside the same step in a plain PyTorch loop, on a CPU, at about 5 ms a step.

Both train the same network on the same images in batches of the same size, on one thread: a residual net on digits,
SGD with momentum, one-cycle, the epoch's loss and top-1 summed up. Ours is a whole trial through ``run_trial``: batches
from shards, Lightning, reports, checkpoints. The peer is the loop below, over tensors in memory.

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
from pathlib import Path

import torch
from torch import nn

from expflow.architectures import build
from expflow.architectures.specs.resnet import ResNet
from expflow.config.schema import Recipe, Trainer
from expflow.data.build import Prepared, prepare
from expflow.data.loader import loader_for
from expflow.data.specs import Digits
from expflow.losses.specs import CrossEntropy
from expflow.optim.specs import SGD, OneCycle
from expflow.tasks.specs import Classification
from expflow.training import Attempt, World, run_trial

BATCH = 26
FEW, MANY = 1, 5
MODEL = ResNet(name="resnet", layout="cifar", depth=14, width=8)


def recipe(epochs: int) -> Recipe:
    """The trial; it is validated once, after its last epoch."""
    return Recipe(
        data=Digits(name="digits", batch_size=BATCH),
        model=MODEL,
        task=Classification(name="classification"),
        loss=CrossEntropy(name="cross_entropy"),
        optimizer=SGD(name="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4, decay_norm_and_bias=True),
        schedule=OneCycle(name="one_cycle"),
        trainer=Trainer(epochs=epochs, validate_every=epochs, channels_last=True),
    )


def ours(data: Prepared, epochs: int, folder: Path) -> float:
    """CPU seconds of one trial."""
    start = time.process_time()
    run_trial(Attempt(recipe(epochs), 0, data.root, folder), World(threads=1), lambda report: True)
    return time.process_time() - start


def plain(data: Prepared, epochs: int) -> float:
    """CPU seconds of the same training by hand."""
    start = time.process_time()
    torch.manual_seed(0)
    images, labels = whole(data, "train")
    mean, std = (torch.tensor(each).view(-1, 1, 1) * 255 for each in (data.spec.mean, data.spec.std))
    network = build(MODEL, data.spec).to(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, fused=True)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps + 1)
    for _ in range(epochs):
        network.train()
        total, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for chosen in torch.randperm(len(images)).split(BATCH):
            image, label = images[chosen], labels[chosen]
            scores = network((image - mean) / std)
            loss = criterion(scores, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(label)
            hits += (scores.argmax(1) == label).sum()
        total.item(), hits.item()
    evaluate(network, criterion, whole(data, "val"), mean, std)
    evaluate(network, criterion, (images, labels), mean, std)
    return time.process_time() - start


def whole(data: Prepared, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels of a split, in memory."""
    batch = next(iter(loader_for(Digits(name="digits", batch_size=2000), data.root, split, seed=0, shuffle=False)))
    return batch["image"], batch["label"]


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    criterion: nn.Module,
    split: tuple[torch.Tensor, torch.Tensor],
    mean: torch.Tensor,
    std: torch.Tensor,
) -> tuple[float, float]:
    """Mean loss and top-1."""
    network.eval()
    total = hits = 0.0
    for image, label in zip(split[0].split(BATCH), split[1].split(BATCH), strict=True):
        scores = network((image - mean) / std)
        total += criterion(scores, label).item() * len(label)
        hits += (scores.argmax(1) == label).sum().item()
    return total / len(split[1]), hits / len(split[1])


def main() -> None:
    """Measure both in turn and print medians, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    mine, theirs = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as temporary:
        data = prepare(Digits(name="digits"), cache=Path(temporary) / "cache")
        steps = (MANY - FEW) * -(-data.spec.samples["train"] // BATCH)
        for number in range(options.rounds + 1):
            few, many = Path(temporary) / f"few{number}", Path(temporary) / f"many{number}"
            a = -ours(data, FEW, few) + ours(data, MANY, many)
            b = -plain(data, FEW) + plain(data, MANY)
            if number == 0:
                continue  # the first round imports, allocates and chooses kernels
            mine.append(a / steps)
            theirs.append(b / steps)
            print(f"round {number}: expflow {1e3 * mine[-1]:.3f} ms, plain loop {1e3 * theirs[-1]:.3f} ms a step")
    a, b = statistics.median(mine), statistics.median(theirs)
    ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
    print(f"median step: expflow {1e3 * a:.3f} ms, plain PyTorch {1e3 * b:.3f} ms; median ratio {ratio:.3f}")
    print(f"samples/s: expflow {BATCH / a:.0f}, plain PyTorch {BATCH / b:.0f}")
    figure = {
        "name": "step_overhead",
        "ours": round(a, 6),
        "peer": round(b, 6),
        "peer_name": "the same loop by hand in plain PyTorch",
        "unit": "s",
        "better": "lower",
    }
    print(json.dumps({"figures": [figure]}))


if __name__ == "__main__":
    main()
