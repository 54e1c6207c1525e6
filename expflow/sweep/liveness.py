"""Whether a running attempt is alive: what its ranks' heartbeats have last shown, and what it may take."""

from __future__ import annotations

from dataclasses import dataclass

from expflow.sweep.heartbeat import SILENT_SECONDS

WARM_UP_SECONDS = 600.0
"""What a new rank gets to import what it needs, from a slow disk perhaps, before its first trial begins; and what a
trial gets, besides ``stall``, before its first step, for imports and data of its own."""


@dataclass(frozen=True)
class AttemptLimits:
    """How long an attempt may take before its gang is killed.

    Attributes:
        stall: Seconds without a step.
        limit: Seconds of the whole attempt; None for any.
        silent: Seconds without a heartbeat.
    """

    stall: float = 1800.0
    limit: float | None = None
    silent: float = SILENT_SECONDS


@dataclass
class Liveness:
    """The last heartbeats of a running attempt's ranks, by a monotonic clock in seconds.

    Attributes:
        begun: When the attempt began.
        beats: When each rank's last heartbeat came; None for a rank that still warms up.
        steps: Steps that each rank has counted.
        stepped: When a rank last counted one more; None before the first step.
        request: What the ranks get as answer to their heartbeats: ``stacks``, ``leave`` or nothing.
        waiting: Whether rank 0 waits for the driver's decision, which is no stall.
    """

    begun: float
    beats: list[float | None]
    steps: list[int]
    stepped: float | None = None
    request: str = ""
    waiting: bool = False

    @classmethod
    def begin(cls, ranks: int, now: float) -> Liveness:
        """The state of an attempt that begins now.

        Args:
            ranks: How many ranks it has.
            now: The clock's time.
        """
        return cls(now, [None] * ranks, [0] * ranks)

    def beat(self, rank: int, steps: int, now: float) -> None:
        """Take in a heartbeat.

        Args:
            rank: The rank that sent it.
            steps: Steps that it has counted.
            now: The clock's time.
        """
        self.beats[rank] = now
        if steps != self.steps[rank]:
            self.steps[rank], self.stepped = steps, now

    def reported(self, now: float) -> None:
        """Take in that the attempt has reported: ranks come to a report together, so none warms up any more.

        Args:
            now: The clock's time.
        """
        self.beats = [now if beat is None else beat for beat in self.beats]

    def fault(self, limits: AttemptLimits, now: float) -> tuple[str, str] | None:
        """What is wrong, as failure class and words; None as long as nothing is.

        Args:
            limits: How long the attempt may take.
            now: The clock's time.
        """
        for rank, beat in enumerate(self.beats):
            silence = now - (self.begun if beat is None else beat)
            if silence > (WARM_UP_SECONDS if beat is None else limits.silent):
                return "hung", f"rank {rank} gave no sign of life for {silence:.0f} s"
        since = self.begun + WARM_UP_SECONDS if self.stepped is None else self.stepped
        if not self.waiting and now - since > limits.stall:
            what = "no first step" if self.stepped is None else "no step"
            idle = now - (self.begun if self.stepped is None else self.stepped)
            return "hung", f"{what} for {idle:.0f} s (resources.stall_seconds)"
        if limits.limit is not None and now - self.begun > limits.limit:
            return "killed_by_limit", f"it ran for more than {limits.limit:g} s (resources.trial_seconds)"
        return None
