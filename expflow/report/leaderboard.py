"""The leaderboard over configs: which are ranked, with what uncertainty, and what stands beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from expflow.intervals import Estimate, metric_estimate
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.ledger.trial_values import counted_value, last, rank_by_mean
from expflow.report import formatting, trial_results
from expflow.report.trial_results import ConfigTrials, TrialFailure


@dataclass(frozen=True)
class LeaderboardRow:
    """One config.

    Attributes:
        rank: Counts from 1; None where no seed completed, so that there is nothing to rank.
        config: Config id.
        values: Searched key -> value.
        recipe: Its identity fields.
        estimate: The sweep's metric over the completed seeds.
        last: The metric of the last reports, where ``estimate`` is of the best epochs.
        others: Means of the other metrics that figures and contrasts are about.
        trials: The completed trials.
        failures: The seeds that ended without a value.
        pending: The seeds that have not ended.
        stopped: The seeds that the scheduler stopped early.
        params: Number of parameters.
        macs: Multiply-adds of one sample.
        seconds: Mean training time of the completed trials.
    """

    rank: int | None
    config: str
    values: Mapping[str, Any]
    recipe: Mapping[str, Any]
    estimate: Estimate | None
    last: Estimate | None
    others: Mapping[str, Estimate]
    trials: tuple[TrialState, ...]
    failures: tuple[TrialFailure, ...]
    pending: tuple[int, ...]
    stopped: tuple[int, ...]
    params: float | None
    macs: float | None
    seconds: float | None

    @property
    def label(self) -> str:
        """``depth=56 shortcut=pad``."""
        return formatting.config_label(self.values)

    @property
    def seeds_text(self) -> str:
        """``3``, ``2 of 3 (s1 diverged)``: how many seeds the mean is over, and what became of the others."""
        total = len(self.trials) + len(self.failures) + len(self.pending) + len(self.stopped)
        beside = [f"s{failure.seed} {failure.kind}" for failure in self.failures]
        beside += [f"s{seed} stopped" for seed in self.stopped] + [f"s{seed} to come" for seed in self.pending]
        return f"{len(self.trials)} of {total} ({', '.join(beside)})" if beside else str(total)


@dataclass(frozen=True)
class StoppedTrial:
    """A trial that the scheduler stopped early.

    Attributes:
        label: Its config in words.
        values: Searched key -> value.
        seed: Its seed.
        epoch: The epoch at which it was stopped; None where epochs are not reported.
        step: The optimizer step at which it was stopped.
        progress: Share of its budget that was spent, 0 to 1.
        value: The sweep's metric there.
    """

    label: str
    values: Mapping[str, Any]
    seed: int
    epoch: float | None
    step: int
    progress: float
    value: float | None

    @property
    def rung(self) -> str:
        """``epoch 3``, or the step where epochs are not reported."""
        return f"epoch {self.epoch:g}" if self.epoch is not None else f"step {self.step}"


@dataclass(frozen=True)
class Leaderboard:
    """The standing of the configs.

    Attributes:
        metric: The sweep's metric.
        mode: ``max`` or ``min``.
        select: Which report counts: ``last`` or ``best_epoch``.
        keys: The searched keys.
        others: Other metrics with a column.
        rows: Ranked rows first, then rows without a value.
        stopped: Early-stopped trials by rung, which are never ranked.
        progress: How far the sweep is.
        notes: What a reader must know to read the table rightly.
    """

    metric: str
    mode: str
    select: str
    keys: tuple[str, ...]
    others: tuple[str, ...]
    rows: tuple[LeaderboardRow, ...]
    stopped: tuple[StoppedTrial, ...]
    progress: trial_results.SweepProgress
    notes: tuple[str, ...]

    @property
    def winner(self) -> LeaderboardRow | None:
        """The first ranked row."""
        return self.rows[0] if self.rows and self.rows[0].rank == 1 else None


def rank_configs(state: SweepState) -> Leaderboard:
    """The standing of the latest plan's configs by the sweep's metric, best mean first; ties keep proposal order.

    Args:
        state: What the ledger adds up to.
    """
    header = trial_results.header_of(state)
    others = _other_metrics(header)
    rows = [_row(config, header, others) for config in trial_results.configs(state)]
    ranked = [row for row in rows if row.estimate is not None]
    place = {config: number for number, config in enumerate(rank_by_mean(state))}
    ranked.sort(key=lambda row: place[row.config])
    placed = [replace(row, rank=place) for place, row in enumerate(ranked, start=1)]
    return Leaderboard(
        metric=header.metric,
        mode=header.mode,
        select=header.select,
        keys=tuple(trial_results.searched_keys(state)),
        others=others,
        rows=(*placed, *(row for row in rows if row.estimate is None)),
        stopped=_stopped(state, header),
        progress=trial_results.progress(state),
        notes=_notes(placed, header),
    )


def selected_row(state: SweepState) -> LeaderboardRow | None:
    """The config that the sweep selects: the leaderboard's first row. It is selected on the means over seeds.

    Args:
        state: What the ledger adds up to.

    Returns:
        None before any trial is done.
    """
    header, ranking = trial_results.header_of(state), rank_by_mean(state)
    best = next((config for config in trial_results.configs(state) if config.config in ranking[:1]), None)
    return replace(_row(best, header, _other_metrics(header)), rank=1) if best is not None else None


def _other_metrics(header: Header) -> tuple[str, ...]:
    """Metrics that objectives, figures and contrasts are about, besides the one that ranks."""
    declared = [objective["metric"] for objective in header.objectives]
    declared += [figure["y"] for figure in header.report.get("figures", ())]
    declared += [contrast["metric"] for contrast in header.report.get("contrasts", ())]
    return tuple(metric for metric in dict.fromkeys(declared) if metric != header.metric)


def _row(config: ConfigTrials, header: Header, others: Sequence[str]) -> LeaderboardRow:
    complete = [trial for trial in config.trials if counted_value(trial, header.metric, header) is not None]
    failed = [trial_results.failure(trial, header.metric, header) for trial in config.trials]
    return LeaderboardRow(
        rank=None,
        config=config.config,
        values=config.values,
        recipe=config.trials[0].recipe,
        estimate=_estimate((counted_value(trial, header.metric, header) for trial in complete), header.metric, header),
        last=_estimate_last(complete, header.metric, header) if header.select == "best_epoch" else None,
        others={name: over for name in others if (over := _estimate_last(complete, name, header))},
        trials=tuple(complete),
        failures=tuple(failure for failure in failed if failure is not None),
        pending=tuple(trial.seed for trial in config.trials if not trial.ended),
        stopped=tuple(trial.seed for trial in config.trials if trial.status == "stopped"),
        params=_first(trial_results.cost(trial, "cost/params") for trial in config.trials),
        macs=_first(trial_results.cost(trial, "cost/macs") for trial in config.trials),
        seconds=_mean(_seconds(trial) for trial in complete),
    )


def _estimate(values: Iterable[float | None], metric: str, header: Header) -> Estimate | None:
    known = [value for value in values if value is not None]
    return metric_estimate(metric, known, header.measured_on(metric), header.overlap) if known else None


def _estimate_last(trials: Sequence[TrialState], metric: str, header: Header) -> Estimate | None:
    return _estimate((last(trial, metric) for trial in trials), metric, header)


def _first(values: Iterable[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _seconds(trial: TrialState) -> float | None:
    """Seconds of training as the trial measured them, else the whole trial's as the driver did."""
    measured = trial_results.cost(trial, "cost/seconds")
    return measured if measured is not None else (trial.seconds or None)


def _stopped(state: SweepState, header: Header) -> tuple[StoppedTrial, ...]:
    stopped = [
        StoppedTrial(
            label=formatting.config_label(trial.values),
            values=trial.values,
            seed=trial.seed,
            epoch=last(trial, "progress/epoch"),
            step=trial.reports[-1].step if trial.reports else 0,
            progress=trial.progress,
            value=last(trial, header.metric),
        )
        for trial in state.plan_trials()
        if trial.status == "stopped"
    ]
    sign = -1.0 if header.mode == "max" else 1.0
    worst = float("inf")
    return tuple(sorted(stopped, key=lambda trial: (-trial.step, worst if trial.value is None else sign * trial.value)))


def _notes(ranked: Sequence[LeaderboardRow], header: Header) -> tuple[str, ...]:
    """What a reader must know to read the table rightly."""
    if not ranked:
        return ()
    kinds = {row.estimate.kind for row in ranked if row.estimate}
    notes = [_interval_note(kinds, header)]
    counted = "the best epoch's" if header.select == "best_epoch" else "the last report's"
    notes.append(f"Each seed counts with {counted} value; n is the number of seeds in the mean.")
    if len(ranked) > 1:
        split = header.metric.split("/", 1)[0]
        notes.append(_selection_note(ranked[0], split))
        notes.append(
            "Differences between rows that no contrast declares are exploratory: the order alone does not say that "
            "two configs differ."
        )
    if any(row.failures for row in ranked):
        notes.append("Seeds that failed or diverged are named beside n; they are not in the mean.")
    return tuple(notes)


def _interval_note(kinds: AbstractSet[str], header: Header) -> str:
    parts = []
    if "t" in kinds:
        parts.append("three or more seeds: 95 % t interval")
    if "logit" in kinds:
        parts.append("three or more seeds: 95 % interval, Student's on the scale of the logit")
    if "range" in kinds:
        parts.append("two seeds: their range")
    if "none" in kinds:
        parts.append("one seed: no interval")
    text = "; ".join(parts)
    text = text[0].upper() + text[1:] + "."
    covers = formatting.coverage(header.metric, header)
    return text if kinds == {"none"} else f"{text} It covers {covers}."


def _selection_note(winner: LeaderboardRow, split: str) -> str:
    if split == "val":
        return f"{winner.label} was selected on val, hence its val score is optimistic; quote a test score."
    if split == "test":
        return f"{winner.label} was selected on test data: its score is optimistic and no test result any more."
    return f"{winner.label} was selected by this very score, which is therefore optimistic."
