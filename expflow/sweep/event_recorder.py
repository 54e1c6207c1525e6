"""The one way of an event: into the ledger, then into the states that follow from it, then to the observers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import cast

from expflow.events import Event, TrialEnded
from expflow.ledger import Ledger, SweepState
from expflow.sweep.search_state import SearchState

Observer = Callable[[Event, SweepState], None]
"""Called with each event and the state that has taken it in."""

logger = logging.getLogger(__name__)


class EventRecorder:
    """Records one driver's events.

    Args:
        ledger: The driver's ledger.
        state: The sweep's state by the ledger so far.
        search_state: Searcher and scheduler, by the ledger so far.
        observers: Called after both states, in their order.
    """

    def __init__(
        self, ledger: Ledger, state: SweepState, search_state: SearchState, observers: Sequence[Observer] = ()
    ) -> None:
        self.state, self.search_state = state, search_state
        self._ledger, self._observers = ledger, observers
        self.ended = 0
        """Trials that ended since the driver started."""

    @property
    def epoch(self) -> int:
        """The driver's epoch."""
        return self._ledger.epoch

    def record(self, event: Event) -> None:
        """Write an event to the ledger, have both states take it in, call the observers.

        Args:
            event: What happened.
        """
        record = self._ledger.append(event)
        event = cast(Event, record.body)  # without secrets, as whoever reads the ledger will find it
        self.state.apply(event, record.at)
        self.search_state.apply(event, self.state)
        self.ended += isinstance(event, TrialEnded)
        for observer in self._observers:
            try:
                observer(event, self.state)
            except Exception:  # an observer's mistake must not cost the sweep a trial
                logger.exception("an observer failed on %s", event)
