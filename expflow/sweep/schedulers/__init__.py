"""Schedulers: what stops, pauses or changes running trials. The protocol is here; its members are beside.

A scheduler gets facts, in the ledger's order, and returns the orders that are due now. It gets a decision only once it
is recorded, so that replaying a ledger and running a sweep are the same: a decision that was recorded wins, one that a
killed driver did not record is due again. It may use no clock and no global random state.

Only the conductor calls it, and Ray Tune does not know of it: a paused trial is one whose rank was let go after a
checkpoint, and a resumed one is a further attempt at the same trial. A fork copies a checkpoint.
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
    """What is to be done with a trial.

    Attributes:
        trial: The trial's id.
        verb: What is to be done.
        source: Id of the trial whose checkpoint a ``fork`` copies.
        values: The searched values that a ``fork`` goes on with.
    """

    trial: str
    verb: Verb
    source: str = ""
    values: Values = field(default_factory=dict)


@dataclass(frozen=True)
class SchedulerContext:
    """What a scheduler may know of its sweep besides its own arguments.

    Attributes:
        epochs: The trials' budget.
        space: The searched dimensions.
        accepts: Whether the schema accepts searched values.
    """

    epochs: int
    space: tuple[Dimension, ...] = ()
    accepts: Callable[[Values], bool] = lambda values: True


class Scheduler(Protocol):
    """A scheduler. Built as ``builder(spec, surroundings)``, with a :class:`SchedulerContext`.

    Scores are such that more is better. Times are in the spec's ``unit``: epochs or optimizer steps. Reports of one
    trial come with growing time; what a trial repeats after a fault does not come again.
    """

    def add(self, trial: str, config: str, values: Values) -> None:
        """Take in that a trial was proposed.

        Args:
            trial: The trial's id.
            config: Its config's id.
            values: The searched values that it trains with.
        """

    def report(self, trial: str, time: float, score: float | None) -> None:
        """Take in a report, short of the trial's full budget.

        Args:
            trial: The trial's id.
            time: How far it is.
            score: The metric; None where the report lacks it.
        """

    def decided(self, trial: str, decision: str) -> None:
        """Take in that a decision was recorded.

        Args:
            trial: The trial's id.
            decision: ``stop``, ``pause`` or ``resume``.
        """

    def forked(self, trial: str, source: str, values: Values) -> None:
        """Take in that a fork was recorded.

        Args:
            trial: Id of the trial that goes on from another one's checkpoint.
            source: Id of that other trial.
            values: The searched values that it goes on with.
        """

    def end(self, trial: str, time: float, score: float | None, *, done: bool) -> None:
        """Take in that a trial ended.

        Args:
            trial: The trial's id.
            time: How far it came.
            score: The last report's metric; None where it lacks it.
            done: Whether it ended at its full budget.
        """

    def close(self) -> None:
        """Take in that no further trial will be added."""

    def orders(self) -> list[Order]:
        """What is due and not recorded yet, in the order in which it is to be done."""
