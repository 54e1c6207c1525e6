"""``train NAME/ID --check --json``: a finished trial, and the same training again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expflow.sweep.trial_check import TrialComparison


@dataclass(frozen=True)
class CheckDocument:
    """A trial and the same training again.

    Attributes:
        document: Which document this is.
        version: Its version.
        name: Name of the results.
        comparison: What differs.
        exit_code: 0 where reports and weights are equal bit for bit, else 1.
    """

    document: Literal["check"]
    version: Literal[1]
    name: str
    comparison: TrialComparison
    exit_code: int


def check_document(name: str, comparison: TrialComparison) -> CheckDocument:
    """A comparison as plain data.

    Args:
        name: Name of the results.
        comparison: What differs.
    """
    return CheckDocument("check", 1, name, comparison, int(not comparison.equal))
