"""Bringing a job's results home: beside those that are there, and never over others."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expflow.errors import Refused, ServerUnreachable
from expflow.files import unwritable_named
from expflow.ledger import exists
from expflow.ledger.reader import FOLDER as LEDGER_FOLDER
from expflow.sweep.result_location import has_live_driver

LEFT_THERE = ("tracking",)
"""What belongs to the place where the sweep ran: how far its MLflow is."""
_COMPARED_BYTES = 2**20


def copy_results(results: Path, target: Path) -> None:
    """Copy results that can be read from here; nothing where they lie there already. Raises as :func:`arriving`.

    Args:
        results: The experiment's folder.
        target: Where it is to lie.

    Raises:
        ServerUnreachable: They cannot be read from here.
    """
    if not exists(results):
        raise ServerUnreachable(
            f"the results lie in {results}, which cannot be read from here: name a --storage that this machine mounts,"
            " too"
        )
    if target.exists() and target.samefile(results):
        return
    with arriving(target) as folder:
        shutil.copytree(results, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_THERE))


def check_readable(storage: Path) -> None:
    """Refuse a folder of results that this machine cannot have: neither it nor the folder above it is here.

    Args:
        storage: The folder of all results.

    Raises:
        ServerUnreachable: It is not here.
    """
    if not (storage.is_dir() or storage.parent.is_dir()):
        raise ServerUnreachable(
            f"the results would go to {storage}, which this machine does not have, so they could not be fetched"
            " afterwards: name a --storage that it mounts, too; nothing was sent"
        )


@contextmanager
def arriving(target: Path) -> Iterator[Path]:
    """A hidden folder for results that arrive; when all are there, they are put into their place.

    Args:
        target: The experiment's folder, which may hold an earlier state of the same sweep.

    Raises:
        Refused: Other results lie there, or a driver works on them.
        StorageUnwritable: It cannot be written.
    """
    folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with unwritable_named(folder, "results that are fetched"):
        folder.mkdir(parents=True)
        try:
            yield folder
            _put(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    if has_live_driver(target):
        raise Refused(f"a driver works on {target}: results can be fetched to another folder")
    if not exists(target) or not _continues(folder / LEDGER_FOLDER, target / LEDGER_FOLDER):
        raise Refused(
            f"{target} holds something else than an earlier state of these results: fetch to another folder, or move it"
            " away"
        )
    # What was made here of an earlier state, such as pictures, stays. The ledger comes last: until then it is the old.
    for path in sorted(folder.rglob("*"), key=lambda path: LEDGER_FOLDER in path.relative_to(folder).parts[:1]):
        place = target / path.relative_to(folder)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            path.replace(place)


def _continues(new: Path, old: Path) -> bool:
    """Whether a ledger begins with all that another holds."""
    return all(_begins(new / path.name, path) for path in old.glob("*.jsonl"))


def _begins(new: Path, old: Path) -> bool:
    if not new.is_file() or new.stat().st_size < old.stat().st_size:
        return False
    with new.open("rb") as longer, old.open("rb") as shorter:
        while block := shorter.read(_COMPARED_BYTES):
            if longer.read(len(block)) != block:
                return False
    return True
