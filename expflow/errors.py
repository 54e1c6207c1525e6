"""Every error that expflow raises on purpose, and the exit code that each one means.

    ExpflowError
    ├── UserError                  exit 2: the experiment or the call is wrong
    │   ├── ExperimentInvalid      one or more problems in an experiment, each with file, line and column
    │   ├── UnknownName            a name that no registry knows
    │   ├── AddressUnknown         FILE | NAME | NAME/best | NAME/3fa9 that leads nowhere
    │   ├── DataInvalid            a data source's files are there but are not what it reads
    │   ├── CodeChanged            the user's modules, or expflow, changed since the results were made
    │   ├── LedgerMismatch         the ledger belongs to another experiment or to other data
    │   ├── MetricMissing          a recipe watches a metric that its task does not report
    │   ├── EvaluationRefused      the test split was evaluated before, and --again was not said
    │   ├── CheckpointMismatch     a checkpoint of another architecture, or of a schedule of another length
    │   └── CheckpointUnsaveable   a module keeps something in its checkpoint that is neither tensor nor plain data
    ├── Missing                    exit 3: something outside is not there
    │   ├── DataMissing            a data source's files
    │   ├── WeightsMissing         a file of published weights
    │   ├── DataUnreachable        a store of shards that does not answer, breaks off, or lets us in no further
    │   ├── PackageMissing         an optional package
    │   ├── ServerUnreachable      a tracking server, a Ray head, a token for one of them
    │   ├── StorageUnwritable      no room on the disk under the results, or no right to write there
    │   │   └── StorageUnreachable the store that results lie in does not answer, or does not let us in
    │   │       └── StorageRefused it does not let us in, or there is no such bucket: trying again does not help
    │   ├── LimitTooLow            this user may have too few open files or processes for Ray
    │   └── GangsLost              Ray's processes died under a sweep
    ├── Refused                    exit 3: something is there and must not be used
    │   ├── LedgerLocked           another driver works on this sweep
    │   ├── LedgerDamaged          a record other than a torn last line does not read
    │   ├── LedgerTooNew           a newer expflow wrote the ledger
    │   ├── ShardCorrupt           a shard differs from its manifest
    │   ├── CheckpointDamaged      a checkpoint is not what was written
    │   ├── PredictionsDamaged     a file of predictions is not what was written, or not there
    │   ├── CodeRefused            code that results name and the experiment here does not: it is not imported
    │   ├── CheckpointUnsafe       a file of weights asks for more than tensors: reading it could run code
    │   ├── AddressRefused         an address of data that runs a command, tells a secret or leads elsewhere
    │   └── StaleDriver            this driver was replaced: its writes are refused
    ├── TrialError                 a trial's own failure; never leaves the sweep, only names the trial
    │   ├── Diverged               the loss became infinite or not a number
    │   ├── OutOfMemory            it needs more memory than the device or the host has
    │   ├── DiskFull               no room for a checkpoint; the one before is intact
    │   ├── Preempted              asked to leave before its end, with its checkpoint written
    │   ├── RankLost               a rank's process died, or stopped answering
    │   └── RanksDisagree          the ranks of a trial were given different things to train
    └── Interrupted                exit 130 or 143: stopped by a signal, everything saved

A message says what happened, where, and what to do.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.redaction import redacted
from expflow.text import escape_controls, escape_line

DEBUG_VARIABLE = "EXPFLOW_DEBUG"
"""Set to 1, every error is shown with its traceback."""


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


class ExpflowError(Exception):
    """Root of the tree.

    Attributes:
        exit_code: What the command line returns for it.
        at_once: Whether the command line ends without its exit handlers, because what they would wait for is gone.
    """

    exit_code = 1
    at_once = False

    def __str__(self) -> str:
        """The message, without what is secret in it."""
        return redacted(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it, by IPython's rule for exceptions: the message alone, as on the command line."""
        lines = traceback.format_exception(self) if debugging() else [f"{type(self).__name__}: {self}"]
        return [escape_controls(redacted(line)) for line in lines]


class UserError(ExpflowError):
    """The experiment file or the call is wrong; the user can mend it."""

    exit_code = 2


MAX_PROBLEMS = 100
"""So many problems of one experiment are looked for and shown: a file that is no experiment has one in every line."""

_MAX_SHOWN = 1_500
"""Characters of one problem that are shown."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in an experiment, where, and what was expected there.

    Attributes:
        file: The file's name, or what the value came from (``--set a=1``).
        line: From 1; 0 where the value came from no file.
        column: From 1.
        key: The dotted key that it is about; "" where it is about none.
        message: What is wrong.
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        parts = (escape_line(where), escape_line(self.key), self.message)
        return ": ".join(_shortened(part) for part in parts if part)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN // 2]} … {text[-_MAX_SHOWN // 4 :]}"


class ExperimentInvalid(UserError):
    """Everything that is wrong with one experiment, reported together.

    Args:
        problems: All that is wrong, in the order of the files.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """A line for each problem, and one that counts those beyond ``MAX_PROBLEMS``."""
        shown = [str(problem) for problem in self.problems[:MAX_PROBLEMS]]
        left = len(self.problems) - len(shown)
        return [*shown, *([f"and at least {left} more"] if left else [])]


_MAX_COMPARED = 200


def nearest(name: str, known: Iterable[str]) -> str:
    """The closest spelling among known names, or ``""`` when none is near.

    Args:
        name: What was written.
        known: The names that there are.
    """
    import difflib  # only needed once something is wrong

    if len(name) > _MAX_COMPARED:  # no misspelt name, and comparing takes time by the square of its length
        return ""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else ""


class UnknownName(UserError):
    """A name that is not registered. The message lists what is, and the nearest spelling.

    Args:
        kind: What the name would be of (``model``).
        name: What was written.
        known: The names that there are.
    """

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        close = nearest(name, known)
        hint = f"did you mean {close!r}? " if close else ""
        super().__init__(f"no {kind} is named {name!r}; {hint}known: {', '.join(sorted(known))}")


class AddressUnknown(UserError):
    """An address (FILE, NAME, NAME/best, NAME/3fa9) that leads nowhere."""


class DataInvalid(UserError):
    """A data source's files are there but are not what it reads: broken images, no class folders."""


class CodeChanged(UserError):
    """The user's modules, or expflow itself, changed since this sweep's results were made."""


class LedgerMismatch(UserError):
    """The ledger belongs to another experiment, or its data are not today's data."""


class MetricMissing(UserError):
    """A recipe watches a metric that nothing reports; the message begins with the key that names it."""


class EvaluationRefused(UserError):
    """The test split of this experiment was evaluated before; another evaluation has to be asked for."""


class CheckpointMismatch(UserError):
    """A checkpoint does not fit what is to be trained: other layers, or a schedule of another length."""


class CheckpointUnsaveable(UserError):
    """A module or callback wants something saved that is neither a tensor nor plain data."""


class Missing(ExpflowError):
    """Something outside of expflow is not there."""

    exit_code = 3


class DataMissing(Missing):
    """A data source's files are not where they were looked for.

    Args:
        message: Which files, where, and what to do.
        key: The recipe key that says where, or should; "" where the experiment is not to blame. A plan turns the former
            into an :class:`ExperimentInvalid` with the place in the file.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        self.key = key
        super().__init__(message)


class WeightsMissing(Missing):
    """A file of published weights is not where it was looked for; the message says where to put it."""


class DataUnreachable(Missing):
    """A store of shards does not answer, breaks off again and again, or does not let us in."""


class PackageMissing(Missing):
    """An optional package is needed for this call."""


class ServerUnreachable(Missing):
    """A tracking server or a Ray head does not answer, or wants a token that is not here."""


class StorageUnwritable(Missing):
    """The disk under the results is full, read-only or broken."""


class StorageUnreachable(StorageUnwritable):
    """The store that results lie in does not answer, breaks off again and again, or does not let us in."""


class StorageRefused(StorageUnreachable):
    """The store does not let us in, or has no such bucket: trying again does not help."""


class LimitTooLow(Missing):
    """The system lets this user have fewer open files or processes than Ray needs."""


class GangsLost(Missing):
    """Ray's processes on a sweep are gone before its trials ended.

    Args:
        message: What was lost, and how to go on.
        at_once: Whether the command line ends without its exit handlers.
    """

    def __init__(self, message: str, *, at_once: bool = False) -> None:
        super().__init__(message)
        self.at_once = at_once


class Refused(ExpflowError):
    """Something is there and must not be used as it is."""

    exit_code = 3


class LedgerLocked(Refused):
    """Another driver works on this sweep."""


class LedgerDamaged(Refused):
    """A part of a ledger that is not the torn last line does not read or is missing.

    Attributes:
        whole: The end of what is whole before the damage (segment, line, byte behind it); None where that is unknown.
    """

    whole: tuple[int, int, int] | None = None


class SealDamaged(LedgerDamaged):
    """The file that holds a segment's digest does not read; the segment itself may be whole.

    Attributes:
        seal: The file.
    """

    seal: Path | None = None


class LedgerTooNew(Refused):
    """A ledger holds what only a newer expflow can read. It is whole, so there is nothing to salvage."""


class ShardCorrupt(Refused):
    """A shard or its manifest is not what was written."""


class CheckpointDamaged(Refused):
    """A checkpoint's files are not what its manifest says, or there is no manifest."""


class PredictionsDamaged(Refused):
    """A file of predictions is not what was written, or is not there."""


class CodeRefused(Refused):
    """Results name code that no experiment file here names; it is not imported."""


class CheckpointUnsafe(Refused):
    """A file of weights asks for globals other than tensors and plain data; it is not read."""


class AddressRefused(Refused):
    """An address of data, or a redirect to one, that runs a command, tells a secret or is of an unknown kind."""


class StaleDriver(Refused):
    """This driver was replaced by a newer one; what it writes is refused."""


class TrialError(ExpflowError):
    """A trial failed by itself; the sweep goes on.

    Attributes:
        failure: The class that it is recorded as.
    """

    failure = "code"


class Diverged(TrialError):
    """The loss became infinite or not a number."""

    failure = "diverged"


class OutOfMemory(TrialError):
    """A trial needs more memory than there is, on the device or on the host."""

    failure = "out_of_memory"


class DiskFull(TrialError):
    """There is no room for a checkpoint. The ones before it are intact."""

    failure = "disk_full"


class Preempted(TrialError):
    """The attempt was asked to leave; it goes on from its newest checkpoint."""

    failure = "preempted"


class RankLost(TrialError):
    """A rank's process died, or stopped answering. Nothing is wrong with the others, but they cannot go on."""

    failure = "worker_lost"


class RanksDisagree(TrialError):
    """The ranks of one trial were given different things to train."""


class Interrupted(ExpflowError):
    """Stopped by a signal with everything saved.

    Args:
        message: What was saved, and how to go on.
        signal_number: The signal.
        at_once: Whether the command line ends without its exit handlers.
    """

    def __init__(self, message: str, *, signal_number: int, at_once: bool = False) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
        self.at_once = at_once
