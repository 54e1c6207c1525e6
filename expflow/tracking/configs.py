"""Config runs: what the seeds of one config say together.

A mean is logged for a step once every seed has reported it or has ended, with the number of seeds that reached it
(``n_seeds``), because a point in MLflow cannot be corrected. When a config gets more seeds, its run is therefore
retired and a new one takes its place. Final values are over the seeds at full budget alone (design section 11, rule 6).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from expflow.events import Reported
from expflow.ledger import TrialState
from expflow.tracking.pending import Pending

_NOT_AVERAGED = frozenset({"progress/epoch"})
_COST = "cost/"
"""What a trial costs is one number for each trial and no curve."""


def config_key(config: str, seeds: Sequence[int]) -> str:
    """The key of the run of ``config`` over ``seeds``."""
    return f"config:{config}:{','.join(map(str, seeds))}"


def final_metric(name: str) -> str:
    """The config run's metric that sums up the trials' last values of ``name``: ``final/val_top1``."""
    return f"final/{name.replace('/', '_')}"


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """What is shown around a mean over seeds (design section 11, rule 3).

    One seed: nothing. Two: the range. Three or more: Student's 95 % interval of the mean (n - 1 degrees of freedom).
    """
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    if len(values) == 2:
        return min(values), max(values)
    from scipy.special import stdtrit  # heavy, and only needed at the end of a config

    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


@dataclass
class _Group:
    """One config's trials over one choice of seeds. ``open`` holds reports of steps that are not averaged yet."""

    config: str
    seeds: tuple[int, ...]
    members: dict[int, TrialState] = field(default_factory=dict)
    open: dict[int, dict[str, Mapping[str, float]]] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)

    @property
    def key(self) -> str:
        return config_key(self.config, self.seeds)

    def add(self, report: Reported) -> None:
        if report.step not in self.told:
            self.open.setdefault(report.step, {})[report.trial] = report.metrics

    def forget(self, trial: str, after_step: int) -> None:
        """An attempt begins again after ``after_step``: what came later will be reported anew."""
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
    """The config runs of one sweep; exists only where there are several seeds."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending
        self._trials: dict[str, dict[int, TrialState]] = {}
        self._groups: dict[str, _Group] = {}
        self._places: dict[str, int] = {}

    def proposed(self, trial: TrialState) -> None:
        """A trial exists."""
        self._places.setdefault(trial.config, len(self._places))
        self._trials.setdefault(trial.config, {})[trial.seed] = trial

    def started(self, trial: TrialState, from_step: int, seeds: tuple[int, ...], at: float) -> None:
        """An attempt began, while the experiment asks for ``seeds``."""
        group = self._groups.get(trial.config)
        if len(seeds) > 1 and trial.seed in seeds and (group is None or group.seeds != seeds):
            group = self._regroup(trial.config, seeds, at)
        if group is not None and trial.seed in group.seeds:
            group.members[trial.seed] = trial
            group.forget(trial.trial, from_step)
            self._pending.state(group.key, "running", "RUNNING", at)

    def reported(self, trial: TrialState, report: Reported, at: float) -> None:
        """A trial reported."""
        group = self._group_of(trial)
        if group is not None:
            group.add(report)
            self._tell(group, [report.step], at)

    def ended(self, trial: TrialState, at: float) -> None:
        """A trial ended, however."""
        group = self._group_of(trial)
        if group is not None:
            self._tell(group, sorted(group.open), at)
            if group.ended:
                self._conclude(group, at)

    def example(self, key: str) -> tuple[str, tuple[int, ...], TrialState]:
        """Config id, seeds and any one trial of the run ``key``."""
        _, config, seeds = key.split(":")
        return config, tuple(int(seed) for seed in seeds.split(",")), next(iter(self._trials[config].values()))

    def place(self, config: str) -> int:
        """The config's number in the order in which configs were proposed, from 0."""
        return self._places[config]

    def key_of(self, trial: TrialState) -> str | None:
        """The key of the config run that ``trial`` counts in; None where there is none."""
        group = self._group_of(trial)
        return group.key if group is not None else None

    def _group_of(self, trial: TrialState) -> _Group | None:
        group = self._groups.get(trial.config)
        return group if group is not None and group.members.get(trial.seed) is trial else None

    def _regroup(self, config: str, seeds: tuple[int, ...], at: float) -> _Group:
        if (before := self._groups.get(config)) is not None:
            self._pending.of(before.key).retired = True
        known = self._trials[config]
        group = _Group(config, seeds, members={seed: known[seed] for seed in seeds if seed in known})
        self._groups[config] = group
        self._pending.of(group.key).fresh = True
        for member in group.members.values():
            for report in member.reports:
                group.add(report)
        self._tell(group, sorted(group.open), at)
        return group

    def _tell(self, group: _Group, steps: Iterable[int], at: float) -> None:
        """Log the means of those ``steps`` that are complete."""
        for step in steps:
            if step in group.open and group.is_complete(step):
                reached = list(group.open.pop(step).values())
                group.told.add(step)
                means = {
                    name: fmean(values) for name, values in _columns(reached).items() if not name.startswith(_COST)
                }
                self._pending.log(group.key, means | {"n_seeds": len(reached)}, step, at)

    def _conclude(self, group: _Group, at: float) -> None:
        members = [group.members[seed] for seed in group.seeds]
        done = [each for each in members if each.status == "done" and each.reports]
        lost = [str(each.seed) for each in members if each.status == "failed"]
        if lost:
            self._pending.of(group.key).tags["expflow.failed_seeds"] = ",".join(lost)
        if not done:
            self._pending.state(group.key, "failed" if lost else "stopped", "FAILED" if lost else "FINISHED", at)
            return
        final = final_values([each.metrics for each in done])
        # At step 0, since MLflow's comparison draws bars for that and single dots for any other step.
        self._pending.log(group.key, final, 0, at)
        self._pending.log(group.key, {"n_seeds": len(done)}, max(each.reports[-1].step for each in done), at)
        self._pending.state(group.key, "done", "FINISHED", at)


def final_values(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What the last values of a config's seeds, a row for each, come to: means, what is shown around them, costs."""
    final: dict[str, float] = {}
    for name, values in _columns(rows).items():
        if name in _NOT_AVERAGED:
            continue
        if name.startswith(_COST):
            final[name] = fmean(values)
            continue
        label = final_metric(name)
        final[label] = fmean(values)
        around = interval(values)
        if around is not None:
            final[f"{label}_low"], final[f"{label}_high"] = around
    return final


def _columns(rows: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """Metric name -> its values, one for each row that has it."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns
