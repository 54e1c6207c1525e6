"""Objects below an address, by fsspec's public interface. What may pass is tried again; the rest is an error.

Keys are relative to the address. Credentials and endpoint are the store's own to find (``AWS_PROFILE``,
``AWS_ENDPOINT_URL``, …): an address that holds a password is refused.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from expflow.data.stores.object_store import ATOMIC_STORES, NO_CREDENTIALS, open_file_system
from expflow.data.stores.retry_policy import RetryPolicy
from expflow.errors import AddressRefused, StorageRefused, StorageUnreachable
from expflow.redaction import public_address

S3 = ("s3", "s3a")
ONE_WRITER = frozenset({*ATOMIC_STORES, "memory", "file", "local"}) - {"hf", "adl"}
"""Stores that make an object only where there is none, when they are asked to."""
UPLOAD_PART_BYTES = 64 << 20
PATIENCE_SECONDS = 60.0
"""How long a call is tried again by default."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing shows it.

    Attributes:
        size: Its bytes.
        modified: When it was written, by the store's clock, in unix seconds; 0.0 where the store does not say.
    """

    size: int
    modified: float


def is_address(text: str) -> bool:
    """Whether a storage is an address with a scheme rather than a folder.

    Args:
        text: What the user wrote.
    """
    return "://" in text


class BlobStore:
    """Objects below an address. Safe to use from several threads.

    Args:
        address: Scheme, bucket and path: ``s3://bucket/path``.
        patience: Seconds for which a call that fails is tried again.

    Raises:
        AddressRefused: The address holds a password or a query, chains others, or names no place.
    """

    def __init__(self, address: str, *, patience: float = PATIENCE_SECONDS) -> None:
        parts = urlsplit(address)
        if parts.username or parts.password or parts.query or "::" in address:
            raise AddressRefused(
                f"storage {public_address(address)}: an address of results holds neither password, query nor chain; "
                "credentials come from the store's own variables, such as AWS_PROFILE"
            )
        if parts.scheme in ("http", "https"):
            raise AddressRefused(f"storage {address}: nothing can be written there; name a folder or s3://bucket/path")
        self.scheme = parts.scheme
        self.address = f"{self.scheme}{address[len(self.scheme) :]}".rstrip("/")  # schemes may be written in capitals
        self._path = self.address.partition("://")[2].strip("/")
        _check_path(self.address, self.scheme, self._path)
        self.patience = patience
        self.requests = 0
        """Calls that were made so far, tries included."""
        self._policy = RetryPolicy(connect_timeout=5.0, stall_timeout=15.0)
        self._system: Any = None
        self._guard = threading.Lock()

    @property
    def module(self) -> str:
        """The module of fsspec's file system for the address."""
        return type(self._connected()).__module__

    def url(self, key: str) -> str:
        """The address of an object, for fsspec and for messages.

        Args:
            key: The object's key.
        """
        return f"{self.address}/{key}"

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """The bytes of an object, or of a part of it; None where there is no such object.

        Args:
            key: The object's key.
            start: First byte; None: from its beginning.
            end: The byte behind the last; None: to its end.
        """
        try:
            return bytes(self._call(key, lambda system: system.cat_file(self.url(key), start=start, end=end)))
        except FileNotFoundError:
            return None

    def put(self, key: str, content: bytes) -> None:
        """Write an object, in place of one that is there: a reader sees the one or the other.

        Args:
            key: The object's key.
            content: Its bytes.
        """
        self._write(key, lambda system: self._whole(system, key, lambda url: system.pipe_file(url, content)))

    def put_file(self, key: str, path: Path) -> None:
        """Write an object of a file's bytes, in parts where it is large.

        Args:
            key: The object's key.
            path: The file.

        Raises:
            FileNotFoundError: The file is gone.
        """
        options = {"chunksize": UPLOAD_PART_BYTES} if self.scheme in S3 else {}

        def write(system: Any) -> None:
            path.stat()  # a file that is gone is no fault of the store
            self._whole(system, key, lambda url: system.put_file(str(path), url, **options))

        try:
            self._write(key, write)
        except StorageUnreachable:
            path.stat()
            raise

    def get_file(self, key: str, path: Path) -> None:
        """Fetch an object into a file.

        Args:
            key: The object's key.
            path: The file.

        Raises:
            FileNotFoundError: There is no such object.
        """
        self._call(key, lambda system: system.get_file(self.url(key), str(path)))

    def create(self, key: str, content: bytes) -> bool:
        """Make an object where there is none; returns whether it was made by this call.

        Where a reply was lost, the object that is there then tells by its content whose it is.

        Args:
            key: The object's key.
            content: Its bytes, which no other writer has.
        """

        def write(system: Any) -> bool:
            self._make_parent(system, key)
            if self.scheme in ("file", "local"):
                with system.open(self.url(key), "xb") as file:  # its pipe_file looks first, and then writes
                    file.write(content)
            else:
                system.pipe_file(self.url(key), content, mode="create")
            return True

        deadline = time.monotonic() + self.patience
        while True:
            try:
                return self._write(key, write, refusals=True)
            except FileExistsError:
                there = self.get(key)
            if there is not None or time.monotonic() > deadline:  # else the refusal was not the store's own
                return there == content

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are gone already are no error.

        Args:
            keys: The objects' keys.
        """
        if keys:
            self._call(keys[0], lambda system: self._remove(system, keys))

    def objects(self, prefix: str) -> dict[str, StoredObject]:
        """All objects below a key, which stands for a folder, by key.

        Args:
            prefix: The key without a slash at its end; "" for all.
        """
        base = self.url(prefix).rstrip("/") if prefix else self.address

        def find(system: Any) -> dict[str, StoredObject]:
            entries = system.find(base, detail=True)
            return {
                str(name).partition(f"{self._path}/")[2]: StoredObject(int(entry["size"] or 0), _modified(entry))
                for name, entry in entries.items()
            }

        try:
            return self._call(prefix, find)
        except FileNotFoundError:
            return {}

    def folders(self) -> list[str]:
        """The names of what lies directly below the address as folders."""
        try:
            entries = self._call("", lambda system: system.ls(self.address, detail=True))
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory")

    def _whole(self, system: Any, key: str, write: Callable[[str], Any]) -> None:
        """Write under the object's own name where the store makes objects whole, else beside it first."""
        if self.scheme in ATOMIC_STORES or self.scheme == "memory":
            write(self.url(key))
            return
        self._make_parent(system, key)
        beside = f"{self.url(key)}.{threading.get_ident()}.writing"
        write(beside)
        system.mv(beside, self.url(key))

    def _make_parent(self, system: Any, key: str) -> None:
        if self.scheme not in ATOMIC_STORES:
            system.makedirs(self.url(key).rpartition("/")[0], exist_ok=True)

    def _remove(self, system: Any, keys: Sequence[str]) -> None:
        if self.scheme in S3 and len(keys) > 1 and not any(has_magic(self.url(key)) for key in keys):
            system.rm([self.url(key) for key in keys])  # one request for up to 1,000; it takes * and [] for patterns
            return
        for key in keys:
            try:
                system.rm_file(self.url(key))
            except FileNotFoundError:
                continue

    def _write(self, key: str, request: Callable[[Any], Answer], *, refusals: bool = False) -> Answer:
        """Ask the store to write. That nothing is found then means that there is no bucket."""
        try:
            return self._call(key, request, refusals=refusals)
        except FileNotFoundError:
            raise StorageRefused(f"{self.url(key)}: there is no such bucket; make it first") from None

    def _call(self, key: str, request: Callable[[Any], Answer], *, refusals: bool = False) -> Answer:
        """Ask the store, again where that may help. FileNotFoundError is an answer; with ``refusals`` so is one."""
        deadline, failures = time.monotonic() + self.patience, 0
        while True:
            try:
                system = self._connected()
                self.requests += 1
                system.invalidate_cache()
                return request(system)
            except FileNotFoundError as error:
                if _is_without_bucket(error):
                    raise StorageRefused(f"{self.url(key)}: there is no such bucket; make it first") from None
                raise
            except Exception as error:  # noqa: BLE001  each store has errors of its own
                if refusals and _exists_already(error):
                    raise FileExistsError(key) from None
                self._raise_lasting(key, error)
                failures += 1
                if time.monotonic() >= deadline:
                    raise StorageUnreachable(
                        f"{self.url(key)}: the store does not answer as it should ({_reason(error)}), after {failures} "
                        f"tries in {self.patience:.0f} s"
                    ) from None
                self._policy.wait(min(failures, 6))

    def _raise_lasting(self, key: str, error: Exception) -> None:
        """Raise what no further try can mend."""
        if type(error).__module__.startswith("expflow."):
            raise error
        if isinstance(error, PermissionError) or type(error).__name__ in NO_CREDENTIALS:
            raise StorageRefused(
                f"{self.url(key)}: it does not let us in, or has no such bucket ({_reason(error)}); it reads its "
                "usual variables: AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
            ) from None
        if _is_without_bucket(error):
            raise StorageRefused(f"{self.url(key)}: there is no such bucket; make it first") from None

    def _connected(self) -> Any:
        with self._guard:
            if self._system is None:
                self._system = open_file_system(self.scheme, self._policy)
            return self._system


def _check_path(address: str, scheme: str, path: str) -> None:
    """Refuse what stores, and what lies on the way to them, take for another place than the one that is written."""
    if scheme in ATOMIC_STORES and address.partition("://")[2][:1] in ("", "/"):
        raise AddressRefused(f"storage {address}: it names no bucket; write {scheme}://bucket/path")
    if {"", ".", ".."} & set(path.split("/")):
        raise AddressRefused(f"storage {address}: a part of its path is empty, . or ..; write the path without them")


def _is_without_bucket(error: Exception) -> bool:
    """Whether a store said that it has no such bucket, rather than no such object in it."""
    return any("NoSuchBucket" in repr(one) or "bucket does not exist" in str(one) for one in (error, error.__cause__))


def _exists_already(error: Exception) -> bool:
    """Whether a store refused to make what is there: 412, or 409 while another one makes it."""
    if isinstance(error, FileExistsError):
        return True
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
    return code in ("PreconditionFailed", "412") or "PreconditionFailed" in str(error)


def _modified(entry: Mapping[str, Any]) -> float:
    moment = entry.get("LastModified") or entry.get("mtime") or entry.get("created") or entry.get("updated") or 0.0
    return float(moment.timestamp()) if hasattr(moment, "timestamp") else float(moment)


def _reason(error: BaseException) -> str:
    """An error in words; signed addresses in its text are cut."""
    return re.sub(r"\?\S+", "?…", f"{type(error).__name__}: {error}")[:300]
