"""The forecast of what a sweep will cost, with intervals, and its comparison with what the sweep did cost.

The figures rest on a few real steps of some configs (:mod:`expflow.sweep.cost_estimate`) and on simulations of the
sweep with its own scheduler (:mod:`expflow.sweep.simulation`). They hold for the machine that measured them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expflow.config.component_specs import scheduler_spec
from expflow.files import unwritable_named, write_atomically
from expflow.ledger.state import SweepState
from expflow.sweep.cost_estimate import TrialCost
from expflow.sweep.limits import worked_seconds
from expflow.sweep.plan import Plan
from expflow.sweep.search_builders import build_scheduler
from expflow.sweep.simulation import SimulatedTrial, SimulationResult, simulate

SIMULATIONS = 5
MAX_SIMULATED_TRIALS = 2000
"""Trials that are simulated; a longer sweep is taken to last so many times as long."""

STARTUP_SECONDS = (5.0, 20.0)
"""Before the first trial's first step and after the last one's end, together; measured on two cores."""

FILE = "forecast.json"


@dataclass(frozen=True)
class ForecastRange:
    """A figure with the interval that it is expected in.

    Attributes:
        low: Lower end.
        middle: The figure.
        high: Upper end.
    """

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> ForecastRange:
        """The same range, so many times as large.

        Args:
            factor: What each end is multiplied by.
        """
        return ForecastRange(self.low * factor, self.middle * factor, self.high * factor)


@dataclass(frozen=True)
class Forecast:
    """What the trials that are left will take. None where nothing was measured.

    Attributes:
        plan: The plan's digest.
        trials: Number of trials.
        wall: Wall-clock time in seconds.
        device_hours: Hours of all devices together.
        money: In the currency of the site file's price; None where it names none.
        memory: Of one rank, in bytes.
        disk: Of all checkpoints, in bytes.
    """

    plan: str
    trials: int
    wall: ForecastRange
    device_hours: ForecastRange
    money: ForecastRange | None
    memory: ForecastRange | None
    disk: ForecastRange

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def forecast(plan: Plan, rows: Sequence[TrialCost]) -> Forecast | None:
    """The forecast for trials on as many gangs as fit on this machine; None where a trial's seconds are not known.

    Args:
        plan: The plan that the trials belong to.
        rows: The costs of the trials that are left. Of a searcher that learns these are its first configs, and the
            others are taken to cost the same.
    """
    if not rows or any(row.seconds is None for row in rows):
        return None
    expected = list(_expected(plan, rows))
    share = min(1.0, MAX_SIMULATED_TRIALS / len(expected))
    simulated = [_simulate(plan, expected[:MAX_SIMULATED_TRIALS], plan.slots_here, seed) for seed in range(SIMULATIONS)]
    spread = _spread(rows)
    wall = _range([result.wall / share for result in simulated], spread)
    hours = _range([result.trained / share for result in simulated], spread).times(plan.devices / 3600)
    low, high = STARTUP_SECONDS
    return Forecast(
        plan.digest,
        len(expected),
        ForecastRange(wall.low + low, wall.middle + (low + high) / 2, wall.high + high),
        hours,
        hours.times(plan.site.price) if plan.site.price is not None else None,
        _memory(rows),
        _disk(plan, rows, len(expected)),
    )


def _expected(plan: Plan, rows: Sequence[TrialCost]) -> Iterator[SimulatedTrial]:
    known = [SimulatedTrial(row.trial.config, row.seconds or 0.0, row.trial.values) for row in rows]
    yield from known
    if plan.learns and plan.limit is not None:
        seeds = len(plan.sweep.seeds)
        for number in range(len(known), plan.limit * seeds):
            like = known[number % len(known)]
            yield SimulatedTrial(f"like-{number // seeds}", like.seconds, like.values)


def _simulate(plan: Plan, trials: Sequence[SimulatedTrial], slots: int, seed: int) -> SimulationResult:
    epochs = plan.loaded.experiment.trainer.epochs
    spec = scheduler_spec(plan.sweep.scheduler)
    unit = 1.0
    if spec.time_unit == "step":
        unit = (spec.max_time or epochs) / epochs
    return simulate(trials, slots=slots, epochs=epochs, scheduler=build_scheduler(plan), unit=unit, seed=seed)


def _spread(rows: Sequence[TrialCost]) -> float:
    """Half of the quartiles' distance of the steps that were measured, as a share: the largest of all configs."""
    return max((row.steps.spread / 2 for row in rows if row.steps is not None), default=0.0)


def _range(values: Sequence[float], spread: float) -> ForecastRange:
    return ForecastRange(
        min(values) * (1 - min(spread, 0.5)), sorted(values)[len(values) // 2], max(values) * (1 + spread)
    )


def _memory(rows: Sequence[TrialCost]) -> ForecastRange | None:
    peaks = sorted(row.steps.peak_bytes for row in rows if row.steps is not None and row.steps.peak_bytes)
    return ForecastRange(peaks[0], peaks[len(peaks) // 2], peaks[-1]) if peaks else None


def _disk(plan: Plan, rows: Sequence[TrialCost], trials: int) -> ForecastRange:
    """Every trial keeps one checkpoint if it is too short for a second, else as many as are kept."""
    sizes = [row.steps.state_bytes for row in rows if row.steps is not None]
    if not sizes:
        return ForecastRange(0, 0, 0)
    keep = plan.loaded.experiment.trainer.checkpoint
    longest = max(row.seconds or 0.0 for row in rows)
    several = keep.every_epochs is not None or keep.every_steps is not None
    most = keep.keep if several or longest > (keep.every_seconds or math.inf) else 1
    mean = sum(sizes) / len(sizes)
    return ForecastRange(trials * min(sizes), trials * mean, trials * max(sizes) * most)


def save_forecast(folder: Path, made: Forecast) -> None:
    """Keep the forecast with the results, for the comparison at their end.

    Args:
        folder: The experiment's folder.
        made: The forecast.

    Raises:
        StorageUnwritable: It cannot be written there.
    """
    with unwritable_named(folder / FILE, "the forecast"):
        write_atomically(folder / FILE, (json.dumps(made.to_json(), indent=2) + "\n").encode())


def read_forecast(folder: Path) -> Mapping[str, Any] | None:
    """The forecast that was made for an experiment's results; None where there is none, or none that reads.

    Args:
        folder: The experiment's folder.
    """
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and "wall" in data else None


@dataclass(frozen=True)
class ForecastComparison:
    """One figure, as it was predicted and as it came.

    Attributes:
        what: Name of the figure, in words.
        unit: ``s``, ``h``, ``B``, or "" for money.
        predicted: The forecast's range; None where it has none.
        actual: What the sweep took; None where that is not known.
    """

    what: str
    unit: str
    predicted: ForecastRange | None
    actual: float | None


def compare_forecast(folder: Path, state: SweepState) -> list[ForecastComparison]:
    """Predicted and actual, for every figure of the forecast; empty where none was made, or for another plan.

    Args:
        folder: The experiment's folder.
        state: The sweep's state.
    """
    made = read_forecast(folder)
    header = state.header
    if made is None or header is None or made.get("plan") != header.plan:
        return []
    hours = state.devices * sum(trial.spent for trial in state.plan_trials()) / 3600
    price = made["money"]["middle"] / made["device_hours"]["middle"] if made.get("money") else None
    peaks = [trial.metrics["cost/peak_bytes"] for trial in state.plan_trials() if "cost/peak_bytes" in trial.metrics]
    disk = sum(file.stat().st_size for file in folder.glob("trials/*/checkpoints/**/*") if file.is_file())
    comparisons = [
        ForecastComparison("wall clock", "s", _read(made, "wall"), worked_seconds(folder, with_last=True)),
        ForecastComparison("device time", "h", _read(made, "device_hours"), hours),
        ForecastComparison("money", "", _read(made, "money"), hours * price if price is not None else None),
        ForecastComparison("peak memory of a rank", "B", _read(made, "memory"), max(peaks, default=None)),
        ForecastComparison("disk for checkpoints", "B", _read(made, "disk"), float(disk)),
    ]
    return [comparison for comparison in comparisons if comparison.predicted is not None]


def _read(made: Mapping[str, Any], name: str) -> ForecastRange | None:
    bounds = made.get(name)
    return ForecastRange(**{key: float(value) for key, value in bounds.items()}) if bounds else None
