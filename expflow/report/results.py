"""What the trials of a sweep amount to, read by the rules: which value counts, who failed, which config is meant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expflow.config.space import same
from expflow.events import Reported
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.report import words

_ABSENT = object()


@dataclass(frozen=True)
class Config:
    """One config and its trials, one for each seed that was proposed."""

    config: str
    values: Mapping[str, Any]
    trials: tuple[TrialState, ...]

    @property
    def label(self) -> str:
        """``depth=56 shortcut=pad``."""
        return words.config_label(self.values)


@dataclass(frozen=True)
class Failure:
    """A trial that gives no value: what it was, and why."""

    trial: str
    label: str
    seed: int
    kind: str
    """``failed``, ``diverged`` or ``no value``."""
    reason: str
    attempts: int
    traceback: str = ""


@dataclass(frozen=True)
class Progress:
    """How far the sweep is. ``expected`` is the number of trials, at least those that are known."""

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
        parts = [f"{self.done} of {words.plural(self.expected, 'trial')} done"]
        for amount, word in ((self.failed, "failed"), (self.stopped, "stopped early"), (self.running, "running")):
            if amount:
                parts.append(f"{amount} {word}")
        waiting = self.expected - self.done - self.failed - self.stopped - self.running
        return ", ".join([*parts, f"{waiting} to come"] if waiting else parts)


def header_of(state: SweepState) -> Header:
    """The sweep's header; an empty one before the first driver wrote its own."""
    return state.header or Header(name="", text="", file="")


def progress(state: SweepState) -> Progress:
    """Counts over the latest plan."""
    trials = state.plan_trials()
    tally = {
        status: sum(trial.status == status for trial in trials) for status in ("done", "failed", "stopped", "running")
    }
    return Progress(expected=max(header_of(state).expected_trials, len(trials)), **tally)


def configs(state: SweepState) -> list[Config]:
    """The latest plan's configs in the order they were first proposed."""
    groups: dict[str, list[TrialState]] = {}
    for trial in state.plan_trials():
        groups.setdefault(trial.config, []).append(trial)
    return [
        Config(config, trials[0].values, tuple(sorted(trials, key=lambda trial: trial.seed)))
        for config, trials in groups.items()
    ]


def searched_keys(state: SweepState) -> list[str]:
    """The searched keys: those of the space in its order, then any that only trials know."""
    keys = {str(dimension["key"]): None for dimension in header_of(state).space}
    for trial in state.plan_trials():
        keys.update(dict.fromkeys(trial.values))
    return list(keys)


def finite(value: object) -> float | None:
    """``value`` as a number; None where it is missing, no number, infinite or nan."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def last(trial: TrialState, metric: str) -> float | None:
    """The last report's ``metric`` (rule 4); None where it is missing or not a finite number."""
    return finite(trial.metrics.get(metric))


def best_epoch(trial: TrialState, metric: str, mode: str) -> float | None:
    """The best finite ``metric`` of all reports; None where there is none."""
    found = [value for report in trial.reports if (value := finite(report.metrics.get(metric))) is not None]
    return (max(found) if mode == "max" else min(found)) if found else None


def value(trial: TrialState, metric: str, header: Header) -> float | None:
    """The value that counts: a finished trial's last report, or its best epoch where the file says so (rule 4).

    Only ``done`` trials have one. Only the sweep's own metric has a best epoch; all others are the last report's.
    """
    if trial.status != "done":
        return None
    if metric == header.metric and header.select == "best_epoch":
        return best_epoch(trial, metric, header.mode)
    return last(trial, metric)


def cost(trial: TrialState, metric: str) -> float | None:
    """A cost metric from whichever report has it last: costs do not change over a trial."""
    return next((found for report in reversed(trial.reports) if (found := _cost_in(report, metric)) is not None), None)


def _cost_in(report: Reported, metric: str) -> float | None:
    return finite(report.metrics.get(metric))


def failure(trial: TrialState, metric: str, header: Header) -> Failure | None:
    """Why an ended trial gives no ``metric``; None where it does, or where it has not ended or was stopped early."""
    if trial.status == "failed":
        final = trial.failures[-1] if trial.failures else None
        kind = "diverged" if final and final.failure == "diverged" else "failed"
        reason = "no reason was recorded" if final is None else final.message
        if final and kind == "failed":
            reason = f"{final.failure}: {final.message}"
        return _failure(trial, kind, reason, final.traceback if final else "")
    if trial.status == "done" and value(trial, metric, header) is None:
        raw = trial.metrics.get(metric)
        if raw is None:
            return _failure(trial, "no value", f"its last report has no {metric}")
        return _failure(trial, "diverged", f"its last {metric} is {raw}")
    return None


def _failure(trial: TrialState, kind: str, reason: str, traceback: str = "") -> Failure:
    label = words.config_label(trial.values)
    return Failure(trial.trial, label, trial.seed, kind, reason, max(trial.attempt, len(trial.failures)), traceback)


def failures(state: SweepState) -> list[Failure]:
    """All trials of the plan that ended without the sweep's metric, in proposal order."""
    header = header_of(state)
    found = (failure(trial, header.metric, header) for trial in state.plan_trials())
    return [each for each in found if each is not None]


def lookup(values: Mapping[str, Any], recipe: Mapping[str, Any], key: str) -> Any:
    """What dotted ``key`` was set to: by the search, inside a searched mapping, or in the base recipe; else None."""
    parts = key.split(".")
    for cut in range(len(parts), 0, -1):
        head = ".".join(parts[:cut])
        if head in values:
            found = _descend(values[head], parts[cut:])
            if found is not _ABSENT:
                return found
    found = _descend(recipe, parts)
    return None if found is _ABSENT else found


def _descend(tree: Any, parts: list[str]) -> Any:
    if not parts:
        return tree
    if isinstance(tree, Mapping):
        return _descend(tree[parts[0]], parts[1:]) if parts[0] in tree else _ABSENT
    return tree if parts == ["name"] and isinstance(tree, str) else _ABSENT  # a bare string means {name: …}


def chosen(config: Config, wanted: Mapping[str, Any], header: Header) -> bool:
    """Whether ``config`` has every wanted value."""
    return all(same(lookup(config.values, header.recipe, key), want) for key, want in wanted.items())
