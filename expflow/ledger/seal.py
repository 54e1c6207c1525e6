"""What a complete segment holds: its digest, kept beside it and in the header of the segment after it.

A segment whose writer has closed it never changes again. Its digest is written into a file beside it when it is closed
(``000001.seal.json``), and into the header of the next segment, so that a line or a whole segment that is missing later
is noticed, whichever of the two files was lost with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from expflow.field_types import check_field_types

_BLOCK = 2**22
"""Bytes that are read and hashed at once: so many that a thread that does it seldom waits for Python's lock."""


@dataclass(frozen=True)
class SegmentDigest:
    """The content of a segment.

    Attributes:
        segment: Its number, from 1.
        sha256: Of its first ``bytes`` bytes.
        lines: Its whole lines; an unfinished one at its end does not count.
        bytes: Its size, an unfinished line included. What follows was written by a driver that had lost its lock.
    """

    segment: int
    sha256: str
    lines: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """The digest as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SegmentDigest:
        """The digest that plain data describe.

        Args:
            data: What :meth:`to_json` gave.
        """
        check_field_types(cls, data)
        return cls(data["segment"], data["sha256"], data["lines"], data["bytes"])


class DigestCounter:
    """Digests a segment while it is read or written.

    Args:
        segment: The segment's number, from 1.
    """

    def __init__(self, segment: int) -> None:
        self._segment, self._sha256, self._lines, self._bytes = segment, hashlib.sha256(), 0, 0

    def add(self, content: bytes) -> None:
        """Count what follows.

        Args:
            content: One line or several, or a part of one at the segment's end.
        """
        self._sha256.update(content)
        self._lines += content.count(b"\n")
        self._bytes += len(content)

    def digest(self) -> SegmentDigest:
        """The digest of all that was added."""
        return SegmentDigest(self._segment, self._sha256.hexdigest(), self._lines, self._bytes)


def digest_of(segment: int, file: BinaryIO) -> SegmentDigest:
    """The digest of a segment that is read from its beginning to its end.

    Args:
        segment: Its number, from 1.
        file: The segment, open for reading.
    """
    counter = DigestCounter(segment)
    while block := file.read(_BLOCK):
        counter.add(block)
    return counter.digest()


def seal_text(digest: SegmentDigest) -> bytes:
    """The content of the seal file of a segment.

    Args:
        digest: The segment's digest.
    """
    return json.dumps(digest.to_json(), indent=1).encode() + b"\n"


def parse_seal(content: bytes) -> SegmentDigest:
    """The digest that a seal file holds.

    Args:
        content: The file's content.

    Raises:
        ValueError: It is no seal file.
    """
    try:
        return SegmentDigest.from_json(json.loads(content))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no seal of a segment: {error}") from error
