"""Names of the results of one experiment: NAME, then NAME.2, NAME.3, … for each ``--fresh``."""

from __future__ import annotations

from itertools import count, takewhile
from pathlib import Path

from expflow.ledger import Header, exists, read


def newest_name(storage: Path, name: str, file: Path) -> str:
    """The latest of NAME, NAME.2, … that has results: what a command on the experiment goes on with.

    Results that a file of another name made (an experiment that is itself called ``name.2``) end the row.

    Args:
        storage: The folder of all results.
        name: The experiment's name.
        file: The experiment's file.
    """
    later = (f"{name}.{number}" for number in count(2))
    return [name, *takewhile(lambda candidate: _file_of(storage / candidate) == file.name, later)][-1]


def unused_name(storage: Path, name: str) -> str:
    """The first of NAME, NAME.2, … without results.

    Args:
        storage: The folder of all results.
        name: The experiment's name.
    """
    names = (name if number == 1 else f"{name}.{number}" for number in count(1))
    return next(candidate for candidate in names if not exists(storage / candidate))


def _file_of(folder: Path) -> str:
    for record in read(folder):
        return Path(record.body.file).name if isinstance(record.body, Header) else ""
    return ""
