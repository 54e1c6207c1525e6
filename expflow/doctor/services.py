"""What answers: the MLflow store, a Ray head and its token."""

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

from expflow.cluster import Token, answers, find_token
from expflow.doctor.check import Check
from expflow.errors import ServerUnreachable, UserError

SECONDS = 5.0


def check_tracking(address: str) -> Check:
    """The MLflow store at ``address``, without MLflow: a database file, or a server's health page."""
    name = "MLflow"
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "sqlite":
        return _check_sqlite(name, Path(urllib.parse.unquote(address.removeprefix("sqlite:///"))))
    if parts.scheme in ("http", "https"):
        return _check_server(name, _without_password(parts), address)
    if parts.scheme in ("", "file"):
        mend = f"use sqlite:///{parts.path or address}/mlflow.db; MLflow no longer writes to folders"
        return Check(name, "fail", address, mend)
    return Check(name, "ok", f"{_without_password(parts)} (not checked)")


def _check_sqlite(name: str, file: Path) -> Check:
    if not file.exists():
        return Check(name, "ok", f"{file} (will be made)")
    try:
        with sqlite3.connect(f"file:{urllib.parse.quote(str(file.resolve()))}?mode=ro", uri=True) as database:
            database.execute("select count(*) from sqlite_master").fetchone()
        database.close()
    except sqlite3.Error as error:
        mend = f"move it away (mv {file} {file}.broken): a sweep writes it anew from its ledger"
        return Check(name, "fail", f"{file} does not read: {error}", mend)
    if not os.access(file, os.W_OK) or not os.access(file.parent, os.W_OK):
        return Check(name, "fail", f"{file} cannot be written to", f"chmod u+w {file} {file.parent}")
    return Check(name, "ok", str(file))


def _check_server(name: str, shown: str, address: str) -> Check:
    mend = "start it, or unset MLFLOW_TRACKING_URI; a sweep runs without it and catches up later"
    request = urllib.request.Request(f"{shown.rstrip('/')}/health")  # noqa: S310  http(s)
    parts = urllib.parse.urlsplit(address)
    if parts.username:
        words = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(words.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:  # noqa: S310  http(s)
            reply.read(100)
    except urllib.error.HTTPError as error:
        error.close()
        return Check(name, "warn", f"{shown} answers with HTTP {error.code}", mend)
    except OSError as error:
        return Check(name, "warn", f"{shown} does not answer: {getattr(error, 'reason', error)}", mend)
    return Check(name, "ok", shown)


def _without_password(parts: urllib.parse.SplitResult) -> str:
    host = parts.hostname or ""
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host, query="").geturl()


def check_ray(address: str) -> Iterator[Check]:
    """The token's file, and the Ray head at ``address`` where one is configured (``""``: none is)."""
    try:
        token = find_token()
    except UserError as error:
        yield Check("Ray token", "fail", str(error), "mend or unset RAY_AUTH_TOKEN_PATH")
        return
    yield _check_token(token)
    if joined := os.environ.get("RAY_ADDRESS"):
        yield _check_joined(joined)
    elif not address:
        yield Check("Ray head", "ok", "none configured; sweeps start their own Ray on this machine")
    if not address:
        return
    if not address.startswith(("http://", "https://")):
        yield Check("Ray head", "ok", f"{address} (not checked)")
        return
    try:
        version = answers(address.rstrip("/"), token, SECONDS)
    except ServerUnreachable as error:
        yield Check("Ray head", "warn", f"{address} cannot be used", str(error))
    else:
        yield Check("Ray head", "ok", f"{address}, Ray {version}")


def _check_joined(address: str) -> Check:
    name = "Ray cluster"
    if address.startswith(("http://", "https://")):
        mend = "unset RAY_ADDRESS; `expflow submit --address` takes such an address"
        return Check(name, "warn", f"RAY_ADDRESS={address} is a dashboard, which no sweep can join", mend)
    return Check(name, "ok", f"sweeps run on {address} (RAY_ADDRESS; not checked)")


def _check_token(token: Token | None) -> Check:
    name = "Ray token"
    if token is None:
        return Check(name, "ok", "none; only a cluster of others needs one")
    file = Path(token.origin.removesuffix(" (RAY_AUTH_TOKEN_PATH)"))
    if file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o077:
        return Check(name, "warn", f"from {token.origin}, which others can read", f"chmod 600 {file}")
    return Check(name, "ok", f"from {token.origin}")
