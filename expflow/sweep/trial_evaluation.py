"""Evaluating finished trials of a config, their ensemble and their soups on one split, in this process.

Nothing is written here, and nothing needs Ray; :mod:`expflow.sweep.test_evaluation` records what is evaluated on test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from expflow.errors import UserError
from expflow.ledger import SweepState, TrialState
from expflow.metrics import UNDECLARED_MAIN_METRIC, metric_mode
from expflow.sweep.finished_trial import FinishedTrial, load_finished_trial
from expflow.sweep.result_location import ResultLocation
from expflow.training.evaluation.augmented_views import AugmentedViews

if TYPE_CHECKING:
    from expflow.training.evaluation.ensembles import Soup
    from expflow.training.evaluation.evaluator import Evaluator, SplitMetrics, Weights

ENSEMBLE, UNIFORM_SOUP, GREEDY_SOUP = "ensemble", "uniform_soup", "greedy_soup"
COMBINED = (ENSEMBLE, UNIFORM_SOUP, GREEDY_SOUP)
"""What several trials make together; trials themselves go by their ids."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated: the trials of one config, and what several trials make together.

    Attributes:
        config: The config's id.
        trials: Its trials.
        ensemble: Whether the mean of the members' predictions is evaluated, too.
        soup: Whether the mean of the members' weights is evaluated, too.
        members: The trials that an ensemble and soups are made of; none: those of the config.
        views: The views of each image that probabilities are averaged over; None: the image alone.
    """

    config: str
    trials: tuple[TrialState, ...]
    ensemble: bool = False
    soup: bool = False
    members: tuple[TrialState, ...] = ()
    views: AugmentedViews | None = None

    @property
    def combined(self) -> tuple[TrialState, ...]:
        """The trials that an ensemble and soups are made of."""
        return self.members or self.trials


@dataclass
class EvaluationResult:
    """What was measured on one split.

    Attributes:
        measured: Metrics and predictions by trial id, and by the name of what was combined.
        members: Name of what was combined -> the trials that it is made of.
        val: Name of what was combined -> what it gave on val.
    """

    measured: dict[str, SplitMetrics] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)
    val: dict[str, SplitMetrics] = field(default_factory=dict)


def evaluate(
    results: ResultLocation, request: EvaluationRequest, split: str, *, on_trial: Callable[[str], None] | None = None
) -> EvaluationResult:
    """Evaluate trials on a split, in this process, without Ray and without writing anything.

    A greedy soup is chosen on val, whatever the split is; without a val split there is none.

    Args:
        results: The results that the trials belong to.
        request: What is to be evaluated.
        split: ``val`` or ``test``.
        on_trial: Called with each trial's id before it is evaluated.

    Raises:
        UserError: An ensemble or a soup is asked for, and there is one trial only. Also what
            :func:`~expflow.sweep.finished_trial.load_finished_trial` and the task raise.
    """
    ready = _load_trials(results, request)
    result, names = EvaluationResult(), [trial.trial for trial in request.combined]
    in_ensemble = set(names) if request.ensemble else set[str]()
    weights: dict[str, Weights] = {}
    on_val: dict[str, SplitMetrics] = {}
    for name, finished in ready.items():
        if on_trial is not None:
            on_trial(name)
        with finished.open_evaluator() as evaluator:
            evaluator.views = request.views
            weights[name] = finished.load_weights(evaluator).weights
            result.measured[name] = evaluator.evaluate(weights[name], split, rows=name in in_ensemble)
            if name in in_ensemble and split != "val" and finished.has_val:
                on_val[name] = evaluator.evaluate(weights[name], "val", rows=True)
        if not request.soup:  # the weights of many trials take memory
            del weights[name]
    if request.ensemble:
        _ensemble(result, names, on_val)
    if request.soup:
        _soups(result, results.state, request, ready[names[0]], {name: weights[name] for name in names}, split)
    for name in set(names) - {trial.trial for trial in request.trials}:  # evaluated for the ensemble alone
        del result.measured[name]
    return result


def _load_trials(results: ResultLocation, request: EvaluationRequest) -> dict[str, FinishedTrial]:
    """The trials that are evaluated, by id: those of the config first, then the other members."""
    trials = {trial.trial: load_finished_trial(results, trial) for trial in (*request.trials, *request.combined)}
    if len(request.combined) < 2 and (request.ensemble or request.soup):
        raise UserError("an ensemble or a soup is made of at least two finished trials; this config has one")
    return trials


def _ensemble(result: EvaluationResult, names: Sequence[str], on_val: Mapping[str, SplitMetrics]) -> None:
    from expflow.training.evaluation.ensembles import ensemble

    result.measured[ENSEMBLE] = ensemble([result.measured[name] for name in names])
    result.members[ENSEMBLE] = list(names)
    if len(on_val) == len(names):
        result.val[ENSEMBLE] = ensemble([on_val[name] for name in names])


def _soups(
    result: EvaluationResult,
    state: SweepState,
    request: EvaluationRequest,
    first: FinishedTrial,
    weights: Mapping[str, Weights],
    split: str,
) -> None:
    from expflow.training.evaluation.ensembles import greedy_soup, uniform_soup

    metric = _val_metric(state)
    with first.open_evaluator() as evaluator:
        evaluator.views = request.views
        _put_soup(result, UNIFORM_SOUP, uniform_soup(evaluator, weights, val=first.has_val), evaluator, split)
        if first.has_val:
            soup = greedy_soup(evaluator, weights, metric, better=_mode(state, metric))
            _put_soup(result, GREEDY_SOUP, soup, evaluator, split)


def _put_soup(result: EvaluationResult, name: str, soup: Soup, evaluator: Evaluator, split: str) -> None:
    if split == "val" and soup.val is not None:
        result.measured[name] = soup.val
    else:
        result.measured[name] = evaluator.evaluate(soup.weights, split)
        if soup.val is not None:
            result.val[name] = soup.val
    result.members[name] = list(soup.members)


def _val_metric(state: SweepState) -> str:
    """What a choice on val goes by: the sweep's metric where that is one of val."""
    metric = state.header.metric if state.header is not None else ""
    return metric if metric.startswith("val/") else UNDECLARED_MAIN_METRIC


def _mode(state: SweepState, metric: str) -> str:
    header = state.header
    return header.mode if header is not None and header.metric == metric else metric_mode(metric)
