"""HTTP: ranged requests that notice a changed file, and redirects that cannot lead to another kind of place.

requests does what users of a cluster expect (proxies, ~/.netrc, certificate bundles from their usual variables); when
to try again and where to go on are ours. No message holds a query: it may be a signature.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError

from expflow.data.stores.address import HTTP, Address, shown
from expflow.data.stores.patience import Passing, Patience, Wrong
from expflow.errors import AddressRefused, DataMissing, DataUnreachable

CHUNK = 1 << 20
REDIRECTS = 5
CONNECTIONS = 16
GONE = (404, 410)
LOCKED = (401, 403, 407)
BUSY = (408, 425, 429)
"""Answers below 500 that may be another one the next time."""
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class HttpBody:
    """One answer, as it comes."""

    def __init__(self, response: requests.Response, stall: float) -> None:
        headers = response.headers
        self._response, self._stall = response, stall
        self.tag = _tag(headers)
        if response.status_code == 206:
            match = RANGE.fullmatch(headers.get("Content-Range", ""))
            if match is None:
                raise Wrong("the server sent a part and does not say which")
            self.start, self.total = int(match[1]), None if match[3] == "*" else int(match[3])
        else:
            length = headers.get("Content-Length", "")
            self.start, self.total = 0, int(length) if length.isdigit() else None
        encoding = headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", ""):
            raise Wrong(f"it came encoded as {encoding[:20]!r}, which was not asked for")

    def chunks(self) -> Iterator[bytes]:
        """Whatever has come, as soon as it has."""
        try:
            while chunk := self._response.raw.read1(CHUNK, decode_content=False):
                yield chunk
        except ReadTimeoutError:
            raise Passing(f"no byte came for {self._stall:g} s") from None
        except (HTTPError, OSError) as error:
            raise Passing(f"the connection broke ({_kind(error)})") from None

    def close(self) -> None:
        """Give the connection back, or close it where bytes are left on it."""
        self._response.close()


class HttpSource:
    """The files below an http:// or https:// address."""

    def __init__(self, where: Address, patience: Patience) -> None:
        self._where, self._patience = where, patience
        self._session: requests.Session | None = None
        self._guard = threading.Lock()

    def showing(self, name: str) -> str:
        """The file's address for messages."""
        return self._where.showing(name)

    def open(self, name: str, start: int, tag: str, size: int | None) -> HttpBody:
        """The file from byte ``start`` on if it is still of version ``tag``, else whole."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if tag:
                headers["If-Range"] = tag
        response = self._get(self._where.of(name), headers)
        try:
            self._check(response, name, start)
            return HttpBody(response, self._patience.stall)
        except BaseException:
            response.close()
            raise

    def exists(self, name: str) -> bool:
        """Whether the server has the file."""
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

    def _connected(self) -> requests.Session:
        with self._guard:
            if self._session is None:
                self._session = requests.Session()
                for scheme in HTTP:
                    self._session.mount(f"{scheme}://", HTTPAdapter(pool_maxsize=CONNECTIONS))
            return self._session

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """The last answer of a chain of redirects, each of which is looked at."""
        first = url
        for _ in range(REDIRECTS + 1):
            response = self._request(url, headers)
            if not response.is_redirect:
                return response
            response.close()
            url = _redirected(url, response.headers["Location"])
        raise AddressRefused(f"{shown(first)}: more than {REDIRECTS} redirects")

    def _request(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        timeout = (self._patience.connect, self._patience.stall)
        try:
            return self._connected().get(url, headers=headers, stream=True, allow_redirects=False, timeout=timeout)
        except requests.exceptions.SSLError as error:
            raise DataUnreachable(
                f"{shown(url)}: no trusted connection ({_kind(error)}); REQUESTS_CA_BUNDLE names your own certificates"
            ) from None
        except requests.exceptions.Timeout:
            raise Passing(f"{shown(url)} did not answer in time") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise AddressRefused(f"{shown(url)}: not an address of HTTP ({_kind(error)})") from None
        except (requests.exceptions.RequestException, HTTPError, OSError) as error:
            raise Passing(f"no answer from {shown(url)} ({_kind(error)})") from None

    def _check(self, response: requests.Response, name: str, start: int) -> None:
        status, where = response.status_code, self.showing(name)
        if status in (200, 206):
            return
        if status in GONE:
            raise DataMissing(f"{where}: the server has no such file (HTTP {status})")
        if status in LOCKED:
            raise DataUnreachable(f"{where}: the server does not let us in (HTTP {status}); credentials go to ~/.netrc")
        if status in BUSY or status >= 500:
            raise Passing(f"the server answered HTTP {status}", _retry_after(response.headers.get("Retry-After", "")))
        if status == 416:
            raise Wrong(f"the file ends before byte {start}")
        raise DataUnreachable(f"{where}: the server answered HTTP {status}")


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads. Raises AddressRefused unless that is HTTP, and not less safe than before."""
    target = urljoin(url, location)
    parts = urlsplit(target)
    said = f"{shown(url)}: a redirect to {shown(target)[:200]} is refused"
    if parts.scheme not in HTTP or not parts.netloc:
        raise AddressRefused(f"{said}: only http and https are followed")
    if parts.scheme == "http" and urlsplit(url).scheme == "https":
        raise AddressRefused(f"{said}: it leaves https")
    if "@" in parts.netloc:
        raise AddressRefused(f"{said}: it names a user")
    return target


def _tag(headers: Mapping[str, str]) -> str:
    """What names this version of the file in If-Range: a strong ETag, else the time of change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _retry_after(text: str) -> float | None:
    """The wait in seconds that a server asks for, as a number or a date."""
    if text.isdigit():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def _kind(error: BaseException) -> str:
    """The innermost reason, without any address: those of requests hold the query."""
    inner: BaseException = error
    while True:
        within = getattr(inner, "reason", None)
        following = [each for each in (within, *inner.args, inner.__cause__) if isinstance(each, BaseException)]
        if not following:
            break
        inner = following[0]
    said = inner.strerror if isinstance(inner, OSError) and inner.strerror else ""
    return f"{type(inner).__name__}: {said}" if said else type(inner).__name__
