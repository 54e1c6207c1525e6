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
from expflow.data.stores.arriving import read_back
from expflow.data.stores.patience import Passing, Patience, Wrong
from expflow.errors import DataMissing, DataUnreachable, PackageMissing

PART = 8 << 20
IN_FLIGHT = 4
"""Ranged requests of ``PART`` bytes at once for one shard."""
UPLOAD = 64 << 20
"""Bytes of one part of an upload, so that the entity tag that S3 makes of the parts can be made here as well."""
WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf"})
"""Stores in which a file appears once it is complete."""
NO_ENTRY = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError")
"""botocore's ways to say that there are no credentials; named, since botocore is optional."""
Answer = TypeVar("Answer")


class ObjectBody:
    """A file from ``start`` on, in parts, a few at a time."""

    tag = ""  # a change is noticed by the content itself

    def __init__(self, source: ObjectSource, name: str, start: int, total: int) -> None:
        self._source, self._name = source, name
        self.start, self.total = start, total

    def chunks(self) -> Iterator[bytes]:
        """The parts in order; the last asks for one byte more than there should be, so that a longer file shows."""
        ends = [*range(self.start + PART, self.total, PART), self.total]
        begins = [self.start, *ends[:-1]]
        for at in range(0, len(ends) if self.total else 0, IN_FLIGHT):
            spans = list(zip(begins[at : at + IN_FLIGHT], ends[at : at + IN_FLIGHT], strict=True))
            for (begin, end), part in zip(spans, self._source.parts(self._name, spans, self.total), strict=True):
                if isinstance(part, BaseException):
                    self._source.explain(self._name, part, self.total)
                else:
                    yield part
                    if len(part) < end - begin:
                        raise Wrong(f"expected {self.total} bytes, found {begin + len(part)}")

    def close(self) -> None:
        """Nothing stays open between parts."""


class ObjectSource:
    """The files below an address that fsspec opens."""

    def __init__(self, where: Address, patience: Patience) -> None:
        self._where, self._patience = where, patience
        self._system: Any = None
        self._guard = threading.Lock()

    def showing(self, name: str) -> str:
        """The file's address for messages."""
        return self._where.showing(name)

    def open(self, name: str, start: int, tag: str, size: int | None) -> ObjectBody:
        """The file from byte ``start`` on. Without a known ``size`` the store is asked for it."""
        return ObjectBody(self, name, start, self.size(name) if size is None else size)

    def size(self, name: str) -> int:
        """The file's size in bytes."""
        return int(self._info(name)["size"])

    def exists(self, name: str) -> bool:
        """Whether the store has the file."""
        try:
            return bool(self._info(name)["type"] == "file")
        except DataMissing:
            return False

    def names(self) -> list[str]:
        """The names of the files in the folder."""
        found = self._call("", lambda system: system.ls(self._where.text, detail=True))
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "file")

    def parts(self, name: str, spans: list[tuple[int, int]], total: int) -> list[bytes | BaseException]:
        """Several ranges of one file, fetched at once: the bytes of each, or what went wrong with it."""
        begins = [begin for begin, _ in spans]
        ends = [end + (end == total) for _, end in spans]
        paths = [self._where.of(name)] * len(spans)
        got = self._call(name, lambda system: system.cat_ranges(paths, begins, ends, on_error="return"))
        return list(got)

    def explain(self, name: str, error: BaseException, total: int) -> None:
        """Raise what a failed part means: a range that does not exist is a file that is too short."""
        if not isinstance(error, (FileNotFoundError, PermissionError)):
            with suppress(Passing):  # then the part's own error says more
                if (found := self.size(name)) != total:
                    raise Wrong(f"expected {total} bytes, found {found}") from None
        self._translate(name, error)

    def upload(self, name: str, path: Path) -> None:
        """Put a copy of ``path`` into the store and hold what is there then against it. Raises Wrong or Passing."""
        url = self._where.of(name)
        if self._where.scheme in WHOLE:
            options = {"chunksize": UPLOAD} if self._where.scheme in ("s3", "s3a") else {}
            self._call(name, lambda system: system.put_file(str(path), url, **options))
        else:
            beside = self._where.of(f"{name}.writing")
            self._call(name, lambda system: (system.put_file(str(path), beside), system.mv(beside, url)))
        self._compare(name, path)

    def close(self) -> None:
        """fsspec closes its connections with the last reference to them."""
        with self._guard:
            self._system = None

    def _compare(self, name: str, path: Path) -> None:
        """Raise Wrong unless the store holds ``path``'s bytes. They are read back where its tag does not say so."""
        info = self._info(name)
        size, sha256 = read_back(path)
        if info["size"] != size:
            raise Wrong(f"wrote {size} bytes, found {info['size']}")
        tag = str(info.get("ETag", "")).strip('"')
        if tag and tag in (_md5(path), _md5_of_parts(path)):
            return
        digest = hashlib.sha256()
        for chunk in ObjectBody(self, name, 0, size).chunks():
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise Wrong(f"wrote sha256 {sha256}, found {digest.hexdigest()}")

    def _info(self, name: str) -> dict[str, Any]:
        return dict(self._call(name, lambda system: system.info(self._where.of(name))))

    def _call(self, name: str, question: Callable[[Any], Answer]) -> Answer:
        try:
            system = self._connected()
            system.invalidate_cache()
            return question(system)
        except Exception as error:  # each store has errors of its own: all are translated
            self._translate(name, error)
            raise

    def _connected(self) -> Any:
        with self._guard:
            if self._system is None:
                self._system = _file_system(self._where.scheme, self._patience)
            return self._system

    def _translate(self, name: str, error: BaseException) -> None:
        """Raise the error of ours that ``error`` means. Its text may hold signed addresses: they are cut."""
        if isinstance(error, (Passing, Wrong, DataMissing, DataUnreachable, PackageMissing)):
            raise error
        where = self.showing(name)
        said = re.sub(r"\?\S+", "?…", f"{type(error).__name__}: {error}")[:300]
        if isinstance(error, FileNotFoundError):
            raise DataMissing(f"{where}: the store has no such file or bucket") from None
        if isinstance(error, PermissionError) or type(error).__name__ in NO_ENTRY:
            raise DataUnreachable(
                f"{where}: the store does not let us in ({said}); it reads its usual variables, such as AWS_PROFILE, "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
            ) from None
        raise Passing(said) from None


def _file_system(scheme: str, patience: Patience) -> Any:
    """fsspec's file system of ``scheme``. Raises PackageMissing, naming the package to install."""
    import fsspec

    options: dict[str, Any] = {}
    if scheme in ("s3", "s3a"):
        timeouts = {"connect_timeout": patience.connect, "read_timeout": patience.stall}
        options["config_kwargs"] = {**timeouts, "retries": {"total_max_attempts": 1}}
    try:
        # an instance of its own: the environment is read now, not when some other root was opened
        system = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    except ImportError as error:
        need = "s3fs; `pip install 'expflow[s3]'`" if scheme in ("s3", "s3a") else f"a package: {error}"
        raise PackageMissing(f"{scheme}:// addresses need {need}") from None
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
    """The entity tag that S3 gives to an upload in parts of ``UPLOAD`` bytes."""
    parts = [hashlib.md5(block, usedforsecurity=False).digest() for block in _blocks(path, UPLOAD)]
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
