"""The contract between whoever schedules trials and whoever trains them (design section 4.5).

``run_trial`` knows nothing of Ray or MLflow. It runs on the main thread of each rank, calls ``on_report`` with every
:class:`~expflow.events.Report` and is told whether to go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from expflow.config.schema import Recipe
from expflow.events import Report
from expflow.registry import load_dotted


@dataclass(frozen=True)
class World:
    """Where a rank stands among the ranks of its trial, and what it may use."""

    rank: int = 0
    ranks: int = 1
    threads: int = 1
    gpus: int = 0


@dataclass(frozen=True)
class Attempt:
    """All that one attempt at a trial needs, besides the world it runs in.

    ``data_root`` is the folder of prepared shards (None where the task needs no data), ``folder`` the trial's own
    folder for logs and checkpoints (None: keep nothing).
    """

    recipe: Recipe
    seed: int
    data_root: Path | None = None
    folder: Path | None = None
    resume: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended when it did not raise. ``weights``: sha256 over the final weights, "" without weights."""

    step: int
    stopped: bool
    weights: str = ""


LIGHTNING = "expflow.training.lightning_runner:run"
"""The runner of every task that does not name another one."""

OnReport = Callable[[Report], bool]
"""Called with each report; returns whether to go on."""


def run_trial(attempt: Attempt, world: World, on_report: OnReport) -> Outcome:
    """Train one trial to its end, or until ``on_report`` says no.

    The task's spec names its runner (``runner``, a dotted path): Lightning for real tasks, a script for tests.
    Raises what the trial raises; :class:`~expflow.errors.Diverged` when the loss is not finite.
    """
    runner: Callable[[Attempt, World, OnReport], Outcome] = load_dotted(runner_of(attempt.recipe))
    return runner(attempt, world, on_report)


def runner_of(recipe: Recipe) -> str:
    """Dotted path of what trains ``recipe``; a task of the user's is a LightningModule."""
    # asked of the class: an argument of a user's task may be called `runner` too
    path: str = getattr(type(recipe.task), "runner", LIGHTNING)
    return path
