"""What Ray Tune sees of a sweep: a searcher, a scheduler, a stopper and a trainable, all of them thin.

Tune pickles searcher and scheduler when a Tuner is made, so they hold the name of their session and nothing else; the
session itself stays in the driver's memory. No failure ever reaches Tune: the trainable does not raise.
"""

from __future__ import annotations

import os
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from expflow.sweep.conductor import Conductor, Work
from expflow.sweep.files import trial_folder
from expflow.sweep.plan import Plan
from expflow.sweep.pretrained import keep
from expflow.sweep.rank import Assignment

KEY = "expflow"
"""Where a Tune result carries a gang's messages."""

STARTS = max(1, (os.cpu_count() or 1) // 2)
"""Trainables that are started at once, on half of this machine's CPUs: the ranks start too, and no trial waits for its
trainable."""


class Session:
    """One sweep in the driver's memory: the conductor, and the way to the dispatcher."""

    def __init__(self, plan: Plan, conductor: Conductor, dispatcher: Any, limit: int, lockstep: bool) -> None:
        self.plan, self.conductor, self.dispatcher = plan, conductor, dispatcher
        self.limit, self.lockstep = limit, lockstep
        self._running: dict[str, str] = {}
        """Tune's key -> trial. Tune's trials are only tickets: a paused trial goes on under another one."""
        self._orphans: list[str] = []
        """Keys of tickets whose trainable was lost; what it relayed goes on."""
        self._released = False
        self._tickets: list[Trial] = []
        """Tune's trials that are not over."""
        self._starting: set[str] = set()
        """Keys of tickets for which Tune is starting an actor."""
        self._free_actors = 0

    def add(self, ticket: Trial) -> None:
        """Tune has made a trial of a suggestion."""
        self._tickets.append(ticket)

    def newest_waiting(self) -> Trial | None:
        """The newest of Tune's trials that wait for an actor."""
        self._tickets = [each for each in self._tickets if not each.is_finished()]
        return next((each for each in reversed(self._tickets) if each.status == Trial.PENDING), None)

    def suggest(self, key: str) -> dict[str, Any] | str | None:
        """Tune asks for a trial: None means later, FINISHED means never."""
        if self._orphans:
            old = self._orphans.pop(0)
            self._running[key] = self._running.pop(old)
            self.dispatcher.hand_over.remote(old, key)
            return {}
        if len(self._running) >= self.limit or not (self._free_actors or len(self._starting) < STARTS):
            return None
        work = self.conductor.propose()
        if work is None:
            return None if self.conductor.waiting else str(Searcher.FINISHED)
        if self._free_actors:
            self._free_actors -= 1
        else:
            self._starting.add(key)
        self._running[key] = work.planned.trial
        self.dispatcher.assign.remote(key, assignment(self.plan, work, self.lockstep))
        return {}

    def take(self, key: str, result: dict[str, Any]) -> None:
        """Record a result's messages."""
        self._starting.discard(key)
        self.conductor.take(result.get(KEY, ()))

    def judge(self, key: str, result: dict[str, Any]) -> None:
        """Tell the trial's rank whether it goes on. Where it does not, it says by itself when it has left."""
        messages = result.get(KEY, ())
        reports = [message for message in messages if message["kind"] == "report"]
        if self.lockstep and reports:
            attempt, step = reports[-1]["attempt"], reports[-1]["step"]
            self.dispatcher.decide.remote(key, attempt, step, self.conductor.goes_on(messages))

    def complete(self, key: str, *, lost: bool) -> None:
        """Tune is done with a ticket. Where its trainable was lost, another one relays what it did not."""
        self._starting.discard(key)
        self._free_actors += not lost
        if lost and key in self._running:
            self._orphans.append(key)
        elif (trial := self._running.pop(key, None)) is not None:
            self.dispatcher.forget.remote(key)
            self.conductor.returned(trial)

    def look(self) -> None:
        """Look at the clock; after a signal, or without budget, let the trainables go so that Tune ends by itself."""
        self.conductor.tick()
        leaving = self.conductor.interrupted_by is not None or self.conductor.leaving
        if leaving and not self._released:
            self._released = True
            self.dispatcher.release.remote()


def assignment(plan: Plan, work: Work, lockstep: bool) -> Assignment:
    """What a gang is told of a piece of work."""
    planned = work.planned
    return Assignment(
        trial=planned.trial,
        attempt=work.attempt,
        recipe=work.recipe,
        seed=planned.seed,
        folder=str(trial_folder(plan, planned)),
        data_root=str(planned.data.root) if planned.data else None,
        forks=work.forks,
        experiment=str(plan.folder),
        epoch=work.epoch,
        weights=keep(planned.weights, plan.folder),
        lockstep=lockstep,
    )


SESSIONS: dict[str, Session] = {}


class Proposer(Searcher):
    """Tune's searcher: hands out the conductor's proposals. Tune's config stays empty; ids travel by Tune's own key."""

    def __init__(self, session: str) -> None:
        super().__init__()
        self._session = session

    def suggest(self, trial_id: str) -> Any:
        """The next trial's (empty) config, None while the machine is full, FINISHED at the end."""
        return SESSIONS[self._session].suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Make room for another trial."""
        SESSIONS[self._session].complete(trial_id, lost=error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a resumed sweep replays the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a resumed sweep replays the ledger."""


class Recorder(Stopper):
    """Tune's stopper runs before its scheduler: here every result goes to the ledger."""

    def __init__(self, session: str) -> None:
        self._session = session

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record the result; never stops a trial."""
        SESSIONS[self._session].take(trial_id, result)
        return False

    def stop_all(self) -> bool:
        """Asked at every step of Tune's loop, which makes it the place to notice a signal. Never true: Tune would
        wait for trainables that are themselves waiting; released, they end by themselves."""
        SESSIONS[self._session].look()
        return False


class Judge(FIFOScheduler):
    """Tune's scheduler: passes on what the conductor says about every report."""

    def __init__(self, session: str) -> None:
        super().__init__()
        self._session = session

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Remember it."""
        SESSIONS[self._session].add(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The newest, so that an actor which has become free goes to a trial that has none.

        Given to the oldest, whose own actor is just being started, it would have Tune kill that one; where actors start
        more slowly than trials end there would never be as many as slots, and processes would be started for nothing.
        """
        return SESSIONS[self._session].newest_waiting()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Always Tune's word for going on: a trial that is stopped or paused ends its ticket itself, with its last
        message, when its gang is free again."""
        SESSIONS[self._session].judge(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE)


class Relay(tune.Trainable):
    """Tune's trainable: waits for the trial's messages at the dispatcher and passes them on. It never raises."""

    def setup(self, config: dict[str, Any]) -> None:
        """Find the dispatcher by its name."""
        self._dispatcher = ray.get_actor(config["dispatcher"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Nothing of the last trial is kept, so the next one may use this actor."""
        return True

    def step(self) -> dict[str, Any]:
        """The trial's next messages; ``done`` with the last of them, or when the dispatcher lets go or is gone."""
        messages: list[dict[str, Any]]
        try:
            messages = ray.get(self._dispatcher.next.remote(self.trial_id))
        except ray.exceptions.RayError:
            messages = []
        return {KEY: messages, "done": not messages or messages[-1]["kind"] == "ended"}
