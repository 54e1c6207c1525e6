"""The services: the MLflow store, a Ray head and its token."""

from __future__ import annotations

import base64
import os
import sqlite3
import stat
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from expflow.cluster.ray_head import RayToken, find_token, head_version
from expflow.doctor.check_result import CheckResult
from expflow.errors import ServerUnreachable, UserError
from expflow.redaction import public_address
from expflow.tracking.call_deadline import deadline

SECONDS = 5.0


def check_tracking(address: str) -> CheckResult:
    """The MLflow store, without importing MLflow: a database file, or a server's health page.

    Args:
        address: The address of the store.
    """
    name = "MLflow"
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "sqlite":
        return _check_sqlite(name, Path(urllib.parse.unquote(address.removeprefix("sqlite:///"))))
    if parts.scheme in ("http", "https"):
        return _check_server(name, public_address(address), address)
    if parts.scheme in ("", "file"):
        mend = f"use sqlite:///{parts.path or address}/mlflow.db; MLflow no longer writes to folders"
        return CheckResult(name, "fail", address, mend)
    return CheckResult(name, "ok", f"{public_address(address)} (not checked)")


def _check_sqlite(name: str, file: Path) -> CheckResult:
    if not file.exists():
        return CheckResult(name, "ok", f"{file} (will be made)")
    try:
        with sqlite3.connect(f"file:{urllib.parse.quote(str(file.resolve()))}?mode=ro", uri=True) as database:
            database.execute("select count(*) from sqlite_master").fetchone()
        database.close()
    except sqlite3.Error as error:
        mend = f"move it away (mv {file} {file}.broken): a sweep writes it anew from its ledger"
        return CheckResult(name, "fail", f"{file} does not read: {error}", mend)
    if not os.access(file, os.W_OK) or not os.access(file.parent, os.W_OK):
        return CheckResult(name, "fail", f"{file} cannot be written to", f"chmod u+w {file} {file.parent}")
    return CheckResult(name, "ok", str(file))


def _check_server(name: str, shown: str, address: str) -> CheckResult:
    mend = "start it, or unset MLFLOW_TRACKING_URI; a sweep runs without it and catches up later"
    request = urllib.request.Request(f"{shown.removesuffix('?…').rstrip('/')}/health")  # noqa: S310  http(s)
    parts = urllib.parse.urlsplit(address)
    if parts.username:
        words = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(words.encode()).decode()}")
    try:
        # Both: the timeout is one read's, and a server may send a byte a second.
        with deadline(2 * SECONDS), urllib.request.urlopen(request, timeout=SECONDS) as reply:  # noqa: S310  http(s)
            reply.read(100)
    except urllib.error.HTTPError as error:
        error.close()
        return CheckResult(name, "warn", f"{shown} answers with HTTP {error.code}", mend)
    except OSError as error:
        return CheckResult(name, "warn", f"{shown} does not answer: {getattr(error, 'reason', error)}", mend)
    return CheckResult(name, "ok", shown)


def check_ray(address: str) -> Iterator[CheckResult]:
    """The token's file, and the Ray head where one is configured.

    Args:
        address: The address of the head; "" where none is configured.
    """
    try:
        token = find_token()
    except UserError as error:
        yield CheckResult("Ray token", "fail", str(error), "mend or unset RAY_AUTH_TOKEN_PATH")
        return
    yield _check_token(token)
    if joined := os.environ.get("RAY_ADDRESS"):
        yield _check_joined(joined)
    elif not address:
        yield CheckResult("Ray head", "ok", "none configured; sweeps start their own Ray on this machine")
    if not address:
        return
    shown = public_address(address)
    if not address.startswith(("http://", "https://")):
        yield CheckResult("Ray head", "ok", f"{shown} (not checked)")
        return
    try:
        version = head_version(address.rstrip("/"), token, SECONDS)
    except ServerUnreachable as error:
        yield CheckResult("Ray head", "warn", f"{shown} cannot be used", str(error))
    else:
        yield CheckResult("Ray head", "ok", f"{shown}, Ray {version}")


def _check_joined(address: str) -> CheckResult:
    name = "Ray cluster"
    if address.startswith(("http://", "https://")):
        mend = "unset RAY_ADDRESS; `expflow submit --address` takes such an address"
        return CheckResult(
            name, "warn", f"RAY_ADDRESS={public_address(address)} is a dashboard, which no sweep can join", mend
        )
    return CheckResult(name, "ok", f"sweeps run on {public_address(address)} (RAY_ADDRESS; not checked)")


def _check_token(token: RayToken | None) -> CheckResult:
    name = "Ray token"
    if token is None:
        return CheckResult(name, "ok", "none; only a cluster of others needs one")
    file = Path(token.origin.removesuffix(" (RAY_AUTH_TOKEN_PATH)"))
    if file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o077:
        return CheckResult(name, "warn", f"from {token.origin}, which others can read", f"chmod 600 {file}")
    return CheckResult(name, "ok", f"from {token.origin}")
