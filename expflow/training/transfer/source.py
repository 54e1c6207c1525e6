"""The weights that a trial begins with: files, what they must hold, and whose they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from expflow.errors import CheckpointDamaged, WeightsMissing


@dataclass(frozen=True)
class Pretrained:
    """``files`` holds paths with their sha256: a file of weights, and behind it the state that has their mean, where
    they were averaged. ``origin`` says in words where they are from, ``trial`` is the trial's id or ""."""

    files: tuple[tuple[Path, str], ...]
    origin: str
    trial: str = ""

    @property
    def id(self) -> str:
        """What tells these weights from all others; it enters the id of every trial that begins with them."""
        hashes = [sha256 for _, sha256 in self.files]
        content = hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()
        return f"{self.trial}@{content}" if self.trial else content

    def verify(self) -> None:
        """Compare the files with their sha256. Raises WeightsMissing and CheckpointDamaged."""
        for path, sha256 in self.files:
            if sha256_of(path) != sha256:
                raise CheckpointDamaged(
                    f"{path} is not what it was: its sha256 is no longer {sha256[:12]}…; it held the weights of "
                    f"{self.origin}. Put it back, or begin anew with --fresh"
                )


def sha256_of(path: Path) -> str:
    """sha256 of a file. Raises WeightsMissing where it is not there, CheckpointDamaged where it does not read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise WeightsMissing(f"there are no weights at {path}") from error
    except OSError as error:
        raise CheckpointDamaged(f"{path} does not read: {error.strerror or error}") from error
