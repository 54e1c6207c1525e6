"""Which MLflow store is written to, and how it is opened.

Without a server it is one SQLite file under the storage root. It is created once, under a lock, because MLflow's own
first migration fails when two processes begin it together; and it is put into write-ahead mode where its file system
allows that, so that the UI can read while a sweep writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from expflow.errors import ExpflowError, ServerUnreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; by default a dead server blocks a call for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the follower tries again itself
    "MLFLOW_DISABLE_TELEMETRY": "true",  # experiments report to nobody unless their owner says so
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",  # MLflow complains where there is no git; we record git's state ourselves
}
"""How MLflow is used here, unless the user's own environment says otherwise."""

_LOCAL_FILE_SYSTEMS = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})


def resolve_uri(storage: Path, *, environ: Mapping[str, str], site: str | None = None) -> str:
    """The address of the MLflow store: MLFLOW_TRACKING_URI, else the site file's, else a file under ``storage``."""
    return environ.get("MLFLOW_TRACKING_URI") or site or f"{SQLITE}{quote(str(storage.resolve() / 'mlflow.db'))}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite address; None for any other."""
    return Path(unquote(uri.removeprefix(SQLITE))) if uri.startswith(SQLITE) else None


def public_uri(uri: str) -> str:
    """``uri`` without user name and password, for messages and logs."""
    parts = urlsplit(uri)
    if parts.username is None and parts.password is None:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextlib.contextmanager
def bounded_environment() -> Iterator[None]:
    """Within this context MLflow's calls end soon and its messages stay few (:data:`ENVIRONMENT`)."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


@contextlib.contextmanager
def refusals_named(uri: str, doing: str) -> Iterator[None]:
    """Turn whatever MLflow raises while ``doing`` into ServerUnreachable with the reason in one line."""
    try:
        yield
    except ExpflowError:
        raise
    except Exception as error:  # MLflow, its database and its HTTP library raise all sorts
        raise ServerUnreachable(f"{doing}: MLflow at {public_uri(uri)} refuses: {reason(error, uri)}") from error


def reason(error: Exception, uri: str) -> str:
    """The error in one line, without what the address may hold of passwords."""
    return " ".join(f"{type(error).__name__}: {error}".replace(uri, public_uri(uri)).split())[:1000]


def connect(uri: str) -> MlflowClient:
    """A client of the store at ``uri``; a SQLite store is made first where there is none.

    Raises what MLflow raises, and ServerUnreachable for a SQLite file that is none or cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own dependencies, at import: nothing that we could change
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        path = sqlite_path(uri)
        if path is None:
            return MlflowClient(tracking_uri=uri)
        _check_sqlite(path)
        with (path.parent / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            client = MlflowClient(tracking_uri=uri)
            if _is_on_local_disk(path):
                _use_write_ahead_log(path)
        return client


def artifact_location(uri: str, folder: Path) -> str | None:
    """Where artifacts of the experiment folder ``folder`` lie; None where a server decides that.

    Without a server MLflow would put them under the working folder, wherever that happens to be.
    """
    if urlsplit(uri).scheme in ("http", "https"):
        return None
    path = sqlite_path(uri)
    root = path.parent if path is not None else folder.parent
    return (root.resolve() / "mlartifacts" / folder.name).as_uri()


def _check_sqlite(path: Path) -> None:
    """MLflow would try an impossible file again for minutes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")
    except (OSError, sqlite3.Error) as error:
        raise ServerUnreachable(
            f"MLflow's store {path} cannot be used: {error}. Mend its permissions, or move it away: it is filled anew "
            "from the ledgers"
        ) from error


def _use_write_ahead_log(path: Path) -> None:
    # Stays with the file. A store that somebody is reading right now can get it the next time.
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _is_on_local_disk(path: Path) -> bool:
    """Whether ``path`` lies on a file system whose locks and shared memory hold (a network share's may not)."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return False  # not Linux: the safe mode is right, if slower
    best, kind = "", ""
    for mount in mounts:
        _, point, file_system, *_ = mount.split(" ")
        point = point.replace("\\040", " ")
        if path.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind = point, file_system
    return kind in _LOCAL_FILE_SYSTEMS
