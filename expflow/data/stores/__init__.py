"""Where shards live: a local folder, HTTP, S3 and whatever fsspec speaks, behind one :class:`Root`.

Standard library only until a remote address is opened: requests is imported for HTTP, fsspec and s3fs for the rest.
"""

from expflow.data.stores.address import Address, parse_address
from expflow.data.stores.open_shard import OpenShard
from expflow.data.stores.opening import open_root
from expflow.data.stores.retry_policy import RetryPolicy
from expflow.data.stores.root import Root
from expflow.data.stores.shard_cache import ShardCache

__all__ = ["Address", "OpenShard", "RetryPolicy", "Root", "ShardCache", "open_root", "parse_address"]
