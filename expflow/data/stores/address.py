"""Addresses of folders of shards, and which of them are refused. Nothing here opens anything."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from expflow.errors import AddressRefused

HTTP = ("http", "https")
LOCAL = ("", "file", "local")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?=//|[^\\/])")
"""What stands before a path's first colon. One letter would be a drive."""
COMMANDS = frozenset({"pipe", "cmd", "exec", "shell", "gopen"})
WRAPPERS = frozenset(
    {
        *("asynclocal", "async_wrapper", "blockcache", "cached", "data", "dask", "dir", "filecache", "generic", "git"),
        *("jlab", "jupyter", "libarchive", "memory", "reference", "simplecache", "tar", "zip"),
    }
)
"""fsspec's file systems that wrap or list others, or live in one process: none is a place where shards lie."""
SAFE_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")
"""A file of a store: below it, with no hidden part, no ``..``, nothing that a URL or a shell would read otherwise."""


@dataclass(frozen=True)
class Address:
    """Where a folder of shards lies.

    ``scheme`` is ``""`` for a local folder. ``text`` opens it and may hold a signed query; ``shown`` is for messages.
    """

    scheme: str
    text: str = field(repr=False)
    shown: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file system."""
        return not self.scheme

    @property
    def path(self) -> Path:
        """The folder of a local address."""
        return Path(self.text)

    def of(self, name: str) -> str:
        """The address of the file ``name`` in this folder. Raises AddressRefused for a name that leads out of it."""
        check_name(name)
        if self.is_local:
            return str(self.path / name)
        parts = urlsplit(self.text)
        quoted = quote(name) if self.scheme in HTTP else name
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quoted}"))

    def showing(self, name: str) -> str:
        """:meth:`of` without its query: for messages. The folder's own where ``name`` is ""."""
        return shown(self.of(name)) if name else self.shown


def parse_address(address: str | Path) -> Address:
    """What ``address`` means: a local folder, ``file://``, ``http(s)://``, ``s3://`` or another scheme of fsspec's.

    Raises AddressRefused for commands (``pipe:``), chains (``::``), unknown schemes and addresses that hold a password.
    """
    if isinstance(address, Path):
        return Address("", str(address), str(address))
    match = SCHEME.match(address)
    scheme = match[1].lower() if match else ""
    if scheme in LOCAL:
        return _local(address, scheme)
    if scheme in COMMANDS or "::" in address or not address[len(scheme) :].startswith("://"):
        raise AddressRefused(
            f"{_short(scheme)}: this address is refused: it runs a command or chains others; {_allowed()}"
        )
    if scheme in WRAPPERS or (scheme not in HTTP and not _known(scheme)):
        raise AddressRefused(f"{_short(scheme)}: no store of shards has this scheme; {_allowed()}")
    return _remote(address, scheme)


def is_elsewhere(text: str) -> bool:
    """Whether ``text`` is an address rather than a path. Raises AddressRefused where it is a command."""
    match = SCHEME.match(text)
    if match and match[1].lower() in COMMANDS:
        parse_address(text)
    return "://" in text


def shown(address: str) -> str:
    """``address`` as it may be logged: no user, no password, no query and no fragment."""
    parts = urlsplit(address)
    if not parts.scheme or not parts.netloc:
        return address
    query = "…" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def check_name(name: str) -> None:
    """Raise AddressRefused unless ``name`` is a plain file's below its folder."""
    if not SAFE_NAME.fullmatch(name) or ".." in name.split("/"):
        raise AddressRefused(f"{name!r} is not the name of a file in a folder of shards")


def _local(address: str, scheme: str) -> Address:
    if not scheme:
        path = address
    else:
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost"):
            raise AddressRefused(f"file://{parts.netloc}: a file:// address has no host; write file:///folder")
        path = unquote(parts.path)
    return Address("", str(Path(path).expanduser()), path)


def _remote(address: str, scheme: str) -> Address:
    parts = urlsplit(address)
    user, _, _ = parts.netloc.rpartition("@")
    if ":" in user or (user and scheme in (*HTTP, "s3", "s3a")):
        raise AddressRefused(
            f"{shown(address)}: this address holds a user or a password, which would end up in logs; {_where(scheme)}"
        )
    if not parts.netloc:
        raise AddressRefused(f"{_short(address)}: no host or bucket stands after ://")
    return Address(scheme, address, shown(address))


def _where(scheme: str) -> str:
    if scheme in HTTP:
        return "write it into ~/.netrc"
    return "use the variables of the service, such as AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def _known(scheme: str) -> bool:
    from fsspec import available_protocols  # only once an address is neither local nor HTTP

    return scheme in available_protocols()


def _allowed() -> str:
    return "allowed are a folder, file://, http(s)://, s3:// and the object stores that fsspec knows"


def _short(text: str) -> str:
    return text[:40]
