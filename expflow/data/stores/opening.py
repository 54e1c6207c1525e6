"""Opening a folder of shards by its address."""

from __future__ import annotations

from pathlib import Path

from expflow.data.stores.address import parse_address
from expflow.data.stores.local import LocalRoot
from expflow.data.stores.remote import RemoteRoot
from expflow.data.stores.retry_policy import RetryPolicy
from expflow.data.stores.root import Root
from expflow.data.stores.shard_cache import ShardCache


def open_root(address: str | Path, *, cache: ShardCache | None = None, retry_policy: RetryPolicy | None = None) -> Root:
    """Open the folder of shards at an address. No connection is made and no library imported before its first use.

    Args:
        address: A path, ``file://``, ``http(s)://``, ``s3://`` or another scheme that fsspec knows.
        cache: Keeps shards that come from elsewhere, and records which local files were verified. Without it, shards
            from elsewhere are kept in memory while they are used.
        retry_policy: When transfers are tried again; by default the defaults of :class:`RetryPolicy`.

    Raises:
        AddressRefused: The address is of a kind that is never opened.
    """
    location = parse_address(address)
    if location.is_local:
        return LocalRoot(location, cache.verified if cache else None)
    return RemoteRoot(location, cache, retry_policy or RetryPolicy())
