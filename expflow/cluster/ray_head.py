"""The head of a Ray cluster: its address, its token, and why it does not answer.

Ray looks for its token in ``RAY_AUTH_TOKEN``, in the file that ``RAY_AUTH_TOKEN_PATH`` names, and in
``~/.ray/auth_token``, but only where ``RAY_AUTH_MODE=token`` is set. A token that is there is taken to be wanted, so it
is sent unless ``RAY_AUTH_MODE=disabled``.
"""

from __future__ import annotations

import json
import logging
import os
import re
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
from expflow.redaction import public_address, remember_secrets

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
"""How long the head may take to answer one request; uploading a package of 100 MB counts as one."""


_TOKEN = re.compile(r"[!-~]+")
_TOKEN_CHARACTERS = 65536
"""Most that is read of a file that should hold a token."""


@dataclass(frozen=True)
class RayToken:
    """A token; its text form leaves the secret out.

    Attributes:
        value: The secret.
        origin: Where it was found, in words.
    """

    value: str
    origin: str

    def __repr__(self) -> str:
        return f"Token(from {self.origin})"


def find_token() -> RayToken | None:
    """The token of the Ray cluster from the places where Ray itself looks; None where there is none.

    Raises:
        UserError: ``RAY_AUTH_TOKEN_PATH`` names a file that cannot be read, or what was found can be no token.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    value = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    token = RayToken(value, "RAY_AUTH_TOKEN") if value else _token_from_file()
    if token is not None:
        remember_secrets(token.value, "auth_token")
        # A header takes printable ASCII, and what refuses another text quotes it.
        if not _TOKEN.fullmatch(token.value):
            raise UserError(
                f"what stands in {token.origin} is no token of Ray: one is a single word of letters and digits;"
                " `ray get-auth-token` on the head prints it"
            )
    return token


def _token_from_file() -> RayToken | None:
    """The token in the file that RAY_AUTH_TOKEN_PATH names, else in Ray's own; None where there is none.

    Raises UserError where the named file cannot be read.
    """
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        try:
            return RayToken(_read_token(Path(named)), f"{named} (RAY_AUTH_TOKEN_PATH)")
        except UnicodeDecodeError as error:
            raise UserError(f"RAY_AUTH_TOKEN_PATH names {named}, which holds no text, and so no token") from error
        except OSError as error:
            raise UserError(f"RAY_AUTH_TOKEN_PATH names {named}, which cannot be read: {error.strerror}") from error
    usual = token_file()
    try:
        value = _read_token(usual)
    except (OSError, UnicodeDecodeError):
        return None
    return RayToken(value, str(usual)) if value else None


def _read_token(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_TOKEN_CHARACTERS).strip()


def token_file() -> Path:
    """The file in which Ray keeps its token when no variable says otherwise."""
    return Path.home() / ".ray" / "auth_token"


def resolve_address(address: str | None, site: str | None = None) -> str:
    """The head's http address: the given one, else ``RAY_API_SERVER_ADDRESS``, the site's, this machine's usual port.

    Args:
        address: The address that the user gave.
        site: The site file's address. It may be of another kind (``auto``, ``ray://…``), which is for sweeps and not
            for jobs.

    Raises:
        UserError: The result is not an http(s) address, or holds more than one.
    """
    fitting = site if site and site.startswith(("http://", "https://")) else None
    chosen = address or os.environ.get(ADDRESS_VARIABLE) or fitting or DEFAULT_ADDRESS
    if "://" not in chosen:
        chosen = f"http://{chosen}"
    parts = urllib.parse.urlsplit(chosen)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"the address of a Ray head is that of its dashboard, like {DEFAULT_ADDRESS}; got {chosen!r}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            f"the address of a Ray head holds neither user, password nor query: got {public_address(chosen)!r};"
            " its token is looked for in RAY_AUTH_TOKEN and in files"
        )
    return chosen.rstrip("/")


def connect(address: str | None = None) -> JobSubmissionClient:
    """A client for Ray Jobs, checked to answer and to accept our token.

    Args:
        address: Address of the Ray head; by default the usual one.

    Raises:
        ServerUnreachable: Nothing answers, something else does, or the token is missing or wrong.
        PackageMissing: Ray is not installed.
    """
    where = resolve_address(address)
    token = find_token()
    head_version(where, token)
    try:
        client_class = _client_class()
    except ImportError as error:
        raise PackageMissing(f"Ray is not installed here ({error}): pip install 'ray[default]'") from error
    headers = {"Authorization": f"Bearer {token.value}"} if token else None
    with without_variables(ADDRESS_VARIABLE, "RAY_ADDRESS"):  # Ray lets them overrule the address it is given
        return client_class(where, headers=headers)


def head_version(where: str, token: RayToken | None, seconds: float = CONNECT_SECONDS) -> str:
    """The Ray version of a head.

    Args:
        where: The head's http address.
        token: The token to send; None for none.
        seconds: How long to wait for the answer.

    Raises:
        ServerUnreachable: There is no answer, or not that of a Ray head that takes the token.
    """
    request = urllib.request.Request(f"{where}/api/version")  # noqa: S310  resolve_address admits http(s) only
    if token:
        request.add_header("Authorization", f"Bearer {token.value}")
    try:
        with _OPENER.open(request, timeout=seconds) as reply:
            return str(json.load(reply)["ray_version"])
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 400:
            raise ServerUnreachable(_redirected(where, error.headers.get("Location", ""))) from error
        raise ServerUnreachable(_refusal(where, error.code, token)) from error
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ServerUnreachable(_stranger(where)) from error
    except OSError as error:
        raise ServerUnreachable(_silence(where, error)) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Answers that lead elsewhere are errors: urllib would send the token along."""

    def redirect_request(self, *_: Any) -> None:
        return None


# A proxy between this machine and its cluster would see the token, and cannot know 127.0.0.1.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def _redirected(where: str, location: str) -> str:
    return (
        f"what answers at {where} sends us on to {location or 'nowhere'}, and a token is sent only to the address that"
        " was given: give that one with --address if it is the head's"
    )


def _refusal(where: str, code: int, token: RayToken | None) -> str:
    if code == 401 or (code == 403 and token is None):
        return (
            f"the Ray head at {where} wants a token: put it into RAY_AUTH_TOKEN, or its file's name into "
            f"RAY_AUTH_TOKEN_PATH, or the token itself into {token_file()}; whoever started the head has it "
            "(`ray get-auth-token` there)"
        )
    if code == 403 and token is not None:
        return (
            f"the Ray head at {where} refuses the token from {token.origin}, which belongs to another cluster, or was "
            "made anew there; `ray get-auth-token` on the head prints the right one"
        )
    return _stranger(where)


def _stranger(where: str) -> str:
    return f"what answers at {where} is not a Ray head; is that the address of its dashboard?"


def _silence(where: str, error: OSError) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        problem = f"no answer within {CONNECT_SECONDS:.0f} s"
    elif isinstance(reason, ConnectionRefusedError):
        problem = "nothing listens there"
    elif isinstance(reason, socket.gaierror):
        problem = "no such host"
    else:
        problem = str(reason)
    return (
        f"no Ray head at {where}: {problem}. Start one with `RAY_AUTH_MODE=token ray start --head` (its dashboard "
        "listens on port 8265), or give the address of one with --address"
    )


def _client_class() -> type[JobSubmissionClient]:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they report each upload and each closed stream

    class Client(JobSubmissionClient):
        """Ray's client with time limits, since its own waits for ever on a head that stopped answering; and without
        redirects, which it would follow with the token."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            options = {"timeout": (CONNECT_SECONDS, READ_SECONDS), "allow_redirects": False, **options}
            try:
                response = super()._do_request(method, endpoint, **options)
            except AuthenticationError as error:  # the token changed since it was checked
                raise ServerUnreachable(_refusal(self._address, 403, find_token())) from error
            if response.is_redirect:
                raise ServerUnreachable(_redirected(self._address, response.headers.get("Location", "")))
            return response

    return Client


@contextmanager
def without_variables(*names: str) -> Iterator[None]:
    """Take environment variables away within this context.

    Args:
        *names: The variables' names.
    """
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
