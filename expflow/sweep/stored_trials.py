"""Where the trials' folders of a plan lie in a store."""

from __future__ import annotations

from expflow.storage.driver_session import session_of
from expflow.storage.trial_folder import StoredTrial
from expflow.sweep.conductor import PlannedAttempt
from expflow.sweep.plan import Plan


def stored_trial(plan: Plan, attempt: PlannedAttempt) -> StoredTrial | None:
    """Where an attempt's process sends the trial's folder; None where results lie in plain folders.

    Args:
        plan: The sweep's plan.
        attempt: The attempt.
    """
    if (session := session_of(plan.folder)) is None:
        return None
    return session.trial(attempt.planned.folder, attempt.attempt, is_new=attempt.attempt == 1 and not attempt.forks)
