"""Which config is evaluated: the one that the sweep selects, or one that is named."""

from __future__ import annotations

from collections.abc import Sequence

from expflow.errors import AddressUnknown, UserError, nearest
from expflow.ledger import TrialState
from expflow.report.leaderboard import selected_row
from expflow.report.trial_results import ConfigTrials, configs
from expflow.sweep.result_location import ResultLocation
from expflow.sweep.trial_evaluation import EvaluationRequest
from expflow.training.evaluation.augmented_views import parse_views


def first_selected_trial(location: ResultLocation) -> TrialState:
    """The selected config's trial with the lowest seed: the best seed would be one more choice.

    Args:
        location: The results.
    """
    return min(evaluation_request(location, None).trials, key=lambda trial: trial.seed)


def evaluation_request(
    location: ResultLocation,
    config: str | None,
    *,
    ensemble: bool = False,
    soup: bool = False,
    members: str = "config",
    augment: Sequence[str] = (),
) -> EvaluationRequest:
    """The selected config, or a named one, with the trials of it that finished.

    Args:
        location: The results.
        config: First characters of a config's id, or of the id of one of its trials; None: the selected config.
        ensemble: Whether the mean of the trials' probabilities is evaluated, too.
        soup: Whether means of the trials' weights are evaluated, too.
        members: What an ensemble or a soup is made of: ``config`` (its seeds) or ``all`` finished trials.
        augment: The views of each image that probabilities are averaged over, as ``--augment`` names them.

    Raises:
        AddressUnknown: There is no such config.
        UserError: None of its trials has finished, or ``members`` or ``augment`` is another word.
    """
    if members not in ("config", "all"):
        raise UserError(f"--members {members}: `config` (its seeds) or `all` (every finished trial)")
    chosen = _selected(location) if config is None else _named(location, config)
    done = tuple(trial for trial in chosen.trials if trial.status == "done")
    if not done:
        raise UserError(f"{location.name}: no trial of {chosen.label} is at its full budget")
    finished = tuple(trial for trial in location.state.plan_trials() if trial.status == "done")
    combined = finished if members == "all" else ()
    return EvaluationRequest(chosen.config, done, ensemble, soup, combined, parse_views(augment))


def _selected(location: ResultLocation) -> ConfigTrials:
    """The sweep's selected config; where there is only one, nothing has to be selected."""
    known = configs(location.state)
    row = selected_row(location.state)
    if row is not None:
        return next(config for config in known if config.config == row.config)
    if len(known) == 1:
        return known[0]
    raise AddressUnknown(
        f"{location.name} has no trial at full budget yet, hence no selected config; --config names one"
    )


def _named(location: ResultLocation, name: str) -> ConfigTrials:
    known = {config.config: config for config in configs(location.state)}
    by_trial = [trial.config for trial in location.state.plan_trials() if trial.trial.startswith(name)]
    matches = {key for key in known if key.startswith(name)} or set(by_trial)
    if len(matches) != 1:
        close = nearest(name, known)
        hint = f"; did you mean {close}?" if close else ""
        some = ", ".join(f"{key[:4]} ({config.label})" for key, config in list(known.items())[:6])
        what = "names several configs" if matches else "names no config, nor a trial of one"
        raise AddressUnknown(f"--config {name} {what}{hint}; {location.name} has {some}")
    return known[matches.pop()]
