"""A trial that only does what its script says, without torch, so that sweeps can be tested in milliseconds a trial."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Iterator, Mapping

from expflow.errors import Diverged, TrialError
from expflow.events import Report
from expflow.tasks.specs import Action, Scripted
from expflow.training.contract import Attempt, Leave, OnNotice, OnReport, Outcome, World

ONE_DAY = 86_400.0


def run(
    attempt: Attempt,
    world: World,
    on_report: OnReport,
    *,
    on_notice: OnNotice | None = None,
    leave: Leave | None = None,
) -> Outcome:
    """Do what the script says. Each report is one step; progress counts reports towards those the script has.

    Raises :class:`TrialError` on ``raise`` and :class:`Diverged` on ``nan``.
    """
    task = attempt.recipe.task
    if not isinstance(task, Scripted):
        raise TypeError("the scripted runner runs the task `scripted` alone")
    actions = list(_actions(task, attempt.recipe.trainer.epochs))
    total = sum(action.report is not None for action in actions)
    step = 0
    for action in actions:
        if action.report is None:
            _do(action, step)
            continue
        step += 1
        report = Report(step, _metrics(task, action.report, attempt.seed, step), step / total)
        if not on_report(report) and step < total:
            return Outcome(step, stopped=True)
    return Outcome(step, stopped=False)


def _actions(task: Scripted, epochs: int) -> Iterator[Action]:
    """The script with repeats written out; without one, a curve report for each epoch."""
    for action in task.script or (Action(report={"val/top1": "curve"}, repeat=epochs),):
        for _ in range(action.repeat):
            yield action


def _metrics(task: Scripted, wanted: Mapping[str, float | str], seed: int, step: int) -> dict[str, float]:
    return {name: _curve(task, seed, step) if value == "curve" else float(value) for name, value in wanted.items()}


def _curve(task: Scripted, seed: int, step: int) -> float:
    """value (1 - exp(-rate step)) + noise u, u uniform in -1..1 and fixed by the seed."""
    deviation = random.Random(f"scripted {seed}").uniform(-1, 1)  # noqa: S311 (no secret: it must be repeatable)
    return task.value * (1 - math.exp(-task.rate * step)) + task.noise * deviation


def _do(action: Action, step: int) -> None:
    """All that is no report."""
    if action.sleep is not None:
        time.sleep(action.sleep)
    elif action.fail is not None:
        raise TrialError(action.fail)
    elif action.exit is not None:
        os._exit(action.exit)  # at once, as a killed worker ends: no handler runs
    elif action.nan:
        raise Diverged(f"the loss became nan at step {step}")
    else:
        while True:
            time.sleep(ONE_DAY)
