"""MLflow follows the ledger: late at times, never lossy, never in the way. The only package that imports MLflow.

Nothing here imports MLflow before it must: it costs three seconds.
"""

from expflow.tracking.launch import FollowerProcess, start
from expflow.tracking.store import public_uri, resolve_uri

__all__ = ["FollowerProcess", "public_uri", "resolve_uri", "start"]
