"""The classes that failures of an attempt fall into, and what each one means for the trial. Data, read by all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """What happens after an attempt that failed in this way.

    ``tries`` is how often a trial may fail so before it is given up, None for as often as it takes. ``infeasible``
    says that the config itself is to blame, which a searcher should learn from.
    """

    tries: int | None
    why: str
    infeasible: bool = False


RULES: dict[str, Rule] = {
    "code": Rule(1, "the same code raises the same error again"),
    "diverged": Rule(1, "the same numbers diverge again", infeasible=True),
    "out_of_memory": Rule(1, "the same trial needs the same memory again", infeasible=True),
    "killed_by_limit": Rule(1, "the same trial takes the same time again"),
    "worker_lost": Rule(3, "a process died, which may have been the trial's doing or not"),
    "node_lost": Rule(3, "a machine went away, perhaps only for a while"),
    "hung": Rule(3, "a rank stopped answering, which may have been the machine's doing or not"),
    "preempted": Rule(None, "the machine was wanted for something else; the trial did nothing wrong"),
    "disk_full": Rule(1, "a disk that is full now is full a moment later"),
    "storage": Rule(1, "what cannot be written now can hardly be written a moment later"),
}
"""Failure class -> rule. ``expflow sweep --retry failed`` tries again whatever was given up."""


def may_retry(failure: str, times: int) -> bool:
    """Whether a trial that has now failed ``times`` times by ``failure`` is tried again. Unknown classes are not."""
    rule = RULES.get(failure, RULES["code"])
    return rule.tries is None or times < rule.tries
