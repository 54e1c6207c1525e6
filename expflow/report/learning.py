"""Learning curves as plain data: each config's metrics over its reports, mean and range over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.report import results
from expflow.report.ranking import leaderboard
from expflow.report.results import Config
from expflow.report.series import MOST_LINES, index_of, ordered


@dataclass(frozen=True)
class Curve:
    """One metric over the course of training: mean and range over the completed seeds at each x."""

    metric: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One config's learning curves by metric. ``broken``: (x, y) of seeds that failed, were stopped or still run."""

    label: str
    curves: Mapping[str, Curve]
    broken: Mapping[str, tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]]


@dataclass(frozen=True)
class Curves:
    """Learning curves of (at most 8) configs. ``columns`` is how many panels make a row."""

    axis: str
    losses: tuple[str, ...]
    metric: str
    panels: tuple[Panel, ...]
    columns: int
    caption: str


def curves(state: SweepState) -> Curves | None:
    """Learning curves of the completed configs, the best 8 where there are more; None without any report."""
    header = results.header_of(state)
    configs = {each.config: each for each in results.configs(state)}
    board = leaderboard(state)
    shown = [row.config for row in board.rows[:MOST_LINES]]
    chosen = [each for key, each in configs.items() if key in shown]
    if len(configs) > len(shown):
        chosen = [configs[key] for key in shown]  # a selection is shown best first, not in an order with gaps
    trials = [trial for each in chosen for trial in each.trials if trial.reports]
    if not trials:
        return None
    axis, at = _axis(trials)
    names = {name for trial in trials for report in trial.reports for name in report.metrics}
    losses = tuple(name for name in ("train/loss", "val/loss") if name in names)
    wanted = (*losses, header.metric)
    panels = tuple(_panel(each, wanted, at) for each in chosen)
    columns, order = _arrangement(chosen, header)
    caption = _curves_caption(board.rows, len(chosen), header)
    return Curves(axis, losses, header.metric, tuple(panels[index] for index in order), columns, caption)


def _axis(trials: Sequence[TrialState]) -> tuple[str, Callable[[Any], float]]:
    """Epochs where every report tells its epoch, else optimizer steps."""
    if all("progress/epoch" in report.metrics for trial in trials for report in trial.reports):
        return "epoch", lambda report: float(report.metrics["progress/epoch"])
    return "optimizer step", lambda report: float(report.step)


def _panel(config: Config, metrics: Sequence[str], at: Callable[[Any], float]) -> Panel:
    complete = [trial for trial in config.trials if trial.status == "done"]
    broken = [trial for trial in config.trials if trial.status != "done" and trial.reports]
    found = {metric: curve for metric in metrics if (curve := _curve(complete, metric, at)) is not None}
    lost = {metric: tuple(_track(trial, metric, at) for trial in broken) for metric in metrics}
    return Panel(config.label, found, lost)


def _track(trial: TrialState, metric: str, at: Callable[[Any], float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    points = {
        at(report): value
        for report in trial.reports
        if (value := results.finite(report.metrics.get(metric))) is not None
    }
    return tuple(points), tuple(points.values())


def _curve(trials: Sequence[TrialState], metric: str, at: Callable[[Any], float]) -> Curve | None:
    """Mean and range at every x that the most seeds have reached, so that no seed's end bends the mean."""
    tracks = [dict(zip(*_track(trial, metric, at), strict=True)) for trial in trials]
    tracks = [track for track in tracks if track]
    if not tracks:
        return None
    every = sorted({x for track in tracks for x in track})
    xs = [x for x in every if all(x in track for track in tracks)] or every
    columns = [[track[x] for track in tracks if x in track] for x in xs]
    means = tuple(sum(column) / len(column) for column in columns)
    return Curve(metric, tuple(xs), means, tuple(map(min, columns)), tuple(map(max, columns)))


def _arrangement(configs: Sequence[Config], header: Header) -> tuple[int, list[int]]:
    """Columns and order of the panels: a full two-key grid keeps its shape, anything else is wrapped at four."""
    keys = list(dict.fromkeys(key for config in configs for key in config.values))
    sizes = {key: ordered([config.values.get(key) for config in configs], key, header) for key in keys}
    varying = sorted((key for key in keys if len(sizes[key]) > 1), key=lambda key: len(sizes[key]))
    if len(varying) == 2 and len(sizes[varying[0]]) * len(sizes[varying[1]]) == len(configs):
        down, across = varying
        order = sorted(
            range(len(configs)),
            key=lambda at: tuple(index_of(sizes[key], configs[at].values.get(key)) for key in (down, across)),
        )
        return len(sizes[across]), order
    return min(4, len(configs)), list(range(len(configs)))


def _curves_caption(rows: Sequence[Any], shown: int, header: Header) -> str:
    text = "Mean over the completed seeds of each config; bands: their range."
    if any(row.failures or row.stopped or row.pending for row in rows):
        text += " Dotted: single seeds that failed, were stopped or still run."
    if len(rows) > shown:
        text += f" The {shown} best of {len(rows)} configs by {header.metric}."
    return text
