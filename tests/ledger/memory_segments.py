"""Segments of a ledger in memory: the second implementation of the segments interface, for its contract test."""

import os
from pathlib import Path
from typing import BinaryIO


class MemorySegments:
    """Segments as anonymous files; they go with the object."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}
        self._sealed: set[int] = set()
        self._summaries: dict[int, bytes] = {}

    def __del__(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def numbers(self) -> list[int]:
        return sorted(self._descriptors)

    def path(self, number: int) -> Path:
        return Path(f"memory:{number}")

    def open(self, number: int) -> BinaryIO:
        return Path(f"/proc/self/fd/{self._descriptors[number]}").open("rb")

    def create(self, number: int) -> int:
        if number in self._descriptors:
            raise FileExistsError(self.path(number))
        self._descriptors[number] = os.memfd_create(f"segment-{number}")
        return os.open(f"/proc/self/fd/{self._descriptors[number]}", os.O_APPEND | os.O_WRONLY)

    def seal(self, number: int) -> None:
        self._sealed.add(number)

    def has_summary(self, number: int) -> bool:
        return number in self._summaries

    def summary(self, number: int) -> bytes | None:
        return self._summaries.get(number)

    def keep_summary(self, number: int, content: bytes) -> None:
        self._summaries[number] = content
