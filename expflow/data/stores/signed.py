"""Signed queries of addresses (``https://host/folder?sig=…``): they are passwords, and run out.

A manifest names its address without the query, so that it may be shown, copied and shared, and does not change with
every new signature. The query lies beside it, in a file that only its owner reads.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

FILE = ".query"


def bare(address: str) -> str:
    """``address`` without its query; a folder stays as it is."""
    if "://" not in address:
        return address
    return urlunsplit(urlsplit(address)._replace(query="", fragment=""))


def keep_query(folder: Path, address: str) -> None:
    """Keep the query of ``address`` for processes that are told only ``folder``, or forget the last one."""
    query, path = urlsplit(address).query, folder / FILE
    if query == _kept(folder):
        return
    if not query:
        path.unlink(missing_ok=True)
        return
    unfinished = folder / f"{FILE}.{os.getpid()}"
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(query)
    unfinished.rename(path)


def with_query(folder: Path, address: str) -> str:
    """``address``, which is bare, with the query that is kept in ``folder``, if one is."""
    query = _kept(folder) if "://" in address else ""
    return urlunsplit(urlsplit(address)._replace(query=query)) if query else address


def _kept(folder: Path) -> str:
    try:
        return (folder / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
