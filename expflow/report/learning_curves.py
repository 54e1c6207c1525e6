"""Learning curves as plain data: each config's metrics over its reports, mean and range over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from expflow.config.space import value_key
from expflow.events import TrialReported
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.ledger.trial_values import finite
from expflow.report import formatting, trial_results
from expflow.report.figure_data import MOST_LINES, ordered_values, places_of
from expflow.report.leaderboard import Leaderboard, LeaderboardRow, rank_configs
from expflow.report.trial_results import ConfigTrials

Axis = Callable[[TrialReported], float]
"""Where a report lies on the x axis."""
Points = tuple[tuple[float, ...], tuple[float, ...]]
"""x and y of a curve."""


@dataclass(frozen=True)
class SeedCurve:
    """One metric over the course of training.

    Attributes:
        metric: Its name.
        x: Epochs or optimizer steps.
        mean: The mean over the completed seeds at each x.
        low: Their lowest value.
        high: Their highest value.
    """

    metric: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class ConfigCurves:
    """One config's learning curves.

    Attributes:
        label: The config in words.
        curves: Metric -> its curve.
        broken: Metric -> x and y of each seed that failed, was stopped or still runs.
    """

    label: str
    curves: Mapping[str, SeedCurve]
    broken: Mapping[str, tuple[Points, ...]]

    def has_points(self, metrics: Sequence[str]) -> bool:
        """Whether there is anything to draw of some metrics.

        Args:
            metrics: Their names.
        """
        return any(metric in self.curves or any(xs for xs, _ in self.broken.get(metric, ())) for metric in metrics)


@dataclass(frozen=True)
class CurveGrid:
    """Learning curves of (at most 8) configs, one panel for each.

    Attributes:
        axis: ``epoch`` or ``optimizer step``.
        losses: The losses that were reported.
        metric: The sweep's metric.
        metric_label: The same with unit and direction, for an axis.
        panels: The configs.
        columns: How many panels make a row.
        caption: What a reader must know.
    """

    axis: str
    losses: tuple[str, ...]
    metric: str
    metric_label: str
    panels: tuple[ConfigCurves, ...]
    columns: int
    caption: str

    def of(self, metrics: Sequence[str]) -> CurveGrid | None:
        """The panels that have something to draw of some metrics, in rows of four where some are left out.

        Args:
            metrics: Their names.

        Returns:
            None where none has.
        """
        shown = tuple(panel for panel in self.panels if panel.has_points(metrics))
        if len(shown) == len(self.panels):
            return self
        left_out = formatting.plural(len(self.panels) - len(shown), "config")
        caption = f"{self.caption} {left_out} without a value: no panel."
        return replace(self, panels=shown, columns=min(4, len(shown)), caption=caption) if shown else None


def learning_curves(state: SweepState, board: Leaderboard | None = None) -> CurveGrid | None:
    """Learning curves of the completed configs, the best 8 where there are more; None without any report.

    Args:
        state: What the ledger adds up to.
        board: Its leaderboard, where that is known already.
    """
    header = trial_results.header_of(state)
    rows = (board or rank_configs(state)).rows
    chosen = _chosen(state, rows)
    trials = [trial for config in chosen for trial in config.trials if trial.reports]
    if not trials:
        return None
    axis, place = _axis(trials)
    names = {name for trial in trials for report in trial.reports for name in report.metrics}
    losses = tuple(name for name in ("train/loss", "val/loss") if name in names)
    metrics = (*losses, header.metric)
    panels = tuple(_config_curves(config, metrics, place) for config in chosen)
    columns, order = _arrangement(chosen, header)
    return CurveGrid(
        axis=axis,
        losses=losses,
        metric=header.metric,
        metric_label=formatting.axis_label(header.metric, header),
        panels=tuple(panels[index] for index in order),
        columns=columns,
        caption=_caption(rows, len(chosen), header),
    )


def _chosen(state: SweepState, rows: Sequence[LeaderboardRow]) -> list[ConfigTrials]:
    """All configs in their order; a selection is shown best first, not in an order with gaps."""
    configs = {config.config: config for config in trial_results.configs(state)}
    shown = [row.config for row in rows[:MOST_LINES]]
    if len(configs) > len(shown):
        return [configs[key] for key in shown]
    return [config for key, config in configs.items() if key in shown]


def _axis(trials: Sequence[TrialState]) -> tuple[str, Axis]:
    """Epochs where every report has its epoch, else optimizer steps."""
    if all("progress/epoch" in report.metrics for trial in trials for report in trial.reports):
        return "epoch", lambda report: float(report.metrics["progress/epoch"])
    return "optimizer step", lambda report: float(report.step)


def _config_curves(config: ConfigTrials, metrics: Sequence[str], place: Axis) -> ConfigCurves:
    complete = [trial for trial in config.trials if trial.status == "done"]
    broken = [trial for trial in config.trials if trial.status != "done" and trial.reports]
    curves = {metric: curve for metric in metrics if (curve := mean_curve(complete, metric, place)) is not None}
    lost = {metric: tuple(_points(trial, metric, place) for trial in broken) for metric in metrics}
    return ConfigCurves(config.label, curves, lost)


def _points(trial: TrialState, metric: str, place: Axis) -> Points:
    points = {
        place(report): value for report in trial.reports if (value := finite(report.metrics.get(metric))) is not None
    }
    return tuple(points), tuple(points.values())


def mean_curve(trials: Sequence[TrialState], metric: str, place: Axis) -> SeedCurve | None:
    """Mean and range at every x that all seeds have reached, so that no seed's end bends the mean.

    Args:
        trials: The seeds of one config.
        metric: A reported name with its split.
        place: Where a report lies on the x axis.

    Returns:
        None where no seed has a finite value.
    """
    tracks = [dict(zip(*_points(trial, metric, place), strict=True)) for trial in trials]
    tracks = [track for track in tracks if track]
    if not tracks:
        return None
    places = sorted({x for track in tracks for x in track})
    xs = [x for x in places if all(x in track for track in tracks)] or places
    columns = [[track[x] for track in tracks if x in track] for x in xs]
    means = tuple(sum(column) / len(column) for column in columns)
    return SeedCurve(metric, tuple(xs), means, tuple(map(min, columns)), tuple(map(max, columns)))


def _arrangement(configs: Sequence[ConfigTrials], header: Header) -> tuple[int, list[int]]:
    """Columns and order of the panels: a full two-key grid keeps its shape, anything else is wrapped at four."""
    keys = list(dict.fromkeys(key for config in configs for key in config.values))
    sizes = {key: ordered_values([config.values.get(key) for config in configs], key, header) for key in keys}
    varying = sorted((key for key in keys if len(sizes[key]) > 1), key=lambda key: len(sizes[key]))
    if len(varying) == 2 and len(sizes[varying[0]]) * len(sizes[varying[1]]) == len(configs):
        down, across = varying
        places = {key: places_of(sizes[key]) for key in varying}
        order = sorted(
            range(len(configs)),
            key=lambda at: tuple(places[key][value_key(configs[at].values.get(key))] for key in (down, across)),
        )
        return len(sizes[across]), order
    return min(4, len(configs)), list(range(len(configs)))


def _caption(rows: Sequence[LeaderboardRow], shown: int, header: Header) -> str:
    text = "Mean over the completed seeds of each config; bands: their range."
    if any(row.failures or row.stopped or row.pending for row in rows):
        text += " Dotted: single seeds that failed, were stopped or still run."
    if len(rows) > shown:
        text += f" The {shown} best of {len(rows)} configs by {header.metric}."
    return text
