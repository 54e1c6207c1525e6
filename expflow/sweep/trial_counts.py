"""What a sweep has come to, in words: how many trials are in each state, and the best value so far."""

from __future__ import annotations

from pathlib import Path

from expflow.ledger import SweepState, TrialState, load_state
from expflow.metrics import metric_value
from expflow.sweep.result_location import has_live_driver

STATES = ("running", "cut short", "waiting", "done", "stopped", "failed")


def state_word(trial: TrialState, alive: bool) -> str:
    """A trial's status in the ledger; ``cut short`` where it ran and its driver is gone.

    Args:
        trial: The trial.
        alive: Whether a driver works on the results.
    """
    return "cut short" if trial.status == "running" and not alive else trial.status


def trial_counts(state: SweepState, alive: bool) -> str:
    """How many trials are in each state, in words.

    Args:
        state: What the ledger adds up to.
        alive: Whether a driver works on the results.
    """
    states = [state_word(trial, alive) for trial in state.plan_trials()]
    return ", ".join(f"{states.count(word)} {word}" for word in STATES if word in states) or "nothing yet"


def sweep_progress(folder: Path) -> str:
    """How far a sweep is: its trials by state, and the best value of its metric among those that are done.

    Args:
        folder: The folder of its results.

    Raises:
        Refused: Its ledger does not read.
    """
    state = load_state(folder)
    counts = trial_counts(state, has_live_driver(folder))
    if state.header is None:
        return counts
    done = [trial for trial in state.plan_trials() if trial.status == "done"]
    values = [trial.metrics[state.header.metric] for trial in done if state.header.metric in trial.metrics]
    if not values:
        return counts
    best = (max if state.header.mode == "max" else min)(values)
    return f"{counts}; best {state.header.metric} {metric_value(state.header.metric, best)}"
