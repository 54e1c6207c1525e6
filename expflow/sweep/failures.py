"""The classes that failures of an attempt fall into, and what each one means for the trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expflow.errors import MetricMissing, StorageUnwritable, TrialError
from expflow.training.checkpoints.storage import NO_ROOM


@dataclass(frozen=True)
class FailureRule:
    """What happens after an attempt that failed in this way.

    Attributes:
        tries: How often a trial may fail so before it is given up; None for as often as it takes.
        why: The reason for that number.
        infeasible: Whether the config itself is to blame, which a searcher should learn from.
        elsewhere: The same for trials that can go on at another node, where nodes share no disk.
    """

    tries: int | None
    why: str
    infeasible: bool = False
    elsewhere: int | None = None


BATCH_FAILED = "batch_failed"
"""The class of an attempt before which a batch was tried and failed. It is no trial's failure: the sweep ends."""
METRIC_MISSING = "metric_missing"
"""The class of a trial whose recipe watches a metric that is not there."""

RULES: dict[str, FailureRule] = {
    BATCH_FAILED: FailureRule(1, "the same code fails on the same batch again"),
    "code": FailureRule(1, "the same code raises the same error again"),
    "diverged": FailureRule(1, "the same numbers diverge again", infeasible=True),
    "out_of_memory": FailureRule(1, "the same trial needs the same memory again", infeasible=True),
    "killed_by_limit": FailureRule(1, "the same trial takes the same time again"),
    "worker_lost": FailureRule(3, "a process died, which may have been the trial's doing or not"),
    "node_lost": FailureRule(3, "a machine went away, perhaps only for a while"),
    "hung": FailureRule(3, "a rank stopped answering, which may have been the machine's doing or not"),
    "preempted": FailureRule(None, "the machine was wanted for something else; the trial did nothing wrong"),
    "disk_full": FailureRule(1, "a disk that is full now is full a moment later", elsewhere=3),
    METRIC_MISSING: FailureRule(1, "the same experiment names the same metric again"),
    "storage": FailureRule(1, "what cannot be written now can hardly be written a moment later", elsewhere=3),
}
"""Failure class -> rule. ``expflow sweep --retry failed`` tries again whatever was given up."""


def may_retry(failure: str, times: int, *, elsewhere: bool = False) -> bool:
    """Whether a trial is tried again. Unknown classes are not.

    Args:
        failure: The class of its last failure.
        times: How often it has failed so by now.
        elsewhere: Whether another node, with a disk of its own, can try it.
    """
    rule = RULES.get(failure, RULES["code"])
    tries = rule.elsewhere if elsewhere and rule.elsewhere else rule.tries
    return tries is None or times < tries


def is_of_the_node(failure: str) -> bool:
    """Whether a node may be to blame that has a disk of its own: its next trial would end likewise.

    Args:
        failure: The class of a failure.
    """
    return failure in RULES and RULES[failure].elsewhere is not None


def failure_class(error: BaseException, results: Path | None = None) -> str:
    """The class that an error of an attempt falls into.

    Args:
        error: What the attempt raised. An error of the system about a file among the results is one of the storage,
            whoever wanted to write it.
        results: The folder of all results of the experiment; None where nothing is kept.
    """
    if isinstance(error, TrialError):
        return error.failure
    if isinstance(error, MetricMissing):
        return METRIC_MISSING
    if isinstance(error, StorageUnwritable):
        return "storage"
    if isinstance(error, OSError):
        if error.errno in NO_ROOM:
            return "disk_full"
        if results is not None and _is_inside(error, results):
            return "storage"
    return "code"


def _is_inside(error: OSError, results: Path) -> bool:
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str)]
    return any(Path(name).absolute().is_relative_to(results.absolute()) for name in names)
