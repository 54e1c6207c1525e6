"""What a command prints that failed: the error in words, on stderr; and its exit code."""

from __future__ import annotations

import errno
import sys
import tempfile
import traceback

from expflow.cli.echo import echo
from expflow.errors import ExperimentInvalid, ExpflowError, Interrupted, StorageUnwritable, debugging
from expflow.redaction import redacted_tree

_STORAGE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_IN_ITS_PLACE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG)
"""A file lies where a folder is needed, or the name is none that the disk takes."""


def report_error(error: ExpflowError, *, as_json: bool = False) -> int:
    """Print an error that expflow raised on purpose, without a traceback unless debugging is on.

    Args:
        error: The error.
        as_json: Whether it is printed as one JSON object.

    Returns:
        Its exit code.
    """
    if as_json:
        return _print_document(error)
    if debugging():
        echo("".join(traceback.format_exception(error)), err=True, nl=False)
    echo(_render(error), err=True)
    return error.exit_code


def as_unwritable(error: OSError) -> StorageUnwritable | None:
    """An error of the system that says that a file cannot be written or read; None where it says something else.

    Args:
        error: What the system raised.
    """
    if error.errno in _NO_ROOM and error.filename is None:  # writing to an open file names none
        return StorageUnwritable(
            f"{error.strerror}: make room, here and in {tempfile.gettempdir()} (TMPDIR names another folder for what is"
            " made on the way), and try again"
        )
    if error.errno not in (*_STORAGE, *_IN_ITS_PLACE) or error.filename is None:
        return None
    mend = "Mend its permissions or its disk" if error.errno in _STORAGE else "Move what is there"
    return StorageUnwritable(f"{error.filename}: {error.strerror}. {mend}, or name another place, and try again")


def report_bug(error: BaseException, *, as_json: bool = False) -> int:
    """Print an error that was not raised on purpose, with all that is needed to report it.

    Args:
        error: The error.
        as_json: Whether it is printed as one JSON object; wrong words of a command come here, too, then.

    Returns:
        The exit code: 1 for a bug.
    """
    if as_json:
        return _print_document(error)
    import expflow

    python = ".".join(map(str, sys.version_info[:3]))
    echo(
        f"{''.join(traceback.format_exception(error))}error: {type(error).__name__}: {error}\n"
        f"This is a bug in expflow {expflow.__version__} (Python {python}). The lines above belong into its report. "
        "What was recorded is safe: the same command continues.",
        err=True,
    )
    return 1


def _print_document(error: BaseException) -> int:
    """Print an error as one JSON object on stderr; returns its exit code."""
    import json

    from expflow.cli.documents.error import error_document
    from expflow.plain_data import plain_data

    document = error_document(error)
    if debugging():
        echo("".join(traceback.format_exception(error)), err=True, nl=False)
    echo(json.dumps(redacted_tree(plain_data(document))), err=True)
    return document.exit_code


def _render(error: ExpflowError) -> str:
    if isinstance(error, ExperimentInvalid):
        return "\n".join(f"error: {line}" for line in error.lines())
    if isinstance(error, Interrupted):  # it was asked for
        return str(error)
    return f"error: {error}"
