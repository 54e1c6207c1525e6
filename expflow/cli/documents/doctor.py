"""``doctor --json``: the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from expflow.doctor import CheckResult, worst_state


@dataclass(frozen=True)
class DoctorCheck:
    """The result of one check.

    Attributes:
        name: What was checked.
        state: ``ok``, ``warn`` (something is slower or is not there, but a sweep runs) or ``fail``.
        finding: What was found.
        mend: How to mend it; empty where all is well.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    finding: str
    mend: str


@dataclass(frozen=True)
class DoctorDocument:
    """What is installed and reachable.

    Attributes:
        document: Which document this is.
        version: Its version.
        state: The worst state of all checks; with ``fail`` the exit code is 3.
        checks: The checks, in their order.
    """

    document: Literal["doctor"]
    version: Literal[1]
    state: Literal["ok", "warn", "fail"]
    checks: tuple[DoctorCheck, ...]


def doctor_document(results: Sequence[CheckResult]) -> DoctorDocument:
    """Checks as plain data.

    Args:
        results: The results of the checks.
    """
    checks = tuple(DoctorCheck(check.name, check.state, check.finding, check.mend) for check in results)
    return DoctorDocument("doctor", 1, worst_state(results), checks)
