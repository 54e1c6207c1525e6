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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, unquote, urlsplit

from expflow.errors import ExpflowError, ServerUnreachable
from expflow.garbage import nothing_collected
from expflow.redaction import public_address, redacted, remember_address
from expflow.tracking.call_deadline import CALL_SECONDS, TimedClient

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; by default a dead server blocks a call for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the follower tries again itself
    "MLFLOW_DISABLE_TELEMETRY": "true",  # experiments report to nobody unless their owner says so
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a log line for each run that ends
    "GIT_PYTHON_REFRESH": "quiet",  # MLflow complains where there is no git; we record git's state ourselves
}
"""How MLflow is used here, unless the user's own environment says otherwise."""

_LOCAL_FILE_SYSTEMS = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})


def resolve_uri(storage: Path, *, environ: Mapping[str, str], site: str | None = None) -> str:
    """The address of the MLflow store: MLFLOW_TRACKING_URI, else the site file's, else a file under the storage.

    Args:
        storage: The folder of all results.
        environ: The environment's variables.
        site: The site file's address.
    """
    uri = environ.get("MLFLOW_TRACKING_URI") or site or f"{SQLITE}{quote(str(storage.resolve() / 'mlflow.db'))}"
    remember_address(uri)
    return uri


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite address; None for any other.

    Args:
        uri: The address of an MLflow store.
    """
    return Path(unquote(uri.removeprefix(SQLITE))) if uri.startswith(SQLITE) else None


def public_uri(uri: str) -> str:
    """An address without user name, password and query, for messages and logs.

    Args:
        uri: The address of an MLflow store.
    """
    return public_address(uri)


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
def errors_as_unreachable(uri: str, doing: str) -> Iterator[None]:
    """Turn every error that MLflow raises within this context into one of ours, with the reason in one line.

    Args:
        uri: The address of the MLflow store.
        doing: What is being done, for the message.

    Raises:
        ServerUnreachable: MLflow raised an error.
    """
    try:
        yield
    except ExpflowError:
        raise
    except Exception as error:  # MLflow, its database and its HTTP library raise all sorts
        raise ServerUnreachable(f"{doing}: MLflow at {public_uri(uri)} refuses: {trouble_line(error, uri)}") from error


def error_line(error: Exception, uri: str) -> str:
    """An error in one line, without secrets.

    Args:
        error: The error.
        uri: The address of the MLflow store.
    """
    text = f"{type(error).__name__}: {error}".replace(uri, public_uri(uri))
    return redacted(" ".join(text.split()))[:1000]


def is_server(uri: str) -> bool:
    """Whether an address is a running server's, which has its own UI.

    Args:
        uri: The address of an MLflow store.
    """
    return urlsplit(uri).scheme in ("http", "https")


def trouble_line(error: Exception, uri: str) -> str:
    """Why a store does not take what it is given, in one line; and what to do about it where its user has to.

    Args:
        error: What MLflow raised.
        uri: The address of the MLflow store.
    """
    if _status(error) in (401, 403):
        return (
            f"MLflow at {public_uri(uri)} refuses the login: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,"
            f" or MLFLOW_TRACKING_TOKEN, to what the server knows ({error_line(error, uri)[:200]})"
        )
    return error_line(error, uri)


def _status(error: Exception) -> int | None:
    """The HTTP status behind an error of MLflow's; None where it has none."""
    if (response := getattr(error, "response", None)) is not None:  # of artifacts, by requests itself
        return int(response.status_code)
    status = getattr(error, "get_http_status_code", None)
    return status() if status is not None else None


def connect(uri: str, call_seconds: Callable[[], float] = lambda: CALL_SECONDS) -> MlflowClient:
    """A client of a store, whose calls end in time. Raises what MLflow raises.

    A SQLite store is made first where there is none.

    Args:
        uri: The address of the MLflow store.
        call_seconds: Gives how long the next call may take.

    Raises:
        ServerUnreachable: A SQLite file is none, or cannot be written.
    """
    with warnings.catch_warnings(), nothing_collected():  # two seconds, a quarter of it to look for garbage
        warnings.simplefilter("ignore")  # of MLflow's own dependencies, at import: nothing that we could change
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        path = sqlite_path(uri)
        if path is None:
            return _timed(MlflowClient(tracking_uri=uri), call_seconds)
        _check_sqlite(path)
        with (path.parent / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            client = MlflowClient(tracking_uri=uri)
            if _is_on_local_disk(path):
                _use_write_ahead_log(path)
        return _timed(client, call_seconds)


def _timed(client: MlflowClient, call_seconds: Callable[[], float]) -> MlflowClient:
    return cast("MlflowClient", TimedClient(client, call_seconds))


def artifact_location(uri: str, folder: Path) -> str | None:
    """Where artifacts of an experiment lie; None where a server decides that.

    Without a server MLflow would put them under the working folder, wherever that happens to be.

    Args:
        uri: The address of the MLflow store.
        folder: The experiment's folder.
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
