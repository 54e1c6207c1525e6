"""Which config is evaluated: the one that the sweep selects, or the one that somebody names."""

from __future__ import annotations

from expflow.errors import AddressUnknown, UserError, nearest
from expflow.ledger import TrialState
from expflow.report.ranking import best
from expflow.report.results import Config, configs
from expflow.sweep.results import Found
from expflow.sweep.testing import Asked


def first_selected(found: Found) -> TrialState:
    """The selected config's trial with the lowest seed: the best seed would be one more choice."""
    return min(asked_for(found, None).trials, key=lambda trial: trial.seed)


def asked_for(
    found: Found, config: str | None, *, ensemble: bool = False, soup: bool = False, members: str = "config"
) -> Asked:
    """The selected config, or the one whose id begins with ``config``, with the trials of it that finished.

    Raises AddressUnknown where there is no such config, UserError where none of its trials has finished.
    """
    if members not in ("config", "all"):
        raise UserError(f"--members {members}: `config` (its seeds) or `all` (every finished trial)")
    chosen = _selected(found) if config is None else _named(found, config)
    done = tuple(each for each in chosen.trials if each.status == "done")
    if not done:
        raise UserError(f"{found.name}: no trial of {chosen.label} is at its full budget")
    every = tuple(each for each in found.state.plan_trials() if each.status == "done") if members == "all" else ()
    return Asked(chosen.config, done, ensemble, soup, every)


def _selected(found: Found) -> Config:
    """The sweep's selected config; where there is only one, nothing has to be selected."""
    known = configs(found.state)
    row = best(found.state)
    if row is not None:
        return next(each for each in known if each.config == row.config)
    if len(known) == 1:
        return known[0]
    raise AddressUnknown(f"{found.name} has no trial at full budget yet, hence no selected config; --config names one")


def _named(found: Found, config: str) -> Config:
    known = {each.config: each for each in configs(found.state)}
    by_trial = [each.config for each in found.state.plan_trials() if each.trial.startswith(config)]
    matches = {key for key in known if key.startswith(config)} or set(by_trial)
    if len(matches) != 1:
        close = nearest(config, known)
        hint = f"; did you mean {close}?" if close else ""
        some = ", ".join(f"{key[:4]} ({each.label})" for key, each in list(known.items())[:6])
        what = "names several configs" if matches else "names no config, nor a trial of one"
        raise AddressUnknown(f"--config {config} {what}{hint}; {found.name} has {some}")
    return known[matches.pop()]
