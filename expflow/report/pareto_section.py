"""Several objectives: the configs that no other dominates, and how the front grew while configs were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expflow.intervals import Estimate
from expflow.ledger.header import Header
from expflow.ledger.state import TrialState
from expflow.metrics import metric_value
from expflow.pareto import dominates, hypervolume, non_dominated
from expflow.report import formatting
from expflow.report.leaderboard import Leaderboard, LeaderboardRow
from expflow.report.text_table import TableColumn, TextTable


@dataclass(frozen=True)
class FrontMember:
    """A config on the Pareto front.

    Attributes:
        config: Config id.
        label: It in words.
        values: Searched key -> value.
        objectives: The means over its seeds, by metric.
        seeds: How many seeds they are over.
    """

    config: str
    label: str
    values: Mapping[str, Any]
    objectives: Mapping[str, Estimate]
    seeds: int


@dataclass(frozen=True)
class FrontGrowth:
    """The front after some configs.

    Attributes:
        configs: How many configs were trained, in the order in which the search got their results.
        seconds: How long their trials had trained, all of them together, without further seeds of leaders.
        hypervolume: The share of the box between the best and the worst values that the front dominates.
    """

    configs: int
    seconds: float
    hypervolume: float


@dataclass(frozen=True)
class ParetoFront:
    """What several objectives leave to choose from.

    Attributes:
        metrics: The objectives.
        modes: ``max`` or ``min`` for each.
        configs: How many configs were compared: those with a mean for each objective.
        ideal: The best mean of each objective; the corner of the box that hypervolumes are shares of.
        reference: The worst mean of each; the other corner.
        members: The front, best by the first objective first.
        growth: The front over time: after the first config, and after each that changed it.
        notes: What a reader must know to read it rightly.
    """

    metrics: tuple[str, ...]
    modes: tuple[str, ...]
    configs: int
    ideal: tuple[float, ...]
    reference: tuple[float, ...]
    members: tuple[FrontMember, ...]
    growth: tuple[FrontGrowth, ...]
    notes: tuple[str, ...]

    @property
    def table(self) -> TextTable:
        """The front as text."""
        columns, cells = [TableColumn("config", "left")], [[member.label] for member in self.members]
        for metric in self.metrics:
            columns.append(TableColumn(metric))
            bounds = [_bounds(metric, member) for member in self.members]
            for row, member, between in zip(cells, self.members, bounds, strict=True):
                row += [metric_value(metric, member.objectives[metric].mean), *([between] if any(bounds) else [])]
            columns += [TableColumn("interval", "left")] if any(bounds) else []
        rows = ((*row, str(member.seeds)) for row, member in zip(cells, self.members, strict=True))
        return TextTable((*columns, TableColumn("n")), tuple(rows))


def _bounds(metric: str, member: FrontMember) -> str:
    """The interval of a mean; empty where there is none, and for a size, which all seeds share."""
    over = member.objectives[metric]
    return formatting.interval(metric, over) if over.low != over.high else ""


def pareto_front(board: Leaderboard, header: Header) -> ParetoFront | None:
    """The Pareto front of a sweep's configs.

    Args:
        board: The leaderboard.
        header: The sweep's header.

    Returns:
        None where the sweep has one objective, or no config has a mean for each.
    """
    metrics = tuple(str(objective["metric"]) for objective in header.objectives)
    modes = tuple(str(objective["mode"]) for objective in header.objectives)
    rows = [row for row in board.rows if _objectives(row, metrics).keys() == set(metrics)]
    if len(metrics) < 2 or not rows:
        return None
    points = [point_of(row, metrics) for row in rows]
    corners = [(max(column), min(column)) for column in zip(*points, strict=True)]
    ideal = tuple(high if mode == "max" else low for (high, low), mode in zip(corners, modes, strict=True))
    reference = tuple(low if mode == "max" else high for (high, low), mode in zip(corners, modes, strict=True))
    members = [rows[place] for place in non_dominated(points, modes)]
    return ParetoFront(
        metrics,
        modes,
        len(rows),
        ideal,
        reference,
        tuple(_member(row, metrics) for row in members),
        tuple(_growth(rows, metrics, modes, ideal, reference)),
        _notes(members, metrics, len(rows)),
    )


def point_of(row: LeaderboardRow, metrics: Sequence[str]) -> tuple[float, ...]:
    """A config's mean for each objective.

    Args:
        row: The config.
        metrics: The objectives, all of which it has.
    """
    objectives = _objectives(row, metrics)
    return tuple(objectives[metric].mean for metric in metrics)


def _objectives(row: LeaderboardRow, metrics: Sequence[str]) -> dict[str, Estimate]:
    if row.estimate is None or not metrics:
        return {}
    others = {metric: row.others[metric] for metric in metrics[1:] if metric in row.others}
    return {metrics[0]: row.estimate, **others}


def _member(row: LeaderboardRow, metrics: Sequence[str]) -> FrontMember:
    return FrontMember(row.config, row.label, row.values, _objectives(row, metrics), len(row.trials))


def _growth(
    rows: Sequence[LeaderboardRow],
    metrics: Sequence[str],
    modes: Sequence[str],
    ideal: Sequence[float],
    reference: Sequence[float],
) -> list[FrontGrowth]:
    """The hypervolume in the order in which the search got results; a config that is dominated changes nothing."""
    ordered = sorted(rows, key=lambda row: max(trial.ended_at for trial in _searched(row)))
    front, growth, seconds = list[tuple[float, ...]](), list[FrontGrowth](), 0.0
    for count, row in enumerate(ordered, start=1):
        seconds += sum(trial.seconds for trial in _searched(row))
        point = point_of(row, metrics)
        if point in front or any(dominates(other, point, modes) for other in front):
            continue
        front = [other for other in front if not dominates(point, other, modes)] + [point]
        growth.append(FrontGrowth(count, seconds, hypervolume(front, ideal, reference)))
    if growth and growth[-1].configs < len(ordered):
        growth.append(FrontGrowth(len(ordered), seconds, growth[-1].hypervolume))
    return growth


def _searched(row: LeaderboardRow) -> list[TrialState]:
    """The trials that the search learned from, without the further seeds of leaders."""
    return [trial for trial in row.trials if trial.phase == "search"] or list(row.trials)


def _notes(members: Sequence[LeaderboardRow], metrics: Sequence[str], configs: int) -> tuple[str, ...]:
    notes = [
        f"{formatting.plural(len(members), 'config')} of {configs:,} {'are' if len(members) > 1 else 'is'} dominated "
        f"by none: no other is at least as good in {formatting.and_join(metrics)} and better in one.",
        "Hypervolume: the share of the box between the best and the worst means that the front dominates, on linear "
        "scales. The corners are those of this sweep, so it compares times, and not sweeps. Each config counts with "
        "its mean over all its seeds, from when the search had its result.",
    ]
    if any(len(row.trials) < 2 for row in members):
        notes.append(
            "Some of the front have one seed. A front collects the luckiest of each size: train it with further seeds "
            "(`seeds: {screen: 1, confirm: 5, top: 8}` takes the front first) before you choose from it."
        )
    return tuple(notes)
