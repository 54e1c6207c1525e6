"""Sweeps to tell MLflow of, written into real ledgers."""

from __future__ import annotations

from pathlib import Path

from expflow.events import AttemptFailed, Event, TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import Header, Ledger

RECIPE = {
    "data": {"name": "digits", "batch_size": 64},
    "model": {"name": "resnet", "depth": 20, "shortcut": "pad"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "trainer": {"epochs": 3},
}


def header(**changes) -> Header:
    """An experiment over depth with three seeds."""
    usual = {
        "name": "depth",
        "text": "model: resnet\n",
        "file": "experiments/depth.yaml",
        "plan": "p1",
        "about": {"question": "Does depth hurt?", "expect": "No."},
        "recipe": RECIPE,
        "seeds": (0, 1, 2),
        "data": {"source": "digits", "key": "k1", "manifest": "ab" * 32, "samples": {"train": 1400}},
        "versions": {"expflow": "0.1.0"},
        "git": {"commit": "c0ffee", "dirty": "no"},
    }
    return Header(**{**usual, **changes})


def trial_id(depth: int, seed: int) -> str:
    return f"t{depth}s{seed}"


def proposed(depth: int, seed: int) -> TrialProposed:
    return TrialProposed(trial_id(depth, seed), f"c{depth}", seed, {"model.depth": depth}, {})


def reports(depth: int, seed: int, epochs: int = 3, attempt: int = 1, first: int = 1) -> list[Event]:
    """Reports of steps 10, 20, 30…; the last val/top1 of seed s is 0.5 + s / 10."""
    return [
        TrialReported(
            trial_id(depth, seed),
            attempt,
            10 * epoch,
            {
                "val/top1": 0.5 + seed / 10 - (epochs - epoch) / 100,
                "fit/loss": 1 / epoch,
                "progress/epoch": float(epoch),
            },
            epoch / epochs,
        )
        for epoch in range(first, epochs + 1)
    ]


def whole_trial(depth: int, seed: int) -> list[Event]:
    """A trial from its proposal to its end."""
    trial = trial_id(depth, seed)
    return [
        proposed(depth, seed),
        TrialStarted(trial, 1, "gang-0"),
        *reports(depth, seed),
        TrialEnded(trial, 1, "done", 30, 1.5, "w" * 8),
    ]


def failed_trial(depth: int, seed: int) -> list[Event]:
    """A trial that reports once and fails."""
    trial = trial_id(depth, seed)
    return [
        proposed(depth, seed),
        TrialStarted(trial, 1, "gang-0"),
        *reports(depth, seed)[:1],
        AttemptFailed(trial, 1, "diverged", "the loss became nan at step 12"),
        TrialEnded(trial, 1, "failed", 10, 0.5),
    ]


def whole_sweep(depths=(20, 56), seeds=(0, 1, 2)) -> list[Event]:
    return [event for depth in depths for seed in seeds for event in whole_trial(depth, seed)]


def write(folder: Path, events: list[Event], *, close: str | None = "finished", **changes) -> None:
    """One driver's segment; ``close=None`` leaves it as a killed driver does."""
    ledger = Ledger.open(folder, header(**changes))
    for event in events:
        ledger.append(event, durable=False)
    if close is None:
        ledger.abandon()
    else:
        ledger.close(close)
