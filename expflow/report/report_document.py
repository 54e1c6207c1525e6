"""The report for programs: one object with a version, as ``report --json`` prints it and ``report.json`` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from expflow.intervals import Estimate
from expflow.ledger.state import SweepState
from expflow.report.best_of_k import BestOfK
from expflow.report.contrast_answers import Answer
from expflow.report.leaderboard import Leaderboard, LeaderboardRow, rank_configs
from expflow.report.next_steps import NextStep, next_steps
from expflow.report.parameter_importance import SearchImportance
from expflow.report.pareto_section import ParetoFront
from expflow.report.proof_section import ProofSection
from expflow.report.proxy_section import ProxySection
from expflow.report.test_evaluations import EvaluationOutcome, evaluation_outcomes
from expflow.report.trial_results import TrialFailure
from expflow.report.view import ReportView

REPORT_VERSION: Literal[1] = 1
"""Goes up when a field changes its meaning or goes away; fields that are added do not raise it."""


@dataclass(frozen=True)
class TrialCounts:
    """How far the sweep is, in trials.

    Attributes:
        expected: How many the plan expects.
        done: At full budget.
        failed: Ended by a failure.
        stopped: Stopped early by the scheduler.
        running: Running now.
        complete: Whether every trial has ended.
    """

    expected: int
    done: int
    failed: int
    stopped: int
    running: int
    complete: bool


@dataclass(frozen=True)
class ConfigRow:
    """A config of the leaderboard.

    Attributes:
        rank: From 1; None where no seed completed.
        config: Config id.
        values: Searched key -> value.
        value: The sweep's metric over the completed seeds.
        others: Other metrics that figures and contrasts are about.
        seeds: The completed seeds.
        lost: The seeds that failed or diverged.
        pending: The seeds that have not ended.
        stopped: The seeds that were stopped early.
        params: Number of parameters.
        macs: Multiply-adds of one sample.
        seconds: Mean training time.
    """

    rank: int | None
    config: str
    values: Mapping[str, Any]
    value: Estimate | None
    others: Mapping[str, Estimate]
    seeds: tuple[int, ...]
    lost: tuple[int, ...]
    pending: tuple[int, ...]
    stopped: tuple[int, ...]
    params: float | None
    macs: float | None
    seconds: float | None


@dataclass(frozen=True)
class RecordedEvaluation:
    """An evaluation on the test split.

    Attributes:
        number: Which one it was, from 1, over all results of the experiment.
        when: When, in UTC.
        config: Config id.
        outcomes: What it gave: of the config's seeds, then of what was combined.
    """

    number: int
    when: str
    config: str
    outcomes: tuple[EvaluationOutcome, ...]


@dataclass(frozen=True)
class ReportDocument:
    """What a sweep has shown.

    Attributes:
        document: Which document this is.
        version: Its version.
        name: Name of the results.
        question: What the experiment asks; empty where its file does not say it.
        metric: What it is judged by.
        mode: ``max`` or ``min``.
        trials: How far it is.
        answers: One for each declared contrast.
        leaderboard: The configs, ranked ones first.
        best: What the choice of the first config is worth; None where nothing was chosen.
        proof: The proof of a search; None for sweeps without arms.
        proxies: What was measured of networks before training; None where nothing was.
        pareto: The Pareto front and its hypervolume over time; None where the sweep has one objective.
        importance: What the differences come from; None for fewer than 20 configs or two searched keys.
        tests: The evaluations on the test split.
        failures: The trials that gave no value.
        notes: What a reader must know to read the numbers rightly.
        files: What was written: ``html``, and the figures by name, relative to ``folder``.
        folder: The results folder; in ``report.json``, which lies in it, ``.``.
        next: What can be done now, as argument lists.
    """

    document: Literal["report"]
    version: Literal[1]
    name: str
    question: str
    metric: str
    mode: str
    trials: TrialCounts
    answers: tuple[Answer, ...]
    leaderboard: tuple[ConfigRow, ...]
    best: BestOfK | None
    proof: ProofSection | None
    proxies: ProxySection | None
    pareto: ParetoFront | None
    importance: SearchImportance | None
    tests: tuple[RecordedEvaluation, ...]
    failures: tuple[TrialFailure, ...]
    notes: tuple[str, ...]
    files: Mapping[str, str]
    folder: str
    next: tuple[NextStep, ...]


def report_document(
    view: ReportView,
    state: SweepState,
    folder: Path,
    figures: tuple[str, ...],
    importance: SearchImportance | None = None,
) -> ReportDocument:
    """The report as plain data.

    Args:
        view: What the page shows.
        state: What the ledger adds up to.
        folder: The results folder.
        figures: Names of the figures that were written.
        importance: What the differences of the search come from.
    """
    board, name = rank_configs(state), view.name
    files = {"html": "report.html", **{figure: f"figures/{figure}.svg" for figure in figures}}
    return ReportDocument(
        document="report",
        version=REPORT_VERSION,
        name=name,
        question=view.question,
        metric=board.metric,
        mode=board.mode,
        trials=_counts(board),
        answers=view.answers,
        leaderboard=tuple(_row(row) for row in board.rows),
        best=view.best,
        proof=view.proof,
        proxies=view.proxies,
        pareto=view.pareto,
        importance=importance,
        tests=_tests(state, folder),
        failures=view.failures,
        notes=(*view.answer_notes, *view.leaderboard_notes),
        files=files,
        folder=".",
        next=next_steps(state, view.answers, name),
    )


def _counts(board: Leaderboard) -> TrialCounts:
    progress = board.progress
    return TrialCounts(
        progress.expected, progress.done, progress.failed, progress.stopped, progress.running, progress.complete
    )


def _row(row: LeaderboardRow) -> ConfigRow:
    return ConfigRow(
        rank=row.rank,
        config=row.config,
        values=row.values,
        value=row.estimate,
        others=row.others,
        seeds=tuple(trial.seed for trial in row.trials),
        lost=tuple(failure.seed for failure in row.failures),
        pending=row.pending,
        stopped=row.stopped,
        params=row.params,
        macs=row.macs,
        seconds=row.seconds,
    )


def _tests(state: SweepState, folder: Path) -> tuple[RecordedEvaluation, ...]:
    return tuple(
        RecordedEvaluation(
            evaluation.number,
            evaluation.when,
            evaluation.config,
            tuple(evaluation_outcomes(evaluation, state, folder)),
        )
        for evaluation in state.split_evaluations
        if evaluation.split == "test"
    )
