"""Config runs: the runs that average the seeds of one config.

A mean is logged for a step once every seed has reported it or has ended, with the number of seeds that reached it
(``n_seeds``), because a point in MLflow cannot be corrected. When a config gets more seeds, its run is therefore
retired and a new one takes its place. Final values are over the seeds at full budget alone (docs/inference.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from expflow.events import TrialReported
from expflow.intervals import metric_estimate
from expflow.ledger import TrialState
from expflow.tracking.pending_updates import PendingUpdates

_NOT_AVERAGED = frozenset({"progress/epoch"})
_COST = "cost/"
"""What a trial costs is one number for each trial and no curve."""


def config_key(config: str, seeds: Sequence[int]) -> str:
    """The key of a config's run.

    Args:
        config: The config's id.
        seeds: The seeds that it averages.
    """
    return f"config:{config}:{','.join(map(str, seeds))}"


def final_metric(name: str) -> str:
    """The config run's metric that sums up the trials' last values of a metric: ``final/val_top1``.

    Args:
        name: The trials' metric.
    """
    return f"final/{name.replace('/', '_')}"


@dataclass
class _SeedGroup:
    """One config's trials over one choice of seeds. ``open`` holds reports of steps that are not averaged yet,
    ``logged`` the steps whose mean was logged."""

    config: str
    seeds: tuple[int, ...]
    members: dict[int, TrialState] = field(default_factory=dict)
    open: dict[int, dict[str, Mapping[str, float]]] = field(default_factory=dict)
    logged: set[int] = field(default_factory=set)

    @property
    def key(self) -> str:
        return config_key(self.config, self.seeds)

    def add(self, report: TrialReported) -> None:
        if report.step not in self.logged:
            self.open.setdefault(report.step, {})[report.trial] = report.metrics

    def forget(self, trial: str, after_step: int) -> None:
        """An attempt begins again after ``after_step``: later steps will be reported anew."""
        for step in [step for step in self.open if step > after_step]:
            self.open[step].pop(trial, None)
            if not self.open[step]:
                del self.open[step]

    def is_complete(self, step: int) -> bool:
        for seed in self.seeds:
            member = self.members.get(seed)
            if member is None or not (member.ended or member.trial in self.open[step]):
                return False
        return True

    @property
    def ended(self) -> bool:
        return all(seed in self.members and self.members[seed].ended for seed in self.seeds)


class ConfigRuns:
    """The config runs of one sweep; there are some only where there are several seeds.

    Args:
        pending: Where updates of these runs are added.
        samples: How many samples a metric is measured on, None where that is not known.
        overlap: What the trainings have in common, where each has a split of its own; else 0.
    """

    def __init__(
        self, pending: PendingUpdates, samples: Callable[[str], int | None], overlap: Callable[[], float]
    ) -> None:
        self._pending, self._samples, self._overlap = pending, samples, overlap
        self._trials: dict[str, dict[int, TrialState]] = {}
        self._groups: dict[str, _SeedGroup] = {}
        self._places: dict[str, int] = {}

    def proposed(self, trial: TrialState) -> None:
        """A trial was proposed.

        Args:
            trial: The trial.
        """
        self._places.setdefault(trial.config, len(self._places))
        self._trials.setdefault(trial.config, {})[trial.seed] = trial

    def started(self, trial: TrialState, from_step: int, seeds: tuple[int, ...], at: float) -> None:
        """An attempt began.

        Args:
            trial: The trial.
            from_step: The optimizer step that the attempt goes on from.
            seeds: The seeds that the experiment asks for now.
            at: When it began (unix seconds).
        """
        group = self._groups.get(trial.config)
        if len(seeds) > 1 and trial.seed in seeds and (group is None or group.seeds != seeds):
            group = self._regroup(trial.config, seeds, at)
        if group is not None and trial.seed in group.seeds:
            group.members[trial.seed] = trial
            group.forget(trial.trial, from_step)
            self._pending.state(group.key, "running", "RUNNING", at)

    def reported(self, trial: TrialState, report: TrialReported, at: float) -> None:
        """A trial reported.

        Args:
            trial: The trial.
            report: Its report.
            at: When it was recorded (unix seconds).
        """
        group = self._group_of(trial)
        if group is not None:
            group.add(report)
            self._log_means(group, [report.step], at)

    def ended(self, trial: TrialState, at: float) -> None:
        """A trial ended, with whatever status.

        Args:
            trial: The trial.
            at: When it ended (unix seconds).
        """
        group = self._group_of(trial)
        if group is not None:
            self._log_means(group, sorted(group.open), at)
            if group.ended:
                self._conclude(group, at)

    def example(self, key: str) -> tuple[str, tuple[int, ...], TrialState]:
        """Config id, seeds and any one trial of a run.

        Args:
            key: The run's key.
        """
        _, config, seeds = key.split(":")
        return config, tuple(int(seed) for seed in seeds.split(",")), next(iter(self._trials[config].values()))

    def place(self, config: str) -> int:
        """The config's number in the order in which configs were proposed, from 0.

        Args:
            config: The config's id.
        """
        return self._places[config]

    def key_of(self, trial: TrialState) -> str | None:
        """The key of the config run that averages a trial; None where there is none.

        Args:
            trial: The trial.
        """
        group = self._group_of(trial)
        return group.key if group is not None else None

    def _group_of(self, trial: TrialState) -> _SeedGroup | None:
        group = self._groups.get(trial.config)
        return group if group is not None and group.members.get(trial.seed) is trial else None

    def _regroup(self, config: str, seeds: tuple[int, ...], at: float) -> _SeedGroup:
        if (before := self._groups.get(config)) is not None:
            self._pending.of(before.key).retired = True
        known = self._trials[config]
        group = _SeedGroup(config, seeds, members={seed: known[seed] for seed in seeds if seed in known})
        self._groups[config] = group
        self._pending.of(group.key).fresh = True
        for member in group.members.values():
            for report in member.reports:
                group.add(report)
        self._log_means(group, sorted(group.open), at)
        return group

    def _log_means(self, group: _SeedGroup, steps: Iterable[int], at: float) -> None:
        """Log the means of those ``steps`` that are complete."""
        for step in steps:
            if step in group.open and group.is_complete(step):
                reached = list(group.open.pop(step).values())
                group.logged.add(step)
                means = {
                    name: fmean(values) for name, values in _columns(reached).items() if not name.startswith(_COST)
                }
                self._pending.log(group.key, means | {"n_seeds": len(reached)}, step, at)

    def _conclude(self, group: _SeedGroup, at: float) -> None:
        members = [group.members[seed] for seed in group.seeds]
        done = [member for member in members if member.status == "done" and member.reports]
        lost = [str(member.seed) for member in members if member.status == "failed"]
        if lost:
            self._pending.of(group.key).tags["expflow.failed_seeds"] = ",".join(lost)
        if not done:
            self._pending.state(group.key, "failed" if lost else "stopped", "FAILED" if lost else "FINISHED", at)
            return
        final = final_values([member.metrics for member in done], self._samples, self._overlap())
        # At step 0, since MLflow's comparison draws bars for that and single dots for any other step.
        self._pending.log(group.key, final, 0, at)
        self._pending.log(group.key, {"n_seeds": len(done)}, max(member.reports[-1].step for member in done), at)
        self._pending.state(group.key, "done", "FINISHED", at)


def final_values(
    rows: Sequence[Mapping[str, float]], samples: Callable[[str], int | None], overlap: float = 0.0
) -> dict[str, float]:
    """The means of the last values of a config's seeds, their intervals, and the mean costs, by the name of the
    config's metric.

    Args:
        rows: The last metrics of each seed.
        samples: How many samples a metric is measured on, None where that is not known.
        overlap: As of :func:`~expflow.intervals.mean_error`.
    """
    final: dict[str, float] = {}
    for name, values in _columns(rows).items():
        if name in _NOT_AVERAGED:
            continue
        if name.startswith(_COST):
            final[name] = fmean(values)
            continue
        label = final_metric(name)
        final[label] = fmean(values)
        if not all(map(math.isfinite, values)):
            continue
        over = metric_estimate(name, values, samples(name), overlap)
        if over.low is not None and over.high is not None:
            final[f"{label}_low"], final[f"{label}_high"] = over.low, over.high
    return final


def _columns(rows: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """Metric name -> its values, one for each row that has it."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns
