"""How MLflow is brought up to date by commands that add to results, and what is said when it does not answer."""

from __future__ import annotations

import os
from collections.abc import Iterator

from expflow.config import load_site
from expflow.errors import ServerUnreachable
from expflow.live.console import LiteralConsole
from expflow.sweep.result_location import ResultLocation, find_results, has_live_driver, result_folders, storage_root
from expflow.tracking import public_uri, resolve_uri


def catch_up_mlflow(console: LiteralConsole, location: ResultLocation) -> None:
    """Bring MLflow up to the ledger; that it does not answer is no failure of the command.

    Args:
        console: Where it is said that MLflow is behind.
        location: The results.
    """
    from expflow.tracking.follower import catch_up

    uri = resolve_uri(location.folder.parent, environ=os.environ, site=load_site().mlflow)
    try:
        catch_up(location.folder, uri)
    except ServerUnreachable as error:
        console.print(f"MLflow at {public_uri(uri)} is behind: {error}", soft_wrap=True)


def sync_mlflow(name: str | None, storage: str | None) -> Iterator[str]:
    """Bring MLflow up to the ledgers.

    Args:
        name: Address of an experiment; None: all with results.
        storage: The folder of all results; None: the site's.

    Yields:
        For each experiment a line for people.

    Raises:
        ServerUnreachable: MLflow does not take it.
    """
    from expflow.tracking.follower import catch_up

    root = storage_root(storage)
    folders = [find_results(name, storage).folder] if name else result_folders(root)
    for folder in folders:
        uri = resolve_uri(folder.parent, environ=os.environ, site=load_site().mlflow)
        whole = catch_up(folder, uri, wait=not has_live_driver(folder))
        state = "has everything of" if whole else "is being brought up to date by another process with"
        yield f"MLflow at {public_uri(uri)} {state} {folder.name}"
