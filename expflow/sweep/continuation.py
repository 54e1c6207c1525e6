"""Whether a plan may go on with the results that are there: the reasons are the same for ``plan`` and ``sweep``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from expflow.errors import CodeChanged, ExpflowError, LedgerMismatch, UserError
from expflow.ledger.state import SweepState
from expflow.sweep.data_difference import data_difference
from expflow.sweep.data_preparation import prepared_data
from expflow.sweep.plan import Plan
from expflow.sweep.plan_difference import check_extension
from expflow.sweep.provenance import check_code


def continuation_problems(
    plan: Plan, before: SweepState, code: Mapping[str, str], *, keep_results: bool = False
) -> Iterator[ExpflowError]:
    """What keeps a sweep from going on with the results that are there.

    Args:
        plan: The plan.
        before: The state of the results.
        code: The user's own modules as they are now, path -> sha256.
        keep_results: Whether results of other versions of the user's code stand beside the new ones.

    Yields:
        CodeChanged, LedgerMismatch (data that are read differently) or UserError (a trial cannot be trained on), each
        at most once.
    """
    header = before.header
    if header is None or not any(trial.attempt for trial in before.trials.values()):  # no trial has ever begun
        return
    checks: list[Callable[[], None]] = [lambda: _check_data(plan, before), lambda: check_extension(plan, before)]
    if not keep_results:
        expflow = header.versions.get("expflow", "")
        checks.insert(0, lambda: check_code(header.code, code, expflow, plan.name))
    for check in checks:
        try:
            check()
        except (CodeChanged, LedgerMismatch, UserError) as error:
            yield error


def _check_data(plan: Plan, before: SweepState) -> None:
    """The same source under the same key must still hold the same samples."""
    if plan.supposing or before.header is None:  # the data are not here, and so there are none to compare
        return
    data = prepared_data(plan, plan.loaded.experiment.recipe)
    if data is not None and (difference := data_difference(before.header.data, data)):
        raise LedgerMismatch(
            f"{plan.name} has results that do not fit its data any more: {difference}. Put the files back as they "
            "were, or use --fresh, which starts anew beside these results"
        )
