"""Where a redirect may lead: a server on the internet must not have this machine ask hosts that only it can reach."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urljoin, urlsplit

from expflow.data.stores.address import HTTP
from expflow.errors import AddressRefused
from expflow.redaction import public_address

_PUBLIC, _PRIVATE, _THIS_MACHINE, _NEVER = range(4)
"""How near a host is. A redirect leads at most as near as the host is that sends it; link-local never."""

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that stand for one of IPv4 (RFC 6052)."""


def redirect_target(url: str, location: str) -> str:
    """Where a redirect leads.

    Args:
        url: The address that was asked for.
        location: The header ``Location`` of the answer, which may be relative.

    Raises:
        AddressRefused: It is not HTTP, names a user, leads from https to http, or to a host that is nearer to this
            machine than the one that sends it: link-local, private or loopback.
    """
    try:
        target = urljoin(url, location)
        parts, asked = urlsplit(target), urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise AddressRefused(f"{public_address(url)}: a redirect is refused: it is no address") from None
    refusal = f"{public_address(url)}: a redirect to {public_address(target)[:200]} is refused"
    if parts.scheme not in HTTP or not host:
        raise AddressRefused(f"{refusal}: only http and https are followed")
    if parts.scheme == "http" and asked.scheme == "https":
        raise AddressRefused(f"{refusal}: it leaves https")
    if "@" in parts.netloc:
        raise AddressRefused(f"{refusal}: it names a user")
    if host != asked.hostname and (near := _nearness(host)) > min(_nearness(asked.hostname or ""), _THIS_MACHINE):
        kind = ("", "a private network", "this machine", "a link-local address")[near]
        raise AddressRefused(f"{refusal}: it leads to {kind}; name that address itself if it is meant")
    return target


def _nearness(host: str) -> int:
    """The nearest of a host's addresses; one that is not known here (behind a proxy) counts as public."""
    try:
        known = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return _PUBLIC
    return max((_address_nearness(str(entry[4][0])) for entry in known), default=_PUBLIC)


def _address_nearness(text: str) -> int:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _TRANSLATED:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.is_link_local or address.is_multicast:
        return _NEVER
    if address.is_loopback or address.is_unspecified:
        return _THIS_MACHINE
    return _PUBLIC if address.is_global else _PRIVATE
