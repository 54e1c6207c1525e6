"""The runner of scripted trials, without torch, so that sweeps can be tested in milliseconds a trial."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass

from expflow.config.identity import config_id
from expflow.errors import Diverged, Preempted, TrialError
from expflow.events import Report
from expflow.tasks.specs import Action, ScriptedSpec
from expflow.training.checkpoints import CheckpointManifest, CheckpointSelection, select_checkpoint
from expflow.training.checkpoints.selection import CHECKPOINTS_FOLDER
from expflow.training.checkpoints.storage import CheckpointDraft, remove_leftover_drafts
from expflow.training.contract import (
    Attempt,
    Began,
    DeviceNeed,
    Leave,
    OnNotice,
    OnReport,
    Outcome,
    Saved,
    World,
    ignore_notice,
    stay,
)
from expflow.training.finite_metrics import decisive_metrics, finite

ONE_DAY = 86_400.0
NAP_SECONDS = 0.05
"""How often a script that sleeps looks whether it has to leave."""
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

    Args:
        attempt: The trial; its task holds the script.
        world: This rank's place among the trial's ranks.
        on_report: Called with each report; the trial ends where it returns False.
        on_notice: Called on rank 0 when the attempt begins, and after each checkpoint.
        leave: Asked before each action, and while the script sleeps.

    Raises:
        TrialError: The script says ``raise``.
        Diverged: The script says ``nan``, or reports a loss or the judged metric that is no finite number.
        Preempted: ``leave`` said yes, and a checkpoint was written.
    """
    on_report, agreed = _with_other_ranks(attempt, world, on_report)
    trial = play(attempt, world, on_notice or ignore_notice, leave or stay, agreed)
    answer: bool | None = None
    while True:
        try:
            report = trial.send(answer)  # type: ignore[arg-type]  # a generator is begun with None
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        answer = on_report(report)


def device_need(attempt: Attempt, world: World) -> DeviceNeed:
    """What the script says that it needs of a GPU, which is taken to have 1 GiB; nothing is run.

    Args:
        attempt: The trial; its task holds the script.
        world: Not used.
    """
    task = attempt.recipe.task
    if not isinstance(task, ScriptedSpec):
        raise TypeError("the scripted runner measures the task `scripted` alone")
    return DeviceNeed(int(task.gpu_memory * 2**30) if task.gpu_memory <= 1 else None, 0, 2**30)


def play(
    attempt: Attempt,
    world: World,
    notify: OnNotice,
    leave: Leave = stay,
    agreed: Callable[[bool], bool] = bool,
) -> Generator[Report, bool, Outcome]:
    """The trial as a generator: it yields reports and is sent whether to go on.

    From the checkpoint in its folder it goes on; after a fork its curve does from the donor's level, to its own value.

    Args:
        attempt: The trial; its task holds the script.
        world: This rank's place among the trial's ranks.
        notify: Called when the attempt begins, and after each checkpoint.
        leave: Asked before each action, and while the script sleeps.
        agreed: Called on all ranks before each action with this rank's answer; returns whether one said yes.

    Raises:
        Preempted: It had to leave.
    """
    course = _begin(attempt, world, notify)
    actions = list(_actions(course.task, attempt.recipe.trainer.epochs))
    step, total = 0, sum(action.report is not None for action in actions)
    for action in actions:
        if agreed(leave()):
            course.leave(step)
        if action.report is None:
            if step >= course.start and action.rank in (None, world.rank):
                _do(action, step, course.save, leave)
            continue
        step += 1
        if step > course.start:
            go_on = yield course.report(action.report, step, step / total)
            if not go_on and step < total:
                course.save(step)
                return Outcome(step, stopped=True)
    if step > course.start and any(action.save for action in course.task.script):
        course.save(step)
    return Outcome(step, stopped=False)


@dataclass(frozen=True)
class ScriptedCurve:
    """A curve towards the task's value, e^-rate closer at every step.

    Attributes:
        task: The script, with the final value and the rate.
        step: The step that the curve goes on from; 0 from the beginning.
        value: The curve there.
    """

    task: ScriptedSpec
    step: int = 0
    value: float = 0.0

    def __call__(self, step: int) -> float:
        """The curve at ``step``."""
        if not self.step:  # as the description of the task writes it
            return self.task.value * (1 - math.exp(-self.task.rate * step))
        return self.task.value + (self.value - self.task.value) * math.exp(-self.task.rate * (step - self.step))


@dataclass(frozen=True)
class _Course:
    """What one attempt at a scripted trial goes by.

    Attributes:
        attempt: The attempt.
        world: This rank's place.
        task: The script.
        curve: What it reports.
        start: The step that it goes on from.
        notify: Called with what is saved.
    """

    attempt: Attempt
    world: World
    task: ScriptedSpec
    curve: ScriptedCurve
    start: int
    notify: OnNotice

    def report(self, wanted: Mapping[str, float | str], step: int, progress: float) -> Report:
        metrics = _metrics(wanted, self.attempt.seed, self.task, self.curve(step))
        measured = finite(metrics, step, decisive_metrics(self.attempt))
        return Report(step, measured.values, progress, measured.missing)

    def save(self, step: int) -> None:
        if self.world.rank == 0:
            _save(self.attempt, self.curve, step, self.notify)

    def leave(self, step: int) -> None:
        if step > self.start:
            self.save(step)
        raise Preempted(f"asked to leave at step {max(step, self.start)}, which is saved")


def _begin(attempt: Attempt, world: World, notify: OnNotice) -> _Course:
    """Find the checkpoint that the trial goes on from, of which rank 0 gives notice."""
    task = attempt.recipe.task
    if not isinstance(task, ScriptedSpec):
        raise TypeError("the scripted runner runs the task `scripted` alone")
    selection = select_checkpoint(attempt)
    if world.rank == 0:
        if attempt.folder is not None:
            remove_leftover_drafts(attempt.folder / CHECKPOINTS_FOLDER, _tag(attempt))
        notify(Began(selection.step, selection.path, selection.refused))
    return _Course(attempt, world, task, _curve(selection, attempt, task), selection.step, notify)


def _curve(selection: CheckpointSelection, attempt: Attempt, task: ScriptedSpec) -> ScriptedCurve:
    if selection.path is None:
        return ScriptedCurve(task)
    state = json.loads((selection.path / STATE).read_text(encoding="utf-8"))
    if state["forks"] == attempt.forks and not selection.borrowed:
        return ScriptedCurve(task, state["from"], state["origin"])
    return ScriptedCurve(task, selection.step, state["level"])


def _save(attempt: Attempt, curve: ScriptedCurve, step: int, notify: OnNotice) -> None:
    if attempt.folder is None:
        return
    state = {"from": curve.step, "origin": curve.value, "level": curve(step), "forks": attempt.forks}
    draft = CheckpointDraft(attempt.folder / CHECKPOINTS_FOLDER, step, _tag(attempt))
    draft.write(STATE, lambda file: file.write(json.dumps(state).encode()) and None)
    manifest = draft.commit(
        CheckpointManifest(step, config_id(attempt.recipe), attempt.seed, forks=attempt.forks), (), lambda: None
    )
    notify(Saved(step, draft.final, manifest.sha256, manifest.size))


def _tag(attempt: Attempt) -> str:
    return f"-a{attempt.number}"


def _with_other_ranks(attempt: Attempt, world: World, on_report: OnReport) -> tuple[OnReport, Callable[[bool], bool]]:
    """Ranks agree on what they run, on each report and on whether one has to leave, as they do in training."""
    if world.ranks == 1:
        return on_report, bool
    from expflow.training.ranks import max_over_ranks, shared_decision, verify_same_attempt  # which import torch

    verify_same_attempt(attempt, world)
    return shared_decision(on_report, world), lambda answer: bool(max_over_ranks([float(answer)], world)[0])


def _actions(task: ScriptedSpec, epochs: int) -> Iterator[Action]:
    """The script with repeats written out; without one, a curve report for each epoch."""
    for action in task.script or (Action(report={task.main_metric: "curve"}, repeat=epochs),):
        for _ in range(action.repeat):
            yield action


def _metrics(wanted: Mapping[str, float | str], seed: int, task: ScriptedSpec, level: float) -> dict[str, float]:
    """Each wanted metric; a curve is its level + noise u, u uniform in -1..1 and fixed by the seed."""
    deviation = random.Random(f"scripted {seed}").uniform(-1, 1)  # noqa: S311 (no secret: it must be repeatable)
    return {
        name: level + task.noise * deviation if value == "curve" else float(value) for name, value in wanted.items()
    }


def _do(action: Action, step: int, save: Callable[[int], None], leave: Leave) -> None:
    """Do an action that is no report."""
    if action.sleep is not None:
        _sleep(action.sleep, leave)
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


def _sleep(seconds: float, leave: Leave) -> None:
    """Sleep, but not longer than until the trial has to leave."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not leave():
        time.sleep(min(left, NAP_SECONDS))
