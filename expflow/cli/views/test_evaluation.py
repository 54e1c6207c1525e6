"""What ``test`` prints, and ``show --ensemble`` and ``show --soup``, which evaluate on val."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from expflow.cli.views.report import show_page
from expflow.cli.views.tracking import catch_up_mlflow
from expflow.errors import AddressUnknown
from expflow.ledger import TrialState, load_state
from expflow.live.console import LiteralConsole
from expflow.metrics import UNDECLARED_MAIN_METRIC, metric_value
from expflow.report import write_report
from expflow.report.config_selection import evaluation_request
from expflow.report.formatting import trial_label
from expflow.report.prediction_statistics import mcnemar_sentences
from expflow.report.terminal import evaluations_text
from expflow.report.test_evaluations import COMBINED_NAMES
from expflow.sweep.result_location import ResultLocation, find_results
from expflow.sweep.test_evaluation import evaluate_on_test
from expflow.sweep.trial_evaluation import COMBINED, EvaluationRequest, EvaluationResult, evaluate


def tested_results(name: str, storage: str | None) -> ResultLocation:
    """The results of which a config is to be evaluated on the test split.

    Args:
        name: Address of an experiment.
        storage: The folder of all results; None: the site's.

    Raises:
        AddressUnknown: The address names one trial, or nothing is there.
    """
    location = find_results(name, storage)
    if location.which not in (None, "best"):
        raise AddressUnknown(f"{name} is one trial; `test` evaluates a config with all its seeds: --config says which")
    return location


def show_test(location: ResultLocation, request: EvaluationRequest, *, again: bool) -> None:
    """Evaluate a config on the test split, record it, and show what it gave and how many evaluations there were.

    Args:
        location: The results, as :func:`tested_results` finds them.
        request: What is evaluated.
        again: Whether a further evaluation is allowed.
    """
    console = LiteralConsole()
    record = evaluate_on_test(location, request, again=again, on_trial=_announcer(console, location))
    location = replace(location, state=load_state(location.folder))
    files = write_report(location.folder, location.state)
    console.print(
        f"evaluation {record.number} on the test split of {location.name}, recorded {record.when}", style="bold"
    )
    if files.view.test is not None:
        console.print(evaluations_text(files.view.test, console.width), soft_wrap=True)
    for sentence in mcnemar_sentences("test", location.state, location.folder):
        console.print(sentence)
    show_page(console, files)
    catch_up_mlflow(console, location)


def show_on_val(name: str, storage: str | None, *, ensemble: bool, soup: bool, augment: Sequence[str]) -> None:
    """Evaluate an ensemble and soups of a config's seeds on val, or its trials on several views of each image.

    Nothing of the test split is read.

    Args:
        name: Address of an experiment or of one of its trials, whose config is taken.
        storage: The folder of all results; None: the site's.
        ensemble: Whether the mean of the seeds' probabilities is evaluated.
        soup: Whether means of the seeds' weights are evaluated.
        augment: The views that probabilities are averaged over.
    """
    console, location = LiteralConsole(), find_results(name, storage)
    config = None if location.which in (None, "best") else location.trial().config
    request = evaluation_request(location, config, ensemble=ensemble, soup=soup, augment=augment)
    evaluated = evaluate(location, request, "val", on_trial=_announcer(console, location))
    _print_val(console, location, request, evaluated)


def _announcer(console: LiteralConsole, location: ResultLocation) -> Callable[[str], None]:
    """Prints which trial is being evaluated, on a terminal only."""

    def announce(trial: str) -> None:
        if console.is_terminal:
            label = trial_label(location.state.trials[trial])
            console.print(f"evaluating {label}", style="dim")

    return announce


def _print_val(
    console: LiteralConsole, location: ResultLocation, request: EvaluationRequest, evaluated: EvaluationResult
) -> None:
    header, trials = location.state.header, location.state.trials
    wanted = header.metric if header is not None else UNDECLARED_MAIN_METRIC
    rows = [(_label(trials[name]), name) for name in evaluated.measured if name not in COMBINED]
    if request.views is not None:
        console.print(f"probabilities averaged over views of each image: {request.views.text}", style="bold")
    rows += [(f"{COMBINED_NAMES[name]} of {len(evaluated.members[name])}", name) for name in evaluated.members]
    width = max(len(label) for label, _ in rows)
    for label, name in rows:
        metrics = evaluated.measured[name].metrics
        shown = [wanted, *(metric for metric in sorted(metrics) if metric != wanted)]
        values = "  ".join(f"{metric} {metric_value(metric, metrics[metric])}" for metric in shown if metric in metrics)
        alone = trials[name].metrics.get(wanted) if request.views is not None and name in trials else None
        note = "" if alone is None else f"  (on the image alone: {wanted} {metric_value(wanted, alone)})"
        console.print(f"  {label:{width}}  {values}{note}", soft_wrap=True)
    taken = evaluated.members.get("greedy_soup")
    if taken is not None and len(taken) < len(request.combined):
        seeds = ", ".join(f"s{trials[name].seed}" for name in taken)
        console.print(f"  the greedy soup takes {seeds}: with more of them val gets worse")


def _label(trial: TrialState) -> str:
    return f"{trial.trial} s{trial.seed}"
