"""What the figures show, as plain data: a line is a row of points, and a point is a config or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from expflow.config.space import same
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.report import results, words
from expflow.report.results import Config
from expflow.report.statistics import Estimate, estimate

MOST_LINES = 8
"""More lines (or panels) than this cannot be told apart."""

MOST_CHOICES = 12
"""More different x values than this are points of a search, not steps of a line."""


@dataclass(frozen=True)
class Point:
    """One place on the x axis. ``seeds`` are the single values; ``failed`` the number of seeds that gave none."""

    x: Any
    estimate: Estimate | None
    seeds: tuple[float, ...]
    failed: int


@dataclass(frozen=True)
class Line:
    """Points that belong together, in the order of x."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Plot:
    """One figure that the experiment asks for. ``connected``: whether the points of a line are steps of one thing."""

    x: str
    y: str
    line: str | None
    numeric: bool
    ticks: tuple[Any, ...]
    lines: tuple[Line, ...]
    connected: bool
    caption: str


def plot(state: SweepState, figure: Mapping[str, Any]) -> Plot:
    """The data of the declared ``figure`` (``x``, ``y``, ``line``)."""
    header = results.header_of(state)
    x, y, line = figure["x"], figure["y"], figure.get("line")
    configs = results.configs(state)
    ticks = ordered([results.lookup(each.values, header.recipe, x) for each in configs], x, header)
    connected = len(ticks) <= MOST_CHOICES
    rest = [key for key in results.searched_keys(state) if key not in (x, line)] if connected else []
    groups, pooled = _groups(configs, line, rest, x, header)
    points = {label: _points(members, x, y, ticks, header) for label, members in groups.items()}
    if pooled:
        points = {label: tuple(_bare(point) for point in found) for label, found in points.items()}
    lines = tuple(Line(label, found) for label, found in points.items())
    lines = tuple(each for each in lines if any(point.estimate or point.failed for point in each.points))
    numeric = bool(ticks) and all(isinstance(tick, (int, float)) and not isinstance(tick, bool) for tick in ticks)
    caption = _caption(lines, y, header, pooled, connected)
    return Plot(x, y, line, numeric, tuple(ticks), lines, connected, caption)


def ordered(values: Sequence[Any], key: str, header: Header) -> list[Any]:
    """Distinct values: numbers by size, others in the order of the file's space, then of appearance."""
    distinct: list[Any] = []
    for value in values:
        if value is not None and not any(same(value, other) for other in distinct):
            distinct.append(value)
    if all(isinstance(value, (int, float)) for value in distinct):
        return sorted(distinct)
    declared: list[Any] = next((list(each.get("values", ())) for each in header.space if each["key"] == key), [])
    return sorted(distinct, key=lambda value: declared.index(value) if value in declared else len(declared))


def _groups(
    configs: Sequence[Config], line: str | None, rest: Sequence[str], x: str, header: Header
) -> tuple[dict[str, list[Config]], list[str]]:
    """Configs by line label, and the keys that had to be pooled because separate lines would be too many."""
    varying = [key for key in rest if len({repr(each.values.get(key)) for each in configs}) > 1]
    groups = _by_label(configs, [*([line] if line else []), *varying], header)
    if len(groups) <= MOST_LINES:
        return groups, []
    groups = _by_label(configs, [line] if line else [], header)
    if len(groups) <= MOST_LINES:
        return groups, varying
    return {"": list(configs)}, [*([line] if line else []), *varying]


def _by_label(configs: Sequence[Config], keys: Sequence[str], header: Header) -> dict[str, list[Config]]:
    groups: dict[str, list[Config]] = {}
    combinations = {
        key: ordered([results.lookup(each.values, header.recipe, key) for each in configs], key, header) for key in keys
    }
    for config in configs:
        chosen = {key: results.lookup(config.values, header.recipe, key) for key in keys}
        label = words.config_label({key: value for key, value in chosen.items() if value is not None}) if chosen else ""
        groups.setdefault(label, []).append(config)

    def place(label: str) -> tuple[int, ...]:
        first = groups[label][0]
        return tuple(index_of(combinations[key], results.lookup(first.values, header.recipe, key)) for key in keys)

    return {label: groups[label] for label in sorted(groups, key=place)}


def index_of(values: Sequence[Any], value: Any) -> int:
    """Place of ``value`` in ``values``; past the end where it is not among them."""
    return next((at for at, other in enumerate(values) if same(other, value)), len(values))


def _points(configs: Sequence[Config], x: str, y: str, ticks: Sequence[Any], header: Header) -> tuple[Point, ...]:
    found = []
    for tick in ticks:
        trials = [
            trial
            for config in configs
            if same(results.lookup(config.values, header.recipe, x), tick)
            for trial in config.trials
        ]
        if trials:
            found.append(_point(tick, trials, y, header))
    return tuple(found)


def _point(tick: Any, trials: Sequence[TrialState], y: str, header: Header) -> Point:
    seeds = [value for trial in trials if (value := results.value(trial, y, header)) is not None]
    failed = sum(results.failure(trial, y, header) is not None for trial in trials)
    return Point(tick, estimate(seeds) if seeds else None, tuple(seeds), failed)


def _bare(point: Point) -> Point:
    """The point without its interval, which is for seeds of one config and not for a mixture of configs."""
    return replace(point, estimate=Estimate(point.estimate.mean, point.estimate.n) if point.estimate else None)


def _caption(lines: Sequence[Line], y: str, header: Header, pooled: Sequence[str], connected: bool) -> str:
    points = [point for line in lines for point in line.points]
    counts = sorted({point.estimate.n for point in points if point.estimate})
    if not counts:
        return "No trial has completed with this metric."
    runs = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    said = []
    if pooled and connected:
        said.append(
            f"Each point is the mean of trials that also differ in {words.and_join(pooled)} ({runs}), hence no "
            "interval; small dots: single trials. Such a mean may hide differences."
        )
    elif counts == [1]:
        said.append("One seed each: no interval.")
    else:
        kinds = {point.estimate.kind for point in points if point.estimate}
        bars = {"t": "95 % t interval", "range": "range of two seeds", "none": "none for a single seed"}
        shown = words.and_join([text for kind, text in bars.items() if kind in kinds])
        said.append(
            f"Mean over seeds ({runs}), small dots: single seeds. Bars: {shown}, for {words.coverage(y, header)}."
        )
    if not connected:
        said.append("One point for each config of the search; all other searched keys vary from point to point.")
    failed = sum(point.failed for point in points)
    if failed:
        said.append(f"{words.plural(failed, 'trial')} without a value: crosses at the edge.")
    return " ".join(said)
