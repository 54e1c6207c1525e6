"""Results of one experiment beside each other: NAME, then NAME.2, NAME.3, … for each ``--fresh``."""

from __future__ import annotations

from itertools import count, takewhile
from pathlib import Path

from expflow.ledger import Header, exists, read


def newest(storage: Path, name: str, file: Path) -> str:
    """The latest of ``name``, ``name.2``, … that has results: what a command on the experiment ``file`` goes on with.

    Results that a file of another name made (an experiment that is itself called ``name.2``) end the row.
    """
    later = (f"{name}.{number}" for number in count(2))
    return [name, *takewhile(lambda each: _file_of(storage / each) == file.name, later)][-1]


def unused(storage: Path, name: str) -> str:
    """The first of ``name``, ``name.2``, … without results."""
    names = (name if number == 1 else f"{name}.{number}" for number in count(1))
    return next(each for each in names if not exists(storage / each))


def _file_of(folder: Path) -> str:
    for record in read(folder):
        return Path(record.body.file).name if isinstance(record.body, Header) else ""
    return ""
