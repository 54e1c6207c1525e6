"""What lies among the data and is not read: counted by reason, the first few named. Standard library only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

MOST_NAMED = 5
"""Names that are kept for each reason."""


@dataclass
class PassedOver:
    """Files, or members of archives, that are not read.

    Attributes:
        counts: how many there are for each reason.
        names: the first few of them for each reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """Count what is passed over.

        Args:
            reason: why, as a plural noun such as ``hidden files``.
            name: path of the file, or of a folder whose files are passed over.
            count: how many files it stands for.
        """
        self.counts[reason] += count
        named = self.names.setdefault(reason, [])
        if len(named) < MOST_NAMED:
            named.append(name)

    def update(self, other: PassedOver) -> None:
        """Add what another part of the data passes over.

        Args:
            other: what it passes over.
        """
        self.counts.update(other.counts)
        for reason, names in other.names.items():
            named = self.names.setdefault(reason, [])
            named.extend(names[: MOST_NAMED - len(named)])

    def lines(self) -> Iterator[str]:
        """Iterate over a line for each reason: how many, and the first names."""
        for reason, count in self.counts.items():
            names = self.names.get(reason, [])
            shown = ", ".join(names).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            yield f"{count:,} {reason}: {shown}{', …' if count > len(names) else ''}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_json` reads back."""
        return {reason: [count, self.names.get(reason, [])] for reason, count in self.counts.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what :meth:`to_json` described.

        Args:
            data: the plain data. TypeError, ValueError or AttributeError is raised where it is of another form.
        """
        counts, names = Counter[str](), dict[str, list[str]]()
        for reason, (count, first) in data.items():
            counts[str(reason)], names[str(reason)] = int(count), [str(name) for name in first]
        return cls(counts, names)
