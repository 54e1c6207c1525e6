"""MLflow follows the ledger: it may be late, loses nothing, and never delays a sweep. The only package that imports
MLflow.

Nothing here imports MLflow before it must: it costs three seconds.
"""

from expflow.tracking.follower_process import FollowerProcess, LazyFollower, start_follower
from expflow.tracking.follower_progress import lag_bytes, reports_behind, trouble_of
from expflow.tracking.store import public_uri, resolve_uri

__all__ = [
    "FollowerProcess",
    "LazyFollower",
    "lag_bytes",
    "public_uri",
    "reports_behind",
    "resolve_uri",
    "start_follower",
    "trouble_of",
]
