"""Sweep states built by hand: what a ledger would add up to, without one."""

from __future__ import annotations

import math
import random
from typing import Any

from expflow.events import AttemptFailed, TrialReported
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState

CONTRASTS = (
    {
        "metric": "fit/loss",
        "of": {"model.depth": 56},
        "against": {"model.depth": 20},
        "where": {"model.shortcut": "none"},
        "expect": "higher",
        "margin": None,
    },
    {
        "metric": "fit/loss",
        "of": {"model.shortcut": "pad"},
        "against": {"model.shortcut": "none"},
        "where": {"model.depth": 56},
        "expect": "lower",
        "margin": None,
    },
    {
        "metric": "val/top1",
        "of": {"model.shortcut": "pad"},
        "against": {"model.shortcut": "none"},
        "where": {"model.depth": 56},
        "expect": "higher",
        "margin": None,
    },
)
FIGURES = (
    {"x": "model.depth", "y": "val/top1", "line": "model.shortcut"},
    {"x": "model.depth", "y": "fit/loss", "line": "model.shortcut"},
)
DIGITS = {
    (8, "none"): (0.003, 0.9899),
    (8, "pad"): (0.002, 0.9874),
    (20, "none"): (0.018, 0.9824),
    (20, "pad"): (0.001, 0.9950),
    (32, "none"): (0.293, 0.9219),
    (32, "pad"): (0.001, 0.9874),
    (56, "none"): (1.528, 0.3854),
    (56, "pad"): (0.005, 0.9874),
}
"""(depth, shortcut) -> training loss and validation top-1, as once measured."""


def header(**changes: Any) -> Header:
    base: dict[str, Any] = {
        "name": "resnet_depth",
        "text": "about:\n  question: Does depth hurt without shortcuts?\n",
        "file": "experiments/resnet_depth.yaml",
        "plan": "p1",
        "about": {
            "question": "Does depth hurt without shortcuts?",
            "expect": "plain nets get worse with depth, in training error too; residual nets do not",
            "command": "expflow sweep experiments/resnet_depth.yaml",
            "time": "1-2 minutes on 2 CPU cores",
        },
        "recipe": {
            "data": {"name": "digits", "batch_size": 64},
            "model": {"name": "resnet", "layout": "cifar", "depth": 20, "width": 16, "shortcut": "pad"},
            "task": {"name": "classification"},
            "loss": {"name": "cross_entropy"},
            "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
            "schedule": {"name": "one_cycle"},
            "trainer": {"epochs": 10},
        },
        "space": (
            {"key": "model.depth", "kind": "choice", "values": [8, 20, 32, 56]},
            {"key": "model.shortcut", "kind": "choice", "values": ["none", "pad"]},
        ),
        "seeds": (0, 1, 2),
        "metric": "val/top1",
        "mode": "max",
        "report": {"figures": list(FIGURES), "contrasts": list(CONTRASTS)},
        "expected_trials": 24,
        "data": {"key": "d1g1t5", "manifest": "ab" * 32, "source": "digits", "samples": {"train": 1400, "val": 397}},
        "code": {},
        "versions": {"expflow": "0.1.0", "python": "3.11.2", "torch": "2.15.0"},
        "git": {"commit": "0123abc", "dirty": "no"},
    }
    return Header(**{**base, **changes})


def trial(
    values: dict[str, Any],
    seed: int = 0,
    status: str = "done",
    *reports: dict[str, float],
    failure: tuple[str, str] | None = None,
    seconds: float = 1.0,
) -> TrialState:
    config = repr(sorted(values.items()))
    name = f"{config}/{seed}"
    reported = [
        TrialReported(name, 1, 22 * (at + 1), dict(metrics), (at + 1) / len(reports))
        for at, metrics in enumerate(reports)
    ]
    failures = [AttemptFailed(name, 1, *failure, traceback="Traceback …")] if failure else []
    return TrialState(
        trial=name,
        config=config,
        seed=seed,
        values=values,
        recipe={"model": {"name": "my_net:Net", **values}},
        status=status,
        attempt=1,
        started_at=1_760_000_000.0 + seed,
        ended_at=1_760_000_000.0 + seed + seconds,
        seconds=seconds,
        reports=reported,
        failures=failures,
    )


def sweep(trials: list[TrialState], **changes: Any) -> SweepState:
    changes.setdefault("expected_trials", len(trials))
    state = SweepState()
    state.start(header(**changes))
    for trial in trials:
        state.trials[trial.trial] = trial
        state.current[trial.trial] = None
        state.starts[-1].planned[trial.trial] = trial.budget
    return state


def digits(seeds: int = 3, **changes: Any) -> SweepState:
    """The whole depth sweep: 8 configs by ``seeds`` seeds, with curves over 10 epochs."""
    rng = random.Random(7)
    trials = []
    for (depth, shortcut), (loss, top1) in DIGITS.items():
        for seed in range(seeds):
            end = loss * math.exp(rng.gauss(0, 0.15))
            score = round(min(1.0, top1 + rng.gauss(0, 0.05 if top1 < 0.5 else 0.004)) * 397) / 397
            trials.append(
                trial(
                    {"model.depth": depth, "model.shortcut": shortcut},
                    seed,
                    "done",
                    *(_epoch(epoch, end, score, depth, rng) for epoch in range(1, 11)),
                    seconds=0.12 * depth,
                )
            )
    return sweep(trials, **changes)


def _epoch(epoch: int, end: float, score: float, depth: int, rng: random.Random) -> dict[str, float]:
    share = (epoch / 10) ** 0.6
    train = math.exp(math.log(2.3) * (1 - share) + math.log(end * 1.2) * share) * math.exp(rng.gauss(0, 0.05))
    metrics = {
        "train/loss": train,
        "val/loss": max(train, 0.02) * 1.3 * math.exp(rng.gauss(0, 0.1)),
        "val/top1": score if epoch == 10 else max(0.1, min(1.0, score * (1 - 0.8 * (1 - share) ** 2))),
        "progress/epoch": float(epoch),
    }
    if epoch == 10:
        metrics |= {
            "fit/loss": end,
            "cost/params": 14_700.0 * depth,
            "cost/macs": 2.2e6 * depth,
            "cost/seconds": 0.12 * depth,
        }
    return metrics
