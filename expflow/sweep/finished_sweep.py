"""Whether a sweep has nothing left to do, as its ledger says, before a driver is made for it.

The last driver found nothing more to hand out. Where the new one would be asked for the same, by the same versions and
code and on the same data, it would find nothing either: neither a header nor Ray nor torch is needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeGuard

from expflow.events import DriverStopped, Event
from expflow.ledger.header import Header
from expflow.ledger.reader import exists, last_event, load_state
from expflow.storage.driver_claim import is_abandoned
from expflow.storage.results import StoredResults
from expflow.sweep.code_hashes import user_modules
from expflow.sweep.driver import SweepResult, recorded_lines, replay, search_notes
from expflow.sweep.ledger_header import ledger_header
from expflow.sweep.plan import Plan

_OF_THE_DRIVER = ("driver", "before", "git", "command", "devices", "configs")
"""Fields of a header that say nothing about what is left to run."""


def finished_result(plan: Plan, *, tracking: str, retry_failed: bool) -> SweepResult | None:
    """The result of a sweep that has nothing left to do; None where a driver has to find out.

    Args:
        plan: The sweep's plan.
        tracking: Address of the MLflow store that follows the ledger; empty where none does.
        retry_failed: Whether failed trials are tried again.
    """
    end = last_event(plan.folder) if exists(plan.folder) else None
    if plan.sweep.checkpoints.disk is not None or not _by_itself(end):
        return None
    state = load_state(plan.folder)
    trials = state.plan_trials()
    if state.header is None or not all(trial.ended for trial in trials):
        return None
    if retry_failed and any(trial.status == "failed" for trial in trials):
        return None
    now = ledger_header(plan, tracking=tracking, code=user_modules(plan.loaded), before=state.header)
    if _asked(now) != _asked(state.header) or _was_killed_afterwards(plan.folder):
        return None
    return SweepResult(state, plan.folder, 0, _notes(plan, end))


def _by_itself(end: Event | None) -> TypeGuard[DriverStopped]:
    """Whether the last driver of all ended because it found nothing more to hand out."""
    return isinstance(end, DriverStopped) and end.reason == "finished" and "why" not in end.details


def _was_killed_afterwards(folder: Path) -> bool:
    """Whether the last driver wrote its end, and was killed before the store was in order: the next one does that."""
    results = StoredResults.of(folder.parent)
    return results is not None and is_abandoned(results.store, folder.name)


def _notes(plan: Plan, end: DriverStopped) -> tuple[str, ...]:
    """What is to be known of how the search went, as the last driver noted it."""
    if "notes" in end.details:
        return tuple(end.details["notes"])
    _, search_state = replay(plan, recorded_lines(plan))
    return tuple(search_notes(search_state))


def _asked(header: Header) -> str:
    """What a driver is asked to do, as text."""
    facts = {key: value for key, value in header.to_json().items() if key not in _OF_THE_DRIVER}
    return json.dumps(facts, sort_keys=True)
