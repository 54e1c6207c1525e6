"""Where a ledger's segments lie.

:class:`Segments` is all that the rest of the ledger knows about storage. It only appends, to one file at a time, and a
segment never changes once it is sealed, so that an object store (which cannot append) can hold copies of sealed
segments.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import BinaryIO, Protocol

from expflow.errors import LedgerDamaged, SealDamaged
from expflow.files import fsync_path, write_atomically
from expflow.ledger.seal import SegmentDigest, digest_of, parse_seal, seal_text

_NAME = re.compile(r"(\d{6,})\.jsonl")
_SEAL_NAME = re.compile(r"(\d{6,})\.seal\.json")


class Segments(Protocol):
    """A place for segments, which are numbered from 1 without gaps."""

    def numbers(self) -> list[int]:
        """Numbers of all segments, ascending.

        Raises:
            LedgerDamaged: One is missing.
        """

    def path(self, number: int) -> Path:
        """The segment's name for messages.

        Args:
            number: The segment's number, from 1.
        """

    def open(self, number: int) -> BinaryIO:
        """The segment, for reading.

        Args:
            number: The segment's number, from 1.
        """

    def create(self, number: int) -> int:
        """A new, empty segment: a file descriptor to append to.

        Args:
            number: The segment's number, from 1.

        Raises:
            FileExistsError: There is a segment of this number.
        """

    def seal(self, number: int, digest: SegmentDigest | None = None) -> SegmentDigest:
        """Mark a segment as complete: it will not change. A segment that is sealed stays as it is.

        Args:
            number: The segment's number, from 1.
            digest: Its digest where the caller knows it; else it is read.

        Returns:
            The digest that the seal holds.
        """

    def sealed(self, number: int) -> SegmentDigest | None:
        """The digest of a sealed segment; None while it is being written, or was written in format 1.

        Args:
            number: The segment's number, from 1.

        Raises:
            SealDamaged: The seal does not read.
        """

    def has_summary(self, number: int) -> bool:
        """Whether a summary was kept of a segment.

        Args:
            number: The segment's number, from 1.
        """

    def summary(self, number: int) -> bytes | None:
        """The summary that was kept of a segment; None where there is none, or it cannot be read.

        Args:
            number: The segment's number, from 1.
        """

    def keep_summary(self, number: int, content: bytes) -> None:
        """Keep a segment's summary, in place of an older one; where that is not possible, nothing happens.

        Args:
            number: The segment's number, from 1.
            content: The summary, as :mod:`expflow.ledger.summary` writes it.
        """


class LocalSegments:
    """Segments as files ``000001.jsonl``… of a folder.

    Args:
        folder: The ledger's folder; it need not exist for reading.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self) -> list[int]:
        """Numbers of all segments, ascending.

        Raises:
            LedgerDamaged: One is missing.
        """
        if not self.folder.is_dir():
            return []
        names = sorted(file.name for file in self.folder.iterdir())
        numbers = sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))
        seals = [int(match[1]) for name in names if (match := _SEAL_NAME.fullmatch(name))]
        last = max([*numbers, *seals], default=0)
        for number in range(1, last + 1):
            if number not in numbers:
                raise self._missing(number, last)
        return numbers

    def _missing(self, number: int, last: int) -> LedgerDamaged:
        later = self.path(last) if last > number else self._seal_path(number)
        goes_on = "goes on from the files before it" if number > 1 else "begins anew"
        error = LedgerDamaged(
            f"{self.path(number)} is missing although {later.name} exists: a part of this sweep's record is gone. "
            f"Restore it from a copy; or give the sweep's command with --salvage, which {goes_on} and "
            "keeps the others beside them; or with --fresh, which starts anew"
        )
        if number > 1:
            digest = self.digest(number - 1)
            error.whole = number - 1, digest.lines, digest.bytes
        else:
            error.whole = 0, 0, 0
        return error

    def path(self, number: int) -> Path:
        """The segment's file.

        Args:
            number: The segment's number, from 1.
        """
        return self.folder / f"{number:06d}.jsonl"

    def open(self, number: int) -> BinaryIO:
        """The segment, for reading.

        Args:
            number: The segment's number, from 1.
        """
        return self.path(number).open("rb")

    def create(self, number: int) -> int:
        """A new, empty segment; its name is on the disk when this returns.

        Args:
            number: The segment's number, from 1.
        """
        descriptor = os.open(self.path(number), os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o644)
        fsync_path(self.folder)
        return descriptor

    def digest(self, number: int) -> SegmentDigest:
        """The digest of what a segment holds by now.

        Args:
            number: The segment's number, from 1.
        """
        with self.open(number) as file:
            return digest_of(number, file)

    def seal(self, number: int, digest: SegmentDigest | None = None) -> SegmentDigest:
        """Write the segment's digest beside it, and take away the right to write, so that no editor or stray process
        changes a complete segment.

        Args:
            number: The segment's number, from 1.
            digest: Its digest where the caller knows it; else it is read.

        Returns:
            The digest that the seal holds.
        """
        if (known := self.sealed(number)) is not None:
            return known
        if digest is None:
            digest = self.digest(number)
        write_atomically(self._seal_path(number), seal_text(digest), durable=True)
        with contextlib.suppress(PermissionError):  # a colleague's segment, continued by us
            self.path(number).chmod(0o444)
        return digest

    def sealed(self, number: int) -> SegmentDigest | None:
        """The digest of a sealed segment; None while it is being written, or was written in format 1.

        Args:
            number: The segment's number, from 1.

        Raises:
            SealDamaged: The seal does not read.
        """
        path = self._seal_path(number)
        try:
            return parse_seal(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            damaged = SealDamaged(
                f"{path} does not read ({error}). It only holds the digest of {self.path(number).name}: restore it "
                "from a copy, or give the sweep's command with --salvage, which takes that file as it is"
            )
            damaged.seal = path
            raise damaged from error

    def has_summary(self, number: int) -> bool:
        """Whether a summary was kept of a segment.

        Args:
            number: The segment's number, from 1.
        """
        return self._summary_path(number).is_file()

    def summary(self, number: int) -> bytes | None:
        """The summary that was kept of a segment; None where there is none, or it cannot be read.

        Args:
            number: The segment's number, from 1.
        """
        try:
            return self._summary_path(number).read_bytes()
        except OSError:
            return None

    def keep_summary(self, number: int, content: bytes) -> None:
        """Keep a segment's summary, in place of an older one; where that is not possible, nothing happens.

        Args:
            number: The segment's number, from 1.
            content: The summary, as :mod:`expflow.ledger.summary` writes it.
        """
        with contextlib.suppress(OSError):  # the results of somebody else, or a full disk
            write_atomically(self._summary_path(number), content)

    def _summary_path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.summary"

    def _seal_path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.seal.json"
