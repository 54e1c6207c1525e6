"""Object stores by fsspec: S3 with s3fs, others with their packages. Endpoint and credentials are theirs to find."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from expflow.data.stores.address import Address
from expflow.data.stores.download_buffer import size_and_sha256
from expflow.data.stores.retry_policy import RetryPolicy, TransientFailure, UnexpectedContent
from expflow.data.stores.transfer import Body, ByteSource
from expflow.errors import DataMissing, DataUnreachable, PackageMissing

PART_BYTES = 8 << 20
PARTS_AT_ONCE = 4
"""Ranged requests of ``PART_BYTES`` bytes at once for one shard."""
UPLOAD_PART_BYTES = 64 << 20
"""Bytes of one part of an upload, so that the entity tag that S3 makes of the parts can be made here as well."""
ATOMIC_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf"})
"""Stores in which a file appears once it is complete."""
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError")
"""botocore's errors where there are no credentials; by name, since botocore is optional."""
Answer = TypeVar("Answer")


class ObjectBody(Body):
    """A file from an offset on, fetched in parts, a few at a time.

    Args:
        source: The store.
        name: The file's name in the folder.
        start: Offset in bytes at which the bytes begin.
        total: The file's size in bytes.
    """

    tag = ""  # a change is noticed by the content itself

    total: int

    def __init__(self, source: ObjectSource, name: str, start: int, total: int) -> None:
        self._source, self._name = source, name
        self.start, self.total = start, total

    def chunks(self) -> Iterator[bytes]:
        """The parts in order; the last asks for one byte more than there should be, so that a longer file shows."""
        ends = [*range(self.start + PART_BYTES, self.total, PART_BYTES), self.total]
        begins = [self.start, *ends[:-1]]
        for at in range(0, len(ends) if self.total else 0, PARTS_AT_ONCE):
            spans = list(zip(begins[at : at + PARTS_AT_ONCE], ends[at : at + PARTS_AT_ONCE], strict=True))
            for (begin, end), part in zip(spans, self._source.parts(self._name, spans, self.total), strict=True):
                if isinstance(part, BaseException):
                    self._source.raise_for_part(self._name, part, self.total)
                else:
                    yield part
                    if len(part) < end - begin:
                        raise UnexpectedContent(f"expected {self.total} bytes, found {begin + len(part)}")

    def close(self) -> None:
        """Nothing stays open between parts."""


class ObjectSource(ByteSource):
    """The files below an address that fsspec opens.

    Args:
        location: Where the folder lies.
        retry_policy: Gives the timeouts.
    """

    def __init__(self, location: Address, retry_policy: RetryPolicy) -> None:
        self._location, self._policy = location, retry_policy
        self._system: Any = None
        self._guard = threading.Lock()

    def display_file(self, name: str) -> str:
        """The file's address for messages."""
        return self._location.display_file(name)

    def open(self, name: str, start: int, tag: str, size: int | None) -> ObjectBody:
        """The file from byte ``start`` on. Without a known ``size`` the store is asked for it."""
        return ObjectBody(self, name, start, self.size(name) if size is None else size)

    def size(self, name: str) -> int:
        """A file's size in bytes.

        Args:
            name: The file's name in the folder.
        """
        return int(self._info(name)["size"])

    def exists(self, name: str) -> bool:
        """Whether the store has a file.

        Args:
            name: The file's name in the folder.
        """
        try:
            return bool(self._info(name)["type"] == "file")
        except DataMissing:
            return False

    def names(self) -> list[str]:
        """The names of the files in the folder."""
        entries = self._call("", lambda system: system.ls(self._location.text, detail=True))
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "file")

    def parts(self, name: str, spans: list[tuple[int, int]], total: int) -> list[bytes | BaseException]:
        """Fetch several ranges of one file at once.

        Args:
            name: The file's name in the folder.
            spans: The first byte of each range, and the one behind its last.
            total: The file's size in bytes. A range that ends there asks for one byte more, which shows a longer file.

        Returns:
            The bytes of each range, or the error that it ended with.
        """
        begins = [begin for begin, _ in spans]
        ends = [end + (end == total) for _, end in spans]
        paths = [self._location.file_address(name)] * len(spans)
        return list(self._call(name, lambda system: system.cat_ranges(paths, begins, ends, on_error="return")))

    def raise_for_part(self, name: str, error: BaseException, total: int) -> None:
        """Raise what a failed part means: a range that does not exist is a file that is too short.

        Args:
            name: The file's name in the folder.
            error: The error that :meth:`parts` returned.
            total: The size in bytes that the file should have.

        Raises:
            UnexpectedContent: The file has another size.
        """
        if not isinstance(error, (FileNotFoundError, PermissionError)):
            with suppress(TransientFailure):  # then the part's own error says more
                if (size := self.size(name)) != total:
                    raise UnexpectedContent(f"expected {total} bytes, found {size}") from None
        self._translate(name, error)

    def upload(self, name: str, path: Path) -> None:
        """Put a copy of a file into the store, and compare what is there then with it.

        Args:
            name: The file's name in the folder.
            path: The file on this machine that is copied.

        Raises:
            UnexpectedContent: The store has other bytes.
            TransientFailure: Another attempt makes sense.
        """
        url = self._location.file_address(name)
        if self._location.scheme in ATOMIC_STORES:
            options = {"chunksize": UPLOAD_PART_BYTES} if self._location.scheme in ("s3", "s3a") else {}
            self._call(name, lambda system: system.put_file(str(path), url, **options))
        else:
            beside = self._location.file_address(f"{name}.writing")
            self._call(name, lambda system: (system.put_file(str(path), beside), system.mv(beside, url)))
        self._compare(name, path)

    def close(self) -> None:
        """fsspec closes its connections with the last reference to them."""
        with self._guard:
            self._system = None

    def _compare(self, name: str, path: Path) -> None:
        """Raise UnexpectedContent unless the store holds ``path``'s bytes. They are read back unless its tag tells."""
        info = self._info(name)
        size, sha256 = size_and_sha256(path)
        if info["size"] != size:
            raise UnexpectedContent(f"wrote {size} bytes, found {info['size']}")
        tag = str(info.get("ETag", "")).strip('"')
        if tag and tag in (_md5(path), _md5_of_parts(path)):
            return
        digest = hashlib.sha256()
        for chunk in ObjectBody(self, name, 0, size).chunks():
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise UnexpectedContent(f"wrote sha256 {sha256}, found {digest.hexdigest()}")

    def _info(self, name: str) -> dict[str, Any]:
        return dict(self._call(name, lambda system: system.info(self._location.file_address(name))))

    def _call(self, name: str, request: Callable[[Any], Answer]) -> Answer:
        try:
            system = self._connected()
            system.invalidate_cache()
            return request(system)
        except Exception as error:  # each store has errors of its own: all are translated
            self._translate(name, error)
            raise

    def _connected(self) -> Any:
        with self._guard:
            if self._system is None:
                self._system = open_file_system(self._location.scheme, self._policy)
            return self._system

    def _translate(self, name: str, error: BaseException) -> None:
        """Raise the error of ours that ``error`` means. Its text may hold signed addresses: they are cut."""
        if isinstance(error, (TransientFailure, UnexpectedContent, DataMissing, DataUnreachable, PackageMissing)):
            raise error
        address = self.display_file(name)
        reason = re.sub(r"\?\S+", "?…", f"{type(error).__name__}: {error}")[:300]
        if isinstance(error, FileNotFoundError):
            raise DataMissing(f"{address}: the store has no such file or bucket") from None
        if isinstance(error, PermissionError) or type(error).__name__ in NO_CREDENTIALS:
            raise DataUnreachable(
                f"{address}: the store does not let us in ({reason}); it reads its usual variables, such as "
                "AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
            ) from None
        raise TransientFailure(reason) from None


def open_file_system(scheme: str, policy: RetryPolicy) -> Any:
    """fsspec's file system of a scheme, an instance of its own.

    Args:
        scheme: The address's scheme.
        policy: Gives the timeouts.

    Raises:
        PackageMissing: The package that it needs is not installed; the message names it.
    """
    import fsspec

    options: dict[str, Any] = {}
    if scheme in ("s3", "s3a"):
        timeouts = {"connect_timeout": policy.connect_timeout, "read_timeout": policy.stall_timeout}
        options["config_kwargs"] = {**timeouts, "retries": {"total_max_attempts": 1}}
    try:
        # an instance of its own: the environment is read now, not when some other root was opened
        system = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    except ImportError as error:
        package = "s3fs; `pip install 'expflow[s3]'`" if scheme in ("s3", "s3a") else f"a package: {error}"
        raise PackageMissing(f"{scheme}:// addresses need {package}") from None
    if scheme in ("s3", "s3a"):
        system.retries = 1  # when to try again is decided in one place, expflow.data.stores.transfer
    return system


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(size):
            yield block


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for block in _blocks(path, 1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _md5_of_parts(path: Path) -> str:
    """The entity tag that S3 gives to an upload in parts of ``UPLOAD_PART_BYTES`` bytes."""
    parts = [hashlib.md5(block, usedforsecurity=False).digest() for block in _blocks(path, UPLOAD_PART_BYTES)]
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
