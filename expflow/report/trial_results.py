"""What the trials of a sweep gave: which of them failed and why, which configs there are, what was searched.

Which value of a trial counts: :mod:`expflow.ledger.trial_values`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from expflow.config.space import same_value
from expflow.ledger.header import Header
from expflow.ledger.report_columns import ReportColumns
from expflow.ledger.state import SweepState, TrialState
from expflow.ledger.trial_values import counted_value, finite
from expflow.report import formatting

_ABSENT = object()


@dataclass(frozen=True)
class ConfigTrials:
    """One config and its trials.

    Attributes:
        config: Config id.
        values: Searched key -> value.
        trials: One trial for each seed that was proposed, in the order of seeds.
    """

    config: str
    values: Mapping[str, Any]
    trials: tuple[TrialState, ...]

    @property
    def label(self) -> str:
        """``depth=56 shortcut=pad``."""
        return formatting.config_label(self.values)


@dataclass(frozen=True)
class TrialFailure:
    """A trial that gives no value.

    Attributes:
        trial: Trial id.
        label: Its config in words.
        seed: Its seed.
        kind: ``failed``, ``diverged`` or ``no value``.
        reason: Class and message of the error, or what is missing.
        attempts: How many attempts were made.
        traceback: The traceback; empty where there is none.
    """

    trial: str
    label: str
    seed: int
    kind: str
    reason: str
    attempts: int
    traceback: str = ""


@dataclass(frozen=True)
class SweepProgress:
    """How far the sweep is, in trials.

    Attributes:
        expected: How many the plan expects, at least those that are known.
        done: At full budget.
        failed: Ended by a failure.
        stopped: Stopped early by the scheduler.
        running: Running now.
    """

    expected: int
    done: int
    failed: int
    stopped: int
    running: int

    @property
    def complete(self) -> bool:
        """Whether every trial has ended."""
        return self.done + self.failed + self.stopped >= self.expected

    def __str__(self) -> str:
        parts = [f"{self.done} of {formatting.plural(self.expected, 'trial')} done"]
        for amount, word in ((self.failed, "failed"), (self.stopped, "stopped early"), (self.running, "running")):
            if amount:
                parts.append(f"{amount} {word}")
        waiting = self.expected - self.done - self.failed - self.stopped - self.running
        return ", ".join([*parts, f"{waiting} to come"] if waiting else parts)


def header_of(state: SweepState) -> Header:
    """The sweep's header; an empty one before the first driver wrote its own.

    Args:
        state: What the ledger adds up to.
    """
    return state.header or Header(name="", text="", file="")


def progress(state: SweepState) -> SweepProgress:
    """Counts over the latest plan.

    Args:
        state: What the ledger adds up to.
    """
    trials = state.plan_trials()
    tally = {
        status: sum(trial.status == status for trial in trials) for status in ("done", "failed", "stopped", "running")
    }
    return SweepProgress(expected=max(header_of(state).expected_trials, len(trials)), **tally)


def configs(state: SweepState) -> list[ConfigTrials]:
    """The latest plan's configs in the order they were first proposed.

    Args:
        state: What the ledger adds up to.
    """
    return group_configs(state.plan_trials())


def group_configs(trials: Iterable[TrialState]) -> list[ConfigTrials]:
    """The configs of some trials in the order in which they come.

    Args:
        trials: The trials, of any number of configs.
    """
    groups: dict[str, list[TrialState]] = {}
    for trial in trials:
        groups.setdefault(trial.config, []).append(trial)
    return [
        ConfigTrials(config, members[0].values, tuple(sorted(members, key=lambda trial: trial.seed)))
        for config, members in groups.items()
    ]


def searched_keys(state: SweepState) -> list[str]:
    """The searched keys: those of the space in its order, then any that only trials know.

    Args:
        state: What the ledger adds up to.
    """
    keys = {str(dimension["key"]): None for dimension in header_of(state).space}
    for trial in state.plan_trials():
        keys.update(dict.fromkeys(trial.values))
    return list(keys)


def cost(trial: TrialState, metric: str) -> float | None:
    """A cost metric from the last report that has it: costs do not change over a trial.

    Args:
        trial: The trial.
        metric: ``cost/params`` or another cost.
    """
    if isinstance(trial.reports, ReportColumns) and not trial.reports.have(metric):  # so none is made an object
        return None
    amounts = (finite(report.metrics.get(metric)) for report in reversed(trial.reports))
    return next((amount for amount in amounts if amount is not None), None)


def failure(trial: TrialState, metric: str, header: Header) -> TrialFailure | None:
    """Why an ended trial gives no value; None where it does, or where it has not ended or was stopped early.

    Args:
        trial: The trial.
        metric: The metric that it should give.
        header: The sweep's header.
    """
    if trial.status == "failed":
        final = trial.failures[-1] if trial.failures else None
        kind = "diverged" if final and final.failure == "diverged" else "failed"
        reason = "no reason was recorded" if final is None else final.message
        if final and kind == "failed":
            reason = f"{final.failure}: {final.message}"
        return _failure(trial, kind, reason, final.traceback if final else "")
    if trial.status == "done" and counted_value(trial, metric, header) is None:
        raw = trial.metrics.get(metric)
        if raw is None:
            return _failure(trial, "no value", f"its last report has no {metric}")
        return _failure(trial, "diverged", f"its last {metric} is {raw}")
    return None


def _failure(trial: TrialState, kind: str, reason: str, traceback: str = "") -> TrialFailure:
    label = formatting.config_label(trial.values)
    attempts = max(trial.attempt, len(trial.failures))
    return TrialFailure(trial.trial, label, trial.seed, kind, reason, attempts, traceback)


def failures(state: SweepState) -> list[TrialFailure]:
    """All trials of the plan that ended without the sweep's metric, in proposal order.

    Args:
        state: What the ledger adds up to.
    """
    header = header_of(state)
    reasons = (failure(trial, header.metric, header) for trial in state.plan_trials())
    return [reason for reason in reasons if reason is not None]


def lookup(values: Mapping[str, Any], recipe: Mapping[str, Any], key: str) -> Any:
    """What a dotted key was set to: by the search, inside a searched mapping, or in the base recipe.

    Args:
        values: Searched key -> value.
        recipe: The base recipe.
        key: A dotted key, such as ``model.depth``.

    Returns:
        Its value; None where it is set nowhere.
    """
    parts = key.split(".")
    for cut in range(len(parts), 0, -1):
        head = ".".join(parts[:cut])
        if head in values:
            value = _descend(values[head], parts[cut:])
            if value is not _ABSENT:
                return value
    value = _descend(recipe, parts)
    return None if value is _ABSENT else value


def _descend(tree: Any, parts: list[str]) -> Any:
    if not parts:
        return tree
    if isinstance(tree, Mapping):
        return _descend(tree[parts[0]], parts[1:]) if parts[0] in tree else _ABSENT
    return tree if parts == ["name"] and isinstance(tree, str) else _ABSENT  # a bare string means {name: …}


def has_values(config: ConfigTrials, wanted: Mapping[str, Any], header: Header) -> bool:
    """Whether a config has every wanted value.

    Args:
        config: The config.
        wanted: Dotted key -> value.
        header: The sweep's header with the base recipe.
    """
    return all(same_value(lookup(config.values, header.recipe, key), want) for key, want in wanted.items())
