"""What a sweep will cost, with intervals, and what it did cost: the two are put side by side when it is over.

The figures rest on a few real steps of some configs (:mod:`expflow.sweep.estimate`) and on rehearsals of the sweep's
course with its own scheduler (:mod:`expflow.sweep.rehearsal`). They hold for the machine that measured them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expflow.files import replace_whole
from expflow.ledger.state import SweepState
from expflow.sweep.budgets import worked_seconds
from expflow.sweep.estimate import Row
from expflow.sweep.plan import Plan
from expflow.sweep.rehearsal import Expected, Played, rehearse

REHEARSALS = 5
MOST_REHEARSED = 2000
"""Trials that are played through; a longer sweep's course is taken to be so many times as long."""

STARTUP_SECONDS = (5.0, 20.0)
"""Before the first trial's first step and after the last one's end, together; measured on two cores."""

FILE = "forecast.json"


@dataclass(frozen=True)
class Range:
    """A figure with the interval that it is expected in."""

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> Range:
        """The same range, ``factor`` times as large."""
        return Range(self.low * factor, self.middle * factor, self.high * factor)


@dataclass(frozen=True)
class Forecast:
    """What the trials that are left will take: ``wall`` in seconds, ``device_hours``, ``money`` where the site file
    names a price, ``memory`` of one rank and ``disk`` of all checkpoints in bytes. None where nothing was measured."""

    plan: str
    trials: int
    wall: Range
    device_hours: Range
    money: Range | None
    memory: Range | None
    disk: Range

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def forecast(plan: Plan, rows: Sequence[Row]) -> Forecast | None:
    """The forecast for the trials of ``rows`` on as many gangs as fit on this machine.

    None where a trial's seconds are not known. Of a searcher that learns, ``rows`` are its first configs, and the
    others are taken to cost what these do.
    """
    if not rows or any(row.seconds is None for row in rows):
        return None
    expected = list(_expected(plan, rows))
    share = min(1.0, MOST_REHEARSED / len(expected))
    played = [_play(plan, expected[:MOST_REHEARSED], plan.slots_here, seed) for seed in range(REHEARSALS)]
    spread = _spread(rows)
    wall = _range([each.wall / share for each in played], spread)
    hours = _range([each.trained / share for each in played], spread).times(plan.devices / 3600)
    low, high = STARTUP_SECONDS
    return Forecast(
        plan.digest,
        len(expected),
        Range(wall.low + low, wall.middle + (low + high) / 2, wall.high + high),
        hours,
        hours.times(plan.site.price) if plan.site.price is not None else None,
        _memory(rows),
        _disk(plan, rows, len(expected)),
    )


def _expected(plan: Plan, rows: Sequence[Row]) -> Iterator[Expected]:
    known = [Expected(row.trial.config, row.seconds or 0.0, row.trial.values) for row in rows]
    yield from known
    if plan.learns and plan.limit is not None:
        seeds = len(plan.sweep.seeds)
        for number in range(len(known), plan.limit * seeds):
            like = known[number % len(known)]
            yield Expected(f"like-{number // seeds}", like.seconds, like.values)


def _play(plan: Plan, trials: Sequence[Expected], slots: int, seed: int) -> Played:
    epochs = plan.loaded.experiment.trainer.epochs
    spec = plan.sweep.scheduler
    unit = 1.0
    if getattr(spec, "unit", "epoch") == "step":
        unit = (getattr(spec, "max", None) or epochs) / epochs
    return rehearse(trials, slots=slots, epochs=epochs, scheduler=plan.scheduler(), unit=unit, seed=seed)


def _spread(rows: Sequence[Row]) -> float:
    """Half of the quartiles' distance of the steps that were measured, as a share: the largest of all configs."""
    return max((row.steps.spread / 2 for row in rows if row.steps is not None), default=0.0)


def _range(values: Sequence[float], spread: float) -> Range:
    return Range(min(values) * (1 - min(spread, 0.5)), sorted(values)[len(values) // 2], max(values) * (1 + spread))


def _memory(rows: Sequence[Row]) -> Range | None:
    found = sorted(row.steps.peak_bytes for row in rows if row.steps is not None and row.steps.peak_bytes)
    return Range(found[0], found[len(found) // 2], found[-1]) if found else None


def _disk(plan: Plan, rows: Sequence[Row], trials: int) -> Range:
    """Every trial keeps one checkpoint if it is too short for a second, else as many as are kept."""
    sizes = [row.steps.state_bytes for row in rows if row.steps is not None]
    if not sizes:
        return Range(0, 0, 0)
    keep = plan.loaded.experiment.trainer.checkpoint
    longest = max(row.seconds or 0.0 for row in rows)
    several = keep.every_epochs is not None or keep.every_steps is not None
    most = keep.keep if several or longest > (keep.every_seconds or math.inf) else 1
    mean = sum(sizes) / len(sizes)
    return Range(trials * min(sizes), trials * mean, trials * max(sizes) * most)


def save(folder: Path, made: Forecast) -> None:
    """Keep the forecast with the results, for their end. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_whole(folder / FILE, (json.dumps(made.to_json(), indent=2) + "\n").encode())


def read_forecast(folder: Path) -> Mapping[str, Any] | None:
    """The forecast that was made for the results in ``folder``; None where there is none, or none that reads."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "wall" in found else None


@dataclass(frozen=True)
class Beside:
    """One figure, as it was predicted and as it came. ``unit`` is ``s``, ``h``, ``B`` or the money's."""

    what: str
    unit: str
    predicted: Range | None
    actual: float | None


def beside(folder: Path, state: SweepState) -> list[Beside]:
    """Predicted and actual, for every figure of the forecast; empty where none was made, or for another plan."""
    made = read_forecast(folder)
    header = state.header
    if made is None or header is None or made.get("plan") != header.plan:
        return []
    hours = state.devices * sum(trial.spent for trial in state.plan_trials()) / 3600
    price = made["money"]["middle"] / made["device_hours"]["middle"] if made.get("money") else None
    peaks = [trial.metrics["cost/peak_bytes"] for trial in state.plan_trials() if "cost/peak_bytes" in trial.metrics]
    disk = sum(each.stat().st_size for each in folder.glob("trials/*/checkpoints/**/*") if each.is_file())
    found = [
        Beside("wall clock", "s", _read(made, "wall"), worked_seconds(folder)),
        Beside("device hours", "h", _read(made, "device_hours"), hours),
        Beside("money", "", _read(made, "money"), hours * price if price is not None else None),
        Beside("peak memory of a rank", "B", _read(made, "memory"), max(peaks, default=None)),
        Beside("disk for checkpoints", "B", _read(made, "disk"), float(disk)),
    ]
    return [each for each in found if each.predicted is not None]


def _read(made: Mapping[str, Any], name: str) -> Range | None:
    found = made.get(name)
    return Range(**{key: float(value) for key, value in found.items()}) if found else None
