"""What the declared figures show, as plain data: a line is a row of points, and a point is a config or several."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from expflow.config.child_space import collapsed_key
from expflow.config.identity import value_text
from expflow.config.space import value_key
from expflow.intervals import Estimate, metric_estimate
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.ledger.trial_values import counted_value
from expflow.metrics import metric_value
from expflow.report import formatting, trial_results
from expflow.report.trial_results import ConfigTrials

MOST_LINES = 8
"""More lines (or panels) than this cannot be told apart."""

MOST_CHOICES = 12
"""More different x values than this are points of a search, not steps of a line."""


@dataclass(frozen=True)
class FigurePoint:
    """One place on the x axis.

    Attributes:
        x: The value of the x key.
        estimate: The mean there and its interval; None where no seed gave a value.
        seeds: The single values.
        failed: Number of seeds that gave none.
    """

    x: Any
    estimate: Estimate | None
    seeds: tuple[float, ...]
    failed: int


@dataclass(frozen=True)
class FigureLine:
    """Points that belong together.

    Attributes:
        label: The line's name in the legend; empty where there is one line.
        points: Its points in the order of x.
    """

    label: str
    points: tuple[FigurePoint, ...]


@dataclass(frozen=True)
class FigureData:
    """One figure that the experiment declares.

    Attributes:
        name: File name without an ending.
        x: The searched key on the x axis.
        y: The metric on the y axis.
        y_label: The y axis in words.
        better: Which direction of y is better; None where that is not known.
        line: The searched key that has a line for each value.
        numeric: Whether all x values are numbers.
        ticks: The x values in their order.
        lines: The lines.
        connected: Whether the points of a line are steps of one quantity.
        caption: What a reader must know: over what means and bars are, what failed.
    """

    name: str
    x: str
    y: str
    y_label: str
    better: Literal["max", "min"] | None
    line: str | None
    numeric: bool
    ticks: tuple[Any, ...]
    lines: tuple[FigureLine, ...]
    connected: bool
    caption: str

    @property
    def title(self) -> str:
        """``val/top1 by model.depth, a line per model.shortcut``."""
        return f"{self.y} by {self.x}" + (f", a line per {self.line}" if self.line else "")

    @property
    def has_values(self) -> bool:
        """Whether any point has a value."""
        return any(point.estimate for line in self.lines for point in line.points)

    @property
    def alt(self) -> str:
        """All means in words."""
        parts = []
        for line in self.lines:
            points = [
                f"{value_text(point.x)}: {metric_value(self.y, point.estimate.mean)}"
                for point in line.points
                if point.estimate
            ]
            parts.append(f"{line.label or self.y}: {', '.join(points)}")
        return f"{self.y} by {self.x}. " + "; ".join(parts)


def report_figures(state: SweepState) -> list[FigureData]:
    """The data of all figures that the experiment declares, in the file's order; their names differ.

    Where it declares none, the sweep's metric against each searched key that has two values or more; not for the arms
    of a proof, which are whole networks and have a chart of their own.

    Args:
        state: What the ledger adds up to.
    """
    header, figures = trial_results.header_of(state), list[FigureData]()
    declared = header.report.get("figures", ())
    keys = () if declared or header.arms else trial_results.searched_keys(state)
    usual = ({"x": key, "y": header.metric} for key in keys if collapsed_key(key) is None)
    for description in (*declared, *usual):
        figure = collect_figure(state, description)
        if not declared and (len(figure.ticks) < 2 or not figure.has_values):
            continue
        taken = {other.name for other in figures}
        name, number = figure.name, 2
        while name in taken:
            name, number = f"{figure.name}-{number}", number + 1
        figures.append(replace(figure, name=name))
    return figures


def collect_figure(state: SweepState, figure: Mapping[str, Any]) -> FigureData:
    """The data of one declared figure.

    Args:
        state: What the ledger adds up to.
        figure: ``x``, ``y`` and ``line`` as the header holds them.
    """
    header = trial_results.header_of(state)
    x, y, line = figure["x"], figure["y"], figure.get("line")
    configs = trial_results.configs(state)
    ticks = ordered_values([trial_results.lookup(config.values, header.recipe, x) for config in configs], x, header)
    connected = len(ticks) <= MOST_CHOICES
    rest = [key for key in trial_results.searched_keys(state) if key not in (x, line)] if connected else []
    groups, pooled = _groups(configs, line, rest, header)
    points = {label: _points(members, x, y, ticks, header) for label, members in groups.items()}
    if pooled:
        points = {label: tuple(_without_interval(point) for point in members) for label, members in points.items()}
    lines = tuple(FigureLine(label, members) for label, members in points.items())
    lines = tuple(line for line in lines if any(point.estimate or point.failed for point in line.points))
    return FigureData(
        name=f"{_slug(y)}-by-{_slug(x)}",
        x=x,
        y=y,
        y_label=formatting.axis_label(y, header),
        better=formatting.direction(y, header),
        line=line,
        numeric=bool(ticks) and all(isinstance(tick, (int, float)) and not isinstance(tick, bool) for tick in ticks),
        ticks=tuple(ticks),
        lines=lines,
        connected=connected,
        caption=_caption(lines, y, header, pooled, connected),
    )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")


def ordered_values(values: Sequence[Any], key: str, header: Header) -> list[Any]:
    """Distinct values: numbers by size, others in the order of the file's space, then of appearance.

    Args:
        values: Values of one key, None where it is not set.
        key: The searched key.
        header: The sweep's header, which has the space.
    """
    known: dict[Hashable, Any] = {}
    for value in values:
        if value is not None:
            known.setdefault(value_key(value), value)
    distinct = list(known.values())
    if all(isinstance(value, (int, float)) for value in distinct):
        return sorted(distinct)
    declared = next((list(entry.get("values", ())) for entry in header.space if entry["key"] == key), [])
    return sorted(distinct, key=lambda value: declared.index(value) if value in declared else len(declared))


def _groups(
    configs: Sequence[ConfigTrials], line: str | None, rest: Sequence[str], header: Header
) -> tuple[dict[str, list[ConfigTrials]], list[str]]:
    """Configs by line label, and the keys that had to be pooled because separate lines would be too many."""
    varying = [key for key in rest if len({repr(config.values.get(key)) for config in configs}) > 1]
    groups = _by_label(configs, [*([line] if line else []), *varying], header)
    if len(groups) <= MOST_LINES:
        return groups, []
    groups = _by_label(configs, [line] if line else [], header)
    if len(groups) <= MOST_LINES:
        return groups, varying
    return {"": list(configs)}, [*([line] if line else []), *varying]


def _by_label(configs: Sequence[ConfigTrials], keys: Sequence[str], header: Header) -> dict[str, list[ConfigTrials]]:
    groups: dict[str, list[ConfigTrials]] = {}
    combinations = {
        key: places_of(
            ordered_values([trial_results.lookup(config.values, header.recipe, key) for config in configs], key, header)
        )
        for key in keys
    }
    for config in configs:
        chosen = {key: trial_results.lookup(config.values, header.recipe, key) for key in keys}
        known = {key: value for key, value in chosen.items() if value is not None}
        groups.setdefault(formatting.config_label(known) if chosen else "", []).append(config)

    def place(label: str) -> tuple[int, ...]:
        first = groups[label][0].values
        chosen = ((key, value_key(trial_results.lookup(first, header.recipe, key))) for key in keys)
        return tuple(combinations[key].get(value, len(combinations[key])) for key, value in chosen)

    return {label: groups[label] for label in sorted(groups, key=place)}


def places_of(values: Sequence[Any]) -> dict[Hashable, int]:
    """The place of each value by its :func:`~expflow.config.space.value_key`.

    Args:
        values: Distinct values.
    """
    return {value_key(value): place for place, value in enumerate(values)}


def _points(
    configs: Sequence[ConfigTrials], x: str, y: str, ticks: Sequence[Any], header: Header
) -> tuple[FigurePoint, ...]:
    trials: dict[Hashable, list[TrialState]] = {}
    for config in configs:
        trials.setdefault(value_key(trial_results.lookup(config.values, header.recipe, x)), []).extend(config.trials)
    return tuple(_point(tick, trials[key], y, header) for tick in ticks if (key := value_key(tick)) in trials)


def _point(tick: Any, trials: Sequence[TrialState], y: str, header: Header) -> FigurePoint:
    seeds = [value for trial in trials if (value := counted_value(trial, y, header)) is not None]
    failed = sum(trial_results.failure(trial, y, header) is not None for trial in trials)
    over = metric_estimate(y, seeds, header.measured_on(y), header.overlap) if seeds else None
    return FigurePoint(tick, over, tuple(seeds), failed)


def _without_interval(point: FigurePoint) -> FigurePoint:
    """The point without its interval, which is for seeds of one config and not for a mixture of configs."""
    return replace(point, estimate=Estimate(point.estimate.mean, point.estimate.n) if point.estimate else None)


def _caption(lines: Sequence[FigureLine], y: str, header: Header, pooled: Sequence[str], connected: bool) -> str:
    points = [point for line in lines for point in line.points]
    counts = sorted({point.estimate.n for point in points if point.estimate})
    if not counts:
        return "No trial has completed with this metric."
    runs = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    sentences = []
    if pooled and connected:
        sentences.append(
            f"Each point is the mean of trials that also differ in {formatting.and_join(pooled)} ({runs}), hence no "
            "interval; small dots: single trials. Such a mean may hide differences."
        )
    elif counts == [1]:
        sentences.append("One seed each: no interval.")
    else:
        kinds = {point.estimate.kind for point in points if point.estimate}
        bars = {
            "t": "95 % t interval",
            "logit": "95 % interval on the scale of the logit",
            "range": "range of two seeds",
            "none": "none for a single seed",
        }
        shown = formatting.and_join([text for kind, text in bars.items() if kind in kinds])
        covers = formatting.coverage(y, header)
        sentences.append(f"Mean over seeds ({runs}), small dots: single seeds. Bars: {shown}, for {covers}.")
    if not connected:
        sentences.append("One point for each config of the search; all other searched keys vary from point to point.")
    failed = sum(point.failed for point in points)
    if failed:
        sentences.append(f"{formatting.plural(failed, 'trial')} without a value: crosses at the edge.")
    return " ".join(sentences)
