"""Evaluations on the test split: made once, counted, and kept (docs/inference.md).

An evaluation is a record in the ledger, written after everything was evaluated and before anything of it can be seen. A
process that is killed before the record has shown nothing, and its evaluation does not count; after it, the numbers are
in the ledger and the predictions beside the trials, under the hidden names that :func:`publish_predictions` turns into
the usual ones.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.errors import EvaluationRefused, UserError
from expflow.events import SplitEvaluated
from expflow.files import fsync_path
from expflow.ledger import Ledger, SweepState, load_state
from expflow.ledger.salvage import cut_events
from expflow.metrics import metric_value
from expflow.storage.driver_session import driving, session_of
from expflow.sweep.finished_trial import load_finished_trial
from expflow.sweep.result_location import ResultLocation, related_results
from expflow.sweep.trial_evaluation import COMBINED, EvaluationRequest, EvaluationResult, evaluate

if TYPE_CHECKING:
    from expflow.training.evaluation.evaluator import SplitMetrics

SPLIT = "test"
KEPT = ("predictions", "overlaps", "detections", "label-scores")
"""What tasks keep of each sample of a split, as the names of its files begin."""


def test_evaluations_of(results: ResultLocation, data: str) -> list[SplitEvaluated]:
    """All evaluations on one test split, by all results of the experiment, in their order.

    Those of ``--fresh`` and ``--set`` count as well: they use the same images. So do those that ``--salvage`` cut off.

    Args:
        results: Any results of the experiment.
        data: The data that the split is of, as :class:`~expflow.events.SplitEvaluated` names it.
    """
    everything = {results.folder: results.state, **related_results(results.folder, results.state)}
    evaluations = [
        evaluation
        for folder, state in everything.items()
        for evaluation in _all_evaluations(folder, state)
        if evaluation.split == SPLIT and evaluation.data == data
    ]
    return sorted(evaluations, key=lambda evaluation: evaluation.number)


def _all_evaluations(folder: Path, state: SweepState) -> list[SplitEvaluated]:
    """Evaluations by the ledger, and those that were cut off with a damaged part of it: somebody has seen them."""
    evaluations = list(state.split_evaluations)
    cut = [event for event in cut_events(folder) if isinstance(event, SplitEvaluated)]
    for evaluation in cut:
        if evaluation not in evaluations:
            evaluations.append(evaluation)
    return evaluations


def evaluate_on_test(
    results: ResultLocation,
    request: EvaluationRequest,
    *,
    again: bool = False,
    on_trial: Callable[[str], None] | None = None,
) -> SplitEvaluated:
    """Evaluate trials on the test split, record the evaluation, and only then return it.

    Raises also what :func:`~expflow.sweep.trial_evaluation.evaluate` raises.

    Args:
        results: The results that the trials belong to.
        request: What is to be evaluated.
        again: Allow it although the split was evaluated before.
        on_trial: Called with each trial's id before it is evaluated.

    Raises:
        EvaluationRefused: The split was evaluated before, and ``again`` is false.
        LedgerLocked: A driver works on these results.
    """
    publish_predictions(results)
    first = load_finished_trial(results, request.trials[0])
    data = first.split_key or str(results.state.header.data.get("key", "") if results.state.header else "")
    _refuse(results, test_evaluations_of(results, data), again)
    with _recording(results) as ledger:
        before = test_evaluations_of(replace(results, state=load_state(results.folder)), data)
        _refuse(results, before, again)
        evaluated = evaluate(results, request, SPLIT, on_trial=on_trial)
        record = _record(results, request, data, before, evaluated)
        _send_predictions(results, evaluated.measured)
        ledger.append(record)
    publish_predictions(replace(results, state=load_state(results.folder)))
    _send_predictions(results, evaluated.measured)
    return record


def _record(
    results: ResultLocation,
    request: EvaluationRequest,
    data: str,
    before: Sequence[SplitEvaluated],
    evaluated: EvaluationResult,
) -> SplitEvaluated:
    """The record of an evaluation; its predictions are on the disk when this returns."""
    number = max((earlier.number for earlier in before), default=0) + 1
    return SplitEvaluated(
        config=request.config,
        split=SPLIT,
        data=data,
        number=number,
        again=bool(before),
        metrics={name: dict(measured.metrics) for name, measured in evaluated.measured.items()},
        predictions=_keep(results, evaluated.measured, number),
        members=evaluated.members,
        val={name: dict(measured.metrics) for name, measured in evaluated.val.items()},
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        views=request.views.text if request.views is not None else "",
    )


def _refuse(results: ResultLocation, before: Sequence[SplitEvaluated], again: bool) -> None:
    if not before or again:
        return
    times = "once" if len(before) == 1 else f"{len(before)} times"
    last = before[-1]
    values = ", ".join(
        f"{name} {metric_value(name, value)}" for name, value in sorted(_means(last, results.state).items())
    )
    raise EvaluationRefused(
        f"{results.name} was evaluated on its test split {times}, last on {last.when}: config {last.config[:4]} gave "
        f"{values} (`{results.command('report')}` shows it). Every further evaluation makes the test set "
        "more of a validation set; if it has to be, say --again: it is counted and reported"
    )


def _means(record: SplitEvaluated, state: SweepState) -> dict[str, float]:
    """The evaluation's metrics, each its mean over the trials of the config."""
    rows = [metrics for name, metrics in record.metrics.items() if name not in COMBINED]
    return {name: sum(row[name] for row in rows) / len(rows) for name in (rows[0] if rows else {})}


@contextmanager
def _recording(results: ResultLocation) -> Iterator[Ledger]:
    """The ledger, as its only driver: no other process trains or prunes, and two evaluations cannot both be the
    first."""
    header = results.state.header
    if header is None:
        raise UserError(f"{results.name} has no results yet")
    complete = all(trial.ended for trial in results.state.plan_trials())
    with driving(results.folder) as session:
        ledger = Ledger.open(results.folder, header, at_least=session.epoch if session else 1, replica=session)
        began = time.monotonic()
        try:
            if session is not None:
                session.start()
                session.cut_off = ()
            yield ledger
        except BaseException:
            ledger.close("interrupted", {"seconds": 0.0, "why": "an evaluation on the test split was cut off"})
            raise
        spent = round(time.monotonic() - began, 3)
        ledger.close("finished" if complete else "interrupted", {"seconds": 0.0, "test_seconds": spent})


def _send_predictions(results: ResultLocation, trials: Iterable[str]) -> None:
    """Send the folders of trials that got predictions, where results lie in a store."""
    if (session := session_of(results.folder)) is not None:
        session.send()  # those of what was combined
        for name in trials:
            if (trial := results.state.trials.get(name)) is not None:
                session.send_trial(results.trial_folder(trial).name, trial.attempt)


def _keep(results: ResultLocation, measured: Mapping[str, SplitMetrics], number: int) -> dict[str, str]:
    """Write what is kept of each sample under hidden names, on the disk; sha256 by name, "" where there is nothing."""
    from expflow.training.evaluation.predictions import save_predictions

    def written(name: str, metrics: SplitMetrics) -> str:
        if metrics.predictions is not None:
            path = predictions_path(results.folder, results.state, name)
            return save_predictions(metrics.predictions, _hidden(path, number))
        if metrics.kept is not None:
            what = metrics.kept.file.removesuffix(f"-{SPLIT}.npz")
            path = predictions_path(results.folder, results.state, name, what=what)
            return metrics.kept.write(_hidden(path, number))
        return ""

    return {name: written(name, metrics) for name, metrics in measured.items()}


def predictions_path(
    folder: Path, state: SweepState, name: str, split: str = SPLIT, *, what: str = "predictions"
) -> Path:
    """Where predictions lie, or what else is kept of each sample.

    Args:
        folder: The folder of the results.
        state: Their state.
        name: A trial's id, or the name of what was combined.
        split: The split that was predicted.
        what: One of :data:`KEPT`.
    """
    if name in COMBINED:
        return folder / "combined" / f"{what}-{split}-{name}.npz"
    return ResultLocation(folder, state).trial_folder(state.trials[name]) / f"{what}-{split}.npz"


def _hidden(path: Path, number: int) -> Path:
    return path.with_name(f".{path.name}.look{number}")


def publish_predictions(results: ResultLocation) -> None:
    """Give the predictions of recorded evaluations their usual names, which a kill right after the record prevents.

    Predictions of an evaluation that was cut off before its record stay hidden: they were never shown.

    Args:
        results: The results whose predictions are renamed.
    """
    recorded = {
        (evaluation.number, name) for evaluation in results.state.split_evaluations for name in evaluation.metrics
    }
    for name, what in itertools.product((*results.state.trials, *COMBINED), KEPT):
        path = predictions_path(results.folder, results.state, name, what=what)
        for left in sorted(path.parent.glob(f".{path.name}.look*"), key=_number):
            if (_number(left), name) in recorded:
                left.replace(path)
                fsync_path(path.parent)


def _number(path: Path) -> int:
    return int(path.name.rpartition("look")[2] or 0)
