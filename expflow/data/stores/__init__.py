"""Where shards live: a local folder, HTTP, S3 and whatever fsspec speaks, behind one :class:`Root`.

Standard library only until a remote address is opened: requests is imported for HTTP, fsspec and s3fs for the rest.
"""

from expflow.data.stores.address import Address, parse_address
from expflow.data.stores.cache import ShardCache
from expflow.data.stores.held import Held
from expflow.data.stores.opening import open_root
from expflow.data.stores.patience import Patience
from expflow.data.stores.root import Root

__all__ = ["Address", "Held", "Patience", "Root", "ShardCache", "open_root", "parse_address"]
