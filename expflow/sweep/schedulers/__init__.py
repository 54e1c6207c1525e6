"""Schedulers: who stops, pauses or changes running trials. What one must do is here; the members are beside.

A scheduler is told facts, in the ledger's order, and says what is due now. It is told of a decision only once that is
recorded, so that replaying a ledger and living through it are the same thing: a decision that was recorded wins, one
that a killed driver did not come to record is due again. It may use no clock and no global random state.

Nobody but the conductor talks to it, and Ray Tune does not know of it: a paused trial is one whose rank was let go
after a checkpoint, and a resumed one is a further attempt at the same trial. A fork copies a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from expflow.config.schema import Dimension
from expflow.sweep.searchers import Values

Verb = Literal["stop", "pause", "resume", "fork"]


@dataclass(frozen=True)
class Order:
    """What is to be done with a trial. ``source`` and ``values`` belong to ``fork`` alone."""

    trial: str
    verb: Verb
    source: str = ""
    values: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """What a scheduler may know of its sweep besides its own arguments.

    ``epochs`` is the trials' budget; ``accepts`` says whether the schema accepts searched values.
    """

    epochs: int
    space: tuple[Dimension, ...] = ()
    accepts: Callable[[Values], bool] = lambda values: True


class Scheduler(Protocol):
    """A scheduler. Built as ``builder(spec, surroundings)``. Scores are such that more is better.

    ``time`` is what the spec's ``unit`` says: epochs or optimizer steps. Reports of one trial come with growing time;
    what a trial repeats after a fault is not told again.
    """

    def add(self, trial: str, config: str, values: Values) -> None:
        """A trial was proposed."""

    def report(self, trial: str, time: float, score: float | None) -> None:
        """A trial reported, short of its full budget; None where the report lacks the metric."""

    def decided(self, trial: str, decision: str) -> None:
        """A decision was recorded: ``stop``, ``pause`` or ``resume``."""

    def forked(self, trial: str, source: str, values: Values) -> None:
        """A fork was recorded."""

    def end(self, trial: str, time: float, score: float | None, *, done: bool) -> None:
        """A trial ended: at its full budget, or (not ``done``) otherwise."""

    def close(self) -> None:
        """No further trial will be added."""

    def orders(self) -> list[Order]:
        """What is due and not recorded yet, in the order in which it is to be done."""
