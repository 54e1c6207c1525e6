"""The leaderboard over configs: who is ranked, with what uncertainty, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.report import results, words
from expflow.report.results import Config, Failure
from expflow.report.statistics import Estimate, estimate


@dataclass(frozen=True)
class Row:
    """One config. ``rank`` counts from 1; None where no seed completed, so that there is nothing to rank.

    ``estimate`` is over the completed seeds; ``trials`` are those, ``failures`` the seeds without a value and
    ``pending`` the seeds that have not ended. ``last`` is filled where ``estimate`` is of the best epochs (rule 4).
    """

    rank: int | None
    config: str
    values: Mapping[str, Any]
    recipe: Mapping[str, Any]
    estimate: Estimate | None
    last: Estimate | None
    others: Mapping[str, Estimate]
    trials: tuple[TrialState, ...]
    failures: tuple[Failure, ...]
    pending: tuple[int, ...]
    stopped: tuple[int, ...]
    params: float | None
    macs: float | None
    seconds: float | None

    @property
    def label(self) -> str:
        """``depth=56 shortcut=pad``."""
        return words.config_label(self.values)

    @property
    def seeds_text(self) -> str:
        """``3``, ``2 of 3 (s1 diverged)``: how many seeds the mean is over, and what became of the others."""
        total = len(self.trials) + len(self.failures) + len(self.pending) + len(self.stopped)
        beside = [f"s{each.seed} {each.kind}" for each in self.failures]
        beside += [f"s{seed} stopped" for seed in self.stopped] + [f"s{seed} to come" for seed in self.pending]
        return f"{len(self.trials)} of {total} ({', '.join(beside)})" if beside else str(total)


@dataclass(frozen=True)
class Stopped:
    """A trial that the scheduler stopped early: how far it came (its rung) and its value there."""

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
    """Ranked rows first, then rows without a value, then early-stopped trials by rung (rule 6)."""

    metric: str
    mode: str
    select: str
    keys: tuple[str, ...]
    others: tuple[str, ...]
    rows: tuple[Row, ...]
    stopped: tuple[Stopped, ...]
    progress: results.Progress
    notes: tuple[str, ...]

    @property
    def winner(self) -> Row | None:
        """The first ranked row."""
        return self.rows[0] if self.rows and self.rows[0].rank == 1 else None


def leaderboard(state: SweepState) -> Leaderboard:
    """The standing of the latest plan's configs by the sweep's metric, best mean first; ties keep proposal order."""
    header = results.header_of(state)
    others = _other_metrics(header)
    rows = [_row(config, header, others) for config in results.configs(state)]
    ranked = [row for row in rows if row.estimate is not None]
    sign = -1.0 if header.mode == "max" else 1.0
    ranked.sort(key=lambda row: sign * row.estimate.mean if row.estimate else 0.0)
    placed = [_placed(row, place) for place, row in enumerate(ranked, start=1)]
    return Leaderboard(
        metric=header.metric,
        mode=header.mode,
        select=header.select,
        keys=tuple(results.searched_keys(state)),
        others=others,
        rows=(*placed, *(row for row in rows if row.estimate is None)),
        stopped=_stopped(state, header),
        progress=results.progress(state),
        notes=_notes(placed, header),
    )


def best(state: SweepState) -> Row | None:
    """The config that the sweep selects: the leaderboard's first row, or None before any trial is done.

    Selected on the means over seeds; ``row.trials`` are its completed trials and ``row.recipe`` its identity fields.
    """
    return leaderboard(state).winner


def _other_metrics(header: Header) -> tuple[str, ...]:
    """Metrics that the experiment's figures and contrasts are about, besides the sweep's own."""
    asked = [each["y"] for each in header.report.get("figures", ())]
    asked += [each["metric"] for each in header.report.get("contrasts", ())]
    return tuple(metric for metric in dict.fromkeys(asked) if metric != header.metric)


def _row(config: Config, header: Header, others: Sequence[str]) -> Row:
    complete = [trial for trial in config.trials if results.value(trial, header.metric, header) is not None]
    failed = [results.failure(trial, header.metric, header) for trial in config.trials]
    return Row(
        rank=None,
        config=config.config,
        values=config.values,
        recipe=config.trials[0].recipe,
        estimate=_over(results.value(trial, header.metric, header) for trial in complete),
        last=_over(results.last(trial, header.metric) for trial in complete) if header.select == "best_epoch" else None,
        others={name: found for name in others if (found := _over(results.last(trial, name) for trial in complete))},
        trials=tuple(complete),
        failures=tuple(each for each in failed if each is not None),
        pending=tuple(trial.seed for trial in config.trials if not trial.ended),
        stopped=tuple(trial.seed for trial in config.trials if trial.status == "stopped"),
        params=_first(results.cost(trial, "cost/params") for trial in config.trials),
        macs=_first(results.cost(trial, "cost/macs") for trial in config.trials),
        seconds=_mean(_seconds(trial) for trial in complete),
    )


def _placed(row: Row, place: int) -> Row:
    return Row(**{**row.__dict__, "rank": place})


def _over(values: Any) -> Estimate | None:
    known = [value for value in values if value is not None]
    return estimate(known) if known else None


def _first(values: Any) -> float | None:
    return next((value for value in values if value is not None), None)


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _seconds(trial: TrialState) -> float | None:
    """Seconds of training as the trial measured them, else the whole trial's as the driver did."""
    measured = results.cost(trial, "cost/seconds")
    return measured if measured is not None else (trial.seconds or None)


def _stopped(state: SweepState, header: Header) -> tuple[Stopped, ...]:
    found = [
        Stopped(
            label=words.config_label(trial.values),
            values=trial.values,
            seed=trial.seed,
            epoch=results.last(trial, "progress/epoch"),
            step=trial.reports[-1].step if trial.reports else 0,
            progress=trial.progress,
            value=results.last(trial, header.metric),
        )
        for trial in state.plan_trials()
        if trial.status == "stopped"
    ]
    sign = -1.0 if header.mode == "max" else 1.0
    worst = float("inf")
    return tuple(sorted(found, key=lambda each: (-each.step, worst if each.value is None else sign * each.value)))


def _notes(ranked: Sequence[Row], header: Header) -> tuple[str, ...]:
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
    if words.is_share(header.metric) and any(row.estimate and (row.estimate.high or 0.0) > 1.0 for row in ranked):
        notes.append("A t interval does not know that 100 % is the end, and may pass it.")
    if any(row.failures for row in ranked):
        notes.append("Seeds that failed or diverged are named beside n; they are not in the mean.")
    return tuple(notes)


def _interval_note(kinds: AbstractSet[str], header: Header) -> str:
    said = []
    if "t" in kinds:
        said.append("three or more seeds: 95 % t interval")
    if "range" in kinds:
        said.append("two seeds: their range")
    if "none" in kinds:
        said.append("one seed: no interval")
    covers = words.coverage(header.metric, header)
    text = "; ".join(said)
    text = text[0].upper() + text[1:] + "."
    return text if kinds == {"none"} else f"{text} It covers {covers}."


def _selection_note(winner: Row, split: str) -> str:
    if split == "val":
        return f"{winner.label} was selected on val, hence its val score is optimistic; quote a test score."
    if split == "test":
        return f"{winner.label} was selected on test data: its score is optimistic and no test result any more."
    return f"{winner.label} was selected by this very score, which is therefore optimistic."
