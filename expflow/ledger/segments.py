"""Where a ledger's segments lie.

:class:`Segments` is all that the rest of the ledger knows about storage. It is append-to-one-file only, and a segment
never changes once it is sealed, so that an object store (which cannot append) can hold copies of sealed segments.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import BinaryIO, Protocol

from expflow.errors import LedgerDamaged
from expflow.files import sync

_NAME = re.compile(r"(\d{6,})\.jsonl")


class Segments(Protocol):
    """A place for segments, which are numbered from 1 without gaps."""

    def numbers(self) -> list[int]:
        """Numbers of all segments, ascending. Raises LedgerDamaged where one is missing."""

    def path(self, number: int) -> Path:
        """The segment's name for messages."""

    def open(self, number: int) -> BinaryIO:
        """The segment, for reading."""

    def create(self, number: int) -> int:
        """A new, empty segment: a file descriptor to append to. Raises FileExistsError where there is one."""

    def seal(self, number: int) -> None:
        """Say that a segment is complete and will not change."""


class LocalSegments:
    """Segments as files ``000001.jsonl``… of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self) -> list[int]:
        """Numbers of all segments, ascending. Raises LedgerDamaged where one is missing."""
        if not self.folder.is_dir():
            return []
        found = sorted(int(match[1]) for each in self.folder.iterdir() if (match := _NAME.fullmatch(each.name)))
        for expected, number in enumerate(found, start=1):
            if number != expected:
                raise LedgerDamaged(
                    f"{self.path(expected)} is missing although {self.path(found[-1]).name} exists: a part of this "
                    "sweep's record is gone. Restore it from a copy, or start afresh with --fresh"
                )
        return found

    def path(self, number: int) -> Path:
        """The segment's file."""
        return self.folder / f"{number:06d}.jsonl"

    def open(self, number: int) -> BinaryIO:
        """The segment, for reading."""
        return self.path(number).open("rb")

    def create(self, number: int) -> int:
        """A new, empty segment; its name is on the disk when this returns."""
        descriptor = os.open(self.path(number), os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o644)
        sync(self.folder)
        return descriptor

    def seal(self, number: int) -> None:
        """Take away the right to write, so that no editor or stray process changes what is history."""
        with contextlib.suppress(PermissionError):  # a colleague's segment, continued by us
            self.path(number).chmod(0o444)
