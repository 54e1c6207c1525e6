"""Reaching the head of a Ray cluster: its address, its token, and saying what is wrong when it does not answer.

Ray looks for its token in ``RAY_AUTH_TOKEN``, in the file that ``RAY_AUTH_TOKEN_PATH`` names, and in
``~/.ray/auth_token``, but only where ``RAY_AUTH_MODE=token`` is set. A token that is there is meant, so it is sent
unless ``RAY_AUTH_MODE=disabled``.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.errors import PackageMissing, ServerUnreachable, UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
"""How long the head may take to answer one request; uploading a package of 100 MB counts as one."""


@dataclass(frozen=True)
class Token:
    """A token and where it was found. It does not show itself when printed."""

    value: str
    origin: str

    def __repr__(self) -> str:
        return f"Token(from {self.origin})"


def find_token() -> Token | None:
    """The token of the Ray cluster from the places where Ray itself looks, or None.

    Raises :class:`UserError` when ``RAY_AUTH_TOKEN_PATH`` names a file that cannot be read.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "RAY_AUTH_TOKEN")
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        try:
            return Token(Path(named).read_text().strip(), f"{named} (RAY_AUTH_TOKEN_PATH)")
        except OSError as error:
            raise UserError(f"RAY_AUTH_TOKEN_PATH names {named}, which cannot be read: {error.strerror}") from error
    usual = token_file()
    try:
        value = usual.read_text().strip()
    except OSError:
        return None
    return Token(value, str(usual)) if value else None


def token_file() -> Path:
    """The file in which Ray keeps its token when no variable says otherwise."""
    return Path.home() / ".ray" / "auth_token"


def resolve_address(address: str | None, site: str | None = None) -> str:
    """The head's http address: the given one, else ``RAY_API_SERVER_ADDRESS``, the site's, this machine's usual port.

    ``site`` may be an address of another kind (``auto``, ``ray://…``), which is for sweeps and not for jobs.
    Raises :class:`UserError` for what is not an http(s) address.
    """
    fitting = site if site and site.startswith(("http://", "https://")) else None
    chosen = address or os.environ.get(ADDRESS_VARIABLE) or fitting or DEFAULT_ADDRESS
    if "://" not in chosen:
        chosen = f"http://{chosen}"
    parts = urllib.parse.urlsplit(chosen)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"the address of a Ray head is that of its dashboard, like {DEFAULT_ADDRESS}; got {chosen!r}")
    return chosen.rstrip("/")


def connect(address: str | None = None) -> JobSubmissionClient:
    """A client for Ray Jobs at ``address``, checked to answer and to accept our token.

    Raises :class:`ServerUnreachable` where nothing answers, something else does, or the token is missing or wrong,
    and :class:`PackageMissing` without Ray.
    """
    where = resolve_address(address)
    token = find_token()
    answers(where, token)
    try:
        client_class = _client_class()
    except ImportError as error:
        raise PackageMissing(f"Ray is not installed here ({error}): pip install 'ray[default]'") from error
    headers = {"Authorization": f"Bearer {token.value}"} if token else None
    with without_variables(ADDRESS_VARIABLE, "RAY_ADDRESS"):  # Ray lets them overrule the address it is given
        return client_class(where, headers=headers)


def answers(where: str, token: Token | None, seconds: float = CONNECT_SECONDS) -> str:
    """The Ray version of the head at ``where``. Raises :class:`ServerUnreachable` with what is wrong."""
    request = urllib.request.Request(f"{where}/api/version")  # noqa: S310  resolve_address admits http(s) only
    if token:
        request.add_header("Authorization", f"Bearer {token.value}")
    try:
        with _OPENER.open(request, timeout=seconds) as reply:
            return str(json.load(reply)["ray_version"])
    except urllib.error.HTTPError as error:
        error.close()
        raise ServerUnreachable(_refusal(where, error.code, token)) from error
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ServerUnreachable(_stranger(where)) from error
    except OSError as error:
        raise ServerUnreachable(_silence(where, error)) from error


# A proxy between this machine and its cluster would see the token, and cannot know 127.0.0.1.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _refusal(where: str, code: int, token: Token | None) -> str:
    if code == 401 or (code == 403 and token is None):
        return (
            f"the Ray head at {where} wants a token: put it into RAY_AUTH_TOKEN, or its file's name into "
            f"RAY_AUTH_TOKEN_PATH, or the token itself into {token_file()}; whoever started the head has it "
            "(`ray get-auth-token` there)"
        )
    if code == 403 and token is not None:
        return (
            f"the Ray head at {where} refuses the token from {token.origin}: it belongs to another cluster, or was "
            "made anew; `ray get-auth-token` on the head prints the right one"
        )
    return _stranger(where)


def _stranger(where: str) -> str:
    return f"what answers at {where} is not a Ray head; is that the address of its dashboard?"


def _silence(where: str, error: OSError) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        said = f"no answer within {CONNECT_SECONDS:.0f} s"
    elif isinstance(reason, ConnectionRefusedError):
        said = "nothing listens there"
    elif isinstance(reason, socket.gaierror):
        said = "no such host"
    else:
        said = str(reason)
    return (
        f"no Ray head at {where}: {said}. Start one with `RAY_AUTH_MODE=token ray start --head` (its dashboard "
        "listens on port 8265), or give the address of one with --address"
    )


def _client_class() -> type[JobSubmissionClient]:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they report each upload and each closed stream

    class Client(JobSubmissionClient):
        """Ray's client with time limits: its own waits for ever on a head that stopped answering."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            options.setdefault("timeout", (CONNECT_SECONDS, READ_SECONDS))
            try:
                return super()._do_request(method, endpoint, **options)
            except AuthenticationError as error:  # the token changed since it was checked
                raise ServerUnreachable(_refusal(self._address, 403, find_token())) from error

    return Client


@contextmanager
def without_variables(*names: str) -> Iterator[None]:
    """Take environment variables away for a moment."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
