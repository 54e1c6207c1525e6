"""A sweep without Ray: a real plan, conductor and course, a ledger in memory, and a gang that plays scripted trials.

The gang's clock is the order of its steps, so nothing here waits. ``kill_at`` ends a driver in the middle of writing
its n-th event, as a kill would: what was written stays, what was in memory is gone.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expflow.errors import TrialError
from expflow.events import AttemptFailed, Decided, Event, Forked, Proposed, Report, Reported, TrialEnded, from_json
from expflow.ledger import Header, Record, SweepState
from expflow.ledger.records import decode, encode
from expflow.ledger.state import fold
from expflow.sweep.budgets import Limits
from expflow.sweep.conductor import Conductor, Work
from expflow.sweep.driver import replay
from expflow.sweep.files import trial_folder
from expflow.sweep.plan import Plan, make_plan
from expflow.training.contract import Attempt, Began, Notice, World
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
        self.lines.append(encode(self.clock, event))
        return Record(1, len(self.lines), self.clock, event, 0)

    def read(self) -> list[tuple[float, Header | Event]]:
        return [decode(line) for line in self.lines]

    def events(self, *kinds: type[Event]) -> list[Any]:
        return [body for _, body in self.read() if isinstance(body, kinds)]

    def state(self) -> SweepState:
        return fold(self.read())


@dataclass
class _Lease:
    work: Work
    play: Generator[Report, bool, Any]
    said: list[dict[str, Any]]
    last: int = 0


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
        self.ledger.append(plan.header(tracking="", code={}, before=before))
        state, course = replay(plan, self.ledger.read())
        self.ledger.kill_at = kill_at
        limits = more.pop("limits", None) or Limits(plan.sweep.budget, devices=1.0, clock=lambda: 0.0)
        return Conductor(plan, self.ledger, state, course, limits=limits, **more)  # type: ignore[arg-type]

    def run(self, kill_at: int | None = None, **more: Any) -> Conductor:
        """Drive to the end. Raises :class:`Killed`."""
        conductor = self.open(kill_at, **more)
        Gang(conductor, self.slots).run()
        return conductor

    def state(self) -> SweepState:
        return self.ledger.state()

    def story(self) -> dict[str, Any]:
        """What must not depend on where a driver was killed."""
        events = [body for _, body in self.ledger.read() if isinstance(body, Event)]
        reports = {(each.trial, each.step): each.metrics for each in events if isinstance(each, Reported)}
        return {
            "proposed": [(each.trial, each.draw, each.phase) for each in events if isinstance(each, Proposed)],
            "decided": list(  # a pause may be written again, after its checkpoint was made anew
                dict.fromkeys((each.trial, each.step, each.decision) for each in events if isinstance(each, Decided))
            ),
            "forked": [
                (each.trial, each.source, each.step, json.dumps(each.values))
                for each in events
                if isinstance(each, Forked)
            ],
            "reported": reports,
            "ended": {each.trial: (each.status, each.step) for each in events if isinstance(each, TrialEnded)},
            "table": [(each.trial, each.status, each.metrics) for each in self.state().plan_trials()],
        }


class Gang:
    """Plays what the conductor hands out, one step of one trial at a time, in turn; lockstep as on Ray."""

    def __init__(self, conductor: Conductor, slots: int) -> None:
        self.conductor, self.slots = conductor, slots
        self.leases: list[_Lease] = []

    def run(self) -> None:
        while True:
            while len(self.leases) < self.slots and (work := self.conductor.propose()) is not None:
                self.leases.append(self._begin(work))
            self.conductor.tick()
            if not self.leases:
                assert not self.conductor.waiting
                return
            if self.conductor.leaving or self.conductor.interrupted_by is not None:
                return
            for lease in list(self.leases):
                self._step(lease)

    def _begin(self, work: Work) -> _Lease:
        plan = self.conductor._plan
        folder = trial_folder(plan, work.planned)
        attempt = Attempt(work.recipe, work.planned.seed, folder=folder, forks=work.forks, number=work.attempt)
        said: list[dict[str, Any]] = []

        def notify(notice: Notice) -> None:
            if isinstance(notice, Began):
                said.append(self._message(work, "began", step=notice.step))
            else:
                path = str(notice.path.relative_to(plan.folder))
                said.append(self._message(work, "saved", step=notice.step, path=path, sha256=notice.sha256))

        self.conductor.take([self._message(work, "started", gang="gang-1")])
        return _Lease(work, play(attempt, World(), notify), said)

    @staticmethod
    def _message(work: Work, kind: str, **content: Any) -> dict[str, Any]:
        return {"kind": kind, "trial": work.planned.trial, "attempt": work.attempt, **content}

    def _step(self, lease: _Lease) -> None:
        """One report, or the end. The answer to a report is the conductor's word about the trial as it stands."""
        go_on = lease.last == 0 or self.conductor.goes_on([{"kind": "report", "trial": lease.work.planned.trial}])
        try:
            report = lease.play.send(None if lease.last == 0 else go_on)  # type: ignore[arg-type]
        except StopIteration as end:
            outcome = end.value
            status = "stopped" if outcome.stopped else "done"
            last = self._message(lease.work, "ended", status=status, step=outcome.step, seconds=1.0, weights="")
            self._over(lease, [last])
        except TrialError as error:
            failed = self._message(
                lease.work, "attempt_failed", failure=error.failure, message=str(error), traceback=""
            )
            last = self._message(lease.work, "ended", status="failed", step=lease.last, seconds=1.0, weights="")
            self._over(lease, [failed, last])
        else:
            lease.last = report.step
            self._say(
                lease,
                [
                    self._message(
                        lease.work,
                        "report",
                        step=report.step,
                        metrics=dict(report.metrics),
                        progress=report.progress,
                        seconds=1.0,
                    )
                ],
            )

    def _say(self, lease: _Lease, messages: list[dict[str, Any]]) -> None:
        earlier = list(lease.said)
        lease.said.clear()
        for message in (*earlier, *messages):
            self.conductor.take([message])

    def _over(self, lease: _Lease, messages: list[dict[str, Any]]) -> None:
        self.leases.remove(lease)
        self._say(lease, messages)
        self.conductor.returned(lease.work.planned.trial)


def failures(ledger: Memory) -> list[str]:
    return [each.failure for each in ledger.events(AttemptFailed)]
