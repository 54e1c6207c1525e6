"""Signed queries of addresses (``https://host/folder?sig=…``): they are passwords, and run out.

A manifest names its address without the query, so that it may be shown, copied and shared, and does not change with
every new signature. The query is kept in memory alone: by the process that was told the address, which hands it on to
the ranks that it starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from expflow.redaction import remember_address

_signed: dict[str, str] = {}
"""Address without its query -> the address as this process was told it last."""


def without_query(address: str) -> str:
    """``address`` without its query.

    Args:
        address: A URL, or the path of a folder, which stays as it is.
    """
    if "://" not in address:
        return address
    return urlunsplit(urlsplit(address)._replace(query="", fragment=""))


def keep_query(address: str) -> None:
    """Keep the query of an address for this process, in the place of an earlier one.

    Args:
        address: The address; without a query, an earlier one is forgotten.
    """
    plain = without_query(address)
    if plain == address:
        _signed.pop(plain, None)
        return
    remember_address(address)
    _signed[plain] = address


def with_query(address: str) -> str:
    """``address`` with the query that this process keeps for it, if it does.

    Args:
        address: The address without a query, as a manifest names it.
    """
    return _signed.get(address, address)


def signed_addresses() -> tuple[str, ...]:
    """All addresses with queries that this process keeps, for a process that it starts."""
    return tuple(_signed.values())


def keep_queries(addresses: Iterable[str]) -> None:
    """Keep the queries of addresses that another process has handed on.

    Args:
        addresses: What :func:`signed_addresses` gave there.
    """
    for address in addresses:
        keep_query(address)
