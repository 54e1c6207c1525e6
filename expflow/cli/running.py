"""How train and sweep run a plan: tracking beside it, progress while it runs, the answer at its end."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from expflow.api.running import Driving, Runner
from expflow.cli.answer import show_answer
from expflow.cli.live import Progress, name_of
from expflow.errors import Interrupted
from expflow.report.words import plural
from expflow.sweep.driver import Result
from expflow.sweep.estimate import check_builds, weights
from expflow.sweep.plan import Plan


def run(plan: Plan, runner: Runner, *, keep_results: bool, retry_failed: bool, report: bool) -> None:
    """Run ``plan`` with ``runner``, show it, and leave with the exit code that its ledger gives."""
    console = Console()
    rows = check_builds(plan)
    driving = Driving(plan, runner, keep_results=keep_results, retry_failed=retry_failed)
    total = max(len(rows), plan.expected_trials)
    _say_start(console, plan, total)
    progress = Progress(console, plan.metric, plan.mode, total, weights(rows))
    try:
        with progress:
            concluded = driving.run((progress,), report=report)
    except Interrupted as stop:
        raise Interrupted(f"{stop}\nto continue: {_command()}", signal_number=stop.exit_code - 128) from None
    result = concluded.result
    if concluded.files is not None:
        show_answer(console, result.state, concluded.files)
    elif not result.exit_code:
        console.print(f"result   expflow show {plan.name}/best", highlight=False, soft_wrap=True)
    if not driving.catch_up():
        console.print(
            f"MLflow at {driving.mlflow} is behind; nothing is lost: the next sweep or `expflow ui` catches up"
        )
    _say_end(console, plan, result, retry="" if retry_failed else "; --retry failed runs them again")
    raise typer.Exit(result.exit_code)


def _command() -> str:
    """What was typed, to be typed again; a second ``--fresh`` would start anew once more."""
    import shlex
    from pathlib import Path

    from expflow.sweep.provenance import CONTINUE_VARIABLE

    if told := os.environ.get(CONTINUE_VARIABLE):
        return told
    program = Path(sys.argv[0])
    words = [sys.executable, "-m", "expflow"] if program.name == "__main__.py" else [program.name]
    return shlex.join([*words, *(word for word in sys.argv[1:] if word != "--fresh")])


def _say_start(console: Console, plan: Plan, trials: int) -> None:
    if question := plan.loaded.experiment.about.question:
        console.print(question, style="bold", highlight=False)
    console.print(
        f"{plan.name}: {plural(trials, 'trial')}, judged by {plan.metric}; results in {plan.folder}",
        highlight=False,
        soft_wrap=True,
    )


def _say_end(console: Console, plan: Plan, result: Result, retry: str) -> None:
    failed = [trial for trial in result.state.plan_trials() if trial.status == "failed"]
    for note in result.notes:
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if not result.ran and not result.notes:
        console.print("nothing was left to run", highlight=False)
    for trial in failed:
        why = trial.failures[-1] if trial.failures else None
        reason = f"{why.failure}: {why.message}" if why else "no reason recorded"
        console.print(f"failed: {name_of(trial)} ({trial.trial}): {reason}", style="red", markup=False, highlight=False)
    if failed:
        console.print(
            f"in full: expflow logs {plan.name}/{failed[0].trial[:4]}{retry}", highlight=False, soft_wrap=True
        )
