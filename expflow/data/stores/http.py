"""HTTP: ranged requests that notice a changed file, and redirects that cannot lead to another kind of place.

requests does what users of a cluster expect (proxies, ~/.netrc, certificate bundles from their usual variables); when
to try again and where to go on are ours. No message holds a query: it may be a signature.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, cast

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from expflow.data.stores.address import HTTP, Address
from expflow.data.stores.http_deadlines import DeadlineAdapter, within
from expflow.data.stores.redirects import redirect_target
from expflow.data.stores.retry_policy import RetryPolicy, TransientFailure, UnexpectedContent
from expflow.data.stores.transfer import Body, ByteSource
from expflow.errors import AddressRefused, DataMissing, DataUnreachable
from expflow.redaction import public_address

CHUNK = 1 << 20
REDIRECTS = 5
CONNECTIONS = 16
MISSING_STATUSES = (404, 410)
DENIED_STATUSES = (401, 403, 407)
NUMBER = re.compile(r"[0-9]{1,18}")
"""A size, or a wait in seconds, that is believed. (``str.isdigit`` is true of superscripts, too: no numbers.)"""
BUSY_STATUSES = (408, 425, 429)
"""Answers below 500 that may be another one the next time."""
RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class HttpBody(Body):
    """The bytes of one answer, as they come.

    Args:
        response: The answer, whose body was not read yet.
        stall_timeout: After this many seconds without a byte, the connection counts as broken.
    """

    def __init__(self, response: requests.Response, stall_timeout: float) -> None:
        headers = response.headers
        self._response, self._stall_timeout = response, stall_timeout
        self._socket = getattr(response.raw.connection, "read_socket", None)
        self.tag = _version_tag(headers)
        if response.status_code == 206:
            match = RANGE.fullmatch(headers.get("Content-Range", ""))
            if match is None:
                raise UnexpectedContent("the server sent a part and does not say which")
            self.start, self.total = int(match[1]), None if match[3] == "*" else int(match[3])
        else:
            length = headers.get("Content-Length", "")
            self.start, self.total = 0, int(length) if NUMBER.fullmatch(length) else None
        encoding = headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", ""):
            raise UnexpectedContent(f"it came encoded as {encoding[:20]!r}, which was not asked for")

    def chunks(self) -> Iterator[bytes]:
        """Whatever has come, as soon as it has."""
        try:
            while chunk := self._read():
                yield chunk
        except (ReadTimeoutError, TimeoutError):
            raise TransientFailure(f"no byte came for {self._stall_timeout:g} s") from None
        except (HTTPError, OSError) as error:
            raise TransientFailure(f"the connection broke ({_error_kind(error)})") from None

    def _read(self) -> bytes:
        """Whatever has come. The sizes of chunks are lines that may come byte by byte: they have a time as a whole."""
        raw = self._response.raw
        if not raw.chunked:
            return cast(bytes, raw.read1(CHUNK, decode_content=False))
        read = partial(raw.read1, CHUNK, decode_content=False)
        return cast(bytes, within(self._stall_timeout, self._socket, read))

    def close(self) -> None:
        """Give the connection back, or close it where bytes are left on it."""
        self._response.close()


class _Session(requests.Session):
    """A session that leaves redirects alone: requests would read the body of one whole, and its address as UTF-8."""

    def resolve_redirects(self, *args: Any, **keys: Any) -> Generator[requests.Response, None, None]:
        yield from ()


class HttpSource(ByteSource):
    """The files below an http:// or https:// address.

    Args:
        location: Where the folder lies.
        retry_policy: Gives the timeouts.
    """

    def __init__(self, location: Address, retry_policy: RetryPolicy) -> None:
        self._location, self._policy = location, retry_policy
        self._session: requests.Session | None = None
        self._guard = threading.Lock()

    def display_file(self, name: str) -> str:
        """The file's address for messages."""
        return self._location.display_file(name)

    def open(self, name: str, start: int, tag: str, size: int | None) -> HttpBody:
        """The file from byte ``start`` on if it is still of version ``tag``, else whole."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if tag:
                headers["If-Range"] = tag
        response = self._get(self._location.file_address(name), headers)
        try:
            self._check(response, name, start)
            return HttpBody(response, self._policy.stall_timeout)
        except BaseException:
            response.close()
            raise

    def exists(self, name: str) -> bool:
        """Whether the server has a file.

        Args:
            name: The file's name in the folder.
        """
        try:
            self.open(name, 0, "", None).close()
        except DataMissing:
            return False
        return True

    def close(self) -> None:
        """Close all connections."""
        with self._guard:
            if self._session is not None:
                self._session.close()
            self._session = None

    def _open_session(self) -> requests.Session:
        with self._guard:
            if self._session is None:
                self._session = _Session()
                for scheme in HTTP:
                    self._session.mount(f"{scheme}://", DeadlineAdapter(pool_maxsize=CONNECTIONS))
            return self._session

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """The last answer of a chain of redirects, each of which is checked."""
        first = url
        for _ in range(REDIRECTS + 1):
            response = self._request(url, headers)
            if not response.is_redirect:
                return response
            response.close()
            url = redirect_target(url, response.headers["Location"])
        raise AddressRefused(f"{public_address(first)}: more than {REDIRECTS} redirects")

    def _request(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        timeout = (self._policy.connect_timeout, self._policy.stall_timeout)
        try:
            return self._open_session().get(url, headers=headers, stream=True, allow_redirects=False, timeout=timeout)
        except requests.exceptions.SSLError as error:
            raise DataUnreachable(
                f"{public_address(url)}: no trusted connection ({_error_kind(error)});"
                " REQUESTS_CA_BUNDLE names your own certificates"
            ) from None
        except requests.exceptions.Timeout:
            raise TransientFailure(f"{public_address(url)} did not answer in time") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise AddressRefused(f"{public_address(url)}: not an address of HTTP ({_error_kind(error)})") from None
        except (requests.exceptions.RequestException, HTTPError, OSError) as error:
            raise TransientFailure(f"no answer from {public_address(url)} ({_error_kind(error)})") from None

    def _check(self, response: requests.Response, name: str, start: int) -> None:
        status, address = response.status_code, self.display_file(name)
        if status in (200, 206):
            return
        if status in MISSING_STATUSES:
            raise DataMissing(f"{address}: the server has no such file (HTTP {status})")
        if status in DENIED_STATUSES:
            raise DataUnreachable(
                f"{address}: the server does not let us in (HTTP {status}); credentials go to ~/.netrc"
            )
        if status in BUSY_STATUSES or status >= 500:
            raise TransientFailure(
                f"the server answered HTTP {status}",
                _retry_after(response.headers.get("Retry-After", ""), response.headers.get("Date", "")),
            )
        if status == 416:
            raise UnexpectedContent(f"the file ends before byte {start}")
        raise DataUnreachable(f"{address}: the server answered HTTP {status}")


def _version_tag(headers: Mapping[str, str]) -> str:
    """What names this version of the file in If-Range: a strong ETag, else the time of change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _retry_after(text: str, now: str) -> float | None:
    """The wait in seconds that a server asks for, as a number, or as a date by its own clock, which shows ``now``."""
    if NUMBER.fullmatch(text):
        return float(text)
    then = _moment(text)
    return None if then is None else max(0.0, (then - (_moment(now) or datetime.now(UTC))).total_seconds())


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _error_kind(error: BaseException) -> str:
    """The innermost reason, without any address: those of requests hold the query."""
    inner: BaseException = error
    while True:
        within = getattr(inner, "reason", None)
        candidates = (within, *inner.args, inner.__cause__)
        following = [candidate for candidate in candidates if isinstance(candidate, BaseException)]
        if not following:
            break
        inner = following[0]
    reason = inner.strerror if isinstance(inner, OSError) and inner.strerror else ""
    return f"{type(inner).__name__}: {reason}" if reason else type(inner).__name__
