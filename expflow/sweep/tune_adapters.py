"""What Ray Tune sees of a sweep: a searcher, a stopper and a trainable, all of them thin.

Tune pickles the searcher when a Tuner is made, so it holds the name of its session and nothing else; the session itself
stays in the driver's memory. No failure ever reaches Tune: the trainable does not raise.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from expflow.sweep.messages import WireMessage
from expflow.sweep.tune_session import MESSAGES_KEY, SESSIONS


class ConductorSearcher(Searcher):
    """Tune's searcher: hands out the ticket of the trainable that relays. Tune's config stays empty.

    Args:
        session: Name of the session.
    """

    def __init__(self, session: str) -> None:
        super().__init__()
        self._session = session

    def suggest(self, trial_id: str) -> Any:
        """The ticket's (empty) config, None while there is one, FINISHED at the end."""
        return SESSIONS[self._session].suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take the ticket back."""
        SESSIONS[self._session].complete(lost=error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a resumed sweep replays the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a resumed sweep replays the ledger."""


class RecordingStopper(Stopper):
    """Tune's stopper, which is called with every result: here it goes to the ledger.

    Args:
        session: Name of the session.
    """

    def __init__(self, session: str) -> None:
        self._session = session

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record the result; never stops a trial."""
        SESSIONS[self._session].take(result)
        return False

    def stop_all(self) -> bool:
        """Asked at every step of Tune's loop, which makes it the place to notice a signal. Never true: Tune would
        wait for a trainable that is itself waiting; released, it ends by itself."""
        SESSIONS[self._session].tick()
        return False


class RelayTrainable(tune.Trainable):
    """Tune's trainable: waits for messages at the dispatcher and passes them on. It never raises."""

    def setup(self, config: dict[str, Any]) -> None:
        """Find the dispatcher by its name."""
        self._dispatcher = ray.get_actor(config["dispatcher"])
        self._reader = uuid.uuid4().hex

    def step(self) -> dict[str, Any]:
        """The next messages; ``done`` when the dispatcher lets go or is gone."""
        first, messages = 0, list[WireMessage]()
        with suppress(ray.exceptions.RayError):
            first, messages = ray.get(self._dispatcher.next.remote(self._reader))
        return {MESSAGES_KEY: (first, messages), "done": not messages}
