"""The result of one check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

CheckState = Literal["ok", "warn", "fail"]
"""``warn``: something will be slower or is not there, but a sweep runs; ``fail``: it will not."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: What was checked.
        state: ``ok``, ``warn`` or ``fail``.
        finding: What was found.
        mend: How to mend it; "" where all is well.
    """

    name: str
    state: CheckState
    finding: str
    mend: str = ""

    def to_json(self) -> dict[str, str]:
        """The check as plain data."""
        return {"name": self.name, "state": self.state, "found": self.finding, "mend": self.mend}


def worst_state(checks: Iterable[CheckResult]) -> CheckState:
    """The worst state among results; ``ok`` for none.

    Args:
        checks: The results.
    """
    states = {check.state for check in checks}
    return "fail" if "fail" in states else "warn" if "warn" in states else "ok"
