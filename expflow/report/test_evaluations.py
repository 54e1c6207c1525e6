"""The report's section on the test split: every test evaluation, and what it gave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from expflow.events import SplitEvaluated
from expflow.intervals import Estimate, metric_estimate
from expflow.ledger.state import SweepState
from expflow.metrics import is_share, metric_of, metric_value, number
from expflow.report import formatting, trial_results
from expflow.report.bootstrap import ImageInterval
from expflow.report.image_draws import drawn_interval, drawn_interval_over_both
from expflow.report.kept_draws import read_all_draws
from expflow.report.leaderboard import selected_row
from expflow.report.prediction_files import is_kept, read_predictions
from expflow.report.prediction_statistics import both_interval, image_interval, interval_words
from expflow.report.text_table import TableColumn, TextTable
from expflow.sweep.trial_evaluation import COMBINED

COMBINED_NAMES = {"ensemble": "ensemble", "uniform_soup": "uniform soup", "greedy_soup": "greedy soup"}
"""What is made of several trials, as the ledger and as sentences call it."""


@dataclass(frozen=True)
class EvaluationSection:
    """The test evaluations of an experiment.

    Attributes:
        sentence: How many there were.
        table: What each of them gave.
        notes: What a reader must know to read the table rightly.
    """

    sentence: str
    table: TextTable
    notes: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationOutcome:
    """What one test evaluation gave of the config's trials, or of what was combined of them.

    Attributes:
        what: ``mean of 3 seeds``, ``ensemble of 3``.
        metric: The test metric that is quoted.
        value: Its mean over seeds.
        images: The interval over images in words; empty where there is none.
        both: The interval over seeds and images in words; empty where there is none.
        loss: The mean test loss.
        val: The mean of the same metric on val.
        others: The means of the other test metrics, the loss left out.
    """

    what: str
    metric: str
    value: Estimate
    images: str
    both: str
    loss: float | None
    val: float | None
    others: Mapping[str, float]


def evaluation_section(state: SweepState, folder: Path) -> EvaluationSection | None:
    """The test evaluations of some results.

    Args:
        state: What the ledger adds up to.
        folder: The results folder, which has the kept predictions.

    Returns:
        None before the first one.
    """
    evaluations = [evaluation for evaluation in state.split_evaluations if evaluation.split == "test"]
    if not evaluations:
        return None
    metric = main_metric(state, evaluations[-1])
    val = "val" + metric.removeprefix("test")
    columns = (
        *(TableColumn(title, "left") for title in ("#", "when", "config", "what")),
        TableColumn(metric),
        TableColumn("over seeds", "left"),
        TableColumn("over images", "left"),
        TableColumn("over both", "left"),
        TableColumn(val),
        TableColumn("test/loss"),
    )
    given = [
        (evaluation, outcome)
        for evaluation in evaluations
        for outcome in evaluation_outcomes(evaluation, state, folder)
    ]
    rows = tuple(_cells(evaluation, outcome, state) for evaluation, outcome in given)
    others = tuple(_others(evaluation, outcome) for evaluation, outcome in given if outcome.others)
    return EvaluationSection(
        _sentence(evaluations, state),
        TextTable(columns, rows),
        (*others, *_notes(evaluations, state, metric, any(outcome.images for _, outcome in given))),
    )


def main_metric(state: SweepState, evaluation: SplitEvaluated) -> str:
    """The test metric that is quoted: the sweep's own, measured on test, where the task gives it.

    Args:
        state: What the ledger adds up to.
        evaluation: The test evaluation.
    """
    measured = next(iter(evaluation.metrics.values()), {})
    wanted = "test/" + trial_results.header_of(state).metric.rpartition("/")[2]
    return next((name for name in (wanted, "test/top1", *sorted(measured)) if name in measured), wanted)


def evaluation_outcomes(evaluation: SplitEvaluated, state: SweepState, folder: Path) -> list[EvaluationOutcome]:
    """What a test evaluation gave: the mean over the config's seeds first, then what was combined.

    Args:
        evaluation: The test evaluation.
        state: What the ledger adds up to.
        folder: The results folder, which has the kept predictions.
    """
    trials = [name for name in evaluation.metrics if name not in COMBINED]
    outcomes = []
    if trials:
        count = formatting.plural(len(trials), "seed")
        what = (f"mean of {count}" if len(trials) > 1 else count) + _on_views(evaluation)
        outcomes.append(_outcome(what, trials, evaluation, state, folder))
    for name in (name for name in evaluation.metrics if name in COMBINED):
        what = f"{COMBINED_NAMES[name]} of {len(evaluation.members.get(name, ()))}{_on_views(evaluation)}"
        outcomes.append(_outcome(what, [name], evaluation, state, folder))
    return outcomes


def _on_views(evaluation: SplitEvaluated) -> str:
    return f", {evaluation.views}" if evaluation.views else ""


def _outcome(
    what: str, names: list[str], evaluation: SplitEvaluated, state: SweepState, folder: Path
) -> EvaluationOutcome:
    metric = main_metric(state, evaluation)
    rows = [evaluation.metrics[name] for name in names]
    losses = [row["test/loss"] for row in rows if "test/loss" in row]
    images, both = _over_images(names, metric, evaluation, state, folder)
    samples = trial_results.header_of(state).measured_on(metric)
    val = "val" + metric.removeprefix("test")
    on_val = [_on_val(name, evaluation, state).get(val) for name in names]
    known = [value for value in on_val if value is not None]
    return EvaluationOutcome(
        what,
        metric,
        metric_estimate(metric, [row.get(metric, math.nan) for row in rows], samples),
        interval_words(metric, images),
        interval_words(metric, both),
        sum(losses) / len(losses) if losses else None,
        sum(known) / len(known) if known and len(known) == len(on_val) else None,
        _other_means(rows, {metric, "test/loss"}),
    )


def _over_images(
    names: list[str], metric: str, evaluation: SplitEvaluated, state: SweepState, folder: Path
) -> tuple[ImageInterval | None, ImageInterval | None]:
    """The intervals over images, and over seeds and images; None without what this very evaluation kept."""
    hashes = [evaluation.predictions.get(name) or "none" for name in names]
    if (known := metric_of(metric)) is None or known.per_sample:
        kept = [
            read_predictions(folder, state, name, "test", hashed) for name, hashed in zip(names, hashes, strict=True)
        ]
        return image_interval(kept, metric), both_interval(kept, metric)
    trials = [state.trials[name] for name in names if name in state.trials]
    if len(trials) < len(names) or not all(map(partial(is_kept, folder, state), names, hashes)):
        return None, None
    draws = read_all_draws(folder, state, trials, metric)
    if draws is None:
        return None, None
    return drawn_interval(draws), drawn_interval_over_both(draws, share=is_share(metric))


def _other_means(rows: Sequence[Mapping[str, float]], shown: set[str]) -> dict[str, float]:
    """Means of the metrics that all of the rows have and no column shows."""
    common = set.intersection(*map(set, rows)) - shown
    return {name: sum(row[name] for row in rows) / len(rows) for name in sorted(common)}


def _on_val(name: str, evaluation: SplitEvaluated, state: SweepState) -> dict[str, float]:
    if name in COMBINED:
        return evaluation.val.get(name, {})
    trial = state.trials.get(name)
    return trial.metrics if trial is not None else {}


def _cells(evaluation: SplitEvaluated, outcome: EvaluationOutcome, state: SweepState) -> tuple[str, ...]:
    metric = outcome.metric
    val = "val" + metric.removeprefix("test")
    return (
        f"{evaluation.number}{' (again)' if evaluation.again else ''}",
        evaluation.when,
        _label(evaluation, state),
        outcome.what,
        metric_value(metric, outcome.value.mean),
        formatting.interval(metric, outcome.value),
        outcome.images,
        outcome.both,
        "-" if outcome.val is None else metric_value(val, outcome.val),
        "-" if outcome.loss is None else number(outcome.loss),
    )


def _others(evaluation: SplitEvaluated, outcome: EvaluationOutcome) -> str:
    values = ", ".join(f"{name} {metric_value(name, value)}" for name, value in outcome.others.items())
    return f"Evaluation {evaluation.number}, {outcome.what}: {values}."


def _label(evaluation: SplitEvaluated, state: SweepState) -> str:
    trial = next((trial for trial in state.trials.values() if trial.config == evaluation.config), None)
    return formatting.config_label(trial.values) if trial is not None else evaluation.config


def _sentence(evaluations: list[SplitEvaluated], state: SweepState) -> str:
    samples = trial_results.header_of(state).samples.get("test")
    split = f"the test split ({samples:,} images)" if samples else "the test split"
    most = max(evaluation.number for evaluation in evaluations)
    if most == 1:
        return f"There was 1 evaluation on {split}."
    here = "" if len(evaluations) == most else f", {len(evaluations)} of them by these results"
    return (
        f"There were {most} evaluations on {split}{here}. "
        "Each evaluation after the first makes what is quoted more optimistic."
    )


def _notes(evaluations: list[SplitEvaluated], state: SweepState, metric: str, images: bool) -> tuple[str, ...]:
    """What a reader must know to read the table rightly; ``images``: whether it has intervals over images."""
    seeds = {_seeds(evaluation) for evaluation in evaluations}
    notes = []
    if max(seeds) >= 3:
        notes.append("Over seeds: 95 % interval of the mean; it covers training seeds, not the choice of images.")
    if 2 in seeds:
        notes.append("Over two seeds: their range.")
    notes.append(
        "Over images: 95 % interval of the mean of these very networks; it covers the choice of images, not training "
        "seeds."
        if images
        else "Over images: none, since nothing is kept of each test image that this metric could be computed of."
    )
    if max(seeds) > 1 and images:
        notes.append("Over both: 95 % interval for other training seeds and other images.")
    if is_share(metric):
        notes.append("Intervals of shares are taken on the scale of the logit, so that they end before 0 and 100 %.")
    winner = selected_row(state)
    if winner is not None and any(evaluation.config == winner.config for evaluation in evaluations):
        notes.append("The val score of a config that was selected on val is optimistic; its first test score is not.")
    if len({evaluation.config for evaluation in evaluations}) > 1:
        notes.append(
            "Several configs were evaluated: the best of their test scores is selected on test, and optimistic."
        )
    if any(name in COMBINED for evaluation in evaluations for name in evaluation.metrics):
        notes.append(
            "An ensemble averages probabilities, a soup weights; a greedy soup takes in whom val gets no worse by."
        )
    if any(evaluation.views for evaluation in evaluations):
        notes.append(
            "flip, scales and windows: probabilities are averaged over these views of each image; val is on the image"
            " alone."
        )
    if metric != f"test/{trial_results.header_of(state).metric.rpartition('/')[2]}":
        notes.append(f"The task does not measure the sweep's metric on test; {metric} is shown.")
    return tuple(notes)


def _seeds(evaluation: SplitEvaluated) -> int:
    return sum(name not in COMBINED for name in evaluation.metrics)
