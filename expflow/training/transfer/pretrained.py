"""The weights that a trial begins with: files, their content's sha256, and where they are from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from expflow.errors import CheckpointDamaged, WeightsMissing
from expflow.files import open_regular


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights in files.

    Attributes:
        files: Paths with their sha256: a file of weights, and behind it the state that has their mean, where they were
            averaged.
        origin: Where they are from, in words.
        trial: Id of the trial that they are from; "" where they are from elsewhere.
    """

    files: tuple[tuple[Path, str], ...]
    origin: str
    trial: str = ""

    @property
    def id(self) -> str:
        """An id of these weights; it enters the id of every trial that begins with them."""
        hashes = [sha256 for _, sha256 in self.files]
        content = hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()
        return f"{self.trial}@{content}" if self.trial else content

    def verify(self) -> None:
        """Compare the files with their sha256.

        Raises:
            WeightsMissing: A file is not there.
            CheckpointDamaged: A file is not what it was, or cannot be read.
        """
        for path, sha256 in self.files:
            if sha256_of(path) != sha256:
                raise CheckpointDamaged(
                    f"{path} is not what it was: its sha256 is no longer {sha256[:12]}…; it held the weights of "
                    f"{self.origin}. Put it back, or begin anew with --fresh"
                )


def sha256_of(path: Path) -> str:
    """sha256 of a file.

    Args:
        path: The file.

    Raises:
        WeightsMissing: It is not there.
        CheckpointDamaged: It cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise WeightsMissing(f"there are no weights at {path}") from error
    except OSError as error:
        raise CheckpointDamaged(f"{path} does not read: {error.strerror or error}") from error
