"""Connections of HTTP whose headers, and whose chunks, must come within the timeout as a whole.

A timeout of a socket holds for one byte: a server that sends one a second would be waited for as long as it likes.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

Result = TypeVar("Result")


def within(seconds: float | None, connection: socket.socket | None, read: Callable[[], Result]) -> Result:
    """Return what a function reads from a socket, which is shut down when that takes too long.

    Args:
        seconds: how long it may take in all; None for any time.
        connection: the socket; None where there is none any more.
        read: reads from it.

    Raises:
        TimeoutError: it took longer. What ``read`` raises before that is passed on.
    """
    if seconds is None or connection is None:
        return read()
    expired = threading.Event()

    def shut_down() -> None:
        expired.set()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        result = read()
    except Exception:
        if expired.is_set():
            raise TimeoutError(f"not complete after {seconds:g} s") from None
        raise
    finally:
        timer.cancel()
    if expired.is_set():  # the end of a connection that was shut down reads like the end of the headers
        raise TimeoutError(f"not complete after {seconds:g} s")
    return result


class _PlainConnection(HTTPConnection):
    read_socket: socket.socket | None = None

    def getresponse(self) -> Any:  # urllib3 and http.client give different classes
        """The answer's headers, within the time that a read may take."""
        self.read_socket = self.sock
        return within(_seconds(self.timeout), self.sock, super().getresponse)


class _SecureConnection(HTTPSConnection):
    read_socket: socket.socket | None = None

    def getresponse(self) -> Any:  # urllib3 and http.client give different classes
        """The answer's headers, within the time that a read may take."""
        self.read_socket = self.sock
        return within(_seconds(self.timeout), self.sock, super().getresponse)


def _seconds(timeout: Any) -> float | None:
    return float(timeout) if isinstance(timeout, int | float) else None


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: dict[str, Any] = {"http": _PlainPool, "https": _SecurePool}


class DeadlineAdapter(HTTPAdapter):
    """requests' adapter with connections whose headers come in time."""

    def init_poolmanager(self, *args: Any, **keys: Any) -> None:
        """Make the pools of connections.

        Args:
            args: as requests gives them.
            keys: likewise.
        """
        super().init_poolmanager(*args, **keys)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: Any, **keys: Any) -> Any:
        """Return the pools of connections to a proxy.

        Args:
            proxy: the proxy's address.
            keys: as requests gives them.
        """
        manager = super().proxy_manager_for(proxy, **keys)
        manager.pool_classes_by_scheme = _POOLS
        return manager
