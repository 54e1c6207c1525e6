"""What commands print for programs (``--json``)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from expflow.cli.documents.printing import print_document
from expflow.errors import ServerUnreachable, StorageUnwritable
from expflow.sweep.plan import Plan
from expflow.sweep.result_location import ResultLocation, find_results, storage_root

if TYPE_CHECKING:
    from expflow.sweep.trial_evaluation import EvaluationRequest


def print_status(name: str | None, storage: str | None) -> None:
    """Print the trials of one experiment, or all experiments.

    Args:
        name: Address of the experiment; None for all.
        storage: The folder of all results; None: the site's.
    """
    from expflow.cli.documents.status import status_document, storage_document

    if name is None:
        print_document(storage_document(storage_root(storage)))
    else:
        print_document(status_document(find_results(name, storage)))


def print_report(name: str, storage: str | None) -> None:
    """Write the report of an experiment and print it.

    Args:
        name: Address of the experiment.
        storage: The folder of all results; None: the site's.

    Raises:
        StorageUnwritable: The report's files cannot be written; it is printed before.
    """
    if unwritable := _print_written(find_results(name, storage)):
        raise StorageUnwritable(unwritable)


def _print_written(location: ResultLocation) -> str:
    """Print the report and write its files; returns why they could not be written, "" where they were."""
    from expflow.report import write_report

    files = write_report(location.folder, location.state)
    print_document({**files.document, "folder": str(location.folder)})
    return files.unwritable


def show_recipe(name: str, other: str | None, storage: str | None, *, as_json: bool) -> None:
    """Print the selected config's result or one trial's; of two results in what they differ.

    Args:
        name: Address of a trial or of the best config.
        other: Address of a second one; None where there is none.
        storage: The folder of all results; None: the site's.
        as_json: Whether JSON is printed; one result alone always is.
    """
    from expflow.cli.documents.result import result_document
    from expflow.cli.views.comparison import show_difference

    if other is None:
        print_document(result_document(find_results(name, storage)))
    else:
        show_difference((name, other), storage, as_json=as_json)


def print_plan(plan: Plan, *, measure: bool, check: bool) -> None:
    """Print a plan.

    Args:
        plan: The plan.
        measure: Whether a few steps are trained to estimate the time.
        check: Whether one batch of each distinct network is tried.
    """
    from expflow.cli.documents.plan import plan_document
    from expflow.sweep.batch_checks import try_batches
    from expflow.sweep.cost_estimate import check_builds, measure_times

    rows = check_builds(plan)
    notes = try_batches(plan, (row.trial for row in rows)).notes if check else ()
    print_document(plan_document(plan, measure_times(plan, rows) if measure else rows, tuple(notes)))


def print_test(location: ResultLocation, request: EvaluationRequest, *, again: bool) -> None:
    """Evaluate a config on the test split, record it, and print the report, which has what it gave.

    Args:
        location: The results.
        request: What is evaluated.
        again: Whether a further evaluation is allowed.
    """
    from expflow.ledger import load_state
    from expflow.sweep.test_evaluation import evaluate_on_test

    evaluate_on_test(location, request, again=again)
    location = replace(location, state=load_state(location.folder))
    _print_written(location)
    _follow_up(location)


def _follow_up(location: ResultLocation) -> None:
    """Bring MLflow up to the ledger."""
    import contextlib
    import os

    from expflow.config import load_site
    from expflow.tracking import resolve_uri
    from expflow.tracking.follower import catch_up

    with contextlib.suppress(ServerUnreachable):  # nothing is lost: the next follower writes it
        catch_up(location.folder, resolve_uri(location.folder.parent, environ=os.environ, site=load_site().mlflow))
