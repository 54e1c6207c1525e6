"""The conductor: the driver's one place where proposals are made, events recorded and decisions taken.

It knows neither Ray nor Tune. :mod:`expflow.sweep.adapters` calls it from Tune's hooks in Tune's order (stopper, then
scheduler, then searcher) and passes on what it answers. Whatever happened goes to the ledger first; whoever watches is
told after that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from expflow.events import AttemptFailed, Decided, Event, Proposed, Reported, TrialEnded, TrialStarted
from expflow.ledger import Ledger, SweepState, TrialState
from expflow.sweep.plan import PlannedTrial

Observer = Callable[[Event, SweepState], None]
Message = Mapping[str, Any]

logger = logging.getLogger(__name__)


class TrialScheduler(Protocol):
    """A scheduler of our own words: one decision for each report."""

    def decide(self, trial: TrialState, report: Reported) -> bool:
        """Whether the trial goes on after ``report``."""


class Conductor:
    """One driver's work on one sweep.

    ``proposals`` yields the plan's trials in the searcher's order. Trials that the ledger has already answered are
    passed over; the others are handed out once each by :meth:`propose`.
    """

    def __init__(
        self,
        ledger: Ledger,
        state: SweepState,
        proposals: Iterator[PlannedTrial],
        scheduler: TrialScheduler | None = None,
        observers: Sequence[Observer] = (),
        retry_failed: bool = False,
    ) -> None:
        self.state = state
        self._ledger = ledger
        self._proposals = proposals
        self._scheduler = scheduler
        self._observers = tuple(observers)
        self._retry_failed = retry_failed
        self._seen: set[str] = set()
        self._next: PlannedTrial | None = None
        self.interrupted_by: int | None = None
        """Number of the signal that asked the sweep to stop."""
        self.ended = 0
        """Trials that this driver has seen to their end."""

    @property
    def decides(self) -> bool:
        """Whether a scheduler looks at reports, so that ranks must wait for its word."""
        return self._scheduler is not None

    def peek(self) -> PlannedTrial | None:
        """The trial that :meth:`propose` will hand out next."""
        if self._next is None:
            self._next = self._advance()
        return self._next

    def propose(self) -> PlannedTrial | None:
        """The next trial to run; None when there is none, or when the sweep is being stopped."""
        if self.interrupted_by is not None:
            return None
        planned, self._next = self.peek(), None
        return planned

    def _advance(self) -> PlannedTrial | None:
        for planned in self._proposals:
            if planned.trial in self._seen:
                continue
            self._seen.add(planned.trial)
            if not self._answered(planned):
                return planned
        return None

    def _answered(self, planned: PlannedTrial) -> bool:
        """Whether the ledger already has this trial's result. Records that the plan holds the trial."""
        known = self.state.trials.get(planned.trial)
        if known is None or planned.trial not in self.state.current or known.budget != planned.budget:
            self.record(
                Proposed(
                    trial=planned.trial,
                    config=planned.config,
                    seed=planned.seed,
                    values=planned.values,
                    recipe=planned.recorded,
                    budget=planned.budget,
                )
            )
            known = self.state.trials[planned.trial]
        if known.status == "failed" and self._retry_failed:
            return False
        if known.decision == "stop" and not known.ended:  # decided, and killed before it was written down as ended
            self._end_stopped(known)
        return known.ended

    def next_attempt(self, trial: str) -> int:
        """The number of the trial's next attempt."""
        return self.state.trials[trial].attempt + 1

    def record(self, event: Event) -> None:
        """Write ``event`` to the ledger, take it into the state, tell the observers."""
        at = self._ledger.append(event).at
        self.state.apply(event, at)
        self.ended += isinstance(event, TrialEnded)
        for observer in self._observers:
            try:
                observer(event, self.state)
            except Exception:  # a watcher's mistake must not cost the sweep a trial
                logger.exception("an observer failed on %s", event)

    def take(self, messages: Sequence[Message]) -> None:
        """Record what a gang sent, in its order. A message that the ledger already holds is dropped."""
        for message in messages:
            event = self._event(message)
            if event is not None:
                self.record(event)

    def _event(self, message: Message) -> Event | None:
        trial = self.state.trials[message["trial"]]
        attempt = message["attempt"]
        match message["kind"]:
            case "started":
                return TrialStarted(trial.trial, attempt, message["gang"])
            case "report":
                if trial.reports and trial.attempt == attempt and trial.reports[-1].step >= message["step"]:
                    return None
                return Reported(trial.trial, attempt, message["step"], dict(message["metrics"]), message["progress"])
            case "attempt_failed":
                return AttemptFailed(trial.trial, attempt, message["failure"], message["message"], message["traceback"])
            case "ended" if not trial.ended:
                return TrialEnded(
                    trial.trial, attempt, message["status"], message["step"], message["seconds"], message["weights"]
                )
        return None

    def judge(self, messages: Sequence[Message]) -> bool:
        """Whether the trial goes on after the newest of ``messages``. A decision to stop is written before it acts."""
        reports = [message for message in messages if message["kind"] == "report"]
        if not reports or self._scheduler is None:
            return True
        trial = self.state.trials[reports[-1]["trial"]]
        if trial.ended or not trial.reports or self._scheduler.decide(trial, trial.reports[-1]):
            return True
        last = trial.reports[-1]
        self.record(Decided(trial.trial, last.attempt, last.step, "stop"))
        self._end_stopped(trial, seconds=float(reports[-1]["seconds"]))
        return False

    def _end_stopped(self, trial: TrialState, seconds: float = 0.0) -> None:
        step = trial.reports[-1].step if trial.reports else 0
        self.record(TrialEnded(trial.trial, trial.attempt, "stopped", step, seconds))
