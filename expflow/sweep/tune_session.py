"""What Ray Tune's pickled hooks find in the driver's memory: the session of their sweep, by its name."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from expflow.sweep.sweep_session import SweepSession

MESSAGES_KEY = "expflow"
"""Where a Tune result carries the dispatcher's messages, with the number of the first of them."""


class TuneSession:
    """One sweep as Tune sees it: a single trial, its *ticket*, whose trainable relays the messages of all of ours.

    So Tune's latency and memory are those of one trial, however many there are.

    Args:
        sweep: The driver's end of the way to the dispatcher.
    """

    def __init__(self, sweep: SweepSession) -> None:
        self._sweep = sweep
        self._ticket = ""
        """Tune's key of the ticket; empty where there is none."""
        self._over = False

    def suggest(self, key: str) -> dict[str, Any] | str | None:
        """Answer Tune's request for a trial: the (empty) config of the ticket, None for later, FINISHED for never.

        Args:
            key: Tune's key of the new trial.
        """
        if self._over:
            return str(Searcher.FINISHED)
        if self._ticket:
            return None
        self._ticket = key
        return {}

    def take(self, result: dict[str, Any]) -> None:
        """Record a result's messages.

        Args:
            result: What the trainable returned.
        """
        if MESSAGES_KEY in result:
            self._sweep.take(*result[MESSAGES_KEY])

    def complete(self, *, lost: bool) -> None:
        """Close the ticket. Another one relays what a lost trainable did not.

        Args:
            lost: Whether its trainable was lost.
        """
        self._ticket, self._over = "", not lost

    def tick(self) -> None:
        """Read what the driver still reads by itself, and check the clock."""
        self._sweep.read(0.0)
        self._sweep.tick()


SESSIONS: dict[str, TuneSession] = {}
"""Name -> session of this process: all that Tune's pickled hooks hold of a session is its name."""
