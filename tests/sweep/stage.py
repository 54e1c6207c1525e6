"""A sweep without Ray: a real plan and conductor, a ledger in memory, and a gang that plays scripted trials.

The gang's clock is the order of its steps, so nothing here waits. ``kill_at`` ends a driver in the middle of writing
its n-th event, as a kill would: what was written stays, what was in memory is gone.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expflow.errors import TrialError
from expflow.event_kinds import from_json
from expflow.events import (
    AttemptFailed,
    Event,
    Report,
    SchedulerDecided,
    TrialEnded,
    TrialForked,
    TrialProposed,
    TrialReported,
)
from expflow.ledger import Header, Record, SweepState
from expflow.ledger.records import decode, encode
from expflow.ledger.state import fold
from expflow.sweep.conductor import Conductor, PlannedAttempt
from expflow.sweep.driver import replay
from expflow.sweep.ledger_header import ledger_header
from expflow.sweep.limits import SweepLimits
from expflow.sweep.messages import (
    AttemptFailedMessage,
    AttemptStartedMessage,
    Message,
    ReportMessage,
    TrialEndedMessage,
    notice_message,
)
from expflow.sweep.plan import Plan, make_plan
from expflow.sweep.result_files import make_trial_folder
from expflow.training.contract import Attempt, Notice, Outcome, World
from expflow.training.scripted import play

__all__ = ["Killed", "Memory", "Stage", "from_json"]


class Killed(Exception):
    """The driver is gone."""


@dataclass
class Memory:
    """A ledger in memory: lines as they would stand in the file."""

    lines: list[bytes] = field(default_factory=list)
    kill_at: int | None = None
    epoch: int = 0
    clock: float = 0.0

    def append(self, event: Event | Header) -> Record:
        if self.kill_at is not None and len(self.lines) >= self.kill_at:
            raise Killed
        self.clock += 1.0
        self.lines.append(encode(self.clock, len(self.lines) + 1, event))
        return Record(1, len(self.lines), self.clock, event, 0)

    def read(self) -> list[tuple[float, Header | Event]]:
        decoded = [decode(line) for line in self.lines]
        return [(line.at, line.body) for line in decoded]

    def events(self, *kinds: type[Event]) -> list[Any]:
        return [body for _, body in self.read() if isinstance(body, kinds)]

    def state(self) -> SweepState:
        return fold(self.read())


@dataclass
class _Lease:
    """A trial that the gang plays."""

    attempt: PlannedAttempt
    play: Generator[Report, bool, Outcome]
    unsent: list[Message]
    """What it gave notice of since its last report."""
    last: int = 0

    @property
    def trial(self) -> str:
        return self.attempt.planned.trial


class Stage:
    """One experiment file in ``folder``, and as many drivers over it as one likes."""

    def __init__(self, folder: Path, text: str = "", slots: int = 1) -> None:
        self.folder, self.slots = folder, slots
        self.ledger = Memory()
        if text:
            self.write(text)

    def write(self, text: str) -> None:
        (self.folder / "exp.yaml").write_text(text)

    def plan(self) -> Plan:
        return make_plan(self.folder / "exp.yaml", storage=self.folder / "runs")

    def open(self, kill_at: int | None = None, **more: Any) -> Conductor:
        """A new driver: its header, the replay, a conductor."""
        plan = self.plan()
        self.ledger.kill_at, self.ledger.epoch = None, self.ledger.epoch + 1
        before = self.ledger.state().header
        self.ledger.append(ledger_header(plan, tracking="", code={}, before=before))
        state, search_state = replay(plan, self.ledger.read())
        self.ledger.kill_at = kill_at
        limits = more.pop("limits", None) or SweepLimits(plan.sweep.budget, devices=1.0, clock=lambda: 0.0)
        return Conductor(plan, self.ledger, state, search_state, limits=limits, **more)  # type: ignore[arg-type]

    def run(self, kill_at: int | None = None, **more: Any) -> Conductor:
        """Drive to the end. Raises :class:`Killed`."""
        conductor = self.open(kill_at, **more)
        Gang(conductor, self.slots).run()
        return conductor

    def state(self) -> SweepState:
        return self.ledger.state()

    def save(self, name: str) -> None:
        """Write the ledger as the results ``name``, for what reads other results."""
        folder = self.folder / "runs" / name / "ledger"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            encode(at, number, replace(body, driver={"epoch": 1}) if isinstance(body, Header) else body)
            for number, (at, body) in enumerate(self.ledger.read(), start=1)
        ]
        (folder / "000001.jsonl").write_bytes(b"".join(lines))

    def story(self) -> dict[str, Any]:
        """What must not depend on where a driver was killed."""
        events = [body for _, body in self.ledger.read() if isinstance(body, Event)]
        reports = {(event.trial, event.step): event.metrics for event in events if isinstance(event, TrialReported)}
        return {
            "proposed": [
                (event.trial, event.draw, event.phase) for event in events if isinstance(event, TrialProposed)
            ],
            "decided": list(  # a pause may be written again, after its checkpoint was made anew
                dict.fromkeys(
                    (event.trial, event.step, event.decision) for event in events if isinstance(event, SchedulerDecided)
                )
            ),
            "forked": [
                (event.trial, event.source, event.step, json.dumps(event.values))
                for event in events
                if isinstance(event, TrialForked)
            ],
            "reported": reports,
            "ended": {event.trial: (event.status, event.step) for event in events if isinstance(event, TrialEnded)},
            "table": [(trial.trial, trial.status, trial.metrics) for trial in self.state().plan_trials()],
        }


class Gang:
    """Plays what the conductor hands out, one step of one trial at a time, in turn; lockstep as on Ray."""

    def __init__(self, conductor: Conductor, slots: int) -> None:
        self.conductor, self.slots = conductor, slots
        self.leases: list[_Lease] = []

    def run(self) -> None:
        while True:
            while len(self.leases) < self.slots and (attempt := self.conductor.propose()) is not None:
                self.leases.append(self._begin(attempt))
            self.conductor.tick()
            if not self.leases:
                assert not self.conductor.waiting
                return
            if self.conductor.leaving or self.conductor.interrupted_by is not None:
                return
            for lease in list(self.leases):
                self._step(lease)

    def _begin(self, planned: PlannedAttempt) -> _Lease:
        plan, trial = self.conductor._plan, planned.planned
        folder = make_trial_folder(plan, trial)
        attempt = Attempt(
            planned.recipe,
            trial.seed,
            folder=folder,
            forks=planned.forks,
            number=planned.attempt,
            judged_by=plan.metric,
        )
        unsent: list[Message] = []

        def notify(notice: Notice) -> None:
            unsent.append(notice_message(trial.trial, planned.attempt, notice, plan.folder))

        self.conductor.take([AttemptStartedMessage(trial.trial, planned.attempt, "gang-1")])
        return _Lease(planned, play(attempt, World(), notify), unsent)

    def _step(self, lease: _Lease) -> None:
        """One report, or the end. The answer to a report is the conductor's word about the trial as it stands."""
        trial, number = lease.trial, lease.attempt.attempt
        go_on = lease.last == 0 or self.conductor.goes_on(trial)
        try:
            report = lease.play.send(None if lease.last == 0 else go_on)  # type: ignore[arg-type]
        except StopIteration as end:
            self._over(lease, TrialEndedMessage.from_outcome(trial, number, end.value, seconds=1.0))
        except TrialError as error:
            failed = AttemptFailedMessage.from_error(trial, number, error, seconds=1.0)
            self._over(lease, failed, TrialEndedMessage.from_failure(failed, lease.last))
        else:
            lease.last = report.step
            self._send(lease, ReportMessage.from_report(trial, number, report))

    def _send(self, lease: _Lease, *messages: Message) -> None:
        unsent = list(lease.unsent)
        lease.unsent.clear()
        for message in (*unsent, *messages):
            self.conductor.take([message])

    def _over(self, lease: _Lease, *messages: Message) -> None:
        self.leases.remove(lease)
        self._send(lease, *messages)
        self.conductor.returned(lease.trial)


def failures(ledger: Memory) -> list[str]:
    return [event.failure for event in ledger.events(AttemptFailed)]
