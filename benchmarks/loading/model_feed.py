"""How well a small model is fed: by the loader, beside the same model on one batch again and again."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

from loading.expflow_loader import loader

STEPS, WARM_STEPS = 40, 10
COPIES = 8
"""How often each photograph comes in an epoch, so that a round ends before the epoch does."""
SHARE = 2.0
"""How much more than the model takes the loader could give."""

Batch = dict[str, Any]
Step = Callable[[Batch], None]


def small_model(width: int) -> Any:
    """A small convolutional network on uint8 images, as wide as is asked for."""
    from torch import nn

    class Scale(nn.Module):
        def forward(self, image: Any) -> Any:
            return (image.float() - 127.5) / 63.75

    layers: list[Any] = [Scale(), nn.Conv2d(3, width, 7, stride=4), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Conv2d(width, width, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def stepper(width: int) -> Step:
    """A function that trains the small model on one batch."""
    import torch

    model = small_model(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch["image"]), batch["label"]).backward()
        optimizer.step()

    return step


class Waiting:
    """Counts the seconds that a consumer waits for ``batches``."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches, self.seconds = iter(batches), 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        start = time.perf_counter()
        batch = next(self._batches)
        self.seconds += time.perf_counter() - start
        return batch


def rate(step: Step, batches: Iterable[Batch], steps: int, warm: int) -> float:
    """Images per second of ``steps`` steps, behind ``warm`` ones that are not counted."""
    iterator, count, start = iter(batches), 0, 0.0
    for number, batch in enumerate(iterator):
        if number == warm:
            start = time.perf_counter()
        step(batch)
        count += len(batch["image"]) if number >= warm else 0
        if number + 1 == warm + steps:
            break
    return count / (time.perf_counter() - start)


def copied(images: Path, folder: Path) -> Path:
    """A folder with each photograph under several names."""
    done = folder / ".complete"
    if not done.exists():
        for path in sorted(images.glob("*/*.jpg")):
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            for copy in range(COPIES):
                shutil.copyfile(path, folder / path.parent.name / f"{path.stem}-{copy}.jpg")
        done.touch()
    return folder


def model_for(capacity: float, fixed: Batch) -> tuple[Step, int]:
    """A step that takes ``capacity / SHARE`` images per second at most, and the width of its model."""
    width = 8
    while True:
        step = stepper(width)
        if statistics.median(rate(step, repeat(fixed), 4, 2) for _ in range(3)) <= capacity / SHARE:
            return step, width
        width = round(width * 1.25)


def feed(images: Path, cache: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Images per second of a model half as fast as the loader: fed by the loader, and by nothing; in turn.

    What is fed lies within one epoch: each round begins a pass of its own and counts from where the batches that were
    made ahead are used up.
    """
    import torch

    torch.set_num_threads(1)
    real = loader(copied(images, cache / f"images-{COPIES}-times"), cache / "feed", threads=1)
    warm = min(WARM_STEPS, len(real) // 4)
    steps = min(STEPS, len(real) - warm)
    capacity = statistics.median(rate(lambda batch: None, real, steps, warm) for _ in range(3))
    fixed = next(iter(real))
    step, width = model_for(capacity, fixed)
    print(f"one thread loads {capacity:.0f} images/s; the model is {width} channels wide", flush=True)
    fed, alone = [], []
    for number in range(rounds):
        alone.append(rate(step, repeat(fixed), steps, warm))
        waiting, start = Waiting(real), time.perf_counter()
        fed.append(rate(step, waiting, steps, warm))
        waited = waiting.seconds / (time.perf_counter() - start)
        result = f"fed {fed[-1]:.0f}, on one batch {alone[-1]:.0f} images/s; it waited {waited:.1%} of the time"
        print(f"round {number + 1}: {result}", flush=True)
    return fed, alone
