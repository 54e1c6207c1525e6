"""What ends a sweep before its searcher does: its budget, and an error that every trial repeats."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from expflow.config.schema import Budget
from expflow.events import AttemptFailed, DriverStopped, Event, Packed, TrialEnded
from expflow.ledger.header import Header
from expflow.ledger.reader import read
from expflow.ledger.state import SweepState

SAME_FAILURES = 3
"""So many first trials with the same traceback stop a sweep: the next ones would fail alike."""

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$')


class Limits:
    """Watches one driver's work. ``devices`` are those that one trial occupies, ``clock`` gives seconds and never
    goes back (a clock that is set must not end a sweep)."""

    def __init__(
        self, budget: Budget, *, devices: float, before: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._budget, self._devices, self._before, self._clock = budget, devices, before, clock
        self._begun = clock()
        self._started: dict[str, float] = {}
        self._failed: list[tuple[str, str]] = []
        self._any_other = False

    def __call__(self, event: Event, state: SweepState) -> None:
        """Take notice of an event."""
        if isinstance(event, Packed):
            self._devices = event.devices
        trial = getattr(event, "trial", "")
        if trial in state.running:
            self._started.setdefault(trial, self._clock())
        else:
            self._started.pop(trial, None)
        if isinstance(event, TrialEnded) and len(self._failed) < SAME_FAILURES and not self._any_other:
            failures = state.trials[event.trial].failures
            if event.status == "failed" and failures and failures[-1].failure == "code":
                self._failed.append((signature(failures[-1]), failures[-1].message))
            else:
                self._any_other = True

    @property
    def seconds(self) -> float:
        """Seconds that this driver has worked."""
        return self._clock() - self._begun

    @property
    def hours(self) -> float:
        """Hours that drivers have worked on this sweep, this one included."""
        return (self._before + self.seconds) / 3600

    def device_hours(self, state: SweepState) -> float:
        """Hours that trials have occupied devices, running ones included."""
        over = sum(each.spent for each in state.trials.values())
        now = sum(self._clock() - each for each in self._started.values())
        return self._devices * (over + now) / 3600

    def room_for(self, trials: int, state: SweepState) -> str:
        """Why ``trials`` further trials may not be proposed; empty where they may."""
        most = self._budget.trials
        if most is None or len(state.current) + trials <= most:
            return ""
        return f"sweep.budget.trials ({most}) is used up"

    def spent(self, state: SweepState) -> str:
        """Why running trials are to leave; empty while there is time."""
        if self._budget.hours is not None and self.hours >= self._budget.hours:
            return f"sweep.budget.hours ({self._budget.hours:g}) is used up"
        if self._budget.device_hours is not None and self.device_hours(state) >= self._budget.device_hours:
            return f"sweep.budget.device_hours ({self._budget.device_hours:g}) is used up"
        return ""

    @property
    def hopeless(self) -> str:
        """What the first trials all died of, in words; empty where they did not."""
        if self._any_other or len(self._failed) < SAME_FAILURES or len({each for each, _ in self._failed}) > 1:
            return ""
        return (
            f"the first {SAME_FAILURES} trials failed with the same error, so the sweep was stopped: "
            f"{self._failed[-1][1]}. Mend it, then run them again with --retry failed"
        )


def signature(failure: AttemptFailed) -> str:
    """What is equal in two failures with one cause: the places of the traceback and the kind of the error."""
    places = [
        found.group("file", "line", "name") for each in failure.traceback.splitlines() if (found := _FRAME.match(each))
    ]
    kind = failure.message.partition(":")[0]
    return f"{kind} {places}" if places else failure.message


def worked_seconds(folder: Path) -> float:
    """Seconds that earlier drivers worked on the sweep in ``folder``.

    A driver that closed its ledger says so itself, from a clock that cannot be set. Of one that was killed the ledger's
    own times are all there is.
    """
    total, began, last = 0.0, 0.0, 0.0
    said: float | None = None
    for record in read(folder):
        if isinstance(record.body, Header):
            total += said if said is not None else last - began
            began, said = record.at, None
        elif isinstance(record.body, DriverStopped):
            seconds = record.body.details.get("seconds")
            said = float(seconds) if seconds is not None else None
        last = record.at
    return total
