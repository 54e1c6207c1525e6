"""The result of one check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]
"""``warn``: something will be slower or is not there, but a sweep runs; ``fail``: it will not."""


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and, unless all is well, how to mend it."""

    name: str
    state: State
    found: str
    mend: str = ""

    def to_json(self) -> dict[str, str]:
        """The check as plain data."""
        return asdict(self)


def worst(checks: Iterable[Check]) -> State:
    """The worst state among ``checks``; ``ok`` for none."""
    states = {check.state for check in checks}
    return "fail" if "fail" in states else "warn" if "warn" in states else "ok"
