"""Opening a folder of shards by its address."""

from __future__ import annotations

from pathlib import Path

from expflow.data.stores.address import parse_address
from expflow.data.stores.cache import ShardCache
from expflow.data.stores.patience import Patience
from expflow.data.stores.remote import RemoteRoot
from expflow.data.stores.root import LocalRoot, Root


def open_root(address: str | Path, *, cache: ShardCache | None = None, patience: Patience | None = None) -> Root:
    """The folder of shards at ``address``: a path, ``file://``, ``http(s)://``, ``s3://`` or what fsspec speaks.

    Nothing is opened or imported yet. ``cache`` keeps shards that come from elsewhere, and what was found about local
    ones; without it the former come into memory. Raises AddressRefused.
    """
    where = parse_address(address)
    if where.is_local:
        return LocalRoot(where, cache.verified if cache else None)
    return RemoteRoot(where, cache, patience or Patience())
