"""What ends a sweep before its searcher does: its budget, and an error that every trial repeats."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from expflow.config.schema import Budget
from expflow.events import AttemptFailed, DriverStopped, Event, GpuSharingMeasured, TrialEnded
from expflow.ledger.header import Header
from expflow.ledger.reader import condensed
from expflow.ledger.state import SweepState
from expflow.ledger.trial_values import finite

SAME_FAILURES = 3
"""So many first trials with the same traceback stop a sweep: the next ones would fail alike."""

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$')


class SweepLimits:
    """Watches one driver's work. An observer of its events.

    Args:
        budget: What the experiment file allows.
        devices: Devices that one trial occupies.
        before: Seconds that earlier drivers worked.
        clock: Gives seconds and never goes back: a clock that is set must not end a sweep.
    """

    def __init__(
        self, budget: Budget, *, devices: float, before: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._budget, self._devices, self._before, self._clock = budget, devices, before, clock
        self._begun = clock()
        self._started: dict[str, float] = {}
        self._failed: list[tuple[str, str]] = []
        self._any_other = False

    def __call__(self, event: Event, state: SweepState) -> None:
        """Take in an event that the state has taken in."""
        if isinstance(event, GpuSharingMeasured):
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
        """Hours that trials have occupied devices, running ones included.

        Args:
            state: The sweep's state.
        """
        over = sum(trial.spent for trial in state.trials.values())
        now = sum(self._clock() - started for started in self._started.values())
        return self._devices * (over + now) / 3600

    def why_not_propose(self, trials: int, state: SweepState) -> str:
        """Why further trials may not be proposed; empty where they may.

        Args:
            trials: How many further ones.
            state: The sweep's state.
        """
        most = self._budget.trials
        if most is None or len(state.current) + trials <= most:
            return ""
        return f"sweep.budget.trials ({most}) is used up"

    def spent(self, state: SweepState) -> str:
        """Why running trials are to leave; empty while there is time.

        Args:
            state: The sweep's state.
        """
        if self._budget.hours is not None and self.hours >= self._budget.hours:
            return f"sweep.budget.hours ({self._budget.hours:g}) is used up"
        if self._budget.device_hours is not None and self.device_hours(state) >= self._budget.device_hours:
            return f"sweep.budget.device_hours ({self._budget.device_hours:g}) is used up"
        return ""

    @property
    def hopeless(self) -> str:
        """Why no further trial can succeed: the first ones failed alike; empty where they did not."""
        causes = {cause for cause, _ in self._failed}
        if self._any_other or len(self._failed) < SAME_FAILURES or len(causes) > 1:
            return ""
        return (
            f"the first {SAME_FAILURES} trials failed with the same error, so the sweep was stopped: "
            f"{self._failed[-1][1]}. Mend it, then run them again with --retry failed"
        )


def signature(failure: AttemptFailed) -> str:
    """What is equal in two failures with one cause: the places of the traceback and the kind of the error.

    Args:
        failure: The failure.
    """
    frames = [_FRAME.match(line) for line in failure.traceback.splitlines()]
    places = [frame.group("file", "line", "name") for frame in frames if frame is not None]
    kind = failure.message.partition(":")[0]
    return f"{kind} {places}" if places else failure.message


def worked_seconds(folder: Path, *, with_last: bool = False) -> float:
    """Seconds that drivers worked on a sweep, the last one left out.

    A driver that closed its ledger recorded them, from a clock that cannot be set. Of one that was killed the ledger's
    own times are all there is.

    Args:
        folder: The experiment's folder, with its ledger.
        with_last: Whether the last driver counts as well; one that works counts its own time.
    """
    total, began, last = 0.0, 0.0, 0.0
    recorded: float | None = None
    for at, line in condensed(folder):
        if isinstance(line, Header):
            total += recorded if recorded is not None else last - began
            began, recorded = at, None
        elif isinstance(line, DriverStopped):
            recorded = finite(line.details.get("seconds"))
        last = at
    if with_last:
        total += recorded if recorded is not None else last - began
    return total
