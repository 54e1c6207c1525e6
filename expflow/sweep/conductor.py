"""The conductor: the driver's one place where proposals are made, events recorded and decisions carried out.

It knows neither Ray nor Tune. :mod:`expflow.sweep.adapters` calls it from Tune's hooks and passes on what it answers.
Whatever happened goes to the ledger first; state, course and whoever watches are told after that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.config.identity import folder_name
from expflow.config.schema import Recipe
from expflow.errors import CheckpointDamaged, ExperimentInvalid
from expflow.events import (
    CheckpointSaved,
    Decided,
    Event,
    Forked,
    Phase,
    Proposed,
    TrialEnded,
)
from expflow.ledger import Ledger, SweepState, TrialState
from expflow.sweep.budgets import Limits
from expflow.sweep.course import Course, leaders
from expflow.sweep.files import trial_folder
from expflow.sweep.journal import Journal
from expflow.sweep.news import Message, News
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.schedulers import Order
from expflow.sweep.searchers import Values
from expflow.training.checkpoints import adopt, found, verify
from expflow.training.checkpoints.choice import FOLDER, choose
from expflow.training.contract import Attempt

Observer = Callable[[Event, SweepState], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """One attempt at a trial, for a gang. ``forks`` counts the forks it has gone through, ``epoch`` is the driver's."""

    planned: PlannedTrial
    recipe: Recipe
    attempt: int
    forks: int
    epoch: int


class Conductor:
    """One driver's work on one sweep.

    ``state`` and ``course`` have taken in the ledger up to this driver's own header. Trials that the ledger answers are
    passed over; the others are handed out by :meth:`propose`, and again after a pause.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        state: SweepState,
        course: Course,
        *,
        limits: Limits | None = None,
        observers: Sequence[Observer] = (),
        retry_failed: bool = False,
    ) -> None:
        self.state, self.course = state, course
        self._plan, self._ledger = plan, ledger
        self._limits = limits or Limits(plan.sweep.budget, devices=1.0)
        self._observers: tuple[Observer, ...] = (self._limits, *observers)
        self._again = {each.trial for each in state.trials.values() if retry_failed and each.status == "failed"}
        self._fresh = self._new_trials()
        self._next: PlannedTrial | None = None
        self._resumed: dict[str, None] = {}
        self._redo: dict[str, int] = {}
        """Paused trials that must come to their pause again, at this step, because their checkpoint is not there."""
        self._redone: set[str] = set()
        self._busy: set[str] = set()
        self._news = News()
        self.interrupted_by: int | None = None
        """Number of the signal that asked the sweep to stop."""
        self.halted = ""
        """Why this driver hands out nothing more although there is more; empty while it does."""
        self.leaving = False
        """Whether running trials are to leave, too."""
        self.ended = 0
        """Trials that this driver has seen to their end."""
        for trial in [each for each in state.trials.values() if each.status == "waiting"]:
            self._recover(trial, self._reached(trial))
        self._resumed.update((each.trial, None) for each in state.plan_trials() if self._waits_to_resume(each))
        self._carry_out()

    def _folder(self, trial: TrialState) -> Path:
        return self._plan.folder / "trials" / folder_name(trial.values, trial.seed, trial.trial)

    def _reached(self, trial: TrialState) -> int:
        """The step of the checkpoint that the trial will go on from."""
        if not self._folder(trial).is_dir():
            return 0
        try:
            recipe = self._plan.loaded.configure(trial.latest_values)
        except ExperimentInvalid:  # the file was edited, and this is no trial of it
            return 0
        return choose(Attempt(recipe, trial.seed, folder=self._folder(trial), forks=len(trial.forks))).step

    def _recover(self, trial: TrialState, reached: int) -> None:
        """Record what the trial reported on its way to the step ``reached``, which nobody lived to hear: its driver
        was killed, or the way from its gang was cut off."""
        known = trial.reports[-1].step if trial.reports else 0
        if reached > known:
            for report in Journal(trial.trial, self._folder(trial)).between(known, reached):
                self.record(report)

    @staticmethod
    def _waits_to_resume(trial: TrialState) -> bool:
        return trial.status == "waiting" and trial.decision == "resume"

    @property
    def seconds(self) -> float:
        """Seconds that this driver has worked."""
        return self._limits.seconds

    @property
    def decides(self) -> bool:
        """Whether a scheduler looks at reports, so that ranks must wait for its word."""
        return self.course.judges

    @property
    def waiting(self) -> bool:
        """Whether there may be more to hand out once trials that are running have reported."""
        return bool(self._busy) and not self.halted and self.interrupted_by is None

    def has_work(self) -> bool:
        """Whether :meth:`propose` would hand something out now."""
        return self._peek() is not None

    def _peek(self) -> PlannedTrial | None:
        if self.interrupted_by is not None or self.halted:
            return None
        if (planned := self._resumable()) is not None:
            return planned
        while self._next is None or not self._is_open(self._next):
            self._next = next(self._fresh, None)
            if self._next is None:
                self._carry_out()  # the searcher is closed now, which its scheduler may have waited for
                return self._resumable() or self._confirming()
        return self._next

    def _resumable(self) -> PlannedTrial | None:
        trial = next((each for each in (*self._redo, *self._resumed) if each not in self._busy), None)
        if trial is None:
            return None
        return self._plan.trial(self.state.trials[trial].values, self.state.trials[trial].seed)

    def propose(self) -> Work | None:
        """The next attempt to run; None when there is none now (see :attr:`waiting`), or the sweep is being stopped."""
        planned = self._peek()
        if planned is None:
            return None
        known = self.state.trials[planned.trial]
        if planned.trial in self._resumed:
            del self._resumed[planned.trial]
        elif planned.trial not in self._redo:
            self._next = None
        self._again.discard(planned.trial)
        self._busy.add(planned.trial)
        recipe = self._plan.loaded.configure(known.latest_values)
        return Work(planned, recipe, known.attempt + 1, len(known.forks), self._ledger.epoch)

    def returned(self, trial: str) -> None:
        """The attempt that was handed out for ``trial`` is over, whatever it said of itself."""
        self._busy.discard(trial)
        if self._redo.pop(trial, None) is not None and not self.state.trials[trial].ended:
            self._redone.add(trial)
            self._pause(self.state.trials[trial])
        self._carry_out()

    # proposals

    def _new_trials(self) -> Iterator[PlannedTrial]:
        """The plan's trials in the order of proposal: those of configs that are known, then new ones."""
        for group in list(self.course.groups.values()):
            if not any(self.state.trials[each].status == "stopped" for each in group.trials):
                yield from self._propose(group.values, group.draw, "search")
            else:  # a config that was stopped gets no further seeds
                seeds = [self.state.trials[each].seed for each in group.trials]
                yield from self._propose(group.values, group.draw, "search", seeds)
        while True:
            if why := self._limits.room_for(len(self._plan.sweep.seeds), self.state):
                self.course.close(why)
            values = self.course.suggest(self.state)
            if values is None:
                return
            yield from self._propose(values, self.course.draws, "search")

    def _propose(
        self, values: Values, draw: int, phase: Phase, seeds: Sequence[int] | None = None
    ) -> list[PlannedTrial]:
        """Record that the plan holds a config with its seeds, all of them before the first is handed out."""
        trials = self._plan.expand(values, seeds)
        recorded = None
        for planned in trials:
            known = self.state.trials.get(planned.trial)
            if known is not None and planned.trial in self.state.current and known.budget == planned.budget:
                continue
            recorded = planned.recorded if recorded is None else recorded
            self.record(
                Proposed(
                    trial=planned.trial,
                    config=planned.config,
                    seed=planned.seed,
                    values=planned.values,
                    recipe=recorded,
                    budget=planned.budget,
                    draw=draw,
                    phase=phase,
                )
            )
        return trials

    def _is_open(self, planned: PlannedTrial) -> bool:
        """Whether a proposed trial is to be handed out."""
        known = self.state.trials[planned.trial]
        if planned.trial in self._again:
            return planned.trial not in self._busy
        if known.decision == "stop" and not known.ended:  # decided, and killed before it was written down as ended
            self._end_stopped(known)
        return known.status == "waiting" and planned.trial not in self._busy and planned.trial not in self._resumed

    def _confirming(self) -> PlannedTrial | None:
        """The leaders' next confirming trial, once the search is over."""
        confirm = self._plan.sweep.confirm
        if confirm is None or not self.course.closed or self._busy:
            return None
        search = [each for each in self.state.plan_trials() if each.phase == "search"]
        if not all(each.ended for each in search):
            return None
        for config in leaders(search, self._plan.objective, confirm.top):
            group = self.course.groups[config]
            for planned in self._propose(group.values, group.draw, "confirm", confirm.seeds):
                if self._is_open(planned):
                    self._next = planned
                    return planned
        return None

    # events

    def record(self, event: Event) -> None:
        """Write ``event`` to the ledger, take it into state and course, tell the observers."""
        at = self._ledger.append(event).at
        self.state.apply(event, at)
        self.course.apply(event, self.state)
        self.ended += isinstance(event, TrialEnded)
        for observer in self._observers:
            try:
                observer(event, self.state)
            except Exception:  # a watcher's mistake must not cost the sweep a trial
                logger.exception("an observer failed on %s", event)

    def take(self, messages: Sequence[Message]) -> None:
        """Record what a gang sent, in its order, and carry out what follows. Repeated messages are dropped."""
        for message in messages:
            trial = self.state.trials[message["trial"]]
            if message["kind"] == "began" and message["attempt"] > trial.attempt and not trial.ended:
                self._recover(trial, message["step"])
            for event in self._news.of(message, trial):
                self.record(event)
        if messages:
            self._carry_out()
            if not self.halted:
                self.halted = self._limits.hopeless

    def goes_on(self, messages: Sequence[Message]) -> bool:
        """Whether the trial of ``messages``, which were taken, goes on."""
        if not messages:
            return True
        trial = self.state.trials[messages[-1]["trial"]]
        goal = self._redo.get(trial.trial)
        if goal is not None and trial.reports and trial.reports[-1].step >= goal:
            return False
        return trial.status == "running"

    def tick(self) -> None:
        """Look at the clock."""
        if not self.halted and (why := self._limits.spent(self.state)):
            self.halted, self.leaving = why, True

    # decisions

    def _carry_out(self) -> None:
        """Do what the scheduler wants. What needs a trial that has not come back from its gang yet waits for that."""
        obeyed = True
        while obeyed:
            orders, obeyed = self.course.orders(), False
            for order in orders:
                if self._can(order, orders):
                    self._obey(order)
                    obeyed = True

    def _can(self, order: Order, orders: Sequence[Order]) -> bool:
        """Forks copy what both trials left behind, so both must be back; and all forks come before anybody goes on."""
        if order.verb == "fork":
            return self._is_back(order.trial) and self._is_back(order.source) and self._has_saved(order.source)
        if order.verb == "resume":
            return self._is_back(order.trial) and not any(each.verb == "fork" for each in orders)
        return True

    def _is_back(self, trial: str) -> bool:
        return trial not in self._busy and trial not in self._redo

    def _has_saved(self, name: str) -> bool:
        """Whether a paused trial has left the checkpoint that belongs to its pause. A kill may have come before it was
        written; then the trial is handed out again, until it is where it was paused."""
        trial = self.state.trials[name]
        step = trial.reports[-1].step if trial.reports else 0
        if name in self._redone or (trial.checkpoint is not None and trial.checkpoint.step >= step):
            return True
        if self._find_saved(trial, step):
            return True
        self._redo[name] = step
        return False

    def _find_saved(self, trial: TrialState, step: int) -> bool:
        """Whether the checkpoint lies on the disk, although a kill came before it was written down that it does."""
        for path in found(self._folder(trial) / FOLDER):
            try:
                manifest = verify(path)
            except CheckpointDamaged:
                continue
            if manifest.forks == len(trial.forks) and manifest.step >= step:
                where = str(path.relative_to(self._plan.folder))
                saved = CheckpointSaved(
                    trial.trial, trial.attempt, manifest.step, where, manifest.sha256, manifest.size
                )
                self.record(saved)
                return True
        return False

    def _obey(self, order: Order) -> None:
        trial = self.state.trials[order.trial]
        step = trial.reports[-1].step if trial.reports else 0
        match order.verb:
            case "fork":
                self._fork(trial, order)
            case "stop":
                self.record(Decided(trial.trial, trial.attempt, step, "stop"))
                self._end_stopped(trial)
            case "pause":
                self._pause(trial)
            case "resume":
                self._resume(trial, step)

    def _pause(self, trial: TrialState) -> None:
        step = trial.reports[-1].step if trial.reports else 0
        self._resumed.pop(trial.trial, None)  # where a kill came between its report and this
        self.record(Decided(trial.trial, trial.attempt, step, "pause"))

    def _resume(self, trial: TrialState, step: int) -> None:
        self.record(Decided(trial.trial, trial.attempt, step, "resume"))
        self._resumed[trial.trial] = None

    def _end_stopped(self, trial: TrialState) -> None:
        step = trial.reports[-1].step if trial.reports else 0
        self._resumed.pop(trial.trial, None)
        seconds = max(0.0, self.state.at - trial.started_at) if trial.status == "running" else trial.seconds
        self.record(TrialEnded(trial.trial, trial.attempt, "stopped", step, seconds))

    def _fork(self, trial: TrialState, order: Order) -> None:
        """Give the trial the donor's newest checkpoint. Without one that reads, it goes on as it is."""
        donor = self.state.trials[order.source].checkpoint
        if donor is None:
            logger.warning("%s goes on with its own weights: %s has no checkpoint", order.trial, order.source)
            self._resume(trial, trial.reports[-1].step if trial.reports else 0)
            return
        planned = self._plan.trial(trial.values, trial.seed)
        recipe = self._plan.loaded.configure(order.values)
        folder = trial_folder(self._plan, planned)
        attempt = Attempt(recipe, trial.seed, folder=folder, forks=len(trial.forks) + 1)
        try:
            path = adopt(self._plan.folder / donor.path, folder, attempt=attempt)
        except CheckpointDamaged as error:
            logger.warning("%s goes on with its own weights: %s", order.trial, error)
            self._resume(trial, trial.reports[-1].step if trial.reports else 0)
            return
        self.record(Forked(trial.trial, order.source, donor.step, dict(order.values)))
        where = str(path.relative_to(self._plan.folder))
        self.record(CheckpointSaved(trial.trial, trial.attempt, donor.step, where, donor.sha256, donor.size))
