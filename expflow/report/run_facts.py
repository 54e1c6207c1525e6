"""What was run, as names and values in words: sizes, seeds, versions, code, time, recipe and search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from expflow.config.identity import value_text
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.report import formatting, trial_results
from expflow.text import command_line

NamedValues = tuple[tuple[str, str], ...]
"""Rows of a table of names and values."""


def run_facts(state: SweepState) -> NamedValues:
    """What was run: sizes, seeds, versions, code, time.

    Args:
        state: What the ledger adds up to.
    """
    header = trial_results.header_of(state)
    trials = state.plan_trials()
    samples = header.samples
    rows = [
        ("trials", str(trial_results.progress(state))),
        ("configs", str(len(trial_results.configs(state)))),
        ("seeds", ", ".join(map(str, header.seeds))),
        ("searcher", header.searcher),
        ("scheduler", header.scheduler),
        ("judged by", f"{_objectives(header)}, {header.select.replace('_', ' ')}"),
        ("data", str(header.data.get("source", ""))),
        ("samples", ", ".join(f"{split} {n:,}" for split, n in samples.items())),
        ("data key", str(header.data.get("key", ""))),
        ("manifest sha256", str(header.data.get("manifest", ""))),
        ("time in trials", _total(trials)),
        ("first start to last end", _span(trials)),
        ("versions", ", ".join(f"{name} {version}" for name, version in header.versions.items())),
        ("git", _git(header)),
        *((f"code {path}", digest) for path, digest in header.code.items()),
        ("tracking", header.tracking),
    ]
    return tuple((name, value) for name, value in rows if value)


def _objectives(header: Header) -> str:
    listed = header.objectives or ({"metric": header.metric, "mode": header.mode},)
    return formatting.and_join(f"{objective['metric']} ({objective['mode']})" for objective in listed)


def _total(trials: Sequence[TrialState]) -> str:
    seconds = sum(trial.seconds for trial in trials)
    return formatting.duration(seconds) if seconds else ""


def _span(trials: Sequence[TrialState]) -> str:
    """Wall time from the first start to the last end, pauses between two drivers included."""
    starts = [trial.started_at for trial in trials if trial.started_at]
    ends = [trial.ended_at for trial in trials if trial.ended_at]
    return formatting.duration(max(ends) - min(starts)) if starts and ends and max(ends) >= min(starts) else ""


def _git(header: Header) -> str:
    commit = header.git.get("commit", "")
    return f"{commit}{' with uncommitted changes' if header.git.get('dirty') == 'yes' else ''}" if commit else ""


def newest_time(trials: Sequence[TrialState]) -> str:
    """When the ledger last saw a trial start or end, in UTC; empty before the first.

    Args:
        trials: The plan's trials.
    """
    latest = max((max(trial.started_at, trial.ended_at) for trial in trials), default=0.0)
    return datetime.fromtimestamp(latest, UTC).strftime("%Y-%m-%d %H:%M UTC") if latest else ""


def space_rows(header: Header) -> NamedValues:
    """The searched keys, and their values or distributions in words.

    Args:
        header: The sweep's header.
    """
    return tuple((str(dimension["key"]), _dimension(dimension)) for dimension in header.space)


def _dimension(dimension: Mapping[str, Any]) -> str:
    if dimension.get("values"):
        text = ", ".join(value_text(value) for value in dimension["values"])
    else:
        text = f"{dimension.get('kind')} from {dimension.get('low')} to {dimension.get('high')}"
    when = dimension.get("when")
    if not when:
        return text
    conditions = (f"{key} is {' or '.join(value_text(value) for value in values)}" for key, values in when.items())
    return f"{text}; only when {formatting.and_join(conditions)}"


def recipe_rows(header: Header) -> NamedValues:
    """The base recipe as dotted keys and their values.

    Args:
        header: The sweep's header.
    """
    return tuple(_flat(header.recipe))


def _flat(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _flat(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(tree)


def continue_command(header: Header) -> str:
    """The command that continues the sweep, or repeats it elsewhere.

    Args:
        header: The sweep's header.
    """
    if header.command:
        return header.command
    sets = [word for setting in header.sets for word in ("--set", setting)]
    return command_line("sweep", header.file, *sets) if header.file else str(header.about.get("command", ""))
