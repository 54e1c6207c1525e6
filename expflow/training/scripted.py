"""A trial that only does what its script says, without torch, so that sweeps can be tested in milliseconds a trial."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass

from expflow.config.identity import config_id
from expflow.errors import Diverged, TrialError
from expflow.events import Report
from expflow.tasks.specs import Action, Scripted
from expflow.training.checkpoints import Choice, Manifest, choose
from expflow.training.checkpoints.choice import FOLDER
from expflow.training.checkpoints.folder import Draft
from expflow.training.contract import Attempt, Began, DeviceNeed, Leave, OnNotice, OnReport, Outcome, Saved, World

ONE_DAY = 86_400.0
STATE = "state.json"
"""The one file of a scripted trial's checkpoint."""


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
    on_report = _with_other_ranks(attempt, world, on_report)
    trial = play(attempt, world, on_notice or (lambda notice: None))
    answer: bool | None = None
    while True:
        try:
            report = trial.send(answer)  # type: ignore[arg-type]  # a generator is begun with None
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        answer = on_report(report)


def device_need(attempt: Attempt, world: World) -> DeviceNeed:
    """What the script says that it needs of a GPU, which is taken to have 1 GiB; nothing is run."""
    task = attempt.recipe.task
    if not isinstance(task, Scripted):
        raise TypeError("the scripted runner measures the task `scripted` alone")
    return DeviceNeed(int(task.gpu_memory * 2**30) if task.gpu_memory <= 1 else None, 0, 2**30)


def play(attempt: Attempt, world: World, notify: OnNotice) -> Generator[Report, bool, Outcome]:
    """The trial as a generator: it yields reports and is sent whether to go on.

    It goes on from the checkpoint in its folder, if there is one: actions up to that step are not done again. After a
    fork its curve goes on from the donor's level, towards its own value.
    """
    task = attempt.recipe.task
    if not isinstance(task, Scripted):
        raise TypeError("the scripted runner runs the task `scripted` alone")
    actions = list(_actions(task, attempt.recipe.trainer.epochs))
    total = sum(action.report is not None for action in actions)
    choice = choose(attempt)
    level = _level(choice, attempt, task)
    notify(Began(choice.step, choice.path, choice.refused))
    step = 0
    for action in actions:
        if action.report is None:
            if step >= choice.step and action.rank in (None, world.rank):
                _do(action, step, lambda at: _save(attempt, level, at, notify))
            continue
        step += 1
        if step <= choice.step:
            continue
        go_on = yield Report(step, _metrics(action.report, attempt.seed, task, level(step)), step / total)
        if not go_on and step < total:
            if world.rank == 0:
                _save(attempt, level, step, notify)
            return Outcome(step, stopped=True)
    if world.rank == 0 and step > choice.step and any(action.save for action in task.script):
        _save(attempt, level, step, notify)
    return Outcome(step, stopped=False)


@dataclass(frozen=True)
class Level:
    """A curve from ``value`` at ``step`` towards the task's value, e^-rate closer at every further step."""

    task: Scripted
    step: int = 0
    value: float = 0.0

    def __call__(self, step: int) -> float:
        """The curve at ``step``."""
        if not self.step:  # as the description of the task writes it
            return self.task.value * (1 - math.exp(-self.task.rate * step))
        return self.task.value + (self.value - self.task.value) * math.exp(-self.task.rate * (step - self.step))


def _level(choice: Choice, attempt: Attempt, task: Scripted) -> Level:
    if choice.path is None:
        return Level(task)
    state = json.loads((choice.path / STATE).read_text(encoding="utf-8"))
    if state["forks"] == attempt.forks and not choice.borrowed:
        return Level(task, state["from"], state["origin"])
    return Level(task, choice.step, state["level"])


def _save(attempt: Attempt, level: Level, step: int, notify: OnNotice) -> None:
    if attempt.folder is None:
        return
    state = {"from": level.step, "origin": level.value, "level": level(step), "forks": attempt.forks}
    draft = Draft(attempt.folder / FOLDER, step, f"-a{attempt.number}")
    draft.write(STATE, lambda file: file.write(json.dumps(state).encode()) and None)
    manifest = draft.commit(
        Manifest(step, config_id(attempt.recipe), attempt.seed, forks=attempt.forks), (), lambda: None
    )
    notify(Saved(step, draft.final, manifest.sha256, manifest.size))


def _with_other_ranks(attempt: Attempt, world: World, on_report: OnReport) -> OnReport:
    """Ranks agree on what they run and on each report, as they do in training."""
    if world.ranks == 1:
        return on_report
    from expflow.training.ranks import agree, shared_decision  # which import torch

    agree(attempt, world)
    return shared_decision(on_report, world)


def _actions(task: Scripted, epochs: int) -> Iterator[Action]:
    """The script with repeats written out; without one, a curve report for each epoch."""
    for action in task.script or (Action(report={"val/top1": "curve"}, repeat=epochs),):
        for _ in range(action.repeat):
            yield action


def _metrics(wanted: Mapping[str, float | str], seed: int, task: Scripted, level: float) -> dict[str, float]:
    """Each wanted metric; a curve is its level + noise u, u uniform in -1..1 and fixed by the seed."""
    deviation = random.Random(f"scripted {seed}").uniform(-1, 1)  # noqa: S311 (no secret: it must be repeatable)
    return {
        name: level + task.noise * deviation if value == "curve" else float(value) for name, value in wanted.items()
    }


def _do(action: Action, step: int, save: Callable[[int], None]) -> None:
    """All that is no report."""
    if action.sleep is not None:
        time.sleep(action.sleep)
    elif action.fail is not None:
        raise TrialError(action.fail)
    elif action.exit is not None:
        os._exit(action.exit)  # at once, as a killed worker ends: no handler runs
    elif action.save:
        save(step)
    elif action.nan:
        raise Diverged(f"the loss became nan at step {step}")
    else:
        while True:
            time.sleep(ONE_DAY)
