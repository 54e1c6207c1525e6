"""One model of the report: everything that the page and the terminal show, as plain data.

:func:`build_view` computes it from the ledger's state and the files beside it; :mod:`expflow.report.page` and
:mod:`expflow.report.terminal` render it, and :meth:`ReportView.to_json` is the same for programs.
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.report import run_facts, trial_results
from expflow.report.artifacts import ArtifactSection, artifact_section
from expflow.report.best_of_k import BestOfK, best_note, best_of_k
from expflow.report.child_drawing import ChildDrawing, draw_child
from expflow.report.contrast_answers import Answer
from expflow.report.contrasts import answers
from expflow.report.costs import CostComparison, cost_comparisons
from expflow.report.curve_diagnosis import CurveDiagnosis, curve_diagnoses
from expflow.report.figure_data import FigureData, report_figures
from expflow.report.leaderboard import Leaderboard, rank_configs, selected_row
from expflow.report.leaderboard_table import ranked_table, stopped_table
from expflow.report.learning_curves import CurveGrid, learning_curves
from expflow.report.pareto_section import ParetoFront, pareto_front
from expflow.report.prediction_statistics import with_mcnemar_notes
from expflow.report.proof_section import ProofSection, proof_section
from expflow.report.proxy_section import ProxySection, proxy_section
from expflow.report.run_facts import NamedValues
from expflow.report.test_evaluations import EvaluationSection, evaluation_section
from expflow.report.text_table import TextTable
from expflow.report.trial_pictures import drawing_options, saved_pictures
from expflow.report.trial_results import TrialFailure
from expflow.sweep.result_location import related_results


@dataclass(frozen=True)
class PictureView:
    """A picture of a trial that is embedded in the page.

    Attributes:
        title: Its title.
        caption: What a reader must know.
        alt: What it shows, in words.
        source: The file's content as a ``data:`` address.
        path: The file, relative to the results folder.
    """

    title: str
    caption: str
    alt: str
    source: str
    path: str


@dataclass(frozen=True)
class ReportView:
    """Everything that the report of an experiment shows.

    Attributes:
        name: The experiment's name.
        question: What it asks; empty where its file does not say it.
        expect: What was expected.
        status: How far the sweep is, in words.
        complete: Whether every trial has ended.
        metric: What configs are ranked by.
        as_of: When the ledger last saw a trial start or end.
        answers: One for each declared contrast.
        answer_notes: What a reader must know to read the answers rightly.
        figures: Data of the declared figures, or of the usual ones where none is declared.
        leaderboard: The configs by rank.
        leaderboard_notes: What a reader must know to read the leaderboard rightly.
        best: What the choice of the leaderboard's first config is worth; None where nothing was chosen.
        stopped: The early-stopped trials.
        proof: The proof of a search; None for sweeps without arms.
        proxies: What was measured of networks before training; None where nothing was.
        child: The drawing of the first config's network, where that is a child; else None.
        pareto: The Pareto front; None where the sweep has one objective.
        test: The test evaluations; None before the first.
        learning: The learning curves; None where nothing was reported.
        diagnoses: What the learning curves of each config show, best config first.
        pictures: The pictures that ``show`` drew of trials, those of the selected config first.
        drawing_options: The options of ``show`` that draw more of the selected config's first trial.
        artifacts: Pictures and tables that the selected config's trials wrote.
        failures: The trials that gave no value.
        facts: What was run.
        costs: Predicted and actual costs.
        recipe: The base recipe.
        space: The searched keys.
        text: The experiment file.
        command: The command that continues the sweep, or repeats it elsewhere.
    """

    name: str
    question: str
    expect: str
    status: str
    complete: bool
    metric: str
    as_of: str
    answers: tuple[Answer, ...]
    answer_notes: tuple[str, ...]
    figures: tuple[FigureData, ...]
    leaderboard: TextTable
    leaderboard_notes: tuple[str, ...]
    best: BestOfK | None
    stopped: TextTable
    proof: ProofSection | None
    proxies: ProxySection | None
    child: ChildDrawing | None
    pareto: ParetoFront | None
    test: EvaluationSection | None
    learning: CurveGrid | None
    diagnoses: tuple[CurveDiagnosis, ...]
    pictures: tuple[PictureView, ...]
    drawing_options: tuple[str, ...]
    artifacts: ArtifactSection
    failures: tuple[TrialFailure, ...]
    facts: NamedValues
    costs: tuple[CostComparison, ...]
    recipe: NamedValues
    space: NamedValues
    text: str
    command: str

    def to_json(self) -> dict[str, Any]:
        """The view as data that the json module writes."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    return [_plain(member) for member in value] if isinstance(value, tuple) else value


def build_view(folder: Path, state: SweepState) -> ReportView:
    """Compute the report of an experiment; nothing is drawn, and nothing written.

    Args:
        folder: The results folder, which has kept predictions, pictures and forecasts.
        state: What its ledger adds up to.
    """
    return _view(folder, state, trial_results.header_of(state), rank_configs(state))


def _view(folder: Path, state: SweepState, header: Header, board: Leaderboard) -> ReportView:
    answered = tuple(with_mcnemar_notes(answers(state, folder), state, folder))
    best = best_of_k(board, state, folder, related=list(related_results(folder, state).values()))
    return ReportView(
        name=header.name or "sweep",
        question=header.about.get("question", ""),
        expect=header.about.get("expect", ""),
        status=str(board.progress),
        complete=board.progress.complete,
        metric=header.metric,
        as_of=run_facts.newest_time(state.plan_trials()),
        answers=answered,
        answer_notes=_answer_notes(answered),
        figures=tuple(report_figures(state)),
        leaderboard=ranked_table(board),
        leaderboard_notes=(*board.notes, *([best_note(best, board.metric)] if best is not None else [])),
        best=best,
        stopped=stopped_table(board),
        proof=proof_section(state, board, header),
        proxies=proxy_section(state, board, header),
        child=_drawn_child(board),
        pareto=pareto_front(board, header),
        test=evaluation_section(state, folder),
        learning=learning_curves(state, board),
        diagnoses=tuple(curve_diagnoses(state, board)),
        pictures=_pictures(folder, state),
        drawing_options=_drawing_options(folder, state),
        artifacts=artifact_section(folder, state),
        failures=tuple(trial_results.failures(state)),
        facts=run_facts.run_facts(state),
        costs=tuple(cost_comparisons(folder, state)),
        recipe=run_facts.recipe_rows(header),
        space=run_facts.space_rows(header),
        text=header.text,
        command=run_facts.continue_command(header),
    )


def _answer_notes(answered: tuple[Answer, ...]) -> tuple[str, ...]:
    """What a reader must know to read the answers rightly."""
    if not answered:
        return ()
    count = max(answer.declared for answer in answered)
    declared = "the one declared contrast" if count == 1 else f"the {count} contrasts that were ever declared"
    notes = [
        "p values are two-sided paired t tests over common seeds, divided by the share of the level that their "
        f"analysis has (0.8, 0.1, 0.05, …) and Holm-corrected over {declared}."
    ]
    if any(answer.expect == "not_worse" for answer in answered):
        notes[0] += " Those of a declared margin are one-sided."
    kinds = {answer.difference.kind for answer in answered if answer.difference}
    if "t" in kinds:
        notes.append("Brackets: 95 % t interval of the paired difference, not corrected.")
    if "range" in kinds:
        notes.append("Brackets of two seeds: the range of the two differences.")
    if any(answer.seeds_needed for answer in answered):
        notes.append(
            "Seeds needed: for power 0.8 at the level of the next analysis, for the observed difference and for the "
            "ends of its 50 % interval. Adding them costs nothing of what is said here: later analyses have their own "
            "shares of the level."
        )
    return tuple(notes)


def _drawn_child(board: Leaderboard) -> ChildDrawing | None:
    """The network of the first config, where it is a child."""
    return draw_child(board.rows[0].recipe.get("model", {}), board.rows[0].label) if board.rows else None


def _drawing_options(folder: Path, state: SweepState) -> tuple[str, ...]:
    winner = selected_row(state)
    return drawing_options(folder, state, winner.trials[0]) if winner is not None and winner.trials else ()


def _pictures(folder: Path, state: SweepState) -> tuple[PictureView, ...]:
    """The saved pictures of all trials, those of the selected config first."""
    winner = selected_row(state)
    selected = {trial.trial for trial in winner.trials} if winner is not None else set()
    trials = sorted(state.plan_trials(), key=lambda trial: trial.trial not in selected)
    return tuple(
        PictureView(
            title=picture.title,
            caption=picture.caption,
            alt=picture.alt,
            source=f"data:image/png;base64,{base64.b64encode(picture.path.read_bytes()).decode()}",
            path=picture.path.relative_to(folder).as_posix(),
        )
        for trial in trials
        for picture in saved_pictures(folder, state, trial)
    )
