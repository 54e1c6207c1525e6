"""What ``train`` and ``sweep`` print: progress while a plan runs, beside MLflow, and the answer at its end."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import partial

import typer

from expflow.api.tracked_run import FinishedRun, TrackedRun
from expflow.cli.views.report import show_answer
from expflow.cluster.version_lock import differences_here
from expflow.errors import GangsLost, Interrupted, LedgerLocked
from expflow.ledger.salvage import salvage
from expflow.live.console import LiteralConsole
from expflow.live.table import LiveTable
from expflow.redaction import redacted
from expflow.report.formatting import plural, trial_label
from expflow.sweep import driver
from expflow.sweep.cost_estimate import TrialCost, check_builds, relative_costs
from expflow.sweep.data_preparation import data_remarks
from expflow.sweep.driver import SweepResult, import_ray_meanwhile
from expflow.sweep.plan import Plan
from expflow.sweep.storage_place import results_command
from expflow.sweep.trial_expansion import expected_trials
from expflow.training.template.process import RankTemplate


def run_and_show(run: TrackedRun, *, report: bool, as_json: bool = False, template: RankTemplate | None = None) -> None:
    """Run a plan, show it, and leave with the exit code that its ledger gives.

    Args:
        run: The plan, and how it is run.
        report: Whether a report is written and shown.
        as_json: Whether JSON objects are printed, one a line, instead of what people read.
        template: Counts networks in a fork that has torch; None: they are counted in this process.

    Raises:
        Interrupted: The driver was interrupted; the message says how to continue.
        GangsLost: What ran the trials is gone; so does this message.
    """
    plan = run.plan
    console = LiteralConsole()
    if as_json:
        raise typer.Exit(_run_in_lines(run, template, report=report))
    run.mlflow_awaited = not console.is_terminal  # else the prompt comes back; MLflow goes on by itself
    finished = run.finished(report=report)
    if finished is None:
        finished = _run_with_progress(console, run, report, template)
    else:
        _print_start(console, plan, len(finished.result.state.plan_trials()))
    result = finished.result
    if finished.files is not None:
        show_answer(console, result.state, finished.files)
    elif not result.exit_code:
        command = results_command(plan.folder, "show", which="best")
        console.print(f"result   {command}", soft_wrap=True)
    if not run.catch_up():
        for line in run.behind():
            console.print(line, style="yellow", soft_wrap=True)
    if run.storage_trouble:
        console.print(run.storage_trouble, style="yellow", soft_wrap=True)
    for export in run.unexported():
        console.print(f"no model of {export.label}: {export.reason}", style="yellow", soft_wrap=True)
    _print_end(console, plan, result, retry="" if run.retry_failed else "; --retry failed runs them again")
    raise typer.Exit(result.exit_code)


def sweep_and_show(
    plan: Plan,
    template: RankTemplate,
    *,
    keep_results: bool,
    retry_failed: bool,
    metrics_port: int | None,
    as_json: bool,
) -> None:
    """Run a plan on Ray, show it, and leave with the exit code that its ledger gives.

    Args:
        plan: The plan.
        template: What its ranks are forked from.
        keep_results: Whether results count as valid although code changed since.
        retry_failed: Whether failed trials are run again.
        metrics_port: Port for Prometheus; None leaves it to the site file.
        as_json: Whether JSON objects are printed, one a line, instead of what people read.
    """
    plan.cache.template = template
    runner = partial(driver.run_sweep, template=template)
    run = TrackedRun(plan, runner, keep_results=keep_results, retry_failed=retry_failed, metrics_port=metrics_port)
    run_and_show(run, report=True, as_json=as_json, template=template)


def _count(run: TrackedRun, template: RankTemplate | None) -> list[TrialCost]:
    """The costs of the plan's trials. While the template imports torch, to count them, this process imports Ray."""
    if template is not None:
        import_ray_meanwhile(run.plan)
    return check_builds(run.plan, template)


def _run_in_lines(run: TrackedRun, template: RankTemplate | None, *, report: bool) -> int:
    """Run a plan and print it as JSON objects, one a line; returns the exit code."""
    from expflow.cli.documents.printing import print_line
    from expflow.cli.documents.run import EventPrinter, ended_line, started_line
    from expflow.cli.views.running_sweep import follow_running

    plan, finished = run.plan, run.finished(report=report)
    known = len(finished.result.state.plan_trials()) if finished is not None else len(_count(run, template))
    first = started_line(plan, max(known, expected_trials(plan)))
    try:
        if finished is None:
            finished = run.run((EventPrinter(),), report=report, on_open=lambda: print_line(first))
        else:
            print_line(first)
    except LedgerLocked:
        if (code := follow_running(plan)) is None:
            raise
        return code
    except (Interrupted, GangsLost) as stop:
        stop.args = (f"{stop}; to continue: {typed_command()}",)
        raise
    run.catch_up()
    files = finished.files
    written = str(files.data) if files is not None and not files.unwritable else ""
    print_line(ended_line(plan, finished.result, written))
    return finished.result.exit_code


def _run_with_progress(
    console: LiteralConsole, run: TrackedRun, report: bool, template: RankTemplate | None
) -> FinishedRun:
    plan, rows = run.plan, _count(run, template)
    total = max(len(rows), expected_trials(plan))
    progress = LiveTable(console, plan.metric, plan.mode, total, relative_costs(rows))
    try:
        with contextlib.ExitStack() as shown:

            def begin() -> None:
                _print_start(console, plan, total)
                shown.enter_context(progress)

            return run.run((progress,), report=report, on_open=begin)
    except (Interrupted, GangsLost) as stop:
        stop.args = (f"{stop}\nto continue: {typed_command()}",)
        raise


def salvage_and_show(plan: Plan, *, quiet: bool = False) -> None:
    """Cut a damaged ledger behind what is whole of it, and say what was done.

    Args:
        plan: The plan.
        quiet: Whether nothing is printed.

    Raises:
        LedgerLocked: A driver works on it.
    """
    outcome = str(salvage(plan.folder) or "the ledger is whole: there is nothing to salvage")
    if not quiet:
        LiteralConsole().print(outcome, soft_wrap=True)


def typed_command() -> str:
    """The command that was typed, to be typed again, without ``--fresh``, which would start again once more, and
    without ``--salvage``, which is done."""
    import shlex
    from pathlib import Path

    from expflow.sweep.provenance import CONTINUE_VARIABLE

    if command := os.environ.get(CONTINUE_VARIABLE):
        return redacted(command)
    program = Path(sys.argv[0])
    words = [sys.executable, "-m", "expflow"] if program.name == "__main__.py" else [program.name]
    return redacted(shlex.join([*words, *(word for word in sys.argv[1:] if word not in ("--fresh", "--salvage"))]))


def _print_start(console: LiteralConsole, plan: Plan, trials: int) -> None:
    for difference in differences_here():
        console.print(f"warning: {difference}", style="yellow", soft_wrap=True)
    if question := plan.loaded.experiment.about.question:
        console.print(question, style="bold")
    console.print(
        f"{plan.name}: {plural(trials, 'trial')}, judged by {plan.metric}; results in {plan.results_address}",
        soft_wrap=True,
    )


def _print_end(console: LiteralConsole, plan: Plan, result: SweepResult, retry: str) -> None:
    failed = [trial for trial in result.state.plan_trials() if trial.status == "failed"]
    for remark in data_remarks(plan):
        console.print(f"data: {remark}", style="yellow", soft_wrap=True)
    for note in (*result.remarks, *result.notes):
        console.print(note, style="yellow", soft_wrap=True)
    if not result.ran and not result.notes:
        console.print("nothing was left to run")
    for trial in failed:
        why = trial.failures[-1] if trial.failures else None
        reason = f"{why.failure}: {why.message}" if why else "no reason recorded"
        console.print(f"failed: {trial_label(trial)} ({trial.trial}): {reason}", style="red")
    if failed:
        logs = results_command(plan.folder, "logs", which=failed[0].trial[:4])
        console.print(f"in full: {logs}{retry}", soft_wrap=True)
