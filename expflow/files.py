"""Reading files within bounds, writing them so that they are whole whenever somebody reads them; and folders for what
nobody needs later."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from expflow.errors import StorageUnwritable
from expflow.redaction import redacted

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""The first bytes of every PNG file."""

_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading; what is none, and could be read for ever or not at all, is refused at once.

    Args:
        path: The file, or a link to one.

    Raises:
        OSError: It is a pipe, a device, a socket or a folder, or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # so that a pipe is not waited for
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
            raise OSError(errno.EINVAL, f"it is a {kind} and no file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a file that is not trusted.

    Args:
        path: The file.
        most: The most bytes that it may have.

    Raises:
        OSError: It cannot be read, is no regular file (EINVAL), or is larger than ``most`` (EFBIG).
    """
    with open_regular(path) as file:
        content = file.read(most + 1)  # whatever its size is said to be: it may grow, and files under /proc have none
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {_size(most)}", str(path))
    return content


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def fsync_path(path: Path) -> None:
    """Have the disk hold a path before going on. Passes on an OSError.

    Args:
        path: A file, whose content is meant, or a folder, whose names are.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def redact_file(path: Path) -> None:
    """Write a text anew without the secrets that stand in it. Passes on an OSError.

    Args:
        path: A file that nobody writes to any more.
    """
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    clean = redacted(text)
    if clean != text:
        write_atomically(path, clean.encode(errors="surrogateescape"))


def write_atomically(path: Path, content: bytes, *, durable: bool = False) -> Path:
    """Write a file so that a reader sees the old one or the new one, never part of one. Passes on an OSError.

    Nothing is left behind by a failure, and an OSError names the file, not its draft.

    Args:
        path: The file; folders above it are made.
        content: Its new content.
        durable: Whether the disk holds it before the call returns.

    Returns:
        ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise
    if durable:
        fsync_path(path.parent)
    return path


@contextlib.contextmanager
def unwritable_named(path: Path, what: str) -> Iterator[None]:
    """Within it, an error of the system becomes one that says what cannot be written, where, and why.

    Args:
        path: What is written, for errors that name no file of their own.
        what: What is lost by it, as the subject of a sentence: ``the report``.

    Raises:
        StorageUnwritable: Something within raised an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageUnwritable(f"{what} cannot be written: {error.filename or path}: {reason}") from error


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A new folder under the system's temporary one, which goes when the body is left.

    A process that is killed cannot remove its own, so those of processes that are gone are removed first. A folder
    belongs to the process that holds the lock on it, whichever host or container sees the folder.

    Args:
        prefix: The beginning of its name.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _remove_unlocked(folder)
    folder, lock = _locked_folder(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # else another process has found it before it was locked
            return folder, lock
        os.close(lock)


def _remove_unlocked(folder: Path) -> None:
    """Remove a scratch folder unless a process holds it or it belongs to another user."""
    with contextlib.suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
