"""The report's section on the test split: every look that was taken, and what it gave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expflow.events import Looked
from expflow.ledger.state import SweepState
from expflow.report import results, words
from expflow.report.images import image_interval, interval_words, predictions_of
from expflow.report.ranking import best
from expflow.report.statistics import Estimate, estimate
from expflow.report.tables import Column, Table
from expflow.sweep.testing import COMBINED

_NAMES = {"ensemble": "ensemble", "uniform_soup": "uniform soup", "greedy_soup": "greedy soup"}


@dataclass(frozen=True)
class Looks:
    """``sentence`` says how often the test split was looked at, ``table`` what each look gave."""

    sentence: str
    table: Table
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What one look gave of one thing: the config's trials, or what was combined of them."""

    what: str
    metric: str
    value: Estimate
    images: str
    loss: float | None
    val: float | None


def looks(state: SweepState, folder: Path) -> Looks | None:
    """The looks of the results in ``folder`` at their test split; None before the first."""
    taken = [look for look in state.looks if look.split == "test"]
    if not taken:
        return None
    metric = main_metric(state, taken[-1])
    val = "val" + metric.removeprefix("test")
    columns = (
        *(Column(each, "left") for each in ("look", "when", "config", "what")),
        Column(metric),
        Column("over seeds", "left"),
        Column("over images", "left"),
        Column(val),
        Column("test/loss"),
    )
    rows = tuple(_cells(look, each, state) for look in taken for each in outcomes(look, state, folder))
    return Looks(_sentence(taken, state), Table(columns, rows), _notes(taken, state, metric))


def main_metric(state: SweepState, look: Looked) -> str:
    """The test metric that is quoted: the sweep's own, measured on test, where the task gives it."""
    there = next(iter(look.metrics.values()), {})
    wanted = "test/" + results.header_of(state).metric.rpartition("/")[2]
    return next((name for name in (wanted, "test/top1", *sorted(there)) if name in there), wanted)


def outcomes(look: Looked, state: SweepState, folder: Path) -> list[Result]:
    """What ``look`` gave: the mean over the config's seeds first, then what was combined."""
    metric = main_metric(state, look)
    trials = [name for name in look.metrics if name not in COMBINED]
    found = []
    if trials:
        count = words.plural(len(trials), "seed")
        found.append(_result(f"mean of {count}" if len(trials) > 1 else count, trials, look, state, folder, metric))
    for name in (each for each in look.metrics if each in COMBINED):
        what = f"{_NAMES[name]} of {len(look.members.get(name, ()))}"
        found.append(_result(what, [name], look, state, folder, metric))
    return found


def _result(what: str, names: list[str], look: Looked, state: SweepState, folder: Path, metric: str) -> Result:
    rows = [look.metrics[name] for name in names]
    losses = [row["test/loss"] for row in rows if "test/loss" in row]
    kept = [predictions_of(folder, state, name, "test", look.predictions.get(name) or "none") for name in names]
    val = "val" + metric.removeprefix("test")
    on_val = [_on_val(name, look, state).get(val) for name in names]
    known = [each for each in on_val if each is not None]
    return Result(
        what,
        metric,
        estimate([row[metric] for row in rows]),
        interval_words(metric, image_interval(kept, metric)),
        sum(losses) / len(losses) if losses else None,
        sum(known) / len(known) if known and len(known) == len(on_val) else None,
    )


def _on_val(name: str, look: Looked, state: SweepState) -> dict[str, float]:
    if name in COMBINED:
        return look.val.get(name, {})
    trial = state.trials.get(name)
    return trial.metrics if trial is not None else {}


def _cells(look: Looked, result: Result, state: SweepState) -> tuple[str, ...]:
    metric = result.metric
    val = "val" + metric.removeprefix("test")
    return (
        f"{look.number}{' (again)' if look.again else ''}",
        look.when,
        _label(look, state),
        result.what,
        words.metric_value(metric, result.value.mean),
        words.interval(metric, result.value),
        result.images,
        "-" if result.val is None else words.metric_value(val, result.val),
        "-" if result.loss is None else words.number(result.loss),
    )


def _label(look: Looked, state: SweepState) -> str:
    trial = next((each for each in state.trials.values() if each.config == look.config), None)
    return words.config_label(trial.values) if trial is not None else look.config


def _sentence(taken: list[Looked], state: SweepState) -> str:
    samples = words.samples_of(results.header_of(state)).get("test")
    split = f"the test split ({samples:,} images)" if samples else "the test split"
    most = max(look.number for look in taken)
    if most == 1:
        return f"There was 1 look at {split}."
    here = "" if len(taken) == most else f", {len(taken)} of them by these results"
    return f"There were {most} looks at {split}{here}. Each look after the first makes what is quoted more optimistic."


def _notes(taken: list[Looked], state: SweepState, metric: str) -> tuple[str, ...]:
    """What a reader must know to read the table rightly."""
    seeds = {_seeds(look) for look in taken}
    notes = []
    if max(seeds) >= 3:
        notes.append("Over seeds: 95 % t interval of the mean; it covers training seeds, not the choice of images.")
    if 2 in seeds:
        notes.append("Over two seeds: their range.")
    notes.append(
        "Over images: 95 % percentile bootstrap of the mean of these very networks; it covers the choice of images, "
        "not training seeds."
    )
    winner = best(state)
    if winner is not None and any(look.config == winner.config for look in taken):
        notes.append("The val score of a config that was selected on val is optimistic; its first test score is not.")
    if len({look.config for look in taken}) > 1:
        notes.append(
            "Several configs were looked at: the best of their test scores is selected on test, and optimistic."
        )
    if any(name in COMBINED for look in taken for name in look.metrics):
        notes.append(
            "An ensemble averages probabilities, a soup weights; a greedy soup takes in whom val gets no worse by."
        )
    if metric != f"test/{results.header_of(state).metric.rpartition('/')[2]}":
        notes.append(f"The task does not measure the sweep's metric on test; {metric} is shown.")
    return tuple(notes)


def _seeds(look: Looked) -> int:
    return sum(name not in COMBINED for name in look.metrics)
