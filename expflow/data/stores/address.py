"""Addresses of folders of shards, and which of them are refused. Nothing here opens anything."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from expflow.errors import AddressRefused
from expflow.redaction import public_address

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

    Attributes:
        scheme: The address's scheme in lower case; ``""`` for a local folder.
        text: What opens the folder: a path or a URL, which may hold a signed query.
        display: The address for messages: without user, password and query.
    """

    scheme: str
    text: str = field(repr=False)
    display: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file system."""
        return not self.scheme

    @property
    def path(self) -> Path:
        """The folder of a local address."""
        return Path(self.text)

    def file_address(self, name: str) -> str:
        """The path or URL that opens a file of this folder.

        Args:
            name: The file's name relative to the folder.

        Raises:
            AddressRefused: The name leads out of the folder.
        """
        check_name(name)
        if self.is_local:
            return str(self.path / name)
        parts = urlsplit(self.text)
        quoted = quote(name) if self.scheme in HTTP else name
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quoted}"))

    def display_file(self, name: str) -> str:
        """The address of a file of this folder for messages.

        Args:
            name: The file's name relative to the folder; "" for the folder itself.
        """
        return public_address(self.file_address(name)) if name else self.display


def parse_address(address: str | Path) -> Address:
    """Parse the address of a folder of shards.

    Args:
        address: A path, ``file://``, ``http(s)://``, ``s3://`` or another scheme of fsspec's.

    Raises:
        AddressRefused: It is a command (``pipe:``), a chain (``::``) or of an unknown scheme, or it holds a password.
    """
    if isinstance(address, Path):
        return Address("", str(address), str(address))
    match = SCHEME.match(address)
    scheme = match[1].lower() if match else ""
    if scheme in LOCAL:
        return _parse_local(address, scheme)
    if scheme in COMMANDS or "::" in address or not address[len(scheme) :].startswith("://"):
        raise AddressRefused(
            f"{_shortened(scheme)}: this address is refused: it runs a command or chains others; {_allowed_addresses()}"
        )
    if scheme in WRAPPERS or (scheme not in HTTP and not _known_to_fsspec(scheme)):
        raise AddressRefused(f"{_shortened(scheme)}: no store of shards has this scheme; {_allowed_addresses()}")
    return _parse_remote(address, scheme)


def is_remote(text: str) -> bool:
    """Whether ``text`` is an address with a scheme rather than a path.

    Args:
        text: What the user wrote for a folder.

    Raises:
        AddressRefused: It is a command.
    """
    match = SCHEME.match(text)
    if match and match[1].lower() in COMMANDS:
        parse_address(text)
    return "://" in text


def check_name(name: str) -> None:
    """Refuse a name that is not one of a plain file below its folder.

    Args:
        name: A file's name relative to its folder.

    Raises:
        AddressRefused: The name is absolute, hidden, leads out of the folder or holds special characters.
    """
    if not SAFE_NAME.fullmatch(name) or ".." in name.split("/"):
        raise AddressRefused(f"{name!r} is not the name of a file in a folder of shards")


def _parse_local(address: str, scheme: str) -> Address:
    if not scheme:
        path = address
    else:
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost"):
            raise AddressRefused(f"file://{parts.netloc}: a file:// address has no host; write file:///folder")
        path = unquote(parts.path)
    return Address("", str(Path(path).expanduser()), path)


def _parse_remote(address: str, scheme: str) -> Address:
    parts = urlsplit(address)
    user, _, _ = parts.netloc.rpartition("@")
    if ":" in user or (user and scheme in (*HTTP, "s3", "s3a")):
        raise AddressRefused(
            f"{public_address(address)}: this address holds a user or a password, which would end up in logs;"
            f" {_credentials_advice(scheme)}"
        )
    if not parts.netloc:
        raise AddressRefused(f"{_shortened(address)}: no host or bucket stands after ://")
    return Address(scheme, address, public_address(address))


def _credentials_advice(scheme: str) -> str:
    if scheme in HTTP:
        return "write it into ~/.netrc"
    return "use the variables of the service, such as AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def _known_to_fsspec(scheme: str) -> bool:
    from fsspec import available_protocols  # only once an address is neither local nor HTTP

    return scheme in available_protocols()


def _allowed_addresses() -> str:
    return "allowed are a folder, file://, http(s)://, s3:// and the object stores that fsspec knows"


def _shortened(text: str) -> str:
    return text[:40]
